//! Installed releases: `releases/<version>-<checksum>/`, and the link `current` to one of them.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use journeyman_host::{
    durable::{self, FileError},
    workdir::WorkDir,
};
use journeyman_protocol::release::{ComponentRelease, Manifest, PackageRef, Signature, Signatures};
use thiserror::Error;
use tracing::{info, warn};

use crate::{
    digest,
    offer::OWN_PLATFORM,
    package::{self, UnpackError},
};

/// A new release on its way to its place.
const STAGING: &str = ".staging-";

/// A release could not be installed; the one before still is.
#[derive(Debug, Error)]
pub(crate) enum InstallError {
    /// The package was refused, or could not be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// An installed agent.
#[derive(Debug)]
pub(crate) struct Installed {
    /// Its folder.
    pub(crate) folder: PathBuf,
    /// How to start it.
    pub(crate) manifest: Manifest,
}

/// The agent the link `current` points to, if there is one that can be started.
pub(crate) fn current(workdir: &WorkDir) -> Option<Installed> {
    let folder = fs::canonicalize(workdir.current_release()).ok()?;
    match package::read_manifest(&folder) {
        Ok(manifest) => Some(Installed { folder, manifest }),
        Err(error) => {
            warn!(folder = %folder.display(), %error, "the installed agent has no readable manifest");
            None
        }
    }
}

/// Whether `current` is the offered release. It was verified when it was installed.
pub(crate) fn is_current(workdir: &WorkDir, offered: &ComponentRelease) -> bool {
    fs::read_link(workdir.current_release())
        .is_ok_and(|target| target.file_name() == Some(name(offered).as_ref()))
        && current(workdir).is_some_and(|installed| installed.manifest == offered.manifest)
}

/// Whether the offered release is installed, complete and unaltered, without being `current`.
pub(crate) fn is_installed(workdir: &WorkDir, offered: &ComponentRelease) -> bool {
    package::is_intact(&workdir.releases().join(name(offered)), &offered.manifest)
}

/// The agent's package that an operator put into the working directory: for servers that offer
/// none, such as GoCD's. None without a readable one.
pub(crate) fn in_folder(workdir: &WorkDir) -> Option<(ComponentRelease, PathBuf)> {
    let path = workdir.root().join(format!("agent-{OWN_PLATFORM}.tar.zst"));
    let size = fs::metadata(&path).ok()?.len();
    let read = package::peek(&path).and_then(|manifest| Ok((manifest, digest::of_file(&path)?)));
    match read {
        Ok((manifest, sha256)) => {
            let package = PackageRef {
                url: String::new(),
                size,
                sha256,
                signatures: signatures(&path.with_added_extension("sig")),
            };
            Some((ComponentRelease { manifest, package }, path))
        }
        Err(error) => {
            warn!(path = %path.display(), %error, "the package in the working directory cannot be read");
            None
        }
    }
}

fn signatures(path: &Path) -> Vec<Signature> {
    let Ok(bytes) = fs::read(path) else {
        return Vec::new();
    };
    match serde_json::from_slice::<Signatures>(&bytes) {
        Ok(file) => file.signatures,
        Err(error) => {
            warn!(path = %path.display(), %error, "the signatures of the package cannot be read");
            Vec::new()
        }
    }
}

/// Unpacks a verified package into its folder. `current` stays.
pub(crate) fn install(
    workdir: &WorkDir,
    offered: &ComponentRelease,
    package: &Path,
) -> Result<(), InstallError> {
    let folder = workdir.releases().join(name(offered));
    let staging = staging(&workdir.releases())?;
    package::unpack(package, &offered.manifest, staging.path())?;
    // Something of that name that is not intact: half of it was deleted, or it was altered.
    remove_folder(&folder)?;
    durable::rename(&staging.keep(), &folder)?;
    Ok(())
}

/// Makes an installed release the current one, atomically.
pub(crate) fn switch(workdir: &WorkDir, offered: &ComponentRelease) -> Result<(), FileError> {
    let link = workdir.current_release();
    let new = link.with_extension("new");
    durable::remove(&new)?;
    let target = Path::new("releases").join(name(offered));
    symlink(&target, &new).map_err(|source| FileError::new("make", &new, source))?;
    durable::rename(&new, &link)?;
    info!(release = name(offered), "installed the agent");
    Ok(())
}

/// Puts the launcher of a verified package in the place of the installed one.
pub(crate) fn replace_launcher(
    workdir: &WorkDir,
    offered: &ComponentRelease,
    package: &Path,
) -> Result<(), InstallError> {
    let staging = staging(&workdir.data())?;
    package::unpack(package, &offered.manifest, staging.path())?;
    let launcher = staging
        .path()
        .join(&offered.manifest.entry_points.start.path);
    durable::rename(&launcher, &workdir.launcher())?;
    Ok(())
}

/// Removes releases that are neither current nor the newest of the others nor in use, and what
/// crashes left behind. Only for who holds the launcher's lock.
pub(crate) fn clean_up(workdir: &WorkDir) {
    for folder in [workdir.releases(), workdir.data()] {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(STAGING.as_bytes())
            {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
    durable::remove_leftovers(&workdir.data());
    let Ok(current) = fs::canonicalize(workdir.current_release()) else {
        return;
    };
    let mut others: Vec<_> = fs::read_dir(workdir.releases())
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path() != current)
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    others.sort();
    // The newest of the others is the one before the current: it can be gone back to.
    others.pop();
    for (_, folder) in others {
        if is_in_use(&folder) {
            continue;
        }
        match remove_folder(&folder) {
            Ok(()) => info!(folder = %folder.display(), "removed an old release"),
            Err(error) => warn!(%error, "cannot remove an old release"),
        }
    }
}

/// Whether a process runs a program of this release: a job runner keeps the executable it was
/// started from until its job ends.
fn is_in_use(folder: &Path) -> bool {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|process| fs::read_link(process.path().join("exe")).ok())
        .any(|program| program.starts_with(folder))
}

fn staging(folder: &Path) -> Result<tempfile::TempDir, FileError> {
    tempfile::Builder::new()
        .prefix(STAGING)
        .tempdir_in(folder)
        .map_err(|source| FileError::new("make a folder in", folder, source))
}

fn remove_folder(folder: &Path) -> Result<(), FileError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(FileError::new("remove", folder, error))
        }
        _ => Ok(()),
    }
}

fn name(release: &ComponentRelease) -> String {
    let checksum = &release.package.sha256;
    // Version and checksum come from the network and become the name of a folder.
    let plain = |text: &str| -> String {
        text.chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || ".-+".contains(c) {
                    c
                } else {
                    '_'
                }
            })
            .collect()
    };
    let version = plain(&release.manifest.version);
    format!(
        "{version}-{}",
        plain(checksum.get(..12).unwrap_or(checksum))
    )
}
