//! Whether a new agent has proved itself. Counted in time that the agent ran and the server
//! answered; no clock is read here.

use std::time::Duration;

use journeyman_host::properties::Properties;
use journeyman_protocol::launcher::Contact;

/// Properties, in milliseconds.
const LENGTH: &str = "journeyman.probation";
const SILENCE: &str = "journeyman.probation.silence";

/// How long a probation takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Time on probation.
    pub(crate) length: Duration,
    /// Longest time without contact although the server answers.
    pub(crate) silence: Duration,
}

/// What a new agent has shown so far.
#[derive(Debug)]
pub(crate) struct Probation {
    limits: Limits,
    /// A pending agent had better not have been registered before.
    was_registered: bool,
    ran: Duration,
    silent: Duration,
    started: bool,
    registered: bool,
    pinged: bool,
    asked: bool,
    server_answers: bool,
    /// The server told the agent that it cannot answer now.
    server_is_busy: bool,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Go on watching.
    Open,
    /// It has proved itself.
    Passed,
    /// It has failed, for this reason.
    Failed(String),
}

impl Limits {
    /// Five minutes, and one without contact, unless properties say otherwise.
    pub(crate) fn from_properties(properties: &Properties) -> Self {
        Self {
            length: properties
                .millis(LENGTH)
                .unwrap_or(Duration::from_secs(300)),
            silence: properties
                .millis(SILENCE)
                .unwrap_or(Duration::from_secs(60)),
        }
    }
}

impl Probation {
    /// A probation that has taken `ran` so far.
    pub(crate) const fn new(limits: Limits, was_registered: bool, ran: Duration) -> Self {
        Self {
            limits,
            was_registered,
            ran,
            silent: Duration::ZERO,
            started: false,
            registered: false,
            pinged: false,
            asked: false,
            server_answers: true,
            server_is_busy: false,
        }
    }

    /// Time on probation so far.
    pub(crate) const fn ran(&self) -> Duration {
        self.ran
    }

    /// The agent said something.
    pub(crate) fn heard(&mut self, contact: Contact) {
        match contact {
            Contact::Started => self.started = true,
            Contact::Registered => self.registered = true,
            Contact::Pinged => {
                self.registered = true;
                self.pinged = true;
                self.reached();
            }
            Contact::Asked | Contact::Working => {
                self.asked = true;
                self.reached();
            }
            // Nothing more can come before an administrator enables it. One that was enabled and
            // is not known any more has lost its identity: that is no contact.
            Contact::Pending if !self.was_registered => {
                (self.registered, self.pinged, self.asked) = (true, true, true);
                self.reached();
            }
            Contact::Pending => {}
            Contact::Busy => self.server_is_busy = true,
            // The launcher's own calls tell whether that is the server's fault.
            Contact::Away => self.server_is_busy = false,
        }
    }

    /// Whether the server answered the launcher itself.
    pub(crate) fn server(&mut self, answers: bool) {
        self.server_answers = answers;
    }

    fn reached(&mut self) {
        self.started = true;
        self.silent = Duration::ZERO;
        self.server_answers = true;
        self.server_is_busy = false;
    }

