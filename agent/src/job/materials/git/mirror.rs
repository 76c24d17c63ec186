//! What all pipelines of an agent share of a repository: its objects, so that a second clone of it
//! needs only what is new.
//!
//! A clone goes to the real repository, with the pipeline's own credentials, and finds in the
//! mirror what it need not transfer (`git clone --reference`). Then the mirror's files are linked
//! into the clone, which from then on stands alone: the mirror may be removed at any time. After
//! each clone the mirror gets what was new, by links as well. No git ever writes to a mirror that
//! a clone reads, and a mirror never talks to a server: it has no credentials.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use journeyman_host::{
    durable,
    lock::{Lock, LockError},
};
use ring::digest::{SHA256, digest};
use thiserror::Error;

use super::{config::ConfigFile, url::RepositoryUrl};
use crate::job::materials::cleanup::delete;

/// Folder of all mirrors in the agent's working directory.
const MIRRORS: &str = "mirrors";
/// How long another clone of the same repository is waited for.
const PATIENCE: Duration = Duration::from_secs(600);
/// A mirror that no clone has used for this long is removed.
const UNUSED: Duration = Duration::from_secs(30 * 24 * 3600);
/// With more packs than this, a mirror is given up, and the next clone begins another one: each
/// clone that brings something new adds one, and git is slow with many.
const MOST_PACKS: usize = 20;

/// The mirror of one repository, locked. Nobody else in this working directory clones the
/// repository meanwhile.
pub(super) struct Mirror {
    /// A bare repository, if it is there.
    path: PathBuf,
    _lock: Lock,
}

/// A mirror cannot be used. A clone goes on without it.
#[derive(Debug, Error)]
pub(super) enum MirrorError {
    #[error("cannot use the mirror {path}: {source}")]
    Io {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("the repository is of a kind that is not mirrored")]
    Unusual,
}

impl Mirror {
    /// The mirror of a repository in an agent's working directory. Waits for another clone of it.
    ///
    /// # Errors
    /// It cannot be locked, or its folder cannot be made.
    pub(super) fn lock(root: &Path, url: &RepositoryUrl) -> Result<Self, MirrorError> {
        let folder = root.join(MIRRORS);
        private_folder(&folder).map_err(at(&folder))?;
        let name = digest(&SHA256, url.for_arguments().as_bytes())
            .as_ref()
            .iter()
            .take(16)
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>();
        let lock = Lock::acquire(&folder.join(format!("{name}.lock")), PATIENCE)?;
        Ok(Self {
            path: folder.join(format!("{name}.git")),
            _lock: lock,
        })
    }

    /// What `--reference` is to name, if there is something in it.
    pub(super) fn reference(&self) -> Option<&Path> {
        self.path
            .join("packed-refs")
            .is_file()
            .then_some(&*self.path)
    }

    /// Makes a clone that refers to this mirror stand alone.
    ///
    /// # Errors
    /// A file cannot be linked or copied. The clone is of no use then.
    pub(super) fn give_to(&self, clone: &Path) -> Result<(), MirrorError> {
        let objects = clone.join(".git/objects");
        copy_packs(&self.path.join("objects/pack"), &objects.join("pack"))?;
        // Only now: until here the clone is known by this file as one that was broken off.
        let alternates = objects.join("info/alternates");
        fs::remove_file(&alternates).map_err(at(&alternates))
    }

    /// Takes over what a fresh clone has. Whatever moment this ends at, the mirror is whole: the
    /// names of commits come last.
    ///
    /// # Errors
    /// The clone is not an ordinary one, or a file cannot be linked or written.
    pub(super) fn take_from(&self, clone: &Path) -> Result<(), MirrorError> {
        let repository = clone.join(".git");
        let is_plain = ConfigFile::read(&repository.join("config"))
            .is_ok_and(|config| !config.has_extensions() && !config.is_more_than_one_file());
        let refs = repository.join("packed-refs");
        if !is_plain || !refs.is_file() {
            return Err(MirrorError::Unusual);
        }
        let packs = self.path.join("objects/pack");
        if packs_in(&packs) > MOST_PACKS {
            return self.remove();
        }
        for folder in ["objects/pack", "objects/info", "refs"] {
            let folder = self.path.join(folder);
            private_folder(&folder).map_err(at(&folder))?;
        }
        write(&self.path.join("HEAD"), b"ref: refs/heads/none\n")?;
        let config = b"[core]\n\trepositoryformatversion = 0\n\tbare = true\n";
        write(&self.path.join("config"), config)?;
        copy_packs(&repository.join("objects/pack"), &packs)?;
        let names = fs::read(&refs).map_err(at(&refs))?;
        write(&self.path.join("packed-refs"), &names)
    }

