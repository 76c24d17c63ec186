//! Where lines begin, without keeping every one.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use super::sections::{HEAD, Section, Sections};

/// Bytes between two marks: at most this much is read twice to find a line.
const MARK_EVERY: u64 = 64 * 1024;

/// Marks in a file that only grows.
#[derive(Debug, Default)]
pub(super) struct LineIndex {
    /// Bytes looked at, and lines that end in them.
    scanned: u64,
    lines: u64,
    /// Line and the byte it begins at, both growing.
    marks: Vec<(u64, u64)>,
    /// The line whose end has not been seen yet: where it begins, and its first bytes.
    begin: u64,
    head: Vec<u8>,
    sections: Sections,
}

/// What there is of a console.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// Lines that are whole.
    pub lines: u64,
    /// Whether bytes follow that do not end in a line feed yet.
    pub has_rest: bool,
    pub sections: Vec<Section>,
}

impl LineIndex {
    /// Where `line` begins; the end of the file when there are not so many lines.
    pub(super) fn offset_of(&mut self, file: &File, line: u64) -> io::Result<u64> {
        if line == 0 {
            return Ok(0);
        }
        if self.lines < line {
            self.extend(file)?;
        }
        if self.lines < line {
            return Ok(self.scanned);
        }
        let after = self.marks.partition_point(|(marked, _)| *marked <= line);
        let (marked, offset) = after.checked_sub(1).map_or((0, 0), |last| self.marks[last]);
        skip_lines(file, offset, line - marked)
    }

    /// What there is by now.
    pub(super) fn outline(&mut self, file: &File) -> io::Result<Outline> {
        self.extend(file)?;
        Ok(Outline {
            lines: self.lines,
            has_rest: self.begin < self.scanned,
            sections: self.sections.list().to_vec(),
        })
    }

    /// Looks at what came since the last time.
    fn extend(&mut self, file: &File) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = file.read_at(&mut buffer, self.scanned)?;
            if read == 0 {
                return Ok(());
            }
            let mut rest = &buffer[..read];
            while let Some(at) = memchr::memchr(b'\n', rest) {
                self.look_at(&rest[..at]);
                rest = &rest[at + 1..];
                self.scanned += 1;
                self.end_line();
            }
            self.look_at(rest);
        }
    }

    fn look_at(&mut self, part: &[u8]) {
        let wanted = (HEAD - self.head.len()).min(part.len());
        self.head.extend_from_slice(&part[..wanted]);
        self.scanned += part.len() as u64;
    }

    fn end_line(&mut self) {
        self.sections.line(self.lines, self.begin, &self.head);
        self.lines += 1;
        self.begin = self.scanned;
        self.head.clear();
        let last = self.marks.last().map_or(0, |(_, offset)| *offset);
        if self.begin - last >= MARK_EVERY {
            self.marks.push((self.lines, self.begin));
        }
    }
}

fn skip_lines(file: &File, mut offset: u64, mut lines: u64) -> io::Result<u64> {
    let mut buffer = vec![0; 64 * 1024];
    while lines > 0 {
        let read = file.read_at(&mut buffer, offset)?;
        if read == 0 {
            break;
        }
        let mut from = 0;
        while let Some(at) = memchr::memchr(b'\n', &buffer[from..read]) {
            from += at + 1;
            lines -= 1;
            if lines == 0 {
                return Ok(offset + from as u64);
            }
        }
        offset += read as u64;
    }
    Ok(offset)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn every_line_is_found_while_the_file_grows() {
        let mut file = tempfile::tempfile().unwrap();
        let mut index = LineIndex::default();
        let mut begins = Vec::new();
        let mut length = 0;
        for round in 0..40_u64 {
            for line in 0..100_u64 {
                begins.push(length);
                let text = format!(
                    "{round} {line} {}\n",
                    "x".repeat(usize::try_from(line).unwrap())
                );
                file.write_all(text.as_bytes()).unwrap();
                length += text.len() as u64;
            }
            let newest = begins.len() - 1;
            for line in [0, 1, newest / 2, newest] {
                assert_eq!(index.offset_of(&file, line as u64).unwrap(), begins[line]);
            }
            assert_eq!(index.offset_of(&file, begins.len() as u64).unwrap(), length);
            assert_eq!(
                index.offset_of(&file, begins.len() as u64 + 9).unwrap(),
                length
            );
        }
        assert!(index.marks.len() > 2);
        let outline = index.outline(&file).unwrap();
        assert_eq!((outline.lines, outline.has_rest), (4000, false));
        file.write_all(b"!!|00:00:00.000 and a be").unwrap();
        let outline = index.outline(&file).unwrap();
        assert_eq!((outline.lines, outline.has_rest), (4000, true));
        file.write_all(b"ginning\n").unwrap();
        let outline = index.outline(&file).unwrap();
        assert_eq!((outline.lines, outline.has_rest), (4001, false));
        let section = &outline.sections[0];
        assert_eq!((section.first, section.offset), (4000, length));
    }
}
