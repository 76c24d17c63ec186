//! Times as people here read them.

use std::fmt;

use jiff::Timestamp;
use jiff::tz::TimeZone;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// An instant on a page, with its date and time for those who point at it and for programs.
#[derive(Clone, Debug)]
pub(super) struct Moment {
    at: i64,
    shown: String,
}

impl Moment {
    /// Shown as a date and time. All times are milliseconds since the epoch.
    pub(super) fn at(at: i64) -> Self {
        let shown = full(at);
        Self { at, shown }
    }

    /// Shown as how long ago it was.
    pub(super) fn ago(at: i64, now: i64) -> Self {
        let shown = match now - at {
            age if age < MINUTE => "just now".to_owned(),
            age if age < HOUR => format!("{} min ago", age / MINUTE),
            age if age < DAY => format!("{} h ago", age / HOUR),
            age if age < 30 * DAY => format!("{} d ago", age / DAY),
            _ => full(at).split(' ').next().unwrap_or_default().to_owned(),
        };
        Self { at, shown }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let iso = Timestamp::from_millisecond(self.at).unwrap_or_default();
        let (full, shown) = (full(self.at), &self.shown);
        write!(
            formatter,
            "<time datetime=\"{iso}\" title=\"{full}\">{shown}</time>"
        )
    }
}

/// Digits, letters and the like only.
impl askama::filters::HtmlSafe for Moment {}

/// The date and time here.
pub(super) fn full(milliseconds: i64) -> String {
    let time = Timestamp::from_millisecond(milliseconds).unwrap_or_default();
    time.to_zoned(TimeZone::system())
        .strftime("%Y-%m-%d %H:%M:%S")
        .to_string()
}

/// A length of time, as short as it can be said: `42 s`, `3:07 min`, `2:05 h`.
pub(super) fn length(milliseconds: i64) -> String {
    let seconds = milliseconds.max(0) / 1000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{}:{:02} min", seconds / 60, seconds % 60),
        _ => format!("{}:{:02} h", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_as_coarse_as_they_are_long() {
        let now = 1_936_064_889_000;
        for (age, shown) in [
            (-5, "just now"),
            (59_999, "just now"),
            (60_000, "1 min ago"),
            (2 * HOUR - 1, "1 h ago"),
            (29 * DAY, "29 d ago"),
        ] {
            assert_eq!(Moment::ago(now - age, now).shown, shown);
        }
        assert_eq!(Moment::ago(now - 40 * DAY, now).shown.len(), 10);
        for (time, shown) in [(999, "0 s"), (187_000, "3:07 min"), (7_500_000, "2:05 h")] {
            assert_eq!(length(time), shown);
        }
    }
}
