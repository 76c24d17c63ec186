//! Reading a console by lines, and looking for a text in it.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Seek as _, SeekFrom},
    sync::Arc,
};

use memchr::memmem::Finder;

use super::Console;

/// Bytes of a line that are shown; a line may be as long as the console.
const LONGEST: usize = 16 * 1024;

/// A line, or as much of it as is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShownLine {
    /// Without the line feed.
    pub text: Vec<u8>,
    /// How many bytes are left out.
    pub cut: u64,
}

/// What a search has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The first of them, with their numbers from 0.
    pub lines: Vec<(u64, ShownLine)>,
    /// How many there are.
    pub count: u64,
}

impl Console {
    /// So many lines from a line (counted from 0) on, less at the end of the console. A last line
    /// without a line feed counts.
    ///
    /// # Errors
    ///
    /// The file is there and cannot be read.
    pub async fn lines(self: Arc<Self>, from: u64, count: u64) -> io::Result<Vec<ShownLine>> {
        self.look(move |index, file| {
            let mut reader = reader(file, index.offset_of(file, from)?)?;
            let mut lines = Vec::new();
            while (lines.len() as u64) < count {
                let mut line = ShownLine::default();
                if !read_line(&mut reader, &mut line)? {
                    break;
                }
                lines.push(line);
            }
            Ok(lines)
        })
        .await
    }

    /// The lines that hold a text, escape sequences left aside; the case of ASCII letters does not
    /// matter. What is left out of a line is not looked at.
    ///
    /// # Errors
    ///
    /// The file is there and cannot be read.
    pub async fn search(self: Arc<Self>, text: &str, most: usize) -> io::Result<Found> {
        let text = text.to_ascii_lowercase();
        let Some(mut file) = self.open().await?.map(|file| file.try_into_std()) else {
            return Ok(Found::default());
        };
        // Not with the index, which would keep others waiting.
        let blocking = move || {
            let file = file
                .as_mut()
                .map_err(|_| io::Error::other("the file is busy"))?;
            let finder = Finder::new(text.as_bytes());
            let mut reader = reader(file, 0)?;
            let (mut found, mut line) = (Found::default(), ShownLine::default());
            let mut lower = Vec::new();
            let mut number = 0;
            while read_line(&mut reader, &mut line)? {
                lower.clear();
                without_sequences(&line.text, &mut lower);
                lower.make_ascii_lowercase();
                if finder.find(&lower).is_some() {
                    found.count += 1;
                    if found.lines.len() < most {
                        found.lines.push((number, line.clone()));
                    }
                }
                number += 1;
            }
            Ok(found)
        };
        tokio::task::spawn_blocking(blocking)
            .await
            .map_err(io::Error::other)?
    }
}

fn reader(mut file: &File, offset: u64) -> io::Result<BufReader<&File>> {
    file.seek(SeekFrom::Start(offset))?;
    Ok(BufReader::with_capacity(64 * 1024, file))
}

/// Appends a text without what sets its colours (`ESC [ … letter`).
fn without_sequences(mut text: &[u8], to: &mut Vec<u8>) {
    while let Some(at) = memchr::memmem::find(text, b"\x1b[") {
        to.extend_from_slice(&text[..at]);
        text = &text[at + 2..];
        let end = text.iter().position(|byte| matches!(byte, b'@'..=b'~'));
        text = &text[end.map_or(text.len(), |end| end + 1)..];
    }
    to.extend_from_slice(text);
}

/// Reads the next line in place of the last; false at the end.
fn read_line(reader: &mut impl BufRead, line: &mut ShownLine) -> io::Result<bool> {
    line.text.clear();
    line.cut = 0;
    let mut any = false;
    loop {
        let part = reader.fill_buf()?;
        if part.is_empty() {
            return Ok(any);
        }
        any = true;
        let end = memchr::memchr(b'\n', part);
        let here = &part[..end.unwrap_or(part.len())];
        let shown = here.len().min(LONGEST - line.text.len());
        line.text.extend_from_slice(&here[..shown]);
        line.cut += (here.len() - shown) as u64;
        let used = here.len() + usize::from(end.is_some());
        reader.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use futures_util::stream;
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::console::Consoles;

    #[tokio::test]
    async fn lines_are_read_from_anywhere_and_found_by_text() {
        let folder = tempfile::tempdir().unwrap();
        let console = Consoles::new(folder.path().to_path_buf()).of(7);
        let nothing = Arc::clone(&console).lines(0, 9).await.unwrap();
        assert_eq!(nothing, []);
        let found = Arc::clone(&console).search("x", 9).await.unwrap();
        assert_eq!(found, Found::default());
        let long = "l".repeat(LONGEST + 5);
        let text = format!("one\n\nThree \x1b[1mbold\n{long}\nfive");
        let body = stream::iter([Ok::<_, Infallible>(Bytes::from(text))]);
        console.append(None, body).await.unwrap();
        let lines = Arc::clone(&console).lines(1, 3).await.unwrap();
        let shown: Vec<_> = lines.iter().map(|one| (one.text.len(), one.cut)).collect();
        assert_eq!(shown, [(0, 0), (14, 0), (LONGEST, 5)]);
        let lines = Arc::clone(&console).lines(4, 9).await.unwrap();
        assert_eq!((lines.len(), lines[0].text.as_slice()), (1, &b"five"[..]));
        assert_eq!(Arc::clone(&console).lines(5, 9).await.unwrap(), []);
        let found = Arc::clone(&console).search("THREE", 9).await.unwrap();
        assert_eq!((found.count, found.lines[0].0), (1, 2));
        let found = Arc::clone(&console).search("three bold", 9).await.unwrap();
        assert_eq!(found.count, 1);
        let found = Arc::clone(&console).search("e", 1).await.unwrap();
        assert_eq!((found.count, found.lines.len()), (3, 1));
    }
}
