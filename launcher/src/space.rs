//! Room on the disk, asked for before it is needed.

use std::{
    io,
    path::{Path, PathBuf},
};

use indicatif::BinaryBytes;
use nix::sys::statvfs::statvfs;
use thiserror::Error;
use tracing::warn;

/// Stays free whatever is installed: the running job and its console need room too. Bytes.
pub(crate) const RESERVE: u64 = 64 * 1024 * 1024;

/// There is too little room; nothing was begun.
#[derive(Debug, Error)]
#[error(
    "not enough room to {what}: {} are needed in {}, of which {} stay free, and there are {}; free \
     some space there (old working directories are in pipelines/)",
    BinaryBytes(*needed), folder.display(), BinaryBytes(RESERVE), BinaryBytes(*available)
)]
pub(crate) struct SpaceError {
    what: &'static str,
    folder: PathBuf,
    needed: u64,
    available: u64,
}

/// Makes sure that so many bytes can be written in a folder and [`RESERVE`] is left. `what` reads
/// after "not enough room to".
///
/// # Errors
/// They cannot.
pub(crate) fn ensure(what: &'static str, folder: &Path, bytes: u64) -> Result<(), SpaceError> {
    match available(folder) {
        Ok(available) => compare(what, folder, bytes, available),
        Err(error) => {
            // Writing will fail by itself where there is no room.
            warn!(folder = %folder.display(), %error, "cannot ask how much space is free");
            Ok(())
        }
    }
}

fn available(folder: &Path) -> io::Result<u64> {
    let facts = statvfs(folder)?;
    Ok(facts.blocks_available() * facts.fragment_size())
}

fn compare(
    what: &'static str,
    folder: &Path,
    bytes: u64,
    available: u64,
) -> Result<(), SpaceError> {
    let needed = bytes.saturating_add(RESERVE);
    if available >= needed {
        return Ok(());
    }
    Err(SpaceError {
        what,
        folder: folder.to_owned(),
        needed,
        available,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_room_is_said_with_how_much_where() {
        let folder = Path::new("/srv/agent/data");
        let compare = |bytes, available| compare("download it", folder, bytes, available);
        compare(1024, RESERVE + 1024).unwrap();
        let error = compare(1025, RESERVE + 1024).unwrap_err().to_string();
        assert!(
            error.contains("64.00 MiB are needed in /srv/agent/data"),
            "{error}"
        );
        assert!(error.contains("there are 64.00 MiB"), "{error}");
        compare(u64::MAX, u64::MAX - 1).unwrap_err();
    }

    #[test]
    fn the_file_system_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        ensure("download it", folder.path(), 0).unwrap();
        let error = ensure("download it", folder.path(), u64::MAX / 2).unwrap_err();
        assert!(error.available > 0, "{error}");
        // No answer is no reason to stay on an old release.
        ensure("download it", &folder.path().join("missing"), u64::MAX).unwrap();
    }
}
