//! The launcher that worked last, kept for the day when a new one does not.
//!
//! Every file is written beside its place, flushed and renamed. A launcher is put in place by two
//! renames; between them there is none, which the next start takes as a reason to do it again.

use std::{
    fs::{self, File, Permissions},
    io::{self, Read, Seek},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use ring::digest::{Context, SHA256};
use tempfile::NamedTempFile;

use crate::{Log, launcher::LAUNCHER, manifest::Manifest, payload};

/// The last launcher that worked.
const GOOD: &str = "journeyman-launcher.good";
/// The launcher that was gone back from. A launcher refuses to install it again.
const BAD: &str = "journeyman-launcher.bad";
/// Where a launcher goes that cannot be used.
const CORRUPT: &str = "journeyman-launcher.corrupt";
/// Begins the names of temporary files beside the launcher.
pub(crate) const PART_PREFIX: &str = ".journeyman-bootstrapper-";

/// Tells launchers apart (SHA-256).
pub(crate) type Checksum = [u8; 32];

/// The checksum of a whole file.
pub(crate) fn checksum(mut file: &File) -> io::Result<Checksum> {
    let mut context = Context::new(&SHA256);
    let mut buffer = [0; 8192];
    file.rewind()?;
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            length => context.update(&buffer[..length]),
        }
    }
    let mut checksum = Checksum::default();
    checksum.copy_from_slice(context.finish().as_ref());
    Ok(checksum)
}

/// The checksum of a file in `folder`, if it is there and can be read.
pub(crate) fn checksum_in(folder: &Path, name: &str) -> Option<Checksum> {
    checksum(&File::open(folder.join(name)).ok()?).ok()
}

/// Whether there is a launcher that worked, and which is not this one.
pub(crate) fn is_there(folder: &Path, instead_of: Checksum) -> bool {
    folder.join(GOOD).exists() && checksum_in(folder, GOOD) != Some(instead_of)
}

/// Keeps a launcher that has worked. False when it is the one that is kept already.
///
/// # Errors
/// When it cannot be written; the one that was kept before is then kept still.
pub(crate) fn keep(folder: &Path, mut launcher: &File) -> io::Result<bool> {
    if checksum_in(folder, GOOD) == Some(checksum(launcher)?) {
        return Ok(false);
    }
    launcher.rewind()?;
    write(folder, &mut launcher)?
        .persist(folder.join(GOOD))
        .map_err(|error| error.error)?;
    flush(folder)?;
    Ok(true)
}

/// Puts the launcher that worked in the place of the present one, which is set aside; without one
/// that can be used, the launcher that this bootstrapper carries. Says in the log what it did.
///
/// # Errors
/// When files cannot be written, or the launcher that is carried cannot be read. Trying again may
/// help.
pub(crate) fn put_in_place(folder: &Path, log: &mut Log) -> io::Result<()> {
    let (good, launcher) = (folder.join(GOOD), folder.join(LAUNCHER));
    let (part, whence, aside, good_is_unusable) = match usable(&good) {
        Ok(mut file) => (
            write(folder, &mut file)?,
            "the launcher that worked before",
            BAD,
            false,
        ),
        Err(reason) => {
            let there = fs::symlink_metadata(&good).is_ok();
            if there {
                log.error(&format!(
                    "cannot use the launcher that worked before, {}: {reason}",
                    good.display()
                ));
            }
            (
                write(folder, &mut &*payload::read(Path::new("/proc/self/exe"))?)?,
                "the launcher that this bootstrapper carries",
                if there { BAD } else { CORRUPT },
                there,
            )
        }
    };
    match fs::rename(&launcher, folder.join(aside)) {
        Ok(()) => log.error(&format!("set {} aside as {aside}", launcher.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    part.persist(&launcher).map_err(|error| error.error)?;
    log.info(&format!("{whence} is now {}", launcher.display()));
    // Or it would be gone back to again, for ever.
    if good_is_unusable {
        fs::rename(&good, folder.join(CORRUPT))?;
    }
    flush(folder)
}

/// The launcher in a file, if all of it can be read and it says how it is started.
fn usable(path: &Path) -> Result<File, String> {
    let unreadable = |error: io::Error| format!("it cannot be read: {error}");
    let mut file = File::open(path).map_err(unreadable)?;
    Manifest::of(&mut file)?;
    checksum(&file).map_err(unreadable)?;
    file.rewind().map_err(unreadable)?;
    Ok(file)
}

/// Writes a launcher beside its place.
fn write(folder: &Path, content: &mut impl Read) -> io::Result<NamedTempFile> {
    let mut part = tempfile::Builder::new()
        .prefix(PART_PREFIX)
        .tempfile_in(folder)?;
    // Another bootstrapper that starts here does not take it for one that was left behind.
    part.as_file().try_lock()?;
    io::copy(content, part.as_file_mut())?;
    part.as_file()
        .set_permissions(Permissions::from_mode(0o755))?;
    part.as_file().sync_all()?;
    Ok(part)
}

/// Makes renames last.
fn flush(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
