//! Writing files so that a crash leaves the old content or the new, never a mixture or nothing.
//!
//! The content goes to a temporary file in the same folder, is flushed to the disk, and renamed
//! over its place; then the folder is flushed, which makes the rename last. What a crash leaves
//! behind is a temporary file that no reader looks at; [`remove_leftovers`] deletes it.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use thiserror::Error;

/// Begins the name of every temporary file of this module.
const TEMPORARY_PREFIX: &str = ".journeyman-";
/// Ends the name of every temporary file of this module.
const TEMPORARY_SUFFIX: &str = ".tmp";

/// Mode of a file anyone may read.
const PUBLIC: u32 = 0o644;
/// Mode of a file that holds a secret.
const SECRET: u32 = 0o600;

/// A file could not be read or written.
#[derive(Debug, Error)]
#[error("cannot {action} {}: {source}{}", path.display(), hint(source))]
pub struct FileError {
    /// What was tried: a verb.
    action: &'static str,
    /// On what.
    path: PathBuf,
    /// Why it failed.
    #[source]
    source: io::Error,
}

impl FileError {
    /// An error of `action` (a verb, as in "cannot write") on a path.
    pub fn new(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self {
            action,
            path: path.into(),
            source,
        }
    }

    /// The file that was worked on.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Kind of the cause, for callers that treat some causes differently.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

/// What the reader of an error can do about it.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free some space there",
        io::ErrorKind::ReadOnlyFilesystem => "; the file system must be mounted for writing",
        io::ErrorKind::PermissionDenied => "; give this user the right to do so",
        _ => "",
    }
}

/// Writes a file that anyone may read (mode 0644).
///
/// # Errors
/// The folder does not exist or cannot be written to, or the disk is full; the file is then as it
/// was before.
pub fn write(path: &Path, content: &[u8]) -> Result<(), FileError> {
    write_with_mode(path, content, PUBLIC)
}

/// Writes a file that only its owner may read (mode 0600).
///
/// # Errors
/// As [`write`].
pub fn write_secret(path: &Path, content: &[u8]) -> Result<(), FileError> {
    write_with_mode(path, content, SECRET)
}

/// Writes a file with the given permission bits.
///
/// # Errors
/// As [`write`].
pub fn write_with_mode(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    let failed = |source| FileError::new("write", path, source);
    let mut file = temporary_file(folder_of(path)).map_err(failed)?;
    file.write_all(content).map_err(failed)?;
    file.as_file()
        .set_permissions(Permissions::from_mode(mode))
        .map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    sync_folder(folder_of(path))
}

/// A new temporary file (mode 0600) in a folder, deleted when dropped; one that a crash left there
/// is deleted by [`remove_leftovers`].
///
/// # Errors
/// The folder does not exist or cannot be written to.
pub fn temporary_file(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new()
        .prefix(TEMPORARY_PREFIX)
        .suffix(TEMPORARY_SUFFIX)
        .tempfile_in(folder)
}

/// Renames a file or folder and makes the rename last.
///
/// # Errors
/// The rename fails, or the target's folder cannot be flushed.
pub fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    fs::rename(from, to).map_err(|source| FileError::new("rename", from, source))?;
    sync_folder(folder_of(to))
}

/// Flushes a file's content and metadata to the disk.
///
/// # Errors
/// The file cannot be opened or flushed.
pub fn sync_file(path: &Path) -> Result<(), FileError> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|source| FileError::new("flush", path, source))
}

/// Flushes a folder, so that files created, renamed or removed in it stay so after a power cut.
///
/// # Errors
/// The folder cannot be opened or flushed.
pub fn sync_folder(path: &Path) -> Result<(), FileError> {
    sync_file(path)
}

/// Removes a file; one that is not there is no error.
///
/// # Errors
/// The file is there and cannot be removed.
pub fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Ok(()) => sync_folder(folder_of(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(FileError::new("remove", path, error)),
    }
}

/// The content of a file, or none when there is no such file.
///
/// # Errors
/// The file is there and cannot be read.
pub fn read_tolerant(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::new("read", path, error)),
    }
}

/// Renames a file that cannot be used to `<name>.corrupt` beside it (replacing an earlier one), so
/// that it can be looked at, and returns its new path.
///
/// # Errors
/// The rename fails.
pub fn set_aside(path: &Path) -> Result<PathBuf, FileError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".corrupt");
    let aside = path.with_file_name(name);
    rename(path, &aside)?;
    Ok(aside)
}

/// Deletes the temporary files that crashed writers left in a folder. Only for who holds the
/// folder's lock: it would delete a living writer's file as well. Failures are ignored, since a
/// leftover does no harm.
pub fn remove_leftovers(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(TEMPORARY_PREFIX) && name.ends_with(TEMPORARY_SUFFIX) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The folder a path is in; of a bare file name the current one.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn content_is_replaced_and_mode_set() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write(&path, b"one").unwrap();
        assert_eq!(mode(&path), 0o644);
        write_secret(&path, b"two").unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(read_tolerant(&path).unwrap().unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn missing_files_are_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none");
        assert_eq!(read_tolerant(&path).unwrap(), None);
        remove(&path).unwrap();
    }

    #[test]
    fn errors_name_the_file_and_the_cause() {
        let error = write(Path::new("/nowhere/at/all"), b"").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("cannot write /nowhere/at/all: "),
            "{error}"
        );
    }

    #[test]
    fn only_our_leftovers_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let leftover = temporary_file(folder.path()).unwrap().keep().unwrap().1;
        let other = folder.path().join("mine.tmp");
        fs::write(&other, "").unwrap();
        remove_leftovers(folder.path());
        assert!(!leftover.exists());
        assert!(other.exists());
    }

    #[test]
    fn corrupt_files_are_kept_beside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "x").unwrap();
        let aside = set_aside(&path).unwrap();
        assert_eq!(aside, folder.path().join("token.corrupt"));
        assert!(!path.exists());
    }
}
