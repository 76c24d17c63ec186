//! Kernel locks on files: one holder at a time, and a dead process never holds one.
//!
//! GoCD judges its lock file by its age; a file that a crash left behind keeps it from starting for
//! ten minutes. Here the file's existence means nothing, only the kernel's lock on it does. The file
//! is never deleted: two processes could then each lock a file of that name.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant, SystemTime},
};

use thiserror::Error;

/// Pause between two attempts while waiting.
const PAUSE: Duration = Duration::from_millis(20);

/// A lock that is held until this is dropped or the process ends. Children do not inherit it: the
/// file is closed when they start their program.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

/// A lock could not be taken.
#[derive(Debug, Error)]
pub enum LockError {
    /// A living process holds it.
    #[error(
        "{} is locked by {}: another one runs in this folder; stop it, or start this one in a \
         folder of its own",
        path.display(),
        holder_text(*holder)
    )]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Process id of the holder, when it could be read.
        holder: Option<i32>,
    },
    /// The file cannot be opened or locked at all.
    #[error("cannot lock {}: {source}", path.display())]
    Failed {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Lock {
    /// Takes the lock, waiting at most `patience` for a holder that is about to end, and writes
    /// this process's id into the file. Blocks the thread while waiting.
    ///
    /// # Errors
    /// Another living process still holds it, or the file cannot be opened.
    pub fn acquire(path: &Path, patience: Duration) -> Result<Self, LockError> {
        let failed = |source| LockError::Failed {
            path: path.to_owned(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed)?;
        let start = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(source)) => return Err(failed(source)),
                Err(TryLockError::WouldBlock) if start.elapsed() < patience => {
                    thread::sleep(PAUSE);
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(LockError::Held {
                        path: path.to_owned(),
                        holder: read_pid(&mut file),
                    });
                }
            }
        }
        // The id only helps people; a full disk must not keep the lock from being taken.
        if let Err(error) = write_pid(&mut file) {
            tracing::warn!(path = %path.display(), %error, "cannot write the process id into the lock file");
        }
        Ok(Self { file })
    }

    /// Sets when the lock file was last changed: others may go by that.
    ///
    /// # Errors
    /// The file belongs to another user.
    pub fn set_modified(&self, time: SystemTime) -> io::Result<()> {
        self.file.set_modified(time)
    }

    /// Whether a living process holds the lock, without taking it. The holder's id, when it wrote
    /// one, is in the file.
    ///
    /// # Errors
    /// The file is there and cannot be opened.
    pub fn is_held(path: &Path) -> io::Result<bool> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

fn holder_text(holder: Option<i32>) -> String {
    holder.map_or_else(
        || "another process".to_owned(),
        |pid| format!("process {pid}"),
    )
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn read_pid(file: &mut File) -> Option<i32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_second_is_told_who_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        assert!(!Lock::is_held(&path).unwrap());
        let lock = Lock::acquire(&path, Duration::ZERO).unwrap();
        assert!(Lock::is_held(&path).unwrap());
        let error = Lock::acquire(&path, Duration::ZERO).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(path.to_str().unwrap()), "{text}");
        assert!(
            text.contains(&format!("process {}", std::process::id())),
            "{text}"
        );
        drop(lock);
        // Not at once: a test beside this one may just be between fork and exec, with a copy of
        // every open file.
        Lock::acquire(&path, Duration::from_secs(60)).unwrap();
    }

    #[test]
    fn a_dying_holder_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = Lock::acquire(&path, Duration::ZERO).unwrap();
        let second = thread::spawn(move || Lock::acquire(&path, Duration::from_secs(60)));
        drop(first);
        second.join().unwrap().unwrap();
    }

    #[test]
    fn children_do_not_inherit_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let lock = Lock::acquire(&path, Duration::ZERO).unwrap();
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        drop(lock);
        // Not at once: see above. The child lives all the while.
        Lock::acquire(&path, Duration::from_secs(60)).unwrap();
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
