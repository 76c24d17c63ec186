//! What the tags of a console's lines tell: where materials are prepared, where each task begins
//! and how it ended, where artifacts are published.

/// No console is cut into more sections; what follows is in none.
const MOST: usize = 2000;

/// Bytes that [`Sections::line`] looks at: `TT|HH:mm:ss.SSS`.
pub(super) const HEAD: usize = 15;

const DAY: u32 = 24 * 3600 * 1000;

/// Lines that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    pub kind: SectionKind,
    /// Its first line, counted from 0.
    pub first: u64,
    pub lines: u64,
    /// Where its first line begins, in bytes.
    pub offset: u64,
    pub outcome: Option<Outcome>,
    /// Nothing will be added to it.
    pub closed: bool,
    /// Times of day, in milliseconds, of its first and its last line that has one.
    times: Option<(u32, u32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectionKind {
    Prepare,
    /// Its first line is the command.
    Task,
    /// What a cancel ran; its first line is the command.
    CancelTask,
    Publish,
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    Failed,
    Cancelled,
}

impl Section {
    /// Milliseconds from its first line to its last.
    pub fn duration(&self) -> Option<u32> {
        // A job may work past midnight.
        self.times.map(|(begin, end)| (end + DAY - begin) % DAY)
    }
}

#[derive(Debug, Default)]
pub(super) struct Sections {
    list: Vec<Section>,
}

impl Sections {
    pub(super) fn list(&self) -> &[Section] {
        &self.list
    }

    /// Notes a line by its first [`HEAD`] bytes.
    pub(super) fn line(&mut self, number: u64, offset: u64, head: &[u8]) {
        let time = time_of(head);
        let tag = match (head.first_chunk::<3>(), time) {
            (Some([first, second, _]), Some(_)) => [*first, *second],
            // No tag of ours: more of what was before.
            _ => *b"  ",
        };
        match &tag {
            b"!!" => self.begin(SectionKind::Task, number, offset),
            b"!x" => self.begin(SectionKind::CancelTask, number, offset),
            b"pr" | b"pe" => self.go_on(SectionKind::Prepare, number, offset),
            b"ar" | b"ae" => self.go_on(SectionKind::Publish, number, offset),
            b"j0" | b"j1" | b"ex" => self.close(),
            b"##" => {
                let open = self.open();
                if open.is_some_and(|one| {
                    matches!(one.kind, SectionKind::Prepare | SectionKind::Publish)
                }) {
                    self.close();
                }
            }
            _ => {}
        }
        if let Some(open) = self.open() {
            open.lines = number - open.first + 1;
            if let Some(time) = time {
                open.times = Some((open.times.map_or(time, |(begin, _)| begin), time));
            }
        }
        let (kind, outcome) = match &tag {
            b"?0" => (SectionKind::Task, Outcome::Passed),
            b"?1" => (SectionKind::Task, Outcome::Failed),
            b"^C" => (SectionKind::Task, Outcome::Cancelled),
            b"x0" => (SectionKind::CancelTask, Outcome::Passed),
            b"x1" => (SectionKind::CancelTask, Outcome::Failed),
            _ => return,
        };
        // The end of a task may come after what its cancel ran.
        let of_it = self.list.iter_mut().rev().find(|one| one.kind == kind);
        if let Some(section) = of_it
            && section.outcome.is_none()
        {
            section.outcome = Some(outcome);
            self.close();
        }
    }

    fn open(&mut self) -> Option<&mut Section> {
        self.list.last_mut().filter(|one| !one.closed)
    }

    fn close(&mut self) {
        if let Some(open) = self.open() {
            open.closed = true;
        }
    }

    fn begin(&mut self, kind: SectionKind, number: u64, offset: u64) {
        self.close();
        if self.list.len() < MOST {
            self.list.push(Section {
                kind,
                first: number,
                lines: 1,
                offset,
                outcome: None,
                closed: false,
                times: None,
            });
        }
    }

    fn go_on(&mut self, kind: SectionKind, number: u64, offset: u64) {
        if self.open().is_none_or(|open| open.kind != kind) {
            self.begin(kind, number, offset);
        }
    }
}

/// The time of day in milliseconds of a line that begins with a tag and a time.
fn time_of(head: &[u8]) -> Option<u32> {
    let head: &[u8; HEAD] = head.try_into().ok()?;
    let separators = [(2, b'|'), (5, b':'), (8, b':'), (11, b'.')];
    if separators.iter().any(|(at, byte)| head[*at] != *byte) {
        return None;
    }
    let number = |range: std::ops::Range<usize>| {
        head[range].iter().try_fold(0, |number, digit| {
            digit
                .is_ascii_digit()
                .then(|| number * 10 + u32::from(digit - b'0'))
        })
    };
    let (hours, minutes) = (number(3..5)?, number(6..8)?);
    let (seconds, milliseconds) = (number(9..11)?, number(12..15)?);
    (hours < 24 && minutes < 60 && seconds < 60)
        .then(|| ((hours * 60 + minutes) * 60 + seconds) * 1000 + milliseconds)
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    type Shown = (SectionKind, u64, u64, Option<Outcome>, Option<u32>);

    fn sections(lines: &[&str]) -> Vec<Shown> {
        let mut sections = Sections::default();
        for (number, line) in lines.iter().enumerate() {
            let head = &line.as_bytes()[..line.len().min(HEAD)];
            sections.line(number as u64, 0, head);
        }
        let list = sections.list().iter();
        list.map(|one| (one.kind, one.first, one.lines, one.outcome, one.duration()))
            .collect()
    }

    #[test]
    fn a_job_is_cut_at_its_tags() {
        use SectionKind::{CancelTask, Prepare, Publish, Task};
        let lines = [
            "##|23:59:58.000 [go] Job Started",
            "pr|23:59:58.000 [go] Start to prepare",
            "pe|23:59:58.500 a warning",
            "##|23:59:59.000 [go] Start to build",
            "!!|23:59:59.000 [go] Task: make",
            "&1|00:00:00.000 a line",
            "not tagged",
            "?0|00:00:01.500 [go] Task status: passed",
            "!!|00:00:02.000 [go] Task: make test",
            "&2|00:00:03.000 oh",
            "!x|00:00:04.000 [go] On Cancel Task: make stop",
            "&1|00:00:05.000 stopping",
            "x0|00:00:05.000 [go] On Cancel Task status: passed",
            "^C|00:00:06.000 [go] Task status: cancelled",
            "j1|00:00:07.000 [go] Current job status: failed",
            "ar|00:00:07.000 [go] Uploading",
            "ae|00:00:07.250 [go] none",
            "ex|00:00:08.000 [go] Job completed",
            "&1|00:00:08.000 late",
        ];
        let expected = [
            (Prepare, 1, 2, None, Some(500)),
            (Task, 4, 4, Some(Outcome::Passed), Some(2500)),
            (Task, 8, 2, Some(Outcome::Cancelled), Some(1000)),
            (CancelTask, 10, 3, Some(Outcome::Passed), Some(1000)),
            (Publish, 15, 2, None, Some(250)),
        ];
        assert_eq!(sections(&lines), expected);
    }

    #[test]
    fn what_looks_like_a_tag_is_none_without_a_time() {
        let lines = [
            "!!|not a time",
            "?0|99:00:00.000 x",
            "!!|",
            "",
            "!!|00:00:00.00x y",
        ];
        assert_eq!(sections(&lines), []);
        let many = vec!["!!|00:00:00.000 x"; MOST + 9];
        assert_eq!(sections(&many).len(), MOST);
    }
}
