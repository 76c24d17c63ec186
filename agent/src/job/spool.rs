//! The console spool: one file per job that holds what is to be sent to the server, in UTF-8.
//!
//! A line is in the file as soon as it is written: nothing is held back in memory, so what a job
//! printed survives the death of its runner. An offset into the file is an offset into the job's
//! console.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use thiserror::Error;

/// Most bytes of one chunk, unless a single line is longer.
pub const MAX_CHUNK: usize = 1024 * 1024;

/// A spool that cannot be opened, written or read.
#[derive(Debug, Error)]
#[error("cannot {action} the console spool {path}; check free space and permissions there")]
pub struct SpoolError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The spool's end that lines are added to.
#[derive(Debug)]
pub struct SpoolWriter {
    path: PathBuf,
    file: File,
    length: u64,
    /// A write has failed after some of its bytes: the next one begins on a new line.
    torn: bool,
}

impl SpoolWriter {
    /// Opens the spool for appending; makes it (mode 0600) if there is none. A last line that a
    /// crash left without its end is ended first.
    ///
    /// # Errors
    /// When the file cannot be opened or measured.
    pub fn open(path: &Path) -> Result<Self, SpoolError> {
        let error = |action| {
            let path = path.to_owned();
            move |source| SpoolError {
                action,
                path,
                source,
            }
        };
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .map_err(error("open"))?;
        let length = file.seek(SeekFrom::End(0)).map_err(error("measure"))?;
        let mut last = *b"\n";
        if length > 0 {
            file.seek(SeekFrom::End(-1))
                .and_then(|_| file.read_exact(&mut last))
                .map_err(error("read"))?;
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            length,
            torn: last != *b"\n",
        })
    }

    /// Appends whole lines, each with its line feed.
    ///
    /// # Errors
    /// When the disk is full or the file cannot be written.
    pub fn append(&mut self, lines: &[u8]) -> Result<(), SpoolError> {
        if self.torn {
            self.write(b"\n")?;
            self.torn = false;
        }
        self.write(lines)
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<(), SpoolError> {
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(0) => return Err(self.failed(io::ErrorKind::WriteZero.into())),
                Ok(written) => {
                    self.length += written as u64;
                    self.torn = bytes[written - 1] != b'\n';
                    bytes = &bytes[written..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        Ok(())
    }

    fn failed(&self, source: io::Error) -> SpoolError {
        SpoolError {
            action: "write",
            path: self.path.clone(),
            source,
        }
    }

    /// Bytes in the spool.
    pub fn length(&self) -> u64 {
        self.length
    }
}

/// The spool's end that is sent.
#[derive(Debug)]
pub struct SpoolReader {
    path: PathBuf,
    file: File,
}

impl SpoolReader {
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self, SpoolError> {
        let file = File::open(path).map_err(|source| SpoolError {
            action: "open",
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    /// The next whole lines from `offset` on, at most [`MAX_CHUNK`] bytes unless the first line
    /// alone is longer. Empty when no finished line is there.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn chunk(&mut self, offset: u64) -> Result<Vec<u8>, SpoolError> {
        self.read_chunk(offset).map_err(|source| SpoolError {
            action: "read",
            path: self.path.clone(),
            source,
        })
    }

    fn read_chunk(&mut self, offset: u64) -> io::Result<Vec<u8>> {
        self.file.seek(SeekFrom::Start(offset))?;
        let mut chunk = Vec::new();
        loop {
            let before = chunk.len();
            Read::by_ref(&mut self.file)
                .take(MAX_CHUNK as u64)
                .read_to_end(&mut chunk)?;
            if let Some(end) = chunk.iter().rposition(|b| *b == b'\n') {
                // A line longer than a chunk goes alone: only whole lines are sent.
                let end = if before > 0 {
                    chunk.iter().position(|b| *b == b'\n').unwrap_or(end)
                } else {
                    end
                };
                chunk.truncate(end + 1);
                return Ok(chunk);
            }
            if chunk.len() - before < MAX_CHUNK {
                return Ok(Vec::new());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_whole_lines_from_an_offset() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console");
        let mut writer = SpoolWriter::open(&path).unwrap();
        writer.append(b"one\ntwo\n").unwrap();
        let mut reader = SpoolReader::open(&path).unwrap();
        assert_eq!(reader.chunk(0).unwrap(), b"one\ntwo\n");
        assert_eq!(reader.chunk(4).unwrap(), b"two\n");
        assert!(reader.chunk(8).unwrap().is_empty());
        writer.append(b"three\n").unwrap();
        assert_eq!(reader.chunk(8).unwrap(), b"three\n");
        assert_eq!(writer.length(), 14);
    }

    #[test]
    fn a_torn_last_line_is_ended_before_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console");
        std::fs::write(&path, b"one\ntw").unwrap();
        let mut reader = SpoolReader::open(&path).unwrap();
        assert_eq!(reader.chunk(0).unwrap(), b"one\n");
        let mut writer = SpoolWriter::open(&path).unwrap();
        writer.append(b"three\n").unwrap();
        assert_eq!(reader.chunk(0).unwrap(), b"one\ntw\nthree\n");
    }

    #[test]
    fn chunks_are_bounded_but_never_cut_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console");
        let mut writer = SpoolWriter::open(&path).unwrap();
        let long = [vec![b'x'; 3 * MAX_CHUNK], b"\n".to_vec()].concat();
        writer.append(&long).unwrap();
        for _ in 0..40 {
            writer
                .append(&[vec![b'y'; 99_999], b"\n".to_vec()].concat())
                .unwrap();
        }
        let mut reader = SpoolReader::open(&path).unwrap();
        assert_eq!(reader.chunk(0).unwrap(), long);
        let next = reader.chunk(long.len() as u64).unwrap();
        assert_eq!(next.len(), 1_000_000);
        assert!(next.ends_with(b"y\n"));
    }
}
