//! No process of a job escapes: each descendant of the runner is found and ended.
//!
//! The runner is a child subreaper, so whatever a task forks, double-forks or moves to another
//! session stays its descendant: an orphan becomes the runner's own child.

mod children;
mod group;
mod processes;

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        wait::{Id, WaitPidFlag, waitid},
    },
    unistd::Pid,
};

pub(crate) use children::Children;
pub(crate) use group::{make_group_of_job, members_of_group, remove_group_of_job};
pub(crate) use processes::{Process, Table};

/// How long to go on ending before giving up: a process in uninterruptible sleep cannot be ended
/// by anyone, and must not hold up the job's report for ever.
const PATIENCE: Duration = Duration::from_secs(10);
const ROUND_PAUSE: Duration = Duration::from_millis(20);
/// How often to look for a child that lives and is not seen. One of another user may be hidden from
/// us (`hidepid`), and cannot be ended either.
const LOOKS: usize = 100;

/// Every living descendant of this process, which is a child subreaper. None are returned only
/// when the kernel knows of none: what forks all the time may be missing in a table.
pub(crate) fn own_descendants() -> Vec<Process> {
    // A process id is a pid_t, which is an i32.
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    (0..LOOKS)
        .map(|_| Table::read().descendants(own))
        .find(|found| !found.is_empty() || !lives_a_child())
        .unwrap_or_default()
}

/// Whether a child of this process lives. While there is any descendant of a subreaper there is
/// also a child. The kernel looks at all of them at once. It is asked for stopped ones, so that it
/// passes over those which have ended and waits for nothing.
fn lives_a_child() -> bool {
    let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    waitid(Id::All, flags) != Err(Errno::ECHILD)
}

/// Sends a signal to every living descendant there is now. Returns how many got it.
pub(crate) fn signal_descendants(signal: Signal) -> usize {
    own_descendants()
        .into_iter()
        .filter(|process| send(*process, signal))
        .count()
}

/// Ends every descendant at once, again and again until none is left. Blocks for a few seconds at
/// most; returns what is still there.
pub(crate) fn end_descendants() -> Vec<Process> {
    // What has left the group is found as well.
    group::end_group();
    end_all(own_descendants)
}

/// Ends all processes that `find` finds, until it finds no more. Blocks for a few seconds at most.
pub(crate) fn end_all(find: impl Fn() -> Vec<Process>) -> Vec<Process> {
    let deadline = Instant::now() + PATIENCE;
    let mut known = HashSet::new();
    let mut found_none = false;
    loop {
        let left = find();
        // One that was forked while the table was read may be missing in it, but not in the next.
        if (left.is_empty() && found_none) || Instant::now() >= deadline {
            return left;
        }
        found_none = left.is_empty();
        let mut found_new = false;
        for process in left {
            found_new |= known.insert(process);
            send(process, Signal::SIGKILL);
        }
        // What forks all the time must be outrun.
        if !found_none && !found_new {
            std::thread::sleep(ROUND_PAUSE);
        }
    }
}

/// Asks every process that `find` finds to end, waits up to `grace` for it, and ends the rest.
/// Each process is asked once: what a task starts to clean up after itself is left in peace.
/// Blocks for that time.
pub(crate) fn end_politely(grace: Duration, find: impl Fn() -> Vec<Process>) -> Vec<Process> {
    if end_by_themselves(grace, &find) {
        return Vec::new();
    }
    end_all(find)
}

/// The same with every descendant of this process.
pub(crate) fn end_descendants_politely(grace: Duration) -> Vec<Process> {
    if end_by_themselves(grace, own_descendants) {
        return Vec::new();
    }
    end_descendants()
}

/// Asks them, and says whether all have ended within the time.
fn end_by_themselves(grace: Duration, find: impl Fn() -> Vec<Process>) -> bool {
    let deadline = Instant::now() + grace;
    let asked = find();
    if asked.is_empty() {
        return true;
    }
    for process in asked {
        send(process, Signal::SIGTERM);
    }
    while Instant::now() < deadline {
        std::thread::sleep(ROUND_PAUSE);
        if find().is_empty() {
            return true;
        }
    }
    false
}

