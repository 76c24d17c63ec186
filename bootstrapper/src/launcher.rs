//! The launcher on disk: replaced when it is missing or damaged, copied for each start.

use std::{
    ffi::OsString,
    fs::{self, File, Permissions, TryLockError},
    io,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempPath;

use crate::{Log, good, manifest::Manifest, signals};

/// The launcher that is started; it may replace this file while it runs.
pub(crate) const LAUNCHER: &str = "journeyman-launcher";
/// Temporary files; also the launcher's.
const DATA: &str = "data";
const COPY_PREFIX: &str = "launcher-";

/// The copy of a launcher that is started, or was: it goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Launcher {
    pub(crate) manifest: Manifest,
    /// Its lock says to another bootstrapper in this folder that the copy is in use. Goes before
    /// the path.
    pub(crate) file: File,
    path: TempPath,
}

/// Copies the launcher in `folder`. One that is missing or cannot be used is replaced first.
///
/// # Errors
/// When files cannot be written. Trying again may help.
pub(crate) fn take(folder: &Path, log: &mut Log) -> io::Result<Launcher> {
    let original = folder.join(LAUNCHER);
    if original.exists() {
        match copy(folder)? {
            Ok(launcher) => return Ok(launcher),
            Err(reason) => log.error(&format!(
                "cannot use the launcher {}: {reason}",
                original.display()
            )),
        }
    }
    good::put_in_place(folder, log)?;
    copy(folder)?.map_err(|reason| io::Error::other(format!("{}: {reason}", original.display())))
}

impl Launcher {
    /// Starts it with the arguments of its manifest and then `arguments`. Its standard input is
    /// held open by the [`Child`]: when this process dies, it reads the end of file there and ends
    /// too.
    ///
    /// # Errors
    /// When the operating system cannot execute it.
    pub(crate) fn start(&self, folder: &Path, arguments: &[OsString]) -> io::Result<Child> {
        let mut command = Command::new(&self.path);
        command
            .args(&self.manifest.args)
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::piped())
            // A terminal's Ctrl-C is for the bootstrapper alone, which passes it on once.
            .process_group(0);
        signals::give_back(&mut command);
        command.spawn()
    }

    /// Whether no other bootstrapper has a launcher in `folder`: then what happens to this one is
    /// its own doing.
    pub(crate) fn is_alone(&self, folder: &Path) -> bool {
        !named(&folder.join(DATA), COPY_PREFIX)
            .filter(|path| *path != *self.path)
            .any(|path| {
                File::open(path)
                    .is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
            })
    }
}

/// Removes what earlier bootstrappers left behind when they were killed.
pub(crate) fn clean_up(folder: &Path) {
    let left = named(&folder.join(DATA), COPY_PREFIX).chain(named(folder, good::PART_PREFIX));
    for path in left {
        // One that is locked belongs to a bootstrapper that lives.
        if File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = fs::remove_file(path);
        }
    }
}

/// The files in a folder whose names begin so.
fn named(folder: &Path, prefix: &'static str) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| {
            let name = entry.file_name();
            name.as_encoded_bytes().starts_with(prefix.as_bytes())
        })
        .map(|entry| entry.path())
}

