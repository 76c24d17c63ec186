//! Lines of a job's console log: `TT|HH:mm:ss.SSS text`.

use std::fmt::{self, Write};

use jiff::civil::Time;

/// What a line is about: its first two characters, which the server's page goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tag {
    /// `##`: general notice.
    Notice,
    /// `pr`: preparing, that is materials and environment.
    Prep,
    /// `pe`: errors of preparing.
    PrepErr,
    /// `!!`: a task begins.
    TaskStart,
    /// `&1`: standard output of a task.
    Out,
    /// `&2`: standard error of a task, and other errors.
    Err,
    /// `?0`: a task passed.
    TaskPass,
    /// `?1`: a task failed.
    TaskFail,
    /// `^C`: a task was cancelled.
    TaskCancelled,
    /// `!x`: a cancel task begins.
    CancelTaskStart,
    /// `x0`: a cancel task passed.
    CancelTaskPass,
    /// `x1`: a cancel task failed.
    CancelTaskFail,
    /// `j0`: the job passed.
    JobPass,
    /// `j1`: the job ended in any other way.
    JobFail,
    /// `ar`: upload of artifacts.
    Publish,
    /// `ae`: errors of that.
    PublishErr,
    /// `ex`: the job is completed.
    Completed,
}

/// A tagged line, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The two characters, which need not be a [`Tag`] we know.
    pub tag: &'a str,
    /// Local time of the agent, to the millisecond.
    pub time: Time,
    /// The rest, without a line feed at its end.
    pub text: &'a str,
}

/// Formats text as lines of the console log, each ended by a line feed. Where the text has line
/// feeds of its own, every part gets the tag and the time again; one at the very end therefore
/// gives an empty line.
pub fn format_line(tag: Tag, time: Time, text: &str) -> String {
    let mut lines = String::with_capacity(text.len() + 32);
    for part in text.split('\n') {
        push_prefix(&mut lines, tag, time);
        lines.push_str(part);
        lines.push('\n');
    }
    lines
}

/// Takes a line apart, by the rule of the server's page: two characters other than a bar, a bar,
/// a time and a space. `None` for any other line, which is shown as it is.
pub fn parse_line(line: &str) -> Option<Line<'_>> {
    let line = line.strip_suffix('\n').unwrap_or(line);
    let (tag, rest) = line.split_once('|')?;
    if tag.chars().count() != 2 {
        return None;
    }
    let time = parse_time(rest.get(..TIME_LENGTH)?)?;
    let text = rest.get(TIME_LENGTH..)?.strip_prefix(' ')?;
    Some(Line { tag, time, text })
}

/// Characters in `HH:mm:ss.SSS`.
const TIME_LENGTH: usize = 12;

fn push_prefix(lines: &mut String, tag: Tag, time: Time) {
    // Writing to a String cannot fail.
    let _ = write!(
        lines,
        "{tag}|{:02}:{:02}:{:02}.{:03} ",
        time.hour(),
        time.minute(),
        time.second(),
        time.millisecond()
    );
}

fn parse_time(text: &str) -> Option<Time> {
    let shape = b"00:00:00.000";
    let fits = text.bytes().zip(shape).all(|(byte, shape)| match shape {
        b'0' => byte.is_ascii_digit(),
        _ => byte == *shape,
    });
    if fits { text.parse().ok() } else { None }
}

// === impl Tag ===

impl Tag {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Notice,
        Self::Prep,
        Self::PrepErr,
        Self::TaskStart,
        Self::Out,
        Self::Err,
        Self::TaskPass,
        Self::TaskFail,
        Self::TaskCancelled,
        Self::CancelTaskStart,
        Self::CancelTaskPass,
        Self::CancelTaskFail,
        Self::JobPass,
        Self::JobFail,
        Self::Publish,
        Self::PublishErr,
        Self::Completed,
    ];

    /// The two characters.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Notice => "##",
            Self::Prep => "pr",
            Self::PrepErr => "pe",
            Self::TaskStart => "!!",
            Self::Out => "&1",
            Self::Err => "&2",
            Self::TaskPass => "?0",
            Self::TaskFail => "?1",
            Self::TaskCancelled => "^C",
            Self::CancelTaskStart => "!x",
            Self::CancelTaskPass => "x0",
            Self::CancelTaskFail => "x1",
            Self::JobPass => "j0",
            Self::JobFail => "j1",
            Self::Publish => "ar",
            Self::PublishErr => "ae",
            Self::Completed => "ex",
        }
    }

    /// The tag with these two characters, if there is one.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tag| tag.as_str() == text)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
