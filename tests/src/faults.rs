//! Every call by which a process tree changes a folder, and a way to let one of them be the last, or
//! fail.
//!
//! The processes are traced with `ptrace`. A [`Point`] is a call by its name, its file and how often
//! this pair has come, over all processes and threads: it is found again in another run of the same
//! thing, where a plain count of calls would be another one at each run.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsStr,
    fs::{self, File},
    os::unix::{ffi::OsStrExt, fs::FileExt, process::CommandExt},
    path::{Component, Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    libc,
    sys::{
        ptrace::{self, Options},
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use crate::package::BESIDE;

/// A call that changes the disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Point {
    pub call: &'static str,
    /// Relative to the folder; `*` stands for what is made up anew at each run.
    pub path: String,
    /// Counts from 0.
    pub nth: usize,
}

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Every process dies before the call is made, and what was written to files but not flushed is
    /// lost.
    PowerCut,
    /// The process that makes the call dies before it is made.
    Kill,
    /// The call fails with this, and so do all that need space for as long.
    Fail(Errno, Duration),
}

/// Processes that are traced, until all of them have ended.
pub struct Traced {
    shared: Arc<Mutex<Shared>>,
    thread: Option<JoinHandle<()>>,
}

/// Starts a program whose disk-changing calls in `folder` are listed, with one fault if there is to
/// be one.
///
/// The last arguments of `command` are the program and its own: it must be made with
/// [`stopped`].
pub fn trace(command: Command, folder: &Path, fault: Option<(Point, Fault)>) -> Traced {
    let shared = Arc::new(Mutex::new(Shared::default()));
    let tracer = Tracer {
        folder: folder.to_owned(),
        fault,
        shared: shared.clone(),
        counts: HashMap::new(),
        unflushed: HashSet::new(),
        known: HashSet::new(),
        failing: HashMap::new(),
        full_until: None,
    };
    // A tracer is a thread: only it may ask anything of what it traces.
    let thread = thread::spawn(move || tracer.run(command));
    Traced {
        shared,
        thread: Some(thread),
    }
}

/// Makes a command wait until it is traced: to be completed with the program and its arguments.
pub fn stopped(mut shell: Command) -> Command {
    shell.args(["-c", "kill -STOP $$; exec \"$@\"", "sh"]);
    shell
}

#[derive(Default)]
struct Shared {
    calls: Vec<Point>,
    struck: bool,
}

struct Tracer {
    folder: PathBuf,
    fault: Option<(Point, Fault)>,
    shared: Arc<Mutex<Shared>>,
    counts: HashMap<(&'static str, String), usize>,
    /// Files with content that a power cut would take.
    unflushed: HashSet<PathBuf>,
    /// Every thread.
    known: HashSet<Pid>,
    /// Threads in a call that is not made.
    failing: HashMap<Pid, Errno>,
    full_until: Option<Instant>,
}

/// How a call says what it changes.
#[derive(Clone, Copy)]
enum Names {
    /// A descriptor in the first argument.
    Descriptor,
    /// A path in this argument, relative to the descriptor before it or to the working directory.
    Path(usize),
    PathAt(usize),
    /// The same; only if the flags in this argument say that it may change something.
    OpenAt(usize),
}

const CHANGES: &[(libc::c_long, &str, Names)] = &[
    (libc::SYS_write, "write", Names::Descriptor),
    (libc::SYS_pwrite64, "write", Names::Descriptor),
    (libc::SYS_writev, "write", Names::Descriptor),
    (libc::SYS_pwritev, "write", Names::Descriptor),
    (libc::SYS_sendfile, "write", Names::Descriptor),
    (libc::SYS_copy_file_range, "copy", Names::Descriptor),
    (libc::SYS_ftruncate, "truncate", Names::Descriptor),
    (libc::SYS_fallocate, "allocate", Names::Descriptor),
    (libc::SYS_fsync, "flush", Names::Descriptor),
    (libc::SYS_fdatasync, "flush", Names::Descriptor),
    (libc::SYS_fchmod, "chmod", Names::Descriptor),
    (libc::SYS_openat, "open", Names::OpenAt(2)),
    (libc::SYS_mkdirat, "mkdir", Names::PathAt(1)),
    (libc::SYS_unlinkat, "unlink", Names::PathAt(1)),
    (libc::SYS_symlinkat, "symlink", Names::PathAt(2)),
    (libc::SYS_linkat, "link", Names::PathAt(3)),
    (libc::SYS_renameat, "rename", Names::PathAt(3)),
    (libc::SYS_renameat2, "rename", Names::PathAt(3)),
    (libc::SYS_fchmodat, "chmod", Names::PathAt(1)),
    (libc::SYS_mkdir, "mkdir", Names::Path(0)),
    (libc::SYS_rmdir, "rmdir", Names::Path(0)),
    (libc::SYS_unlink, "unlink", Names::Path(0)),
    (libc::SYS_symlink, "symlink", Names::Path(1)),
    (libc::SYS_link, "link", Names::Path(1)),
    (libc::SYS_rename, "rename", Names::Path(1)),
    (libc::SYS_chmod, "chmod", Names::Path(0)),
    (libc::SYS_truncate, "truncate", Names::Path(0)),
];

/// Files that belong to nobody's state: logs, locks, the work of jobs, the copy of a launcher.
fn is_watched(path: &str) -> bool {
    !path.is_empty()
        && !path.starts_with("logs")
        && !path.starts_with("pipelines")
        && !path.starts_with(".agent")
        && path != "journeyman-bootstrapper"
        && !path.contains(BESIDE)
}

// === impl Traced ===

impl Traced {
    /// The calls so far, in order.
    pub fn calls(&self) -> Vec<Point> {
        self.shared.lock().expect("the calls").calls.clone()
    }

