//! Backups of a data folder: made while the server runs, and put back while it does not.
//!
//! A backup is a folder or an archive (`.tar.zst`) with a copy of the database, of every file that
//! a row of that copy speaks of, of keys and certificates, and last of all a manifest with the
//! checksum of each. Files that came later than the database's copy are not in it, so that the
//! two fit together; a file that has gone meanwhile makes it begin again.

mod archive;
pub mod asked;
mod create;
mod restore;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    io,
    path::{Component, Path, PathBuf},
};

pub use create::{Made, create};
pub use restore::{Restored, restore};

use crate::database::DatabaseError;

/// The name of the manifest in a backup.
const MANIFEST: &str = "manifest.json";
/// What this version writes, and the only one it reads.
const FORMAT: u32 = 1;
const ARCHIVE_SUFFIX: &str = ".tar.zst";

/// What is in a backup.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Manifest {
    format: u32,
    /// Of the server that made it.
    version: String,
    /// Milliseconds since the epoch.
    created_at: i64,
    /// By path, with forward slashes.
    files: BTreeMap<String, FileEntry>,
    /// What the database speaks of and was not on the disk.
    missing: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct FileEntry {
    size: u64,
    sha256: String,
}

/// A backup was not made or not put back.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("there is no database in {}: name the data folder of a server with --data", .0.display())]
    NoDatabase(PathBuf),
    #[error("{} exists already: name another place", .0.display())]
    Exists(PathBuf),
    #[error("another backup of {} is being made", .0.display())]
    Running(PathBuf),
    #[error("cannot copy the database")]
    Database(#[from] DatabaseError),
    #[error(
        "the copy of the database is damaged ({0}): look at the disk, and restore an earlier backup"
    )]
    Damaged(String),
    #[error("cannot {tried} {}", path.display())]
    File {
        tried: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is no backup that this version can read: {cause}", path.display())]
    NotABackup { path: PathBuf, cause: String },
    #[error("the backup is damaged: {0}. Nothing was restored; take another backup")]
    Broken(String),
    #[error("{} is in use by a server: stop it before you restore", .0.display())]
    InUse(PathBuf),
    #[error("{} is not empty: give another --data, or --replace to put the backup in its place", .0.display())]
    NotEmpty(PathBuf),
    #[error("{} cannot be replaced in one step ({source}): it may be a mount point; restore into a folder in it", path.display())]
    Swap {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the copying was cut short")]
    Task(#[from] tokio::task::JoinError),
}

/// An error of a file, with what was tried.
fn file_error(tried: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError + use<> {
    let path = path.to_path_buf();
    move |source| BackupError::File {
        tried,
        path,
        source,
    }
}

/// The path beside another with something behind its name.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// A path of a manifest, if it stays where it belongs.
fn inside(folder: &Path, relative: &str) -> Option<PathBuf> {
    let path = Path::new(relative);
    let plain = path
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    (plain && !relative.is_empty()).then(|| folder.join(path))
}

/// Removes a file or a folder that a crash may have left.
fn remove(path: &Path) -> io::Result<()> {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
