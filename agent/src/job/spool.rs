//! The console spool: one file per job that holds what is to be sent to the server, in UTF-8.
//!
//! A line is in the file as soon as it is written: nothing is held back in memory, so what a job
//! printed survives the death of its runner. An offset into the file is an offset into the job's
//! console.
//!
//! What a disk does not take (it is full, for example) is held in memory until it does, at the
//! offsets it will have, and sent from there: the end of the console is still seen. That has a
//! bound; lines beyond it are lost, and counted.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use thiserror::Error;

use super::shortage::describe;

/// Most bytes of one chunk.
pub const MAX_CHUNK: usize = 1024 * 1024;

/// Most bytes that are held for a disk that takes none.
const MAX_HELD: usize = 2 * MAX_CHUNK;
/// How much of it is for the job's own lines: what tasks print stops before.
const OWN_SHARE: usize = 64 * 1024;

/// A spool that cannot be opened, written or read.
#[derive(Debug, Error)]
#[error("cannot {action} the console spool {path}; check free space and permissions there")]
pub struct SpoolError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl SpoolError {
    /// The whole of it in words, with what to do.
    pub fn advice(&self) -> String {
        let folder = self.path.parent().unwrap_or(&self.path);
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        describe(&self.source, &folder)
    }
}

/// Lines that are not on the disk yet. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Overflow {
    held: Arc<Mutex<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    /// Offset of the first byte: the length of the file.
    start: u64,
    bytes: Vec<u8>,
}

/// Whose lines they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The job itself: there are few, and they tell what happens.
    Job,
    /// What programs print.
    Program,
}

/// How it is with the disk under a spool.
#[derive(Debug)]
pub enum Disk {
    /// All is on it.
    Good,
    /// It takes nothing; that much is held in memory.
    Bad(SpoolError),
}

/// The spool's end that lines are added to.
#[derive(Debug)]
pub struct SpoolWriter {
    path: PathBuf,
    file: File,
    /// The file was found with an unfinished last line.
    torn: bool,
    overflow: Overflow,
    lost_lines: u64,
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
            torn: last != *b"\n",
            overflow: Overflow {
                held: Arc::new(Mutex::new(Held {
                    start: length,
                    bytes: Vec::new(),
                })),
            },
            lost_lines: 0,
        })
    }

    /// Appends whole lines, each with its line feed, and says whether the disk took them.
    pub fn append(&mut self, lines: &[u8], whose: Whose) -> Disk {
        let overflow = self.overflow.clone();
        let mut held = overflow.held();
        if std::mem::take(&mut self.torn) {
            held.bytes.push(b'\n');
        }
        let mut result = held.write_out(&mut self.file);
        let mut rest = lines;
        while result.is_ok() && !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => result = Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    held.start += written as u64;
                    rest = &rest[written..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => result = Err(error),
            }
        }
        self.lost_lines += held.keep(rest, whose);
        match result {
            Ok(()) => Disk::Good,
            Err(source) => Disk::Bad(SpoolError {
                action: "write",
                path: self.path.clone(),
                source,
            }),
        }
    }

    /// How many lines were lost since this was asked last: the disk took none, and what may be
    /// held in memory was full.
    pub fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost_lines)
    }

    /// What is held in memory, for a reader of the same spool.
    pub fn overflow(&self) -> Overflow {
        self.overflow.clone()
    }

    /// Bytes in the spool, with those that are held.
    pub fn length(&self) -> u64 {
        let held = self.overflow.held();
        held.start + held.bytes.len() as u64
    }
}

impl Overflow {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Gives the disk what is held, as far as it takes it.
    fn write_out(&mut self, file: &mut File) -> io::Result<()> {
        while !self.bytes.is_empty() {
            match file.write(&self.bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.start += written as u64;
                    self.bytes.drain(..written);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Holds as many whole lines as there is room for; returns how many there was none for. The
    /// rest of a line that the file has the beginning of comes first, and always fits.
    fn keep(&mut self, lines: &[u8], whose: Whose) -> u64 {
        let limit = match whose {
            Whose::Job => MAX_HELD,
            Whose::Program => MAX_HELD - OWN_SHARE,
        };
        let mut lost = 0;
        let starts_a_line = !self.bytes.is_empty();
        for (index, line) in lines.split_inclusive(|b| *b == b'\n').enumerate() {
            let is_rest = index == 0 && !starts_a_line;
            if is_rest || self.bytes.len() + line.len() <= limit {
                self.bytes.extend_from_slice(line);
            } else {
                lost += 1;
            }
        }
        lost
    }
}

/// The spool's end that is sent.
#[derive(Debug)]
pub struct SpoolReader {
    path: PathBuf,
    file: File,
    overflow: Overflow,
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
            overflow: Overflow::default(),
        })
    }

