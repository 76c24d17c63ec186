//! No process of a job escapes: each descendant of the runner is found and ended.
//!
//! The runner is a child subreaper, so whatever a task forks, double-forks or moves to another
//! session stays its descendant: an orphan becomes the runner's own child.

mod children;
mod processes;

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

pub(crate) use children::Children;
pub(crate) use processes::{Process, Table};

/// How long processes get between the signal that asks and the one that ends them.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// Rounds of ending before giving up: a process in uninterruptible sleep cannot be ended by
/// anyone, and must not hold up the job's report for ever.
const ROUNDS: u32 = 250;
const ROUND_PAUSE: Duration = Duration::from_millis(20);

/// Sends a signal to every living descendant there is now. Returns how many got it.
pub(crate) fn signal_descendants(of: i32, signal: Signal) -> usize {
    let table = Table::read();
    table
        .descendants(of)
        .into_iter()
        .filter(|process| send(*process, signal))
        .count()
}

/// Ends every descendant at once, again and again until none is left. Blocks for a few seconds at
/// most; returns what is still there.
pub(crate) fn end_descendants(of: i32) -> Vec<Process> {
    end_all(|table| table.descendants(of))
}

/// Ends all processes that `find` finds, until it finds no more. Blocks for a few seconds at most.
pub(crate) fn end_all(find: impl Fn(&Table) -> Vec<Process>) -> Vec<Process> {
    let mut left = find(&Table::read());
    for _ in 0..ROUNDS {
        if left.is_empty() {
            break;
        }
        for process in &left {
            send(*process, Signal::SIGKILL);
        }
        std::thread::sleep(ROUND_PAUSE);
        left = find(&Table::read());
    }
    left
}

/// Asks every process that `find` finds to end, waits up to `grace` for it, and ends the rest.
/// Each process is asked once: what a task starts to clean up after itself is left in peace.
/// Blocks for that time.
pub(crate) fn end_politely(grace: Duration, find: impl Fn(&Table) -> Vec<Process>) -> Vec<Process> {
    let deadline = Instant::now() + grace;
    let mut asked = HashSet::new();
    for process in find(&Table::read()) {
        send(process, Signal::SIGTERM);
        asked.insert(process);
    }
    if asked.is_empty() {
        return Vec::new();
    }
    while Instant::now() < deadline {
        std::thread::sleep(ROUND_PAUSE);
        if find(&Table::read()).is_empty() {
            return Vec::new();
        }
    }
    end_all(find)
}

/// Signals a process if it is still the one that was found: a process id alone may have been
/// given to another one by now.
fn send(process: Process, signal: Signal) -> bool {
    Process::read(process.pid) == Some(process) && kill(Pid::from_raw(process.pid), signal).is_ok()
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
        assert!(signal_descendants(pid, Signal::SIGTERM) >= 3);
        assert_eq!(end_descendants(pid), []);
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
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
        let left = end_politely(Duration::from_millis(200), |table| table.descendants(pid));
        assert_eq!(left, []);
        root.wait().unwrap();
    }
}