    /// Whether the fault has happened.
    pub fn has_struck(&self) -> bool {
        self.shared.lock().expect("the calls").struck
    }

    /// Whether all processes have ended.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until all processes have ended.
    pub fn wait(mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the tracer");
        }
    }
}

// === impl Tracer ===

impl Tracer {
    #[expect(
        clippy::zombie_processes,
        reason = "the loop waits for all that descend from it"
    )]
    fn run(mut self, mut command: Command) {
        let child = command.process_group(0).spawn().expect("a shell");
        let pid = Pid::from_raw(child.id() as i32);
        let stopped = waitpid(pid, Some(WaitPidFlag::WUNTRACED)).expect("its stop");
        assert!(matches!(stopped, WaitStatus::Stopped(..)), "{stopped:?}");
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_EXITKILL;
        ptrace::seize(pid, options).expect("the right to trace a child");
        self.known.insert(pid);
        kill(pid, Signal::SIGCONT).expect("its continuation");
        let every = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        loop {
            match waitpid(Pid::from_raw(-1), Some(every)) {
                Ok(status) => self.go_on(status),
                Err(Errno::EINTR) => {}
                // All have ended.
                Err(_) => return,
            }
        }
    }

    /// Errors say that the thread has just been killed; it will be reported as such.
    fn go_on(&mut self, status: WaitStatus) {
        match status {
            WaitStatus::PtraceSyscall(pid) => {
                if is_entry(pid) {
                    self.entered(pid);
                } else if let Some(errno) = self.failing.remove(&pid)
                    && let Ok(mut registers) = ptrace::getregs(pid)
                {
                    registers.rax = (-i64::from(errno as i32)).cast_unsigned();
                    let _ = ptrace::setregs(pid, registers);
                }
                let _ = ptrace::syscall(pid, None);
            }
            WaitStatus::PtraceEvent(pid, ..) => {
                self.known.insert(pid);
                let _ = ptrace::syscall(pid, None);
            }
            WaitStatus::Stopped(pid, signal) => {
                self.known.insert(pid);
                let _ = ptrace::syscall(pid, signal);
            }
            WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) => {
                self.known.remove(&pid);
                self.failing.remove(&pid);
            }
            WaitStatus::Continued(_) | WaitStatus::StillAlive => {}
        }
    }

    fn entered(&mut self, pid: Pid) {
        let Ok(registers) = ptrace::getregs(pid) else {
            return;
        };
        let number = registers.orig_rax.cast_signed();
        let Some((_, call, names)) = CHANGES.iter().find(|(known, ..)| *known == number) else {
            return;
        };
        let arguments = [
            registers.rdi,
            registers.rsi,
            registers.rdx,
            registers.r10,
            registers.r8,
        ];
        let Some(path) = named(pid, *names, &arguments) else {
            return;
        };
        let Ok(relative) = path.strip_prefix(&self.folder) else {
            return;
        };
        let relative = without_made_up(relative);
        if !is_watched(&relative) {
            return;
        }
        let count = self.counts.entry((call, relative.clone())).or_default();
        let point = Point {
            call,
            path: relative,
            nth: *count,
        };
        *count += 1;
        let is_here = self.fault.as_ref().is_some_and(|(at, _)| *at == point);
        {
            let mut shared = self.shared.lock().expect("the calls");
            shared.calls.push(point);
            shared.struck |= is_here;
        }
        let fault = self.fault.as_ref().map(|(_, fault)| *fault);
        match fault {
            Some(Fault::PowerCut) if is_here => {
                for pid in &self.known {
                    let _ = kill(*pid, Signal::SIGKILL);
                }
                for path in &self.unflushed {
                    if let Ok(file) = File::options().write(true).open(path) {
                        let _ = file.set_len(0);
                    }
                }
                return;
            }
            Some(Fault::Kill) if is_here => {
                let _ = kill(pid, Signal::SIGKILL);
                return;
            }
            Some(Fault::Fail(errno, time)) => {
                let now = Instant::now();
                if is_here {
                    self.full_until = Some(now + time);
                }
                let needs_space = !matches!(*call, "unlink" | "rmdir" | "rename" | "flush");
                let is_full = self.full_until.is_some_and(|until| now < until);
                if is_here || (needs_space && is_full) {
                    self.fail(pid, errno);
                    return;
                }
            }
            _ => {}
        }
        let from = match number {
            libc::SYS_rename => named(pid, Names::Path(0), &arguments),
            libc::SYS_renameat | libc::SYS_renameat2 => named(pid, Names::PathAt(1), &arguments),
            _ => None,
        };
        self.keep_account(call, path, from);
    }

    fn fail(&mut self, pid: Pid, errno: Errno) {
        if let Ok(mut registers) = ptrace::getregs(pid) {
            // No such call: the kernel does nothing, and its answer is replaced.
            registers.orig_rax = u64::MAX;
            if ptrace::setregs(pid, registers).is_ok() {
                self.failing.insert(pid, errno);
            }
        }
    }

    fn keep_account(&mut self, call: &str, path: PathBuf, from: Option<PathBuf>) {
        match call {
            "write" | "copy" | "truncate" => {
                self.unflushed.insert(path);
            }
            "flush" | "unlink" => {
                self.unflushed.remove(&path);
            }
            "rename" if from.is_some_and(|from| self.unflushed.remove(&from)) => {
                self.unflushed.insert(path);
            }
            _ => {}
        }
    }
}