    /// Reads what the spool's writer holds in memory as well.
    pub fn with_overflow(self, overflow: Overflow) -> Self {
        Self { overflow, ..self }
    }

    /// What to send next from `offset` on, at most `limit` bytes: whole lines, or a part of one that
    /// is longer. Empty when no finished line is there.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn chunk(&mut self, offset: u64, limit: usize) -> Result<Vec<u8>, SpoolError> {
        let overflow = self.overflow.clone();
        let held = overflow.held();
        let mut chunk = self
            .read(offset, limit, &held)
            .map_err(|source| SpoolError {
                action: "read",
                path: self.path.clone(),
                source,
            })?;
        chunk.truncate(end_of_chunk(&chunk, limit));
        Ok(chunk)
    }

    /// What is on the disk, and behind it what is held.
    fn read(&mut self, offset: u64, limit: usize, held: &Held) -> io::Result<Vec<u8>> {
        let mut chunk = Vec::new();
        self.file.seek(SeekFrom::Start(offset))?;
        Read::by_ref(&mut self.file)
            .take(limit as u64)
            .read_to_end(&mut chunk)?;
        if !held.bytes.is_empty() && chunk.len() < limit {
            let next = offset + chunk.len() as u64;
            let sent = usize::try_from(next.saturating_sub(held.start)).unwrap_or(usize::MAX);
            let rest = held.bytes.get(sent..).unwrap_or_default();
            chunk.extend_from_slice(&rest[..rest.len().min(limit - chunk.len())]);
        }
        Ok(chunk)
    }
}