    /// The agent ran for this long since the last call.
    pub(crate) fn pass(&mut self, time: Duration) -> Verdict {
        let answers = self.server_answers && !self.server_is_busy;
        // Whether it starts has nothing to do with the server.
        if answers || !self.started {
            self.silent += time;
        }
        if answers {
            self.ran += time;
        }
        let seconds = self.limits.silence.as_secs_f32();
        if self.silent >= self.limits.silence {
            return Verdict::Failed(if self.started {
                format!("no contact for {seconds} s although the server answers")
            } else {
                format!("it did not come up within {seconds} s")
            });
        }
        if self.ran < self.limits.length {
            return Verdict::Open;
        }
        let missing = [
            (self.started, "come up"),
            (self.registered, "registered"),
            (self.pinged, "pinged"),
            (self.asked, "asked for work"),
        ];
        let Some((_, missing)) = missing.into_iter().find(|(shown, _)| !shown) else {
            return Verdict::Passed;
        };
        if self.ran < self.limits.length + self.limits.silence {
            return Verdict::Open;
        }
        let length = self.ran.as_secs_f32();
        Verdict::Failed(format!("it has not {missing} in {length} s"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const LIMITS: Limits = Limits {
        length: Duration::from_secs(300),
        silence: Duration::from_secs(60),
    };

    fn probation() -> Probation {
        Probation::new(LIMITS, true, Duration::ZERO)
    }

    /// The verdict after so many seconds, each with these words.
    fn after(probation: &mut Probation, seconds: u32, words: &[Contact]) -> Verdict {
        let mut verdict = Verdict::Open;
        for _ in 0..seconds {
            for word in words {
                probation.heard(*word);
            }
            verdict = probation.pass(SECOND);
            if verdict != Verdict::Open {
                break;
            }
        }
        verdict
    }

    fn failed(verdict: &Verdict, word: &str) -> bool {
        matches!(verdict, Verdict::Failed(reason) if reason.contains(word))
    }

    #[test]
    fn one_that_does_all_of_it_passes_and_not_before_its_time() {
        let mut probation = probation();
        let words = [Contact::Started, Contact::Pinged, Contact::Asked];
        assert_eq!(after(&mut probation, 299, &words), Verdict::Open);
        assert_eq!(after(&mut probation, 1, &words), Verdict::Passed);
    }

    #[test]
    fn time_from_before_a_restart_counts() {
        let mut probation = Probation::new(LIMITS, true, Duration::from_secs(299));
        assert_eq!(
            after(&mut probation, 1, &[Contact::Pinged, Contact::Working]),
            Verdict::Passed
        );
    }

    #[test]
    fn silence_fails_it_only_while_the_server_answers() {
        let mut silent = probation();
        silent.heard(Contact::Pinged);
        assert!(failed(&after(&mut silent, 60, &[]), "although the server"));

        let mut alone = probation();
        alone.heard(Contact::Pinged);
        alone.server(false);
        assert_eq!(after(&mut alone, 10_000, &[Contact::Away]), Verdict::Open);
        alone.server(true);
        assert_eq!(after(&mut alone, 59, &[]), Verdict::Open);
        assert!(failed(
            &after(&mut alone, 1, &[Contact::Away]),
            "no contact"
        ));
    }

    #[test]
    fn a_busy_server_stops_the_clock() {
        let mut probation = probation();
        probation.heard(Contact::Started);
        for _ in 0..1000 {
            probation.heard(Contact::Busy);
            // It answers the launcher.
            probation.server(true);
            assert_eq!(after(&mut probation, 10, &[]), Verdict::Open);
        }
        assert_eq!(probation.ran(), Duration::ZERO);
        let words = [Contact::Pinged, Contact::Asked];
        assert_eq!(after(&mut probation, 300, &words), Verdict::Passed);
    }

    #[test]
    fn one_that_does_not_come_up_fails_whatever_the_server_does() {
        let mut probation = probation();
        probation.server(false);
        assert!(failed(&after(&mut probation, 60, &[]), "come up"));
    }

    #[test]
    fn one_that_never_asks_for_work_fails_in_the_end() {
        let mut probation = probation();
        let words = [Contact::Pinged];
        assert_eq!(after(&mut probation, 359, &words), Verdict::Open);
        assert!(failed(&after(&mut probation, 1, &words), "asked for work"));
    }

    #[test]
    fn a_pending_agent_passes_unless_it_was_registered_before() {
        let words = [Contact::Pending];
        let mut new = Probation::new(LIMITS, false, Duration::ZERO);
        assert_eq!(after(&mut new, 300, &words), Verdict::Passed);
        let mut lost = probation();
        lost.heard(Contact::Started);
        assert!(failed(&after(&mut lost, 60, &words), "no contact"));
    }
}
