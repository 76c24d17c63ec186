//! A folder with a bootstrapper that carries a script for a launcher.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use ring::digest::{SHA256, digest};
use tempfile::TempDir;

/// Longer than anything takes on the busiest machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a script does to live until its bootstrapper dies or stops it.
pub(crate) const LIVES: &str = "read _";

/// A launcher file: a script that writes its name to the file `runs`, and then does `what`.
pub(crate) fn script(name: &str, what: &str, more_manifest: &str) -> Vec<u8> {
    let manifest = format!(
        "format: 1\nversion: {name}\nrelaunch-at-once: 60\nworked: 61\ngive-up: 64 73\ndone: 80\n\
         {more_manifest}"
    );
    [
        format!("#!/bin/sh\necho {name} >> runs\n{what}\nexit\n").as_bytes(),
        manifest.as_bytes(),
        &(manifest.len() as u64).to_le_bytes(),
        b"JMLNCHR1",
    ]
    .concat()
}

/// The bootstrapper, with a launcher inside that writes `carried`.
static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
    let carried = script("carried", LIVES, "");
    let bytes = [
        &*fs::read(env!("CARGO_BIN_EXE_journeyman-bootstrapper")).unwrap(),
        &carried,
        digest(&SHA256, &carried).as_ref(),
        &(carried.len() as u64).to_le_bytes(),
        b"JMBTSTR1",
    ]
    .concat();
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("journeyman-bootstrapper");
    // One of an earlier run may still be executed.
    let _ = fs::remove_file(&program);
    fs::write(&program, bytes).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
});

/// The working directory of a bootstrapper.
pub(crate) struct Scene {
    folder: TempDir,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn program() -> &'static Path {
        &PROGRAM
    }

    /// Where a tracer of the bootstrapper writes.
    pub(crate) fn trace(&self) -> PathBuf {
        self.path("trace")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Vec<u8> {
        fs::write(self.path(name), bytes).unwrap();
        bytes.to_vec()
    }

    /// The launchers that ran, in their order.
    pub(crate) fn runs(&self) -> Vec<String> {
        let runs = fs::read_to_string(self.path("runs")).unwrap_or_default();
        runs.lines().map(str::to_owned).collect()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("logs/go-agent-bootstrapper.log")).unwrap_or_default()
    }

    pub(crate) fn start(&self) -> Bootstrapper {
        self.run(&mut Command::new(Self::program()))
    }

    /// Runs a command that becomes the bootstrapper, or does what it would.
    pub(crate) fn run(&self, command: &mut Command) -> Bootstrapper {
        // A program that was just written may be open for writing in a fork that is about to
        // execute something else.
        let deadline = Instant::now() + PATIENCE;
        loop {
            match command
                .current_dir(self.folder.path())
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
            {
                Ok(child) => return Bootstrapper { child },
                Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                    assert!(Instant::now() < deadline, "{error}");
                    thread::yield_now();
                }
                Err(error) => panic!("{command:?}: {error}"),
            }
        }
    }

    pub(crate) fn wait_for_run(&self, name: &str) {
        self.wait_for(name, || self.runs().iter().any(|run| run == name));
    }

    pub(crate) fn wait_for(&self, what: &str, mut reached: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !reached() {
            assert!(
                Instant::now() < deadline,
                "waited for {what}; ran: {:?}; log:\n{}",
                self.runs(),
                self.log()
            );
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// No temporary file is left after a bootstrapper has ended.
    pub(crate) fn assert_nothing_left_behind(&self) {
        let names = |folder: &str| {
            fs::read_dir(self.path(folder))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect::<Vec<_>>()
        };
        let (beside, data) = (names("."), names("data"));
        assert!(data.is_empty(), "{data:?}; log:\n{}", self.log());
        assert!(
            !beside.iter().any(|name| name.starts_with('.')),
            "{beside:?}"
        );
    }
}

/// A bootstrapper that runs; killed when it is dropped, and with it its launcher.
pub(crate) struct Bootstrapper {
    child: Child,
}

impl Bootstrapper {
    /// Waits for its end.
    pub(crate) fn end(mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(Instant::now() < deadline, "the bootstrapper does not end");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Asks it to stop, as an operator does.
    pub(crate) fn stop(self) {
        assert_eq!(self.ask_to_stop().code(), Some(0));
    }

    /// Asks it to stop and says how it ended.
    pub(crate) fn ask_to_stop(mut self) -> ExitStatus {
        if self.ended().is_none() {
            let process = Pid::from_raw(self.child.id().try_into().unwrap());
            kill(process, Signal::SIGTERM).unwrap();
        }
        self.end()
    }
}

impl Drop for Bootstrapper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
