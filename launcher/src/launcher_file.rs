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
        let none = || io::Error::new(io::ErrorKind::InvalidData, "it has no launcher's manifest");
        let mut file = File::open(path)?;
        let end = file
            .seek(SeekFrom::End(0))?
            .checked_sub(TRAILER)
            .ok_or_else(none)?;
        file.seek(SeekFrom::Start(end))?;
        let (mut length, mut magic) = ([0; 8], [0; 8]);
        file.read_exact(&mut length)?;
        file.read_exact(&mut magic)?;
        let length = u64::from_le_bytes(length);
        if magic != *MAGIC || length > LONGEST {
            return Err(none());
        }
        file.seek(SeekFrom::Start(end.checked_sub(length).ok_or_else(none)?))?;
        let mut text = String::new();
        file.take(length).read_to_string(&mut text)?;
        let mut read = Self::default();
        for (key, value) in text.lines().filter_map(|line| line.split_once(':')) {
            match key.trim() {
                "version" => value.trim().clone_into(&mut read.version),
                "build" => read.build = value.trim().parse().map_err(|_| none())?,
                _ => {}
            }
        }
        Ok(read)
    }
}
