//! The launcher on disk: unpacked when it is missing or damaged, copied for each start.

use std::{
    ffi::OsString,
    fs::{self, File, Permissions},
    io,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Child, Command, Stdio},
};

use tempfile::{NamedTempFile, TempPath};

use crate::{Log, manifest::Manifest, payload, signals};

/// The launcher that is started; it may replace this file while it runs.
const LAUNCHER: &str = "journeyman-launcher";
/// Where a launcher goes that cannot be used.
const SET_ASIDE: &str = "journeyman-launcher.corrupt";
/// Temporary files; also the launcher's.
const DATA: &str = "data";
const COPY_PREFIX: &str = "launcher-";

/// A launcher that runs. Its standard input is held open: when this process dies, it reads the
/// end of file there and ends too.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) manifest: Manifest,
    /// Says to another bootstrapper in this folder that the copy is in use. Goes before the file.
    _lock: File,
    _copy: TempPath,
}

/// Starts a copy of the launcher in `folder`, with the arguments of its manifest and then
/// `arguments`.
///
/// # Errors
/// When files cannot be written or the launcher cannot be started. Trying again may help.
pub(crate) fn start(folder: &Path, arguments: &[OsString], log: &mut Log) -> io::Result<Running> {
    let launcher = folder.join(LAUNCHER);
    if !launcher.exists() {
        unpack(folder)?;
        log.info("unpacked the launcher this bootstrapper carries");
    }
    let (mut file, mut copy) = copy(folder)?;
    let manifest = match Manifest::of(&mut file) {
        Ok(manifest) => manifest,
        Err(reason) => {
            let aside = folder.join(SET_ASIDE);
            fs::rename(&launcher, &aside)?;
            log.error(&format!(
                "cannot use the launcher {}: {reason}. It was set aside as {}, and the launcher \
                 this bootstrapper carries is used",
                launcher.display(),
                aside.display()
            ));
            unpack(folder)?;
            (file, copy) = self::copy(folder)?;
            Manifest::of(&mut file)
                .map_err(|reason| io::Error::other(format!("the carried launcher: {reason}")))?
        }
    };
    let mut command = Command::new(&copy);
    command
        .args(&manifest.args)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        // A terminal's Ctrl-C is for the bootstrapper alone, which passes it on once.
        .process_group(0);
    signals::give_back(&mut command);
    Ok(Running {
        child: command.spawn()?,
        manifest,
        _lock: file,
        _copy: copy,
    })
}

/// Removes the copies that earlier bootstrappers left behind when they were killed.
pub(crate) fn clean_up(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder.join(DATA)) else {
        return;
    };
    for entry in entries.flatten() {
        if !entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(COPY_PREFIX.as_bytes())
        {
            continue;
        }
        // One that is locked belongs to a bootstrapper that lives.
        if File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn unpack(folder: &Path) -> io::Result<()> {
    let bytes = payload::read(Path::new("/proc/self/exe"))?;
    let mut file = NamedTempFile::new_in(folder)?;
    io::Write::write_all(&mut file, &bytes)?;
    file.as_file()
        .set_permissions(Permissions::from_mode(0o755))?;
    file.as_file().sync_all()?;
    file.persist(folder.join(LAUNCHER))?;
    Ok(())
}

fn copy(folder: &Path) -> io::Result<(File, TempPath)> {
    let data = folder.join(DATA);
    fs::create_dir_all(&data)?;
    let mut copy = tempfile::Builder::new()
        .prefix(COPY_PREFIX)
        .permissions(Permissions::from_mode(0o700))
        .tempfile_in(&data)?;
    io::copy(&mut File::open(folder.join(LAUNCHER))?, &mut copy)?;
    // A file that is open for writing cannot be executed.
    let path = copy.into_temp_path();
    let file = File::open(&path)?;
    file.try_lock()?;
    Ok((file, path))
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
        let mut running = start(folder.path(), &["three".into()], &mut log).unwrap();
        running.child.wait().unwrap();
        let said = fs::read_to_string(folder.path().join("said")).unwrap();
        assert!(said.contains("/data/launcher-"), "{said}");
        assert!(said.ends_with(" one two three\n"), "{said}");
        assert_eq!(running.manifest.give_up, [64]);
        assert_eq!(copies(folder.path()), 1);
        drop(running);
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
        let mut running = start(folder.path(), &[], &mut log).unwrap();
        while !folder.path().join("ready").exists() {
            std::thread::yield_now();
        }
        signals::ask_to_stop(running.child.id(), false).unwrap();
        assert_eq!(running.child.wait().unwrap().code(), Some(7));
    }

    #[test]
    fn only_copies_that_nobody_uses_are_cleaned_up() {
        let folder = tempfile::tempdir().unwrap();
        install(folder.path(), "cat > /dev/null");
        let mut log = Log::new(&folder.path().join("log"));
        let mut running = start(folder.path(), &[], &mut log).unwrap();
        fs::write(folder.path().join("data/launcher-left"), "").unwrap();
        fs::write(folder.path().join("data/something-else"), "").unwrap();
        clean_up(folder.path());
        assert_eq!(copies(folder.path()), 2);
        // The end of file on its standard input ends it.
        drop(running.child.stdin.take());
        assert!(running.child.wait().unwrap().success());
    }

    #[test]
    fn a_damaged_launcher_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join(LAUNCHER),
            "half a launcher that was cut off",
        )
        .unwrap();
        let log_path = folder.path().join("log");
        // A test executable carries no launcher to go on with, and says so.
        let error = start(folder.path(), &[], &mut Log::new(&log_path)).unwrap_err();
        assert!(error.to_string().contains("carries no launcher"), "{error}");
        assert!(folder.path().join(SET_ASIDE).exists());
        assert!(fs::read_to_string(log_path).unwrap().contains("cut off"));
    }
}
