//! The states of a job with their times.

use jiff::Timestamp;

use crate::cli::duration;
use crate::pages::when;
use crate::scheduling::run::Transition;

/// Units of the drawn line.
pub(super) const WIDTH: i64 = 1000;

pub(super) struct Times {
    pub(super) steps: Vec<Step>,
    /// From the first state to the last, or until now.
    pub(super) elapsed: String,
    pub(super) expected: Option<Expected>,
}

pub(super) struct Step {
    pub(super) state: String,
    pub(super) class: String,
    pub(super) at: String,
    pub(super) iso: String,
    /// How long it was in this state; nothing for the last.
    pub(super) took: Option<String>,
    /// Its place on a line of [`WIDTH`].
    pub(super) x: i64,
    pub(super) width: i64,
}

/// How far a job has come that takes as long as it usually does.
pub(super) struct Expected {
    pub(super) percent: i64,
    pub(super) text: String,
}

/// `usual` is how long earlier runs took, in milliseconds.
pub(super) fn times(transitions: &[Transition], over: bool, now: i64, usual: Option<i64>) -> Times {
    let begin = transitions.first().map_or(now, |one| one.at);
    let last = transitions.last().map_or(now, |one| one.at);
    let end = if over { last } else { now.max(last) };
    let whole = (end - begin).max(1);
    let place = |at: i64| (at - begin).clamp(0, whole) * WIDTH / whole;
    let ends = transitions
        .iter()
        .skip(1)
        .map(|one| Some(one.at))
        .chain([(!over).then_some(end)]);
    let steps = transitions.iter().zip(ends).map(|(one, until)| {
        let time = Timestamp::from_millisecond(one.at).unwrap_or(Timestamp::UNIX_EPOCH);
        let x = place(one.at);
        Step {
            state: one.state.clone(),
            class: one.state.to_lowercase(),
            at: when(one.at),
            iso: time.to_string(),
            took: until.map(|until| duration(until - one.at)),
            x,
            width: until.map_or(0, |until| place(until) - x),
        }
    });
    let expected = usual.filter(|usual| !over && *usual > 0).map(|usual| {
        let gone = end - begin;
        Expected {
            percent: (gone * 100 / usual).clamp(0, 100),
            text: if gone < usual {
                format!("about {} left", duration(usual - gone))
            } else {
                format!("{} longer than usual", duration(gone - usual))
            },
        }
    });
    Times {
        steps: steps.collect(),
        elapsed: duration(end - begin),
        expected,
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn states_lie_on_a_line() {
        let at = |state: &str, at| Transition {
            state: state.to_owned(),
            at,
        };
        let all = [
            at("Scheduled", 0),
            at("Building", 250),
            at("Completed", 1000),
        ];
        let shown = |times: &Times| -> Vec<(i64, i64, Option<String>)> {
            let steps = times.steps.iter();
            steps
                .map(|one| (one.x, one.width, one.took.clone()))
                .collect()
        };
        let some = |text: &str| Some(text.to_owned());
        let over = times(&all, true, 9999, Some(5));
        assert_eq!(
            shown(&over),
            [
                (0, 250, some("0.250 s")),
                (250, 750, some("0.750 s")),
                (1000, 0, None)
            ]
        );
        assert!(over.expected.is_none());
        let running = times(&all[..2], false, 500, Some(2000));
        assert_eq!(shown(&running)[1], (500, 500, some("0.250 s")));
        let expected = running.expected.unwrap();
        assert_eq!(
            (expected.percent, expected.text.as_str()),
            (25, "about 1.500 s left")
        );
        let late = times(&all[..2], false, 5000, Some(2000)).expected.unwrap();
        assert_eq!(
            (late.percent, late.text.as_str()),
            (100, "3.000 s longer than usual")
        );
        assert!(times(&[], false, 5, None).steps.is_empty());
    }
}