fn is_entry(pid: Pid) -> bool {
    ptrace::syscall_info(pid).is_ok_and(|info| info.op == libc::PTRACE_SYSCALL_INFO_ENTRY)
}

/// The file a call changes; none if it does not change any.
fn named(pid: Pid, names: Names, arguments: &[u64]) -> Option<PathBuf> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let working_directory = || fs::read_link(process.join("cwd")).ok();
    let descriptor = |number: u64| {
        let path = fs::read_link(process.join(format!("fd/{}", number as u32 as i32))).ok()?;
        path.is_absolute().then_some(path)
    };
    let path = |argument: usize| {
        let path = text(&process, *arguments.get(argument)?)?;
        Some(PathBuf::from(OsStr::from_bytes(&path)))
    };
    match names {
        Names::Descriptor => descriptor(*arguments.first()?),
        Names::Path(argument) => Some(plain(&working_directory()?.join(path(argument)?))),
        Names::PathAt(argument) => {
            let at = *arguments.get(argument.checked_sub(1)?)?;
            let from = if at as u32 as i32 == libc::AT_FDCWD {
                working_directory()?
            } else {
                descriptor(at)?
            };
            Some(plain(&from.join(path(argument)?)))
        }
        Names::OpenAt(flags) => {
            let flags = *arguments.get(flags)? as i32;
            let changes = libc::O_CREAT | libc::O_TRUNC;
            (flags & changes != 0)
                .then(|| named(pid, Names::PathAt(1), arguments))
                .flatten()
        }
    }
}