    /// Removes what is in the mirror: it was of no use.
    ///
    /// # Errors
    /// It cannot be removed; it is not used any more then.
    pub(super) fn remove(&self) -> Result<(), MirrorError> {
        // Without this it is no reference, however far the rest comes.
        let refs = self.path.join("packed-refs");
        delete(&refs).map_err(at(&refs))?;
        delete(&self.path).map_err(at(&self.path))
    }
}

/// Whether a clone still refers to a mirror: it was broken off before it stood alone.
pub(super) fn is_unfinished(root: &Path, clone: &Path) -> bool {
    let alternates = fs::read_to_string(clone.join(".git/objects/info/alternates"));
    let mirrors = root.join(MIRRORS);
    alternates.is_ok_and(|text| {
        text.lines()
            .any(|line| Path::new(line).starts_with(&mirrors))
    })
}

/// Removes mirrors that no clone has used for a month. One that is in use is left alone.
pub(super) fn remove_unused(root: &Path, now: SystemTime) {
    let Ok(items) = fs::read_dir(root.join(MIRRORS)) else {
        return;
    };
    for item in items.flatten() {
        let lock = item.path();
        let mirror = lock.with_extension("git");
        // Each use writes the user's process id into the lock.
        let is_unused = || {
            let used = fs::metadata(&lock).and_then(|lock| lock.modified()).ok();
            used.and_then(|used| now.duration_since(used).ok())
                .is_some_and(|unused| unused > UNUSED)
        };
        let is_lock = lock.extension().is_some_and(|end| end == "lock");
        if !is_lock || !mirror.exists() || !is_unused() {
            continue;
        }
        let Ok(held) = Lock::acquire(&lock, Duration::ZERO) else {
            continue;
        };
        tracing::info!(mirror = %mirror.display(), "Removing a mirror that was not used for long");
        let mirror = Mirror {
            path: mirror,
            _lock: held,
        };
        if let Err(error) = mirror.remove() {
            tracing::warn!(%error, "A mirror that is not used is left");
        }
    }
}

fn packs_in(folder: &Path) -> usize {
    let Ok(items) = fs::read_dir(folder) else {
        return 0;
    };
    items
        .flatten()
        .filter(|item| item.path().extension().is_some_and(|end| end == "pack"))
        .count()
}

/// Links every pack that is missing, or copies it where there are no links. Git finds a pack by
/// its index, which therefore comes last.
fn copy_packs(from: &Path, to: &Path) -> Result<(), MirrorError> {
    let mut files = Vec::new();
    for item in fs::read_dir(from).map_err(at(from))? {
        let path = item.map_err(at(from))?.path();
        let order = match path.extension().and_then(|end| end.to_str()) {
            Some("pack") => 0,
            Some("rev") => 1,
            Some("idx") => 2,
            _ => continue,
        };
        files.push((order, path));
    }
    files.sort();
    for (_, path) in files {
        let Some(name) = path.file_name() else {
            continue;
        };
        let target = to.join(name);
        match fs::hard_link(&path, &target) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(_) => {
                let mut copy = durable::temporary_file(to).map_err(at(to))?;
                let mut source = fs::File::open(&path).map_err(at(&path))?;
                io::copy(&mut source, &mut copy).map_err(at(&target))?;
                let kept = copy.persist(&target).map_err(|error| error.error);
                kept.map_err(at(&target))?;
            }
        }
    }
    Ok(())
}

/// Writes a file whole or not at all, but does not wait for the disk, which has a whole checkout
/// to write at that moment: a mirror that a power cut damaged is made anew.
fn write(path: &Path, content: &[u8]) -> Result<(), MirrorError> {
    if fs::read(path).is_ok_and(|there| there == content) {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = durable::temporary_file(folder).map_err(at(folder))?;
    file.write_all(content).map_err(at(path))?;
    let kept = file.persist(path).map_err(|error| error.error);
    kept.map(drop).map_err(at(path))
}

fn private_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> MirrorError {
    let path = path.display().to_string();
    move |source| MirrorError::Io { path, source }
}
