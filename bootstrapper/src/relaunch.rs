//! When to start the launcher again, and when another one instead.

use std::time::Duration;

use crate::{good::Checksum, manifest::Manifest};

const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// How often in a row a launcher may ask to be started at once: one that always does is broken.
const AT_ONCE_IN_A_ROW: u32 = 5;
/// How often in a row one launcher may die before it has worked, when another has worked here.
const YOUNG_DEATHS: u32 = 3;

/// How a launcher ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// By itself, with this exit code.
    Exited(i32),
    /// Killed, or it could not be started at all.
    Killed,
}

impl Ending {
    /// Whether the launcher did what it is for, by its own word or because it lived so long.
    pub(crate) fn worked(self, manifest: &Manifest, lived: Duration) -> bool {
        lived >= manifest.well_after || self.is_one_of(&manifest.worked)
    }

    fn is_one_of(self, codes: &[i32]) -> bool {
        matches!(self, Self::Exited(code) if codes.contains(&code))
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Start it again after this time.
    Relaunch(Duration),
    /// Start the launcher that worked before instead, at once.
    GoBack,
    /// Stop, with this exit code.
    GiveUp(u8),
    /// Stop: there is nothing to do.
    Done,
}

/// Remembers how the last launchers ended.
#[derive(Debug)]
pub(crate) struct Policy {
    delay: Duration,
    at_once: u32,
    /// The launcher that died young last, and how often in a row.
    young: Option<(Checksum, u32)>,
}

impl Policy {
    pub(crate) const fn new() -> Self {
        Self {
            delay: FIRST_DELAY,
            at_once: 0,
            young: None,
        }
    }

    /// Decides after a launcher has ended that lived for `lived`. `replaceable` is asked only when
    /// it died young: it says which launcher it was, if there is another to go back to.
    pub(crate) fn next(
        &mut self,
        ending: Ending,
        manifest: &Manifest,
        lived: Duration,
        replaceable: impl FnOnce() -> Option<Checksum>,
    ) -> Next {
        if lived >= manifest.well_after {
            *self = Self::new();
        }
        let gives_up = ending.is_one_of(&manifest.give_up);
        if !gives_up {
            if ending.is_one_of(&manifest.done) {
                return Next::Done;
            }
            if ending.is_one_of(&manifest.relaunch_at_once) && self.at_once < AT_ONCE_IN_A_ROW {
                self.at_once += 1;
                return Next::Relaunch(Duration::ZERO);
            }
        }
        if ending.worked(manifest, lived) {
            self.young = None;
        } else if let Some(launcher) = replaceable() {
            let before = self.young.filter(|(other, _)| *other == launcher);
            let deaths = before.map_or(0, |(_, deaths)| deaths) + 1;
            self.young = Some((launcher, deaths));
            if gives_up || deaths >= YOUNG_DEATHS {
                return Next::GoBack;
            }
        }
        match ending {
            Ending::Exited(code) if gives_up => Next::GiveUp(u8::try_from(code).unwrap_or(1)),
            _ => Next::Relaunch(self.pause()),
        }
    }

    /// How long to wait after a failure.
    pub(crate) fn pause(&mut self) -> Duration {
        self.at_once = 0;
        let delay = self.delay;
        self.delay = (delay * 2).min(LONGEST_DELAY);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YOUNG: Duration = Duration::from_millis(10);
    const WELL: Duration = Duration::from_secs(60);

    fn manifest() -> Manifest {
        Manifest {
            relaunch_at_once: vec![60],
            give_up: vec![64, 73],
            done: vec![80],
            worked: vec![61],
            ..Manifest::default()
        }
    }

    fn alone(policy: &mut Policy, ending: Ending, lived: Duration) -> Next {
        policy.next(ending, &manifest(), lived, || None)
    }

    /// The launcher `name` ended, and there is another one that worked.
    fn rescued(policy: &mut Policy, name: u8, ending: Ending, lived: Duration) -> Next {
        policy.next(ending, &manifest(), lived, || Some([name; 32]))
    }

    #[test]
    fn delays_grow_to_a_cap_and_start_over_after_a_good_life() {
        let mut policy = Policy::new();
        let mut next = |lived| alone(&mut policy, Ending::Killed, lived);
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(next(YOUNG), Next::Relaunch(Duration::from_secs(seconds)));
        }
        assert_eq!(next(WELL), Next::Relaunch(FIRST_DELAY));
    }

    #[test]
    fn an_outdated_launcher_is_started_at_once_but_not_for_ever() {
        let mut policy = Policy::new();
        let mut next = || alone(&mut policy, Ending::Exited(60), YOUNG);
        for _ in 0..AT_ONCE_IN_A_ROW {
            assert_eq!(next(), Next::Relaunch(Duration::ZERO));
        }
        assert_eq!(next(), Next::Relaunch(FIRST_DELAY));
    }