/// A text in the memory of a process.
fn text(process: &Path, address: u64) -> Option<Vec<u8>> {
    let memory = File::open(process.join("mem")).ok()?;
    let mut bytes = [0; libc::PATH_MAX as usize];
    // Up to the end of a page: what follows may not be there.
    let page = 4096 - (address as usize % 4096);
    let mut got = memory.read_at(&mut bytes[..page], address).ok()?;
    if !bytes[..got].contains(&0) && got < bytes.len() {
        let (_, rest) = bytes.split_at_mut(got);
        got += memory.read_at(rest, address + got as u64).ok()?;
    }
    let end = bytes[..got].iter().position(|byte| *byte == 0)?;
    Some(bytes[..end].to_vec())
}

/// Without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

/// Names of temporary files are made up: `.tmpAbC123`, `launcher-AbC123`.
fn without_made_up(path: &Path) -> String {
    let parts = path.components().map(|part| {
        let name = part.as_os_str().to_string_lossy().into_owned();
        for prefix in [".tmp", "launcher-", ".staging-", ".journeyman-"] {
            if name.starts_with(prefix) {
                return format!("{prefix}*");
            }
        }
        name
    });
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use tempfile::TempDir;

    use super::*;

    /// Runs a script in a folder of its own.
    fn run(script: &str, fault: Option<(Point, Fault)>) -> (TempDir, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let mut command = stopped(Command::new("sh"));
        command
            .args(["sh", "-c", script])
            .stderr(Stdio::null())
            .current_dir(folder.path());
        let traced = trace(command, folder.path(), fault);
        let shared = traced.shared.clone();
        traced.wait();
        let calls = &shared.lock().unwrap().calls;
        let calls = calls
            .iter()
            .map(|point| format!("{} {} {}", point.call, point.path, point.nth))
            .collect();
        (folder, calls)
    }

    fn at(call: &'static str, path: &str, nth: usize) -> Point {
        Point {
            call,
            path: path.to_owned(),
            nth,
        }
    }

    const SCRIPT: &str = "echo one > a; (echo two >> a); mv a b; mkdir c; echo > c/../d; rm b";

    #[test]
    fn calls_are_listed_over_all_processes() {
        let (_folder, calls) = run(SCRIPT, None);
        assert_eq!(
            calls,
            [
                "open a 0",
                "write a 0",
                "open a 1",
                "write a 1",
                "rename b 0",
                "mkdir c 0",
                "open d 0",
                "write d 0",
                "unlink b 0"
            ]
        );
    }

    #[test]
    fn a_killed_process_does_not_make_the_call() {
        let fault = (at("rename", "b", 0), Fault::Kill);
        let (folder, _) = run(SCRIPT, Some(fault));
        // `mv` was killed, the shell went on.
        assert_eq!(fs::read(folder.path().join("a")).unwrap(), b"one\ntwo\n");
        assert!(folder.path().join("d").exists());
    }

    #[test]
    fn a_power_cut_ends_all_and_takes_what_was_not_flushed() {
        let script = format!("echo kept > k; sync k; {SCRIPT}");
        let fault = (at("mkdir", "c", 0), Fault::PowerCut);
        let (folder, _) = run(&script, Some(fault));
        assert_eq!(fs::read(folder.path().join("k")).unwrap(), b"kept\n");
        assert_eq!(fs::read(folder.path().join("b")).unwrap(), b"");
        assert!(!folder.path().join("c").exists());
        assert!(!folder.path().join("d").exists());
    }

    #[test]
    fn a_failed_call_says_why_and_does_nothing() {
        let script = "echo one > a; echo two >> a; mv a b; mkdir c; rm b";
        let fault = Fault::Fail(Errno::EIO, Duration::ZERO);
        let (folder, _) = run(script, Some((at("write", "a", 1), fault)));
        assert!(folder.path().join("c").exists());
        // A full disk lets go what needs no space.
        let fault = Fault::Fail(Errno::ENOSPC, Duration::from_secs(60));
        let (folder, _) = run(script, Some((at("write", "a", 1), fault)));
        assert!(!folder.path().join("b").exists());
        assert!(!folder.path().join("c").exists());
    }
}
