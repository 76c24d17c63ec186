//! When to start the launcher again.

use std::time::Duration;

use crate::manifest::Manifest;

const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// A launcher that lived this long was well: the next delay is the first one again.
const WELL: Duration = Duration::from_secs(60);
/// How often in a row a launcher may ask to be started at once: one that always does is broken.
const AT_ONCE_IN_A_ROW: u32 = 5;

/// How a launcher ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// By itself, with this exit code.
    Exited(i32),
    /// Killed, or it could not be started at all.
    Killed,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Start it again after this time.
    Relaunch(Duration),
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
}

impl Policy {
    pub(crate) const fn new() -> Self {
        Self {
            delay: FIRST_DELAY,
            at_once: 0,
        }
    }

    /// Decides after a launcher has ended that lived for `lived`.
    pub(crate) fn next(&mut self, ending: Ending, manifest: &Manifest, lived: Duration) -> Next {
        if lived >= WELL {
            *self = Self::new();
        }
        if let Ending::Exited(code) = ending {
            if manifest.give_up.contains(&code) {
                return Next::GiveUp(u8::try_from(code).unwrap_or(1));
            }
            if manifest.done.contains(&code) {
                return Next::Done;
            }
            if manifest.relaunch_at_once.contains(&code) && self.at_once < AT_ONCE_IN_A_ROW {
                self.at_once += 1;
                return Next::Relaunch(Duration::ZERO);
            }
        }
        self.at_once = 0;
        let delay = self.delay;
        self.delay = (delay * 2).min(LONGEST_DELAY);
        Next::Relaunch(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YOUNG: Duration = Duration::from_millis(10);

    fn manifest() -> Manifest {
        Manifest {
            relaunch_at_once: vec![60],
            give_up: vec![64, 73],
            done: vec![80],
            ..Manifest::default()
        }
    }

    #[test]
    fn delays_grow_to_a_cap_and_start_over_after_a_good_life() {
        let mut policy = Policy::new();
        let mut next = |lived| policy.next(Ending::Killed, &manifest(), lived);
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(next(YOUNG), Next::Relaunch(Duration::from_secs(seconds)));
        }
        assert_eq!(next(WELL), Next::Relaunch(FIRST_DELAY));
    }

    #[test]
    fn an_outdated_launcher_is_started_at_once_but_not_for_ever() {
        let mut policy = Policy::new();
        let mut next = || policy.next(Ending::Exited(60), &manifest(), YOUNG);
        for _ in 0..AT_ONCE_IN_A_ROW {
            assert_eq!(next(), Next::Relaunch(Duration::ZERO));
        }
        assert_eq!(next(), Next::Relaunch(FIRST_DELAY));
    }

    #[test]
    fn only_the_launcher_can_say_that_it_is_hopeless() {
        let mut policy = Policy::new();
        let mut next = |ending| policy.next(ending, &manifest(), YOUNG);
        assert_eq!(next(Ending::Exited(64)), Next::GiveUp(64));
        assert_eq!(next(Ending::Exited(80)), Next::Done);
        assert_eq!(next(Ending::Exited(1)), Next::Relaunch(FIRST_DELAY));
        assert_eq!(next(Ending::Exited(0)), Next::Relaunch(FIRST_DELAY * 2));
    }
}
