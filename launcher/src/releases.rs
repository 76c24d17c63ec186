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
use journeyman_protocol::release::{Build, ComponentRelease, Manifest};
use thiserror::Error;
use tracing::{info, warn};

use crate::package::{self, UnpackError};

/// A new release on its way to its place.
const STAGING: &str = ".staging-";
/// In a release's folder, beside its files: the checksum of the package it came in.
const CHECKSUM: &str = ".package-sha256";
/// Digits of the package's checksum in the name of a folder.
const DIGITS: usize = 12;

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
    /// Name of the folder.
    pub(crate) name: String,
    /// What is in it.
    pub(crate) manifest: Manifest,
    /// Checksum of its package, or what is known of it.
    sha256: String,
}

impl Installed {
    /// Which build it is.
    pub(crate) fn build(&self) -> Build {
        Build {
            version: self.manifest.version.clone(),
            build: self.manifest.build,
            sha256: self.sha256.clone(),
        }
    }

    /// Whether it is the offered one. It was verified when it was installed.
    pub(crate) fn is(&self, offered: &ComponentRelease) -> bool {
        self.name == name(offered) && self.manifest == offered.manifest
    }

    /// Whether all its files are as they were installed. Reads them all.
    pub(crate) fn is_intact(&self) -> bool {
        package::is_intact(&self.folder, &self.manifest)
    }
}

/// The agent the link `current` points to, if there is one that can be started.
pub(crate) fn current(workdir: &WorkDir) -> Option<Installed> {
    let folder = fs::canonicalize(workdir.current_release()).ok()?;
    let name = folder.file_name()?.to_str()?.to_owned();
    read(&folder, name)
}

/// The installed agent in the folder of this name.
pub(crate) fn find(workdir: &WorkDir, name: &str) -> Option<Installed> {
    read(&workdir.releases().join(name), name.to_owned())
}

fn read(folder: &Path, name: String) -> Option<Installed> {
    let manifest = match package::read_manifest(folder) {
        Ok(manifest) => manifest,
        Err(error) => {
            warn!(folder = %folder.display(), %error, "the installed agent has no readable manifest");
            return None;
        }
    };
    let sha256 = fs::read_to_string(folder.join(CHECKSUM)).unwrap_or_else(|_| {
        let digits = name.rsplit_once('-').map_or("", |(_, digits)| digits);
        digits.to_owned()
    });
    Some(Installed {
        folder: folder.to_owned(),
        name,
        manifest,
        sha256,
    })
}

/// The newest of the agents that ran here and are complete and unaltered, for a link that leads to
/// none.
pub(crate) fn newest_intact(
    workdir: &WorkDir,
    is_bad: impl Fn(&Build) -> bool,
) -> Option<Installed> {
    entries(&workdir.releases())
        .into_iter()
        .filter(|(name, _)| workdir.state().join(name).is_dir())
        .filter_map(|(name, folder)| read(&folder, name))
        .filter(|installed| !is_bad(&installed.build()) && installed.is_intact())
        .max_by_key(|installed| installed.manifest.build)
}

/// Name of the folder that `current` leads to, whether it is there or not.
pub(crate) fn current_name(workdir: &WorkDir) -> Option<String> {
    let target = fs::read_link(workdir.current_release()).ok()?;
    Some(target.file_name()?.to_str()?.to_owned())
}

/// Name of the release that came last before the current one, as far as the folders tell.
pub(crate) fn newest_beside_current(workdir: &WorkDir) -> Option<String> {
    let current = current_name(workdir)?;
    entries(&workdir.releases())
        .into_iter()
        .filter(|(name, folder)| *name != current && folder.join(package::MANIFEST).is_file())
        .max_by_key(|(_, folder)| {
            fs::metadata(folder)
                .and_then(|folder| folder.modified())
                .ok()
        })
        .map(|(name, _)| name)
}

/// Whether the offered release is there, complete and unaltered.
pub(crate) fn is_installed(workdir: &WorkDir, offered: &ComponentRelease) -> bool {
    package::is_intact(&workdir.releases().join(name(offered)), &offered.manifest)
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
    let checksum = staging.path().join(CHECKSUM);
    durable::write(&checksum, offered.package.sha256.as_bytes())?;
    // Something of that name that is not intact: half of it was deleted, or it was altered.
    remove_folder(&folder)?;
    durable::rename(&staging.keep(), &folder)?;
    Ok(())
}

/// Makes an installed release the current one, atomically.
pub(crate) fn switch(workdir: &WorkDir, name: &str) -> Result<(), FileError> {
    let link = workdir.current_release();
    let new = link.with_extension("new");
    durable::remove(&new)?;
    let target = Path::new("releases").join(name);
    symlink(&target, &new).map_err(|source| FileError::new("make", &new, source))?;
    durable::rename(&new, &link)
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

/// Removes releases and their state but for the current one, those to keep and those in use, and
/// what crashes left behind. What may go is decided by what is there now: without a readable link
/// nothing does. Only for who holds the launcher's lock.
pub(crate) fn clean_up(workdir: &WorkDir, keep: &[&str]) {
    for folder in [workdir.releases(), workdir.data(), workdir.state()] {
        for (name, path) in entries(&folder) {
            if name.starts_with(STAGING) {
                let _ = fs::remove_dir_all(path);
            }
        }
    }
    durable::remove_leftovers(&workdir.data());
    durable::remove_leftovers(&workdir.releases());
    let Some(current) = current_name(workdir) else {
        return;
    };
    let kept = |name: &str| name == current || keep.contains(&name);
    for (name, folder) in entries(&workdir.releases()) {
        if kept(&name) || !folder.is_dir() || is_in_use(&folder) {
            continue;
        }
        match remove_folder(&folder) {
            Ok(()) => info!(folder = %folder.display(), "removed an old release"),
            Err(error) => warn!(%error, "cannot remove an old release"),
        }
    }
    for (name, folder) in entries(&workdir.state()) {
        if kept(&name) || workdir.releases().join(&name).exists() {
            continue;
        }
        if let Err(error) = remove_folder(&folder) {
            warn!(%error, "cannot remove the state of an old release");
        }
    }
}

fn entries(folder: &Path) -> Vec<(String, PathBuf)> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.to_owned(), entry.path())))
        .collect()
}

/// Processes that run a program of this release: a job runner keeps the executable it was started
/// from until its job ends.
pub(crate) fn processes_of(folder: &Path) -> Vec<i32> {
    let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    entries(Path::new("/proc"))
        .into_iter()
        .filter(|(_, process)| {
            fs::read_link(process.join("exe")).is_ok_and(|program| program.starts_with(&folder))
        })
        .filter_map(|(name, _)| name.parse().ok())
        .collect()
}

fn is_in_use(folder: &Path) -> bool {
    !processes_of(folder).is_empty()
}

fn staging(folder: &Path) -> Result<tempfile::TempDir, FileError> {
    tempfile::Builder::new()
        .prefix(STAGING)
        .tempdir_in(folder)
        .map_err(|source| FileError::new("make a folder in", folder, source))
}

/// Removes a folder with everything in it; one that is not there is no error.
///
/// # Errors
/// Something of it cannot be removed.
pub(crate) fn remove_folder(folder: &Path) -> Result<(), FileError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(FileError::new("remove", folder, error))
        }
        _ => Ok(()),
    }
}

/// Name of a release's folder.
pub(crate) fn name(release: &ComponentRelease) -> String {
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
        plain(checksum.get(..DIGITS).unwrap_or(checksum))
    )
}
