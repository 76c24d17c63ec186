//! `journeyman-agent take-over`, stopped or failed at every system call that changes the disk.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::HashMap,
    fs,
    os::unix::{fs::symlink, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_journeyman-agent");
/// Every call that changes the disk; `openat` only where it makes or cuts a file.
const CHANGES: &str = "openat,write,pwrite64,writev,rename,renameat,renameat2,mkdir,mkdirat,rmdir,\
                       unlink,unlinkat,symlink,symlinkat,link,linkat,fsync,fdatasync,ftruncate,\
                       fallocate,chmod,fchmod,fchmodat";
/// At once: the machine is shared.
const WORKERS: usize = 2;

/// Of the release before.
#[derive(Clone, Copy, Debug)]
enum Format {
    One,
    Two,
}

/// A working directory with a release that runs and one that is to take over.
struct Scene {
    folder: TempDir,
    old_state: PathBuf,
}

/// A call of the program, as the nth of this name.
#[derive(Clone, Debug)]
struct Point {
    call: String,
    nth: usize,
    line: String,
}

impl Scene {
    fn new(format: Format) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let root = folder.path().canonicalize().unwrap();
        for name in ["config", "releases/old", "releases/new", "state/old"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::write(root.join("releases/new/manifest.json"), "{}").unwrap();
        fs::hard_link(PROGRAM, root.join("releases/new/journeyman-agent")).unwrap();
        symlink("releases/old", root.join("current")).unwrap();
        let (old_state, content) = match format {
            Format::One => ("config/cookie", "c0"),
            Format::Two => (
                "state/old/state.json",
                r#"{"format":2,"cookie":"c0","of":1}"#,
            ),
        };
        let old_state = root.join(old_state);
        fs::write(&old_state, content).unwrap();
        Self { folder, old_state }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap()
    }

    /// Takes over, under `strace` with these words if there are any.
    fn take_over(&self, words: &[&str]) -> Output {
        let program = self.root().join("releases/new/journeyman-agent");
        let mut command = if words.is_empty() {
            Command::new(program)
        } else {
            let mut command = Command::new("strace");
            command.args(words).arg(program);
            command
        };
        command
            .args(["take-over", "new"])
            .current_dir(self.root())
            .output()
            .expect("strace, which `.ci/prepare test` installs")
    }

    fn current(&self) -> String {
        let target = fs::read_link(self.root().join("current")).unwrap();
        target.to_str().unwrap().to_owned()
    }

    /// The old release runs with its state, or the new one with its own.
    fn assert_sound(&self, old_state: &[u8], when: &str) {
        assert_eq!(fs::read(&self.old_state).unwrap(), old_state, "{when}");
        match self.current().as_str() {
            "releases/old" => {}
            "releases/new" => assert_eq!(self.new_state(), COMPLETE, "{when}"),
            other => panic!("{when}: {other}"),
        }
    }

    fn assert_done(&self, old_state: &[u8], when: &str) {
        self.assert_sound(old_state, when);
        assert_eq!(self.current(), "releases/new", "{when}");
        // What else is there for a moment has names that every launcher clears away.
        let mut left = names(&self.root().join("data"));
        left.retain(|name| !name.starts_with(".journeyman-"));
        assert_eq!(left, Vec::<String>::new(), "{when}");
        assert_eq!(
            names(&self.root().join("state/new")),
            ["state.json"],
            "{when}"
        );
        assert!(!self.root().join("current.new").is_symlink(), "{when}");
    }

    fn new_state(&self) -> String {
        fs::read_to_string(self.root().join("state/new/state.json")).unwrap()
    }
}

const COMPLETE: &str = r#"{"format":2,"cookie":"c0"}"#;

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// The calls of an undisturbed run that change something in the working directory, by the one
/// thread that does so outside of the folder of the self-test.
fn points(format: Format) -> Vec<Point> {
    let scene = Scene::new(format);
    let root = scene.root();
    let log = root.join("strace.log");
    let trace = format!("trace={CHANGES}");
    let words = [
        "-f",
        "-qq",
        "-y",
        "-s0",
        "-o",
        log.to_str().unwrap(),
        "-e",
        &trace,
    ];
    let ended = scene.take_over(&words);
    assert!(ended.status.success(), "{ended:?}");
    let text = fs::read_to_string(log).unwrap();
    let mut main = None;
    let mut counts: HashMap<&str, usize> = HashMap::new();
    let mut points = Vec::new();
    for line in text.lines() {
        let (pid, rest) = line.split_once(' ').unwrap();
        let main = *main.get_or_insert(pid);
        let rest = rest.trim_start();
        let Some((call, _)) = rest.split_once('(').filter(|(call, _)| !call.contains(' ')) else {
            continue;
        };
        let changes = rest.contains(root.to_str().unwrap())
            && !rest.contains(" = -1 ")
            && (call != "openat" || rest.contains("O_CREAT"));
        if pid != main {
            assert!(!changes || rest.contains("/data/self-test-"), "{line}");
            continue;
        }
        let count = counts.entry(call).or_default();
        *count += 1;
        if changes {
            points.push(Point {
                call: call.to_owned(),
                nth: *count,
                line: rest.to_owned(),
            });
        }
    }
    points
}

/// Whether the fault came about: how often a file is opened depends on what runs on the machine.
fn break_at(point: &Point, fault: &str, format: Format) -> bool {
    let scene = Scene::new(format);
    let old_state = fs::read(&scene.old_state).unwrap();
    let log = scene.root().join("strace.log");
    let Point { call, nth, line } = point;
    let trace = format!("trace={call}");
    let inject = format!("inject={call}:{fault}:when={nth}");
    let words = [
        "-qq",
        "-o",
        log.to_str().unwrap(),
        "-e",
        &trace,
        "-e",
        &inject,
    ];
    let broken = scene.take_over(&words);
    let when = format!("{fault} at {line}");
    scene.assert_sound(&old_state, &when);
    let is_new = scene.current() == "releases/new";
    match broken.status.signal() {
        Some(_) => {}
        None => assert_eq!(broken.status.success(), is_new, "{when}: {broken:?}"),
    }
    if matches!(broken.status.code(), Some(1..)) {
        let said = String::from_utf8(broken.stderr).unwrap();
        let last = said.lines().last().unwrap_or_default();
        assert!(last.starts_with("journeyman-agent: "), "{when}: {said}");
    }
    let struck = broken.status.signal().is_some()
        || fs::read_to_string(&log).unwrap().contains("(INJECTED)");
    let again = scene.take_over(&[]);
    assert!(again.status.success(), "{when}, then: {again:?}");
    scene.assert_done(&old_state, &when);
    struck
}

#[test]
fn whatever_call_is_the_last_or_fails_the_old_release_or_the_new_one_is_there() {
    let mut faults = Vec::new();
    for point in points(Format::Two) {
        faults.push((point, "signal=SIGKILL", Format::Two));
    }
    for point in points(Format::One) {
        let takes_space =
            !["fsync", "fdatasync", "unlink", "unlinkat", "rmdir"].contains(&point.call.as_str());
        let error = if takes_space {
            "error=ENOSPC"
        } else {
            "error=EIO"
        };
        faults.push((point, error, Format::One));
    }
    let (next, struck) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some((point, fault, format)) =
                    faults.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let came_about = break_at(point, fault, *format);
                    struck.fetch_add(usize::from(came_about), Ordering::Relaxed);
                }
            });
        }
    });
    let (struck, all) = (struck.into_inner(), faults.len());
    println!("take-over: {struck} of {all} calls that change the disk were the last, or failed");
    // Only those that open a file may have been other ones.
    let opens = faults.iter().filter(|(point, ..)| point.call == "openat");
    assert!(
        struck > 40 && struck + opens.count() >= all,
        "{struck} of {all}"
    );
}

