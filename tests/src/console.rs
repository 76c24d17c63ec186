//! Reading a job's console.

use jiff::{Unit, civil::Time};
use journeyman_protocol::console::parse_line;
use pretty::assert_eq_lines;

/// The texts of the lines with this tag, without tag and time.
pub fn texts<'a>(console: &'a str, tag: &'a str) -> impl Iterator<Item = &'a str> {
    console.lines().filter_map(move |line| {
        let rest = line.strip_prefix(tag)?.strip_prefix('|')?;
        // `HH:mm:ss.SSS text`
        rest.get(13..)
    })
}

/// When the first line with this beginning of its text was written, in milliseconds of its day.
pub fn time_of(console: &str, beginning: &str) -> Option<i64> {
    let line = console
        .lines()
        .filter_map(parse_line)
        .find(|line| line.text.starts_with(beginning))?;
    let since = line.time.since(Time::midnight()).ok()?;
    since.total(Unit::Millisecond).ok().map(|time| time as i64)
}

/// The numbers N of all task output lines `line N`, in the console's order.
pub fn counted(console: &str) -> Vec<u64> {
    texts(console, "&1")
        .filter_map(|text| text.strip_prefix("line ")?.parse().ok())
        .collect()
}

/// Panics unless the console has `line 1` to `line N` exactly once each and in order.
pub fn assert_counts_to(console: &str, last: u64) {
    assert_eq_lines(&counted(console), last);
}

/// Panics unless the console has `line 1` to some `line N` exactly once each and in order, with N
/// at least `least`. Returns N.
pub fn assert_counts_to_at_least(console: &str, least: u64) -> u64 {
    let last = counted(console).last().copied().unwrap_or(0);
    assert!(last >= least, "counted only to {last}, not to {least}");
    assert_counts_to(console, last);
    last
}

mod pretty {
    /// Names the first line that is out of order, which a diff of thousands of lines hides.
    pub(super) fn assert_eq_lines(found: &[u64], last: u64) {
        for (index, number) in (1..=last).enumerate() {
            match found.get(index) {
                Some(other) if *other == number => {}
                Some(other) => panic!("line {other} stands where line {number} belongs"),
                None => panic!("lines from {number} to {last} are missing"),
            }
        }
        assert!(
            found.len() as u64 == last,
            "{} lines too many, first {:?}",
            found.len() as u64 - last,
            found.get(last as usize)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_when_something_was_said() {
        assert_eq!(time_of(CONSOLE, "line 2"), Some(36_000_003));
        assert_eq!(time_of(CONSOLE, "line 3"), None);
    }

    const CONSOLE: &str = "##|10:00:00.000 [go] Job Started\n&1|10:00:00.001 line 1\n\
        &1|10:00:00.002 other\n&2|10:00:00.002 line 7\n&1|10:00:00.003 line 2\n";

    #[test]
    fn only_numbered_lines_of_standard_output_count() {
        assert_eq!(counted(CONSOLE), [1, 2]);
        assert_eq!(assert_counts_to_at_least(CONSOLE, 1), 2);
    }

    #[test]
    #[should_panic(expected = "line 2 stands where line 3 belongs")]
    fn a_doubled_line_is_named() {
        assert_counts_to(&format!("{CONSOLE}&1|10:00:00.004 line 2\n"), 3);
    }

    #[test]
    #[should_panic(expected = "lines from 3 to 4 are missing")]
    fn lost_lines_are_named() {
        assert_counts_to(CONSOLE, 4);
    }
}
