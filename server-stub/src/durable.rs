//! Files that are either the old ones or the new ones, never half of each, whenever power goes.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

/// A file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}; check that its folder can be written and has space", path.display())]
pub struct WriteError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Writes a file whole: a temporary file beside it, flushed, then renamed over it.
///
/// `mode` are the permission bits; a file with a secret has 0600 from its first byte.
pub fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), WriteError> {
    replace(path, content, mode).map_err(|source| WriteError {
        path: path.to_path_buf(),
        source,
    })
}

/// Writes a file whole as [`write`] does, but leaves one that is there already as it is.
pub fn write_new(path: &Path, content: &[u8], mode: u32) -> Result<(), WriteError> {
    let written = prepare(path, content, mode).and_then(|file| {
        match file.persist_noclobber(path) {
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            outcome => outcome.map_err(|error| error.error)?,
        };
        sync_folder(folder_of(path))
    });
    written.map_err(|source| WriteError {
        path: path.to_path_buf(),
        source,
    })
}

fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let file = prepare(path, content, mode)?;
    file.persist(path).map_err(|error| error.error)?;
    sync_folder(folder_of(path))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn prepare(path: &Path, content: &[u8], mode: u32) -> io::Result<NamedTempFile> {
    let folder = folder_of(path);
    // Temporary files are made with 0600.
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .tempfile_in(folder)?;
    file.write_all(content)?;
    file.as_file()
        .set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Flushes the names in a folder: a rename is lasting only after that.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// So many files or folders are flushed each by itself; of more the whole file system is flushed
/// once, which takes less time than that.
pub const FEW: usize = 32;

/// Flushes files and folders of one file system; given [`FEW`] or more, everything on it.
pub fn sync_all<'a>(paths: impl Iterator<Item = &'a Path>) -> io::Result<()> {
    let paths: Vec<&Path> = paths.take(FEW).collect();
    match paths.as_slice() {
        [first, ..] if paths.len() == FEW => Ok(nix::unistd::syncfs(File::open(first)?)?),
        few => few.iter().try_for_each(|path| File::open(path)?.sync_all()),
    }
}

/// Makes a folder that only its owner may enter, with its parents; one that exists stays as it is.
pub fn private_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o700))
}