/// Copies the launcher; says why when it is no launcher that can be used.
fn copy(folder: &Path) -> io::Result<Result<Launcher, String>> {
    let data = folder.join(DATA);
    fs::create_dir_all(&data)?;
    let mut copy = tempfile::Builder::new()
        .prefix(COPY_PREFIX)
        .permissions(Permissions::from_mode(0o700))
        .tempfile_in(&data)?;
    let copied = File::open(folder.join(LAUNCHER))
        .and_then(|mut original| io::copy(&mut original, copy.as_file_mut()));
    if let Err(error) = copied {
        return if good::checksum_in(folder, LAUNCHER).is_none() {
            Ok(Err(format!("it cannot be read: {error}")))
        } else {
            Err(error)
        };
    }
    // A file that is open for writing cannot be executed.
    let path = copy.into_temp_path();
    let mut file = File::open(&path)?;
    file.try_lock()?;
    Ok(Manifest::of(&mut file).map(|manifest| Launcher {
        manifest,
        file,
        path,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A script is as good a launcher as an executable, if it ends before its manifest.
    fn install(folder: &Path, script: &str) {
        let manifest = "format: 1\nargs: one two\ngive-up: 64\n";
        let bytes = [
            format!("#!/bin/sh\n{script}\nexit\n").as_bytes(),
            manifest.as_bytes(),
            &(manifest.len() as u64).to_le_bytes(),
            b"JMLNCHR1",
        ]
        .concat();
        fs::write(folder.join(LAUNCHER), bytes).unwrap();
    }

    fn copies(folder: &Path) -> usize {
        fs::read_dir(folder.join(DATA)).unwrap().count()
    }

    #[test]
    fn a_copy_runs_with_its_own_arguments_first_and_goes_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        install(folder.path(), "echo \"$0 $*\" > said");
        let mut log = Log::new(&folder.path().join("log"));
        let launcher = take(folder.path(), &mut log).unwrap();
        let mut child = launcher.start(folder.path(), &["three".into()]).unwrap();
        child.wait().unwrap();
        let said = fs::read_to_string(folder.path().join("said")).unwrap();
        assert!(said.contains("/data/launcher-"), "{said}");
        assert!(said.ends_with(" one two three\n"), "{said}");
        assert_eq!(launcher.manifest.give_up, [64]);
        assert_eq!(copies(folder.path()), 1);
        drop(launcher);
        assert_eq!(copies(folder.path()), 0);
    }

    #[test]
    fn signals_reach_it() {
        let folder = tempfile::tempdir().unwrap();
        install(
            folder.path(),
            "trap 'exit 7' TERM\necho > ready\nwhile :; do sleep 0.01; done",
        );
        let _signals = signals::Signals::take().unwrap();
        let mut log = Log::new(&folder.path().join("log"));
        let launcher = take(folder.path(), &mut log).unwrap();
        let mut child = launcher.start(folder.path(), &[]).unwrap();
        while !folder.path().join("ready").exists() {
            std::thread::yield_now();
        }
        signals::ask_to_stop(child.id(), false).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(7));
    }

    #[test]
    fn only_copies_that_nobody_uses_are_cleaned_up() {
        let folder = tempfile::tempdir().unwrap();
        install(folder.path(), "cat > /dev/null");
        let mut log = Log::new(&folder.path().join("log"));
        let launcher = take(folder.path(), &mut log).unwrap();
        let mut child = launcher.start(folder.path(), &[]).unwrap();
        fs::write(folder.path().join("data/launcher-left"), "").unwrap();
        fs::write(folder.path().join("data/something-else"), "").unwrap();
        fs::write(folder.path().join(".journeyman-bootstrapper-left"), "").unwrap();
        clean_up(folder.path());
        assert_eq!(copies(folder.path()), 2);
        assert!(!folder.path().join(".journeyman-bootstrapper-left").exists());
        // The end of file on its standard input ends it.
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn another_bootstrappers_launcher_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        install(folder.path(), "");
        let mut log = Log::new(&folder.path().join("log"));
        let launcher = take(folder.path(), &mut log).unwrap();
        fs::write(folder.path().join("data/launcher-left"), "").unwrap();
        assert!(launcher.is_alone(folder.path()));
        let _other = take(folder.path(), &mut log).unwrap();
        assert!(!launcher.is_alone(folder.path()));
    }

    #[test]
    fn a_launcher_that_cannot_be_read_is_one_that_cannot_be_used() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(LAUNCHER)).unwrap();
        let reason = copy(folder.path()).unwrap().unwrap_err();
        assert!(reason.contains("cannot be read"), "{reason}");
    }

    #[test]
    fn a_damaged_launcher_is_not_started() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join(LAUNCHER),
            "half a launcher that was cut off",
        )
        .unwrap();
        let log_path = folder.path().join("log");
        // A test executable carries no launcher to go on with, and says so.
        let error = take(folder.path(), &mut Log::new(&log_path)).unwrap_err();
        assert!(error.to_string().contains("carries no launcher"), "{error}");
        assert!(fs::read_to_string(log_path).unwrap().contains("cut off"));
    }
}
