//! What of an offer this machine wants.

use std::{fs, io, path::Path};

use journeyman_host::workdir::WorkDir;
use journeyman_protocol::release::{Component, ComponentRelease, Manifest, Release};
use tracing::debug;

use super::journal::Journal;
use crate::{digest, launcher_file::LauncherFile, releases::Installed};

/// The launcher that is to run, if it is another one than that on disk.
///
/// # Errors
/// The launcher on disk cannot be read.
pub(crate) fn launcher<'a>(
    workdir: &WorkDir,
    journal: &Journal,
    release: &'a Release,
) -> io::Result<Option<&'a ComponentRelease>> {
    let offered = &release.launcher;
    let Some(sha256) = program(&offered.manifest) else {
        return Ok(None);
    };
    if digest_of(&workdir.launcher())?.as_deref() == Some(sha256) {
        return Ok(None);
    }
    if digest_of(&workdir.bad_launcher())?.as_deref() == Some(sha256) {
        debug!(offered = %offered.build(), "this launcher died young here and is not tried again");
        return Ok(None);
    }
    let own = LauncherFile::of(&workdir.launcher()).map(|file| file.build);
    let wanted = is_wanted(Component::Launcher, journal, release, offered, own.ok());
    Ok(wanted.then_some(offered))
}

/// The agent that is to run, if it is another one than the current.
pub(crate) fn agent<'a>(
    journal: &Journal,
    release: &'a Release,
    current: Option<&Installed>,
) -> Option<&'a ComponentRelease> {
    let offered = &release.agent;
    let own = match current {
        Some(current) if current.is(offered) => return None,
        Some(current) => Some(current.manifest.build),
        None => None,
    };
    is_wanted(Component::Agent, journal, release, offered, own).then_some(offered)
}

/// Newer is what was built later; an older build only comes on an administrator's word.
fn is_wanted(
    component: Component,
    journal: &Journal,
    release: &Release,
    offered: &ComponentRelease,
    own: Option<u64>,
) -> bool {
    let build = offered.build();
    if let Some(reason) = journal.why_bad(component, &build) {
        debug!(component = component.as_str(), offered = %build, reason, "this release failed here and is not tried again");
        return false;
    }
    if let Some(own) = own
        && build.build < own
        && !release.downgrade
    {
        debug!(component = component.as_str(), offered = %build, own, "not taking an older build than the one that runs");
        return false;
    }
    true
}

/// Checksum of the program in a package.
fn program(manifest: &Manifest) -> Option<&str> {
    let path = &manifest.entry_points.start.path;
    let file = manifest.files.iter().find(|file| file.path == *path)?;
    Some(&file.sha256)
}

fn digest_of(path: &Path) -> io::Result<Option<String>> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        _ => digest::of_file(path).map(Some),
    }
}