#[test]
fn a_release_that_cannot_run_here_says_why_and_changes_nothing() {
    let scene = Scene::new(Format::Two);
    let journeyman = scene.root().join("config/journeyman");
    fs::create_dir(&journeyman).unwrap();
    fs::write(journeyman.join("trust.pem"), "no certificate").unwrap();
    // Where nobody can write, root included.
    symlink("/proc/self", scene.root().join("logs")).unwrap();
    let refused = scene.take_over(&[]);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert!(lines[0].contains("it cannot write logs to"), "{said}");
    assert!(lines[1].contains("trust.pem"), "{said}");
    assert_eq!(scene.current(), "releases/old");
    assert!(!scene.root().join("state/new").exists());
}

#[test]
fn only_the_release_itself_takes_over() {
    let scene = Scene::new(Format::Two);
    fs::write(scene.root().join("releases/old/manifest.json"), "{}").unwrap();
    for (name, why) in [
        ("old", "only the release itself"),
        ("none", "has no manifest"),
    ] {
        let refused = Command::new(scene.root().join("releases/new/journeyman-agent"))
            .args(["take-over", name])
            .current_dir(scene.root())
            .output()
            .unwrap();
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.contains(why), "{said}");
    }
    assert_eq!(scene.current(), "releases/old");
}