    #[test]
    fn only_the_launcher_can_say_that_it_is_hopeless() {
        let mut policy = Policy::new();
        let mut next = |ending| alone(&mut policy, ending, YOUNG);
        assert_eq!(next(Ending::Exited(64)), Next::GiveUp(64));
        assert_eq!(next(Ending::Exited(80)), Next::Done);
        assert_eq!(next(Ending::Exited(1)), Next::Relaunch(FIRST_DELAY));
        assert_eq!(next(Ending::Exited(0)), Next::Relaunch(FIRST_DELAY * 2));
    }

    #[test]
    fn a_launcher_has_worked_by_its_age_or_by_its_word() {
        let manifest = Manifest {
            well_after: Duration::from_secs(5),
            ..manifest()
        };
        assert!(Ending::Exited(61).worked(&manifest, YOUNG));
        assert!(Ending::Killed.worked(&manifest, Duration::from_secs(5)));
        assert!(!Ending::Killed.worked(&manifest, Duration::from_millis(4999)));
        for code in [0, 1, 60, 64, 80] {
            assert!(!Ending::Exited(code).worked(&manifest, YOUNG), "{code}");
        }
    }

    #[test]
    fn one_launcher_that_dies_young_three_times_is_gone_back_from() {
        for ending in [Ending::Killed, Ending::Exited(0), Ending::Exited(1)] {
            let mut policy = Policy::new();
            let mut next = || rescued(&mut policy, 1, ending, YOUNG);
            assert_eq!(next(), Next::Relaunch(FIRST_DELAY));
            assert_eq!(next(), Next::Relaunch(FIRST_DELAY * 2));
            assert_eq!(next(), Next::GoBack);
            assert_eq!(next(), Next::GoBack, "until it could be done");
        }
    }

    #[test]
    fn three_deaths_of_two_launchers_are_not_three_of_one() {
        let mut policy = Policy::new();
        for name in [1, 1, 2, 2, 1, 1, 2] {
            let next = rescued(&mut policy, name, Ending::Killed, YOUNG);
            assert!(matches!(next, Next::Relaunch(_)), "{next:?}");
        }
    }

    #[test]
    fn a_launcher_that_works_in_between_is_kept() {
        for (ending, lived) in [(Ending::Exited(61), YOUNG), (Ending::Killed, WELL)] {
            let mut policy = Policy::new();
            rescued(&mut policy, 1, Ending::Killed, YOUNG);
            rescued(&mut policy, 1, Ending::Killed, YOUNG);
            let next = rescued(&mut policy, 1, ending, lived);
            assert!(matches!(next, Next::Relaunch(_)), "{next:?}");
            let next = rescued(&mut policy, 1, Ending::Killed, YOUNG);
            assert!(matches!(next, Next::Relaunch(_)), "{next:?}");
        }
    }

    #[test]
    fn a_launcher_that_is_fine_is_started_again_after_the_usual_pause() {
        let mut policy = Policy::new();
        for seconds in [1, 2, 4, 8] {
            assert_eq!(
                rescued(&mut policy, 1, Ending::Exited(61), YOUNG),
                Next::Relaunch(Duration::from_secs(seconds))
            );
        }
    }

    #[test]
    fn to_give_up_without_ever_having_worked_goes_back_at_once() {
        let mut policy = Policy::new();
        let mut next = |lived| rescued(&mut policy, 1, Ending::Exited(64), lived);
        assert_eq!(next(YOUNG), Next::GoBack);
        assert_eq!(next(WELL), Next::GiveUp(64));
    }

    #[test]
    fn to_be_done_or_replaced_is_no_death() {
        let mut policy = Policy::new();
        assert_eq!(
            rescued(&mut policy, 1, Ending::Exited(80), YOUNG),
            Next::Done
        );
        for _ in 0..YOUNG_DEATHS - 1 {
            for _ in 0..AT_ONCE_IN_A_ROW {
                assert_eq!(
                    rescued(&mut policy, 1, Ending::Exited(60), YOUNG),
                    Next::Relaunch(Duration::ZERO)
                );
            }
            // To ask for it for ever is one.
            let next = rescued(&mut policy, 1, Ending::Exited(60), YOUNG);
            assert!(
                matches!(next, Next::Relaunch(delay) if !delay.is_zero()),
                "{next:?}"
            );
        }
        for _ in 0..AT_ONCE_IN_A_ROW {
            rescued(&mut policy, 1, Ending::Exited(60), YOUNG);
        }
        assert_eq!(
            rescued(&mut policy, 1, Ending::Exited(60), YOUNG),
            Next::GoBack
        );
    }
}
