//! Unpacking an uploaded zip, which may lie in every field.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::Path,
    thread::{self, JoinHandle},
};

use journeyman_protocol::zip::ZipReader;
use ring::digest;

use crate::{durable, hex::hex};

/// How much is copied at once, in bytes.
const CHUNK: usize = 64 * 1024;

/// How much of a large file is brought to the disk at once, in bytes.
const FLUSHED: u64 = 16 * 1024 * 1024;

/// A file or folder out of a zip. Zips with very many of them are unpacked as well, so it is small.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Names with slashes between them; none leads out of where it starts.
    pub(super) path: Box<str>,
    /// None: it is a folder.
    pub(super) file: Option<Unpacked>,
}

/// The content of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unpacked {
    /// Its name in the staging folder.
    pub(super) staged: u32,
    pub(super) size: u64,
    pub(super) sha256: [u8; SHA256],
}

/// Bytes of a SHA-256.
pub(super) const SHA256: usize = digest::SHA256_OUTPUT_LEN;

/// Why a zip is not unpacked.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnpackError {
    #[error("the upload is not a zip that can be read: {0}")]
    Zip(io::Error),
    #[error("the zip holds the name `{0}`, which leads out of its folder")]
    Leaves(String),
    #[error("the zip holds a symbolic link, `{0}`: publish what it points to instead")]
    Link(String),
    #[error("the zip unpacks to more than the {0} bytes the server has to give")]
    TooLarge(u64),
    #[error("cannot write what the zip holds")]
    Io(#[from] io::Error),
}

/// Unpacks into `staging`, flat: file `n` of the result is `staging/n`. So no name from the zip
/// touches the disk before all of them were looked at. Stops after `budget` bytes. What was unpacked
/// is lasting.
///
/// The zip is read once, from front to back, while it arrives.
pub(super) fn unpack(
    zip: impl Read,
    staging: &Path,
    budget: u64,
) -> Result<Vec<Entry>, UnpackError> {
    let mut zip = ZipReader::new(zip);
    let mut entries = Vec::new();
    let mut left = budget;
    let mut files = Vec::new();
    while let Some(name) = zip.next_entry().map_err(UnpackError::Zip)? {
        if !stays_inside(&name) {
            return Err(UnpackError::Leaves(name));
        }
        if name.ends_with('/') {
            entries.push(Entry {
                path: name.into(),
                file: None,
            });
            continue;
        }
        if name.split('/').all(|segment| matches!(segment, "" | ".")) {
            return Err(UnpackError::Leaves(name));
        }
        let staged = u32::try_from(entries.len()).map_err(io::Error::other)?;
        let path = staging.join(staged.to_string());
        let mut file = File::create_new(&path)?;
        let (size, sha256) = write(&mut zip, &mut file, left, budget)?;
        left -= size;
        if files.len() < durable::FEW {
            files.push(path);
        }
        entries.push(Entry {
            path: name.into(),
            file: Some(Unpacked {
                staged,
                size,
                sha256,
            }),
        });
    }
    if let Some(link) = zip.link() {
        return Err(UnpackError::Link(link.to_owned()));
    }
    durable::sync_all(files.iter().map(std::path::PathBuf::as_path))?;
    Ok(entries)
}

/// Writes the entry that is next, and answers its size and SHA-256.
fn write(
    zip: &mut ZipReader<impl Read>,
    file: &mut File,
    left: u64,
    budget: u64,
) -> Result<(u64, [u8; SHA256]), UnpackError> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut size = 0;
    let mut failed = None;
    let mut ahead = Ahead::default();
    let read = zip.content(|piece| {
        size += piece.len() as u64;
        if size > left {
            failed = Some(UnpackError::TooLarge(budget));
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        context.update(piece);
        let written = file.write_all(piece);
        written
            .and_then(|()| ahead.flush(file, size))
            .map_err(|error| {
                let kind = error.kind();
                failed = Some(UnpackError::Io(error));
                kind.into()
            })
    });
    match failed {
        Some(error) => Err(error),
        None => {
            read.map_err(UnpackError::Zip)?;
            ahead.finish()?;
            Ok((size, bytes_of(context)))
        }
    }
}

/// Brings what was written of a large file to the disk while the rest arrives, so that there is
/// little left to wait for at its end.
#[derive(Default)]
struct Ahead {
    /// Bytes that are on the disk, or on their way.
    begun: u64,
    flushing: Option<JoinHandle<io::Result<()>>>,
}

impl Ahead {
    fn flush(&mut self, file: &File, written: u64) -> io::Result<()> {
        let is_busy = self.flushing.as_ref().is_some_and(|one| !one.is_finished());
        if is_busy || written - self.begun < FLUSHED {
            return Ok(());
        }
        self.finish()?;
        let file = file.try_clone()?;
        self.begun = written;
        let flush = move || file.sync_data();
        self.flushing = Some(thread::Builder::new().spawn(flush)?);
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        match self.flushing.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(flushed)) => flushed,
            Some(Err(_)) => Err(io::Error::other("the thread that flushed it is gone")),
        }
    }
}

pub(super) fn bytes_of(context: digest::Context) -> [u8; SHA256] {
    let mut sha256 = [0; SHA256];
    sha256.copy_from_slice(context.finish().as_ref());
    sha256
}

/// Copies and answers size and SHA-256.
fn copy(
    from: &mut impl Read,
    to: &mut impl Write,
    buffer: &mut [u8],
) -> io::Result<(u64, [u8; SHA256])> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut size = 0;
    loop {
        let read = match from.read(buffer) {
            Ok(0) => return Ok((size, bytes_of(context))),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        context.update(&buffer[..read]);
        to.write_all(&buffer[..read])?;
        size += read as u64;
    }
}