/// Behind the last line that is whole, or of a line that is longer than the limit, between two
/// characters. Bytes that are no text are cut anywhere.
fn end_of_chunk(chunk: &[u8], limit: usize) -> usize {
    match memchr::memrchr(b'\n', chunk) {
        Some(end) => end + 1,
        None if chunk.len() < limit => 0,
        None => match str::from_utf8(chunk) {
            Err(torn) if torn.error_len().is_none() && torn.valid_up_to() > 0 => torn.valid_up_to(),
            _ => chunk.len(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(writer: &mut SpoolWriter, lines: &[u8]) {
        assert!(matches!(writer.append(lines, Whose::Program), Disk::Good));
    }

    /// A limit of a file's size stands for a full disk: the same error at the same place, and it
    /// can be lifted. It is all of a process's, so this runs in one of its own.
    #[test]
    fn what_the_disk_does_not_take_is_held_and_comes_at_its_place() {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        const IN_CHILD: &str = "JOURNEYMAN_TEST_SPOOL";
        let Some(path) = std::env::var_os(IN_CHILD).map(PathBuf::from) else {
            let dir = tempfile::tempdir().unwrap();
            let name = "what_the_disk_does_not_take_is_held_and_comes_at_its_place";
            let output = std::process::Command::new("sh")
                .args([
                    "-c",
                    "ulimit -S -f 2; trap '' XFSZ; exec \"$0\" --exact \"$1\"",
                ])
                .arg(std::env::current_exe().unwrap())
                .arg(format!("job::spool::tests::{name}"))
                .env(IN_CHILD, dir.path().join("console"))
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(text.contains("1 passed"), "{text}");
            return;
        };
        let mut writer = SpoolWriter::open(&path).unwrap();
        let mut reader = SpoolReader::open(&path)
            .unwrap()
            .with_overflow(writer.overflow());
        let line = [vec![b'x'; 299], b"\n".to_vec()].concat();
        // 1024 bytes fit: three lines and the beginning of the fourth.
        assert!(matches!(
            writer.append(&line.repeat(4), Whose::Program),
            Disk::Bad(_)
        ));
        assert_eq!(writer.length(), 1200);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 1024);
        assert_eq!(reader.chunk(0, MAX_CHUNK).unwrap(), line.repeat(4));
        assert_eq!(reader.chunk(900, MAX_CHUNK).unwrap(), line);
        assert!(reader.chunk(1200, MAX_CHUNK).unwrap().is_empty());
        // Programs fill the memory, the job's own lines still come in.
        let many = MAX_HELD / line.len();
        assert!(matches!(
            writer.append(&line.repeat(many), Whose::Program),
            Disk::Bad(_)
        ));
        let lost = writer.take_lost();
        assert!(lost > 0, "{lost}");
        assert!(matches!(writer.append(b"own\n", Whose::Job), Disk::Bad(_)));
        assert_eq!((writer.take_lost(), writer.lost_lines), (0, 0));
        let length = writer.length();
        assert_eq!(reader.chunk(length - 4, MAX_CHUNK).unwrap(), b"own\n");
        // There is room again: all is on the disk, where it was said to be.
        let (_, most) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
        setrlimit(Resource::RLIMIT_FSIZE, most, most).unwrap();
        write(&mut writer, b"last\n");
        assert_eq!(writer.length(), length + 5);
        let all = std::fs::read(&path).unwrap();
        assert_eq!(all.len() as u64, length + 5);
        assert!(all.ends_with(b"x\nown\nlast\n"));
        assert_eq!(reader.chunk(length, MAX_CHUNK).unwrap(), b"last\n");
    }

    #[test]
    fn gives_whole_lines_from_an_offset() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console");
        let mut writer = SpoolWriter::open(&path).unwrap();
        write(&mut writer, b"one\ntwo\n");
        let mut reader = SpoolReader::open(&path).unwrap();
        assert_eq!(reader.chunk(0, MAX_CHUNK).unwrap(), b"one\ntwo\n");
        assert_eq!(reader.chunk(4, MAX_CHUNK).unwrap(), b"two\n");
        assert!(reader.chunk(8, MAX_CHUNK).unwrap().is_empty());
        write(&mut writer, b"three\n");
        assert_eq!(reader.chunk(8, MAX_CHUNK).unwrap(), b"three\n");
        assert_eq!(writer.length(), 14);
    }

    #[test]
    fn a_torn_last_line_is_ended_before_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console");
        std::fs::write(&path, b"one\ntw").unwrap();
        let mut reader = SpoolReader::open(&path).unwrap();
        assert_eq!(reader.chunk(0, MAX_CHUNK).unwrap(), b"one\n");
        let mut writer = SpoolWriter::open(&path).unwrap();
        write(&mut writer, b"three\n");
        assert_eq!(reader.chunk(0, MAX_CHUNK).unwrap(), b"one\ntw\nthree\n");
    }

    #[test]
    fn chunks_are_bounded_and_cut_no_line_that_is_not_longer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console");
        let mut writer = SpoolWriter::open(&path).unwrap();
        let long = "x".repeat(3 * MAX_CHUNK) + "\n";
        write(&mut writer, long.as_bytes());
        for _ in 0..40 {
            write(&mut writer, &[vec![b'y'; 99_999], b"\n".to_vec()].concat());
        }
        let mut reader = SpoolReader::open(&path).unwrap();
        for part in 0..3 {
            let offset = part * MAX_CHUNK as u64;
            let chunk = reader.chunk(offset, MAX_CHUNK).unwrap();
            assert_eq!(chunk.len(), MAX_CHUNK);
        }
        let next = reader.chunk(long.len() as u64, MAX_CHUNK).unwrap();
        assert_eq!(next.len(), 1_000_000);
        assert!(next.ends_with(b"y\n"));
    }

    #[test]
    fn a_part_of_a_line_ends_between_two_characters() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console");
        let mut writer = SpoolWriter::open(&path).unwrap();
        let text = "aé€😀".repeat(20) + "\n";
        write(&mut writer, text.as_bytes());
        let mut reader = SpoolReader::open(&path).unwrap();
        for limit in 4..60 {
            let mut sent = Vec::new();
            while sent.len() < text.len() {
                let chunk = reader.chunk(sent.len() as u64, limit).unwrap();
                assert!(!chunk.is_empty() && chunk.len() <= limit);
                assert!(str::from_utf8(&chunk).is_ok(), "{limit}: {chunk:x?}");
                sent.extend(chunk);
            }
            assert_eq!(sent, text.as_bytes());
        }
        std::fs::write(&path, [0x80; 50]).unwrap();
        assert_eq!(reader.chunk(0, 10).unwrap().len(), 10);
    }
}
