//! Putting a backup back.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::{
    BackupError, FORMAT, FileEntry, MANIFEST, Manifest, archive, beside, file_error, remove,
};
use crate::{configuration::Paths, database, durable};

/// The longest manifest that is read.
const LARGEST_MANIFEST: u64 = 1024 * 1024 * 1024;

/// What was restored.
#[derive(Debug, PartialEq, Eq, serde::Serialize)]
pub struct Restored {
    pub data: PathBuf,
    pub files: usize,
    pub bytes: u64,
    /// When the backup was made, in milliseconds since the epoch.
    pub created_at: i64,
    /// Of the server that made it.
    pub version: String,
    /// What the database speaks of and the backup has not.
    pub missing: Vec<String>,
}

/// Puts a backup in the place of a data folder, which must be empty or missing unless `replace` is
/// given. The data folder is the old one or the whole new one at any instant.
///
/// # Errors
///
/// See [`BackupError`]; the data folder is as it was then.
pub async fn restore(place: &Path, paths: &Paths, replace: bool) -> Result<Restored, BackupError> {
    // A rename needs a folder that the new one is beside.
    let data = std::path::absolute(&paths.data).map_err(file_error("find", &paths.data))?;
    let paths = Paths::new(data.clone(), None);
    let lock = hold(&paths, replace)?;
    let new = beside(&data, ".restoring");
    // A restore that was killed may have had them.
    keep_backups(&new, &data).map_err(file_error("keep the backups of", &data))?;
    let outcome = put_in_place(place, &data, &new).await;
    if outcome.is_err() {
        let _ = remove(&new);
    }
    drop(lock);
    outcome
}

async fn put_in_place(place: &Path, data: &Path, new: &Path) -> Result<Restored, BackupError> {
    let (from, to) = (place.to_path_buf(), new.to_path_buf());
    let manifest = tokio::task::spawn_blocking(move || unpack(&from, &to)).await??;
    let database = Paths::new(new.to_path_buf(), None).database();
    if let Some(damage) = database::damage(&database).await? {
        return Err(BackupError::Broken(format!("its database: {damage}")));
    }
    let kept = keep_backups(data, new);
    let swapped = kept.and_then(|()| swap(new, data));
    swapped.map_err(|source| {
        let _ = keep_backups(new, data);
        BackupError::Swap {
            path: data.to_path_buf(),
            source,
        }
    })?;
    // What was there before, if anything was.
    remove(new).map_err(file_error("remove what was there before,", new))?;
    Ok(Restored {
        data: data.to_path_buf(),
        files: manifest.files.len(),
        bytes: manifest.files.values().map(|file| file.size).sum(),
        created_at: manifest.created_at,
        version: manifest.version,
        missing: manifest.missing,
    })
}

/// Moves the backups that the server was asked for from one data folder to another that has none: what
/// is replaced is what they are of.
fn keep_backups(from: &Path, to: &Path) -> io::Result<()> {
    let backups = |data: &Path| Paths::new(data.to_path_buf(), None).backups();
    if !backups(from).is_dir() || backups(to).exists() || !to.is_dir() {
        return Ok(());
    }
    fs::rename(backups(from), backups(to))?;
    durable::sync_folder(to)?;
    durable::sync_folder(from)
}

/// Makes sure that no server uses the folder, for as long as the answer is held.
fn hold(paths: &Paths, replace: bool) -> Result<Option<File>, BackupError> {
    let data = &paths.data;
    let items = match fs::read_dir(data) {
        Ok(items) => items,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(file_error("read the folder", data)(error)),
    };
    let lock = match File::options().write(true).open(paths.lock()) {
        Ok(lock) => Some(lock),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(file_error("open", &paths.lock())(error)),
    };
    match lock.as_ref().map(File::try_lock) {
        None | Some(Ok(())) => {}
        Some(Err(TryLockError::WouldBlock)) => return Err(BackupError::InUse(data.clone())),
        Some(Err(TryLockError::Error(error))) => return Err(file_error("lock", data)(error)),
    }
    let empty = items.count() == 0;
    if !empty && !replace {
        return Err(BackupError::NotEmpty(data.clone()));
    }
    Ok(lock)
}

/// Unpacks a backup beside the data folder, and looks at every byte of it.
fn unpack(place: &Path, new: &Path) -> Result<Manifest, BackupError> {
    remove(new).map_err(file_error("remove", new))?;
    fs::metadata(place).map_err(file_error("read the backup", place))?;
    durable::private_folder(new).map_err(file_error("make the folder", new))?;
    let mut manifest = None;
    let mut found: BTreeMap<String, FileEntry> = BTreeMap::new();
    archive::read(place, |name, content| {
        if name == MANIFEST {
            let mut text = Vec::new();
            content.take(LARGEST_MANIFEST).read_to_end(&mut text)?;
            manifest = Some(text);
        } else {
            found.insert(name.to_owned(), archive::put(new, name, content)?);
        }
        Ok(())
    })
    .map_err(file_error("unpack", place))?;
    let not_a_backup = |cause: String| BackupError::NotABackup {
        path: place.to_path_buf(),
        cause,
    };
    let text = manifest.ok_or_else(|| not_a_backup(format!("it has no {MANIFEST}")))?;
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|error| not_a_backup(error.to_string()))?;
    if manifest.format != FORMAT {
        let cause = format!("it is of format {}", manifest.format);
        return Err(not_a_backup(cause));
    }
    for (name, entry) in &manifest.files {
        match found.get(name) {
            Some(file) if file == entry => {}
            Some(_) => return Err(BackupError::Broken(format!("{name} has changed"))),
            None => return Err(BackupError::Broken(format!("{name} is missing"))),
        }
    }
    if let Some(name) = found
        .keys()
        .find(|name| !manifest.files.contains_key(*name))
    {
        return Err(BackupError::Broken(format!("{name} does not belong to it")));
    }
    let flush = File::open(new).and_then(|folder| Ok(nix::unistd::syncfs(folder)?));
    flush.map_err(file_error("flush", new))?;
    Ok(manifest)
}

/// Exchanges two folders in one step, or renames if there is nothing to exchange with.
fn swap(new: &Path, data: &Path) -> io::Result<()> {
    if data.exists() {
        renameat2(AT_FDCWD, new, AT_FDCWD, data, RenameFlags::RENAME_EXCHANGE)?;
    } else {
        fs::rename(new, data)?;
    }
    durable::sync_folder(data.parent().unwrap_or(Path::new("/")))
}
