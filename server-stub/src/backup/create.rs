//! Making a backup, beside a server that runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use super::{
    BackupError, FORMAT, FileEntry, MANIFEST, Manifest,
    archive::{self, Hashing, Kind, Writer},
    beside, file_error, remove,
};
use crate::{
    configuration::Paths,
    database::{self, Recorded},
    durable,
};

/// How often a backup begins again because files that belong to it went while it was made.
const ATTEMPTS: usize = 3;

/// A backup that was made.
#[derive(Debug, PartialEq, Eq, serde::Serialize)]
pub struct Made {
    pub place: PathBuf,
    pub files: usize,
    pub bytes: u64,
    /// What the database speaks of and was not on the disk.
    pub missing: Vec<String>,
}

/// Makes a backup of a data folder: as an archive if the place's name ends in `.tar.zst`, else as a
/// folder. A folder that is there already gets a new one in it.
///
/// # Errors
///
/// See [`BackupError`]; there is no backup at that place then.
pub async fn create(paths: &Paths, place: &Path, now: Timestamp) -> Result<Made, BackupError> {
    if !paths.database().is_file() {
        return Err(BackupError::NoDatabase(paths.data.clone()));
    }
    let place = if place.is_dir() {
        place.join(now.strftime("journeyman-%Y%m%dT%H%M%SZ").to_string())
    } else {
        place.to_path_buf()
    };
    let lock_path = paths.data.join("backup.lock");
    let lock = File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&lock_path)
        .map_err(file_error("write", &lock_path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(BackupError::Running(paths.data.clone())),
        Err(TryLockError::Error(source)) => return Err(file_error("lock", &lock_path)(source)),
    }
    if place.exists() {
        return Err(BackupError::Exists(place));
    }
    if let Some(folder) = place
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        durable::private_folder(folder).map_err(file_error("make the folder", folder))?;
    }
    // A backup that was killed has left these; the lock says that nobody works on them.
    let partial = beside(&place, ".partial");
    let copy = beside(&place, ".database");
    let outcome = attempts(paths, &place, &partial, &copy, now).await;
    let _ = remove(&copy);
    if outcome.is_err() {
        let _ = remove(&partial);
    }
    drop(lock);
    outcome
}

async fn attempts(
    paths: &Paths,
    place: &Path,
    partial: &Path,
    copy: &Path,
    now: Timestamp,
) -> Result<Made, BackupError> {
    let mut attempt = 1;
    let manifest = loop {
        for left in [partial, copy] {
            remove(left).map_err(file_error("remove", left))?;
        }
        let recorded = database::copy(&paths.database(), copy).await?;
        let recorded = recorded.map_err(BackupError::Damaged)?;
        let (paths, place, partial, copy) = (
            paths.clone(),
            place.to_path_buf(),
            partial.to_path_buf(),
            copy.to_path_buf(),
        );
        let written = tokio::task::spawn_blocking(move || {
            write(&paths, &place, &partial, &copy, &recorded, now)
        });
        match written.await?? {
            manifest if manifest.missing.is_empty() || attempt == ATTEMPTS => break manifest,
            // It was deleted after the database was copied: the next copy will not speak of it.
            _ => attempt += 1,
        }
    };
    let (from, to) = (partial.to_path_buf(), place.to_path_buf());
    let files = manifest.files.clone();
    tokio::task::spawn_blocking(move || {
        verify(&from, files)?;
        fs::rename(&from, &to).map_err(file_error("rename the backup to", &to))?;
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty());
        durable::sync_folder(folder.unwrap_or(Path::new("."))).map_err(file_error("flush", &to))
    })
    .await??;
    Ok(Made {
        place: place.to_path_buf(),
        files: manifest.files.len(),
        bytes: manifest.files.values().map(|file| file.size).sum(),
        missing: manifest.missing,
    })
}

/// Writes everything but the name of the backup.
fn write(
    paths: &Paths,
    place: &Path,
    partial: &Path,
    copy: &Path,
    recorded: &Recorded,
    now: Timestamp,
) -> Result<Manifest, BackupError> {
    let failed = |path: &Path| file_error("back up", path);
    let mut writer = Writer::new(partial, place).map_err(failed(partial))?;
    let mut files = BTreeMap::new();
    let mut missing = Vec::new();
    let database = relative(paths, &paths.database());
    let entry = writer.add(&database, copy, Kind::Growing);
    files.insert(database, entry.map_err(failed(copy))?);
    let mut add = |path: &Path, kind: Kind| -> Result<bool, BackupError> {
        let name = relative(paths, path);
        match writer.add(&name, path, kind) {
            Ok(entry) => {
                files.insert(name, entry);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed(path)(error)),
        }
    };

    let keys = [
        paths.cipher_key(),
        paths.auto_register_key(),
        paths.webhook_secret(),
        paths.data.join("server.toml"),
    ];
    for path in keys {
        add(&path, Kind::Growing)?;
    }
    for folder in [paths.trust(), paths.data.join("releases")] {
        for path in below(&folder).map_err(failed(&folder))? {
            add(&path, Kind::Growing)?;
        }
    }
    let mut had: BTreeSet<String> = BTreeSet::new();
    for job in &recorded.jobs {
        let console = paths.consoles().join(format!("{job}.log"));
        for path in [&console, &console.with_extension("own")] {
            add(path, Kind::Growing)?;
        }
        let folder = paths.artifacts(*job);
        for path in below(&folder).map_err(failed(&folder))? {
            if add(&path, Kind::Fixed)? {
                had.insert(relative(paths, &path));
            }
        }
    }
    for (job, artifact) in &recorded.artifacts {
        let name = relative(paths, &paths.artifacts(*job).join(artifact));
        if !had.contains(&name) {
            missing.push(name);
        }
    }
    for package in &recorded.packages {
        let path = paths.package(package);
        if !add(&path, Kind::Fixed)? {
            missing.push(relative(paths, &path));
        }
    }
    let manifest = Manifest {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        created_at: now.as_millisecond(),
        files,
        missing,
    };
    let text = serde_json::json!(manifest).to_string();
    writer
        .finish(MANIFEST, text.as_bytes())
        .map_err(failed(partial))?;
    Ok(manifest)
}

/// Reads what was written once more.
fn verify(place: &Path, mut expected: BTreeMap<String, FileEntry>) -> Result<(), BackupError> {
    archive::read(place, |name, content| {
        let mut reader = Hashing::new(content);
        io::copy(&mut reader, &mut io::sink())?;
        let found = reader.finish();
        match expected.remove(name) {
            Some(entry) if entry != found => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("`{name}` is not what was written"),
            )),
            _ => Ok(()),
        }
    })
    .map_err(file_error("verify", place))?;
    match expected.keys().next() {
        Some(name) => Err(BackupError::Broken(format!("{name} is not in it"))),
        None => Ok(()),
    }
}

/// A path of the data folder, as the manifest names it.
fn relative(paths: &Paths, path: &Path) -> String {
    let below = path.strip_prefix(&paths.data).unwrap_or(path);
    below.to_string_lossy().into_owned()
}

/// Every file below a folder, which may be missing.
fn below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let items = match fs::read_dir(&folder) {
            Ok(items) => items,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for item in items {
            let item = item?;
            let kind = item.file_type()?;
            if kind.is_dir() {
                folders.push(item.path());
            } else if kind.is_file() {
                files.push(item.path());
            }
        }
    }
    files.sort();
    Ok(files)
}