/// Size and SHA-256 of a file, that one in hex.
pub(super) fn measure(path: &Path) -> io::Result<(u64, String)> {
    let mut file = fs::File::open(path)?;
    let (size, sha256) = copy(&mut file, &mut io::sink(), &mut vec![0; CHUNK])?;
    Ok((size, hex(&sha256)))
}

/// Whether a path stays below where it starts.
fn stays_inside(name: &str) -> bool {
    if name.starts_with('/') || name.contains('\0') {
        return false;
    }
    // On this side a backslash is a letter; on the sender's it may have been a slash.
    !name.split(['/', '\\']).any(|segment| segment == "..")
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, Write as _};

    use pretty_assertions::assert_eq;
    use zip::{ZipWriter, write::SimpleFileOptions};

    use super::*;

    fn zip(entries: &[(&str, &str)]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        let mut writer = ZipWriter::new(&mut file);
        for (name, content) in entries {
            if name.ends_with('/') {
                writer
                    .add_directory(*name, SimpleFileOptions::default())
                    .unwrap();
            } else {
                writer
                    .start_file(*name, SimpleFileOptions::default())
                    .unwrap();
                writer.write_all(content.as_bytes()).unwrap();
            }
        }
        writer.finish().unwrap();
        file.rewind().unwrap();
        file
    }

    #[test]
    fn files_and_folders_come_out() {
        let staging = tempfile::tempdir().unwrap();
        let entries = unpack(
            zip(&[("d/", ""), ("d/a b.txt", "hello")]),
            staging.path(),
            100,
        )
        .unwrap();
        let [folder, file] = entries.as_slice() else {
            panic!("{entries:?}");
        };
        assert_eq!((&*folder.path, &folder.file), ("d/", &None));
        let content = file.file.as_ref().unwrap();
        assert_eq!(
            (&*file.path, content.staged, content.size),
            ("d/a b.txt", 1, 5)
        );
        assert_eq!(
            hex(&content.sha256),
            "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        );
        assert_eq!(
            fs::read_to_string(staging.path().join("1")).unwrap(),
            "hello"
        );
    }

    #[test]
    fn a_file_that_is_flushed_while_it_comes_is_whole() {
        let content = "0123456789abcdef".repeat(FLUSHED as usize / 16 * 2 + 1);
        let staging = tempfile::tempdir().unwrap();
        let entries = unpack(zip(&[("large", &content)]), staging.path(), u64::MAX).unwrap();
        let file = entries[0].file.as_ref().unwrap();
        assert_eq!(file.size, content.len() as u64);
        let sha256 = digest::digest(&digest::SHA256, content.as_bytes());
        assert_eq!(file.sha256, sha256.as_ref());
        assert!(fs::read(staging.path().join("0")).unwrap() == content.as_bytes());
    }

    #[test]
    fn names_that_lead_out_are_refused() {
        for name in ["../x", "a/../../x", "/etc/passwd", "a\\..\\x"] {
            let staging = tempfile::tempdir().unwrap();
            let error = unpack(zip(&[(name, "x")]), staging.path(), 100).unwrap_err();
            assert!(matches!(error, UnpackError::Leaves(_)), "{name}: {error}");
        }
    }

    #[test]
    fn links_and_bombs_are_refused() {
        let mut file = tempfile::tempfile().unwrap();
        let mut writer = ZipWriter::new(&mut file);
        writer
            .add_symlink("link", "/etc/passwd", SimpleFileOptions::default())
            .unwrap();
        writer.finish().unwrap();
        file.rewind().unwrap();
        let staging = tempfile::tempdir().unwrap();
        assert!(matches!(
            unpack(file, staging.path(), 100),
            Err(UnpackError::Link(_))
        ));

        let staging = tempfile::tempdir().unwrap();
        let large = "0".repeat(101);
        assert!(matches!(
            unpack(zip(&[("a", &large)]), staging.path(), 100),
            Err(UnpackError::TooLarge(100))
        ));
    }

    /// A file of `real` zeros, of which the zip says that they are `told`.
    fn lying(real: usize, told: u32) -> File {
        let mut bytes = std::io::Cursor::new(Vec::new());
        let mut writer = ZipWriter::new(&mut bytes);
        writer
            .start_file("a", SimpleFileOptions::default())
            .unwrap();
        writer.write_all(&vec![0; real]).unwrap();
        writer.finish().unwrap();
        let mut bytes = bytes.into_inner();
        let central = bytes.windows(4).position(|four| four == b"PK\x01\x02");
        for at in [22, central.unwrap() + 24] {
            let real = u32::try_from(real).unwrap().to_le_bytes();
            assert_eq!(bytes[at..at + 4], real);
            bytes[at..at + 4].copy_from_slice(&told.to_le_bytes());
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        file.rewind().unwrap();
        file
    }

    #[test]
    fn sizes_that_lie_are_refused() {
        for (real, told) in [
            (1_000_000, 1),
            (1000, 0),
            (1000, 999),
            (0, 1),
            (1, 1000),
            (10, u32::MAX - 1),
        ] {
            let staging = tempfile::tempdir().unwrap();
            let error = unpack(lying(real, told), staging.path(), 100_000).unwrap_err();
            let blames_the_zip = matches!(error, UnpackError::Zip(_) | UnpackError::TooLarge(_));
            assert!(blames_the_zip, "{real} {told}: {error}");
            let staged = fs::metadata(staging.path().join("0")).unwrap();
            assert!(staged.len() <= 100_000, "{real} {told}: {}", staged.len());
        }
    }
}
