//! Putting files where they belong: whole, and never through a link that leads elsewhere.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

/// What everybody may do with a new file, less the umask. As a Java program's.
const NEW: u32 = 0o666;

/// A temporary file in the job's own folder, which goes when the job does.
pub(super) fn temporary(scratch: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new()
        .prefix("fetch-")
        .permissions(Permissions::from_mode(NEW))
        .tempfile_in(scratch)
}

/// Moves a finished file to its place, over what is there; that one's permissions stay. A link is
/// replaced, not followed.
pub(super) fn put(file: NamedTempFile, to: &Path) -> io::Result<()> {
    if let Ok(old) = fs::symlink_metadata(to)
        && old.is_file()
    {
        file.as_file().set_permissions(old.permissions())?;
    }
    let refused = match file.persist(to) {
        Ok(_) => return Ok(()),
        Err(refused) => refused,
    };
    if refused.error.kind() != io::ErrorKind::CrossesDevices {
        return Err(refused.error);
    }
    // The pipelines are on another disk than the agent's own folder.
    let folder = to.parent().unwrap_or(Path::new("."));
    let mut beside = tempfile::Builder::new()
        .prefix(".fetch-")
        .tempfile_in(folder)?;
    io::copy(&mut refused.file.reopen()?, &mut beside)?;
    beside
        .as_file()
        .set_permissions(refused.file.as_file().metadata()?.permissions())?;
    beside
        .persist(to)
        .map(drop)
        .map_err(|refused| refused.error)
}

/// A folder that things are unpacked into. Links inside it are followed where they stay inside.
pub(super) struct Inside {
    root: PathBuf,
    /// The folder that was asked for last, as zips have the files of a folder together.
    last: Option<(String, PathBuf)>,
}

impl Inside {
    /// Makes the folder, which may be a link itself.
    pub(super) fn make(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        Ok(Self {
            root: root.canonicalize()?,
            last: None,
        })
    }

    /// A folder by its path below, made if it is missing. The path has no part `..`.
    pub(super) fn folder(&mut self, below: &str) -> io::Result<&Path> {
        if self.last.as_ref().is_none_or(|(last, _)| last != below) {
            let mut path = self.root.clone();
            for part in below.split('/').filter(|part| !matches!(*part, "" | ".")) {
                path.push(part);
                match fs::symlink_metadata(&path) {
                    Ok(found) if found.is_dir() => {}
                    Ok(found) if found.is_symlink() => path = self.follow(&path)?,
                    Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        fs::create_dir(&path)?;
                    }
                    Err(error) => return Err(error),
                }
            }
            self.last = Some((below.to_owned(), path));
        }
        Ok(self.last.as_ref().map_or(&self.root, |(_, path)| path))
    }

    fn follow(&self, link: &Path) -> io::Result<PathBuf> {
        let to = link.canonicalize()?;
        if !to.starts_with(&self.root) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("{} is a link that leads out of the folder", link.display()),
            ));
        }
        if !to.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(to)
    }
}
