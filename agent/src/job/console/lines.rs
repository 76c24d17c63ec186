//! Cutting a stream of bytes into lines, in bounded memory whatever comes.

/// Room for text that masking makes shorter before the line is cropped.
const ROOM: usize = 64 * 1024;

/// One line as it was cut out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    pub(crate) bytes: &'a [u8],
    /// More came than was kept.
    pub(crate) truncated: bool,
}

/// Splits at `\n`, `\r` and `\r\n`, across the borders of reads. The last line may lack its end.
#[derive(Debug)]
pub(crate) struct LineSplitter {
    /// Most bytes kept of one line.
    most: usize,
    partial: Vec<u8>,
    truncated: bool,
    /// The byte before was `\r`: a `\n` now belongs to it.
    after_return: bool,
    /// Bytes of an unfinished line were seen, even if none had to be kept.
    open: bool,
}

impl LineSplitter {
    /// Keeps enough of each line to show this many characters of it.
    pub(crate) fn new(longest_line: usize) -> Self {
        Self {
            // Four bytes are the longest character.
            most: 4 * longest_line + ROOM,
            partial: Vec::new(),
            truncated: false,
            after_return: false,
            open: false,
        }
    }

    /// Whether a line has begun and not ended.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// Takes the next bytes and gives each line that ends in them.
    pub(crate) fn push(&mut self, mut bytes: &[u8], mut emit: impl FnMut(Line<'_>)) {
        if bytes.is_empty() {
            return;
        }
        if self.after_return && bytes[0] == b'\n' {
            bytes = &bytes[1..];
        }
        self.after_return = false;
        while let Some(end) = find_end(bytes) {
            let (line, rest) = bytes.split_at(end);
            if self.open {
                self.keep(line);
                emit(Line {
                    bytes: &self.partial,
                    truncated: self.truncated,
                });
                self.reset();
            } else {
                let kept = line.len().min(self.most);
                emit(Line {
                    bytes: &line[..kept],
                    truncated: kept < line.len(),
                });
            }
            bytes = match rest {
                [b'\r', b'\n', more @ ..] | [_, more @ ..] => more,
                [] => rest,
            };
            self.after_return = rest == b"\r";
        }
        if !bytes.is_empty() {
            self.keep(bytes);
            self.open = true;
        }
    }

    /// The end of the stream: gives the last line if it had no end.
    pub(crate) fn finish(&mut self, emit: impl FnOnce(Line<'_>)) {
        if self.open {
            emit(Line {
                bytes: &self.partial,
                truncated: self.truncated,
            });
        }
        self.reset();
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = self.most - self.partial.len();
        let kept = bytes.len().min(room);
        self.partial.extend_from_slice(&bytes[..kept]);
        self.truncated |= kept < bytes.len();
    }

    fn reset(&mut self) {
        self.partial.clear();
        // A huge line is rare: do not hold its memory for the rest of the job.
        self.partial.shrink_to(64 * 1024);
        self.truncated = false;
        self.open = false;
    }
}

fn find_end(bytes: &[u8]) -> Option<usize> {
    memchr::memchr2(b'\n', b'\r', bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LONGEST: usize = 1_000_000;

    fn split(chunks: &[&[u8]]) -> Vec<String> {
        let mut splitter = LineSplitter::new(LONGEST);
        let mut lines = Vec::new();
        let mut take =
            |line: Line<'_>| lines.push(String::from_utf8_lossy(line.bytes).into_owned());
        for chunk in chunks {
            splitter.push(chunk, &mut take);
        }
        splitter.finish(&mut take);
        lines
    }

    #[test]
    fn splits_at_all_three_ends() {
        assert_eq!(split(&[b"a\rb\r\nc"]), ["a", "b", "c"]);
        assert_eq!(split(&[b"\n\nx\n"]), ["", "", "x"]);
        assert_eq!(split(&[b"30%\r\ndone\r\nlast\r"]), ["30%", "done", "last"]);
        assert_eq!(split(&[b"a\r", b"\nb"]), ["a", "b"]);
        assert_eq!(split(&[b"a\r", b"b"]), ["a", "b"]);
        assert_eq!(split(&[b"a\r", b"\r\n"]), ["a", ""]);
        assert!(split(&[b""]).is_empty());
    }

    #[test]
    fn a_line_without_end_stays_bounded() {
        let mut splitter = LineSplitter::new(LONGEST);
        for _ in 0..100 {
            splitter.push(&[b'x'; 100_000], |_| panic!("no line has ended"));
        }
        let mut seen = None;
        splitter.push(b"\n", |line| {
            seen = Some((line.bytes.len(), line.truncated))
        });
        assert_eq!(seen, Some((4 * LONGEST + ROOM, true)));
    }

    proptest! {
        #[test]
        fn where_reads_end_does_not_matter(
            bytes in prop::collection::vec(prop::sample::select(b"ab\r\n".to_vec()), 0..40),
            cut in 0usize..40,
        ) {
            let cut = cut.min(bytes.len());
            let (head, tail) = bytes.split_at(cut);
            prop_assert_eq!(split(&[head, tail]), split(&[&bytes]));
        }
    }
}