/// Signals a process if it is still the one that was found: a process id alone may have been
/// given to another one by now.
fn send(process: Process, signal: Signal) -> bool {
    if Process::read(process.pid) != Some(process) {
        return false;
    }
    let pid = Pid::from_raw(process.pid);
    let sent = kill(pid, signal).is_ok();
    if signal == Signal::SIGTERM {
        // A stopped process does not hear that it should end.
        let _ = kill(pid, Signal::SIGCONT);
    }
    sent
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn wait_for(what: &str, condition: impl Fn() -> bool) {
        let patience = std::env::var("JOURNEYMAN_TEST_PATIENCE")
            .ok()
            .and_then(|seconds| seconds.parse().ok())
            .unwrap_or(20);
        let deadline = Instant::now() + Duration::from_secs(patience);
        while !condition() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The letter that `/proc` has for the state of a process.
    fn state(pid: u32) -> Option<char> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit(") ").next()?.chars().next()
    }

    #[test]
    fn children_live_until_they_end_and_not_until_they_are_waited_for() {
        const ALONE: &str = "JOURNEYMAN_TEST_ALONE";
        // In a process of its own: other tests have children as well.
        if std::env::var_os(ALONE).is_none() {
            let own = std::thread::current().name().unwrap().to_owned();
            let output = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", &own])
                .env(ALONE, "")
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(
                output.status.success() && said.contains("1 passed"),
                "{said}"
            );
            return;
        }
        assert!(!lives_a_child());
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        assert!(lives_a_child());
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        kill(pid, Signal::SIGSTOP).unwrap();
        wait_for("it is stopped", || state(child.id()) == Some('T'));
        assert!(lives_a_child() && lives_a_child());
        kill(pid, Signal::SIGKILL).unwrap();
        wait_for("it has ended", || state(child.id()) == Some('Z'));
        assert!(!lives_a_child());
        child.wait().unwrap();
        assert!(!lives_a_child());
    }

    #[test]
    fn a_tree_with_other_sessions_is_ended() {
        let mut root = Command::new("sh")
            .args([
                "-c",
                "trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep 1000' & sleep 1000 & wait; wait",
            ])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let pid = i32::try_from(root.id()).unwrap();
        wait_for("the tree has grown", || {
            Table::read().descendants(pid).len() >= 3
        });
        assert_eq!(end_all(|| Table::read().descendants(pid)), []);
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        root.wait().unwrap();
    }

    #[test]
    fn a_stopped_process_is_asked_as_well() {
        let mut root = Command::new("sh")
            .args([
                "-c",
                "sh -c 'trap \"exit 0\" TERM; kill -STOP $$; while :; do sleep 0.05; done'; wait",
            ])
            .spawn()
            .unwrap();
        let pid = i32::try_from(root.id()).unwrap();
        let stopped = || {
            Table::read().children(pid).iter().any(|child| {
                std::fs::read_to_string(format!("/proc/{}/stat", child.pid))
                    .is_ok_and(|stat| stat.contains(") T "))
            })
        };
        wait_for("the child has stopped itself", stopped);
        // Far more than it needs, so that it is not the second signal that ends it.
        let grace = Duration::from_secs(600);
        assert_eq!(end_politely(grace, || Table::read().descendants(pid)), []);
        root.wait().unwrap();
    }

    #[test]
    fn what_forks_all_the_time_is_outrun() {
        // Each generation starts the next and ends: there is always one, and never for long.
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("run");
        // Not for ever: should this test fail, they end.
        let run = "trap '' TERM\n[ $1 -gt 0 ] && setsid sh \"$0\" $(($1 - 1)) &\n";
        std::fs::write(&script, run).unwrap();
        let mut root = Command::new("sh")
            .args(["-c", "for i in 1 2 3 4; do sh $0 20000 & done; sleep 1000"])
            .arg(&script)
            .env("JOURNEYMAN_TEST_RUNAWAY", folder.path())
            .spawn()
            .unwrap();
        // The chains leave their root: what they are known by is what they inherit.
        let mark = format!("JOURNEYMAN_TEST_RUNAWAY={}", folder.path().display());
        let runaways = || -> Vec<Process> {
            Table::read()
                .all()
                .filter(|process| {
                    std::fs::read(format!("/proc/{}/environ", process.pid)).is_ok_and(|all| {
                        all.split(|b| *b == 0).any(|entry| entry == mark.as_bytes())
                    })
                })
                .collect()
        };
        let seen = std::cell::RefCell::new(HashSet::new());
        wait_for("the chains run", || {
            let now = runaways();
            seen.borrow_mut().extend(now);
            seen.borrow().len() > 20
        });
        assert_eq!(end_all(runaways), []);
        root.wait().unwrap();
    }

    #[test]
    fn the_deaf_are_ended_after_the_grace_period() {
        let mut root = Command::new("sh")
            .args([
                "-c",
                "sh -c 'trap \"\" TERM; while :; do sleep 0.05; done' & wait",
            ])
            .spawn()
            .unwrap();
        let pid = i32::try_from(root.id()).unwrap();
        wait_for("the child is there", || {
            Table::read().descendants(pid).len() >= 2
        });
        let left = end_politely(Duration::from_millis(200), || {
            Table::read().descendants(pid)
        });
        assert_eq!(left, []);
        root.wait().unwrap();
    }
}
