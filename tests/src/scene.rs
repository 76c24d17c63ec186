//! The folder of one test and the processes that belong to it.

use std::{
    cell::Cell,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use tempfile::TempDir;

use crate::{
    patience::wait_until,
    processes::{self, Process},
};

/// Set in the environment of everything a test starts, and so inherited by all it leaves behind.
const MARKER: &str = "JOURNEYMAN_TEST_SCENE";

/// A temporary folder, and every process that was started with [`Scene::command`] or descends
/// from one. Declare it first, so that it is dropped last: it fails the test when a process is
/// left, and after a failure it ends them all and shows the logs.
pub struct Scene {
    folder: Option<TempDir>,
    path: PathBuf,
    checked: Cell<bool>,
}

impl Scene {
    pub fn new(name: &str) -> Self {
        let folder = tempfile::Builder::new()
            .prefix(&format!("jm-{name}-"))
            .tempdir()
            .expect("a temporary folder");
        let path = folder.path().canonicalize().expect("its real path");
        Self {
            folder: Some(folder),
            path,
            checked: Cell::new(false),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A new folder in this one.
    pub fn folder(&self, name: &str) -> PathBuf {
        let folder = self.path.join(name);
        fs::create_dir_all(&folder).expect("a folder in a temporary folder");
        folder
    }

    /// A command whose process, and all that descend from it, belong to this scene. Its
    /// environment has none of what the person who runs the tests may have set for the programs.
    ///
    /// It stays in the process group of the test: Ctrl-C on a terminal ends it as well.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        for (name, _) in env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if ["GO_", "AGENT_", "JOURNEYMAN_", "RUST_", "CARGO_TARGET"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
            {
                command.env_remove(name);
            }
        }
        command.env(MARKER, &self.path);
        command
    }

    /// Every living process of this scene.
    pub fn processes(&self) -> Vec<Process> {
        processes::with_environment(MARKER, &self.path.to_string_lossy())
    }

    /// Waits until no process of this scene is left; fails the test when one stays.
    pub fn assert_no_process_left(&self) {
        self.checked.set(true);
        wait_until("every process of the test has ended", || {
            let left = self.processes();
            if !left.is_empty() && thread::panicking() {
                return true;
            }
            left.is_empty()
        });
    }

    fn end_all(&self) {
        // Once more after a while: one that was just forked may have been missed.
        for _ in 0..20 {
            let left = self.processes();
            if left.is_empty() {
                return;
            }
            for process in left {
                processes::kill_nine(process.pid);
            }
            thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    #[expect(clippy::print_stderr, reason = "what a failed test shows")]
    fn show_logs(&self) {
        for file in logs(&self.path) {
            let text = fs::read(&file).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<_> = text.lines().collect();
            if !lines.is_empty() {
                eprintln!("--- end of {}", file.display());
                for line in &lines[lines.len().saturating_sub(40)..] {
                    eprintln!("    {line}");
                }
            }
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if thread::panicking() {
            self.show_logs();
            self.end_all();
            if env::var_os("JOURNEYMAN_TEST_KEEP").is_some()
                && let Some(folder) = self.folder.take()
            {
                let _ = folder.keep();
            }
        } else if !self.checked.get() {
            let left = || {
                self.processes()
                    .into_iter()
                    .map(|process| format!("{} {:?}", process.pid, process.arguments))
                    .collect::<Vec<_>>()
            };
            // What was ended politely needs a moment; what stays is an orphan.
            for _ in 0..300 {
                if left().is_empty() {
                    return;
                }
                thread::sleep(std::time::Duration::from_millis(10));
            }
            let orphans = left();
            self.show_logs();
            self.end_all();
            panic!("processes left behind: {orphans:#?}");
        }
    }
}

fn logs(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            if kind.is_dir() && !path.ends_with("pipelines") && !path.ends_with("blobs") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "log") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
