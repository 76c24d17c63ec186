//! The manifest at the end of a launcher's file, see packaging.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use journeyman_protocol::release::Build;

const MAGIC: &[u8; 8] = b"JMLNCHR1";
/// Bytes behind the manifest.
const TRAILER: u64 = 16;
/// Longest manifest that is believed, in bytes. The bootstrapper's limit.
const LONGEST: u64 = 64 * 1024;

/// What a launcher's file says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct LauncherFile {
    /// Version for people.
    pub(crate) version: String,
    /// Build sequence.
    pub(crate) build: u64,
}

impl LauncherFile {
    /// Which build it is. The package it came in is not known here.
    pub(crate) fn build(&self) -> Build {
        Build {
            version: self.version.clone(),
            build: self.build,
            sha256: String::new(),
        }
    }

    /// Whether it is this build.
    pub(crate) fn is(&self, build: &Build) -> bool {
        self.build == build.build && self.version == build.version
    }

    /// Reads the manifest at the end of a launcher's file.
    ///
    /// # Errors
    /// It cannot be read or has none.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let text =
            manifest(&mut File::open(path)?)?.ok_or_else(|| invalid("it has no manifest"))?;
        let mut read = Self::default();
        for (key, value) in text.lines().filter_map(|line| line.split_once(':')) {
            match key.trim() {
                "version" => value.trim().clone_into(&mut read.version),
                "build" => {
                    let number = value.trim().parse();
                    read.build = number.map_err(|_| invalid("its build is no number"))?;
                }
                _ => {}
            }
        }
        Ok(read)
    }
}

/// The text of the manifest at the end of a launcher's file; none when the file does not end like one.
///
/// # Errors
/// It cannot be read, or is cut off.
pub(crate) fn manifest(file: &mut File) -> io::Result<Option<String>> {
    let Some(end) = file.seek(SeekFrom::End(0))?.checked_sub(TRAILER) else {
        return Ok(None);
    };
    file.seek(SeekFrom::Start(end))?;
    let (mut length, mut magic) = ([0; 8], [0; 8]);
    file.read_exact(&mut length)?;
    file.read_exact(&mut magic)?;
    if magic != *MAGIC {
        return Ok(None);
    }
    let length = u64::from_le_bytes(length);
    let start = end
        .checked_sub(length)
        .filter(|_| length <= LONGEST)
        .ok_or_else(|| invalid("its manifest has no plausible length"))?;
    file.seek(SeekFrom::Start(start))?;
    let mut text = String::new();
    file.take(length).read_to_string(&mut text)?;
    Ok(Some(text))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use journeyman_packaging::{Build as Packaged, launcher_file};

    use super::*;

    #[test]
    fn a_launcher_says_which_build_it_is_and_a_damaged_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("launcher");
        let bytes = launcher_file(b"ELF", &Packaged::new(17));
        std::fs::write(&path, &bytes).unwrap();
        let build = LauncherFile::of(&path).unwrap().build();
        assert_eq!((build.version.as_str(), build.build), ("0.1.0", 17));

        let end = bytes.len() - 16;
        let endless = [&bytes[..end], &u64::MAX.to_le_bytes(), MAGIC].concat();
        for damaged in [b"ELF".as_slice(), &bytes[..end], &endless] {
            std::fs::write(&path, damaged).unwrap();
            assert!(LauncherFile::of(&path).is_err());
        }
    }
}
