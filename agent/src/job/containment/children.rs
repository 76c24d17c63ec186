//! The runner's own children: those it started and waits for, and the orphans it inherits.

use std::{
    collections::HashSet,
    io,
    process::{Child, ExitStatus},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid},
    unistd::Pid,
};

/// Pause when there is nothing to reap.
const IDLE: Duration = Duration::from_millis(200);

/// Knows which children somebody waits for, and buries all others: as child subreaper the runner
/// inherits every orphan of the job, and one that nobody waits for stays a zombie.
#[derive(Clone, Default)]
pub(crate) struct Children {
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    awaited: HashSet<i32>,
    /// No more children.
    closed: bool,
}

impl Children {
    /// Starts the thread that reaps orphans, for as long as the process lives. To be called once
    /// in a process whose children are all started through [`Self::spawn`].
    ///
    /// # Errors
    /// When the thread cannot be made.
    pub(crate) fn reap_orphans(&self) -> io::Result<()> {
        let children = self.clone();
        std::thread::Builder::new()
            .name("reaper".to_owned())
            .stack_size(128 * 1024)
            .spawn(move || children.reap_for_ever())
            .map(drop)
    }

    /// Starts a child; from its first instant on it is known as awaited.
    ///
    /// # Errors
    /// What `start` fails with; `Interrupted` after [`Self::close`].
    pub(crate) fn spawn(&self, start: impl FnOnce() -> io::Result<Child>) -> io::Result<Child> {
        let mut known = self.known();
        if known.closed {
            return Err(io::Error::new(
                io::ErrorKind::Interrupted,
                "the job is being cancelled",
            ));
        }
        let child = start()?;
        if let Ok(pid) = i32::try_from(child.id()) {
            known.awaited.insert(pid);
        }
        Ok(child)
    }

    /// From now on no child is started: a checkout that is being ended must not go on with its
    /// next command. Those started before are known when this returns.
    pub(crate) fn close(&self) {
        self.known().closed = true;
    }

    /// Waits for a child started by [`Self::spawn`] to end. Blocks.
    ///
    /// # Errors
    /// When the system has lost it.
    pub(crate) fn wait(&self, child: &mut Child) -> io::Result<ExitStatus> {
        let status = child.wait();
        if let Ok(pid) = i32::try_from(child.id()) {
            self.known().awaited.remove(&pid);
        }
        status
    }

    fn reap_for_ever(&self) {
        loop {
            // Only looks: a child that is awaited must be left to the one who waits for it.
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
            let pid = match waitid(Id::All, flags) {
                Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) => pid,
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(_) => {
                    std::thread::sleep(IDLE);
                    continue;
                }
            };
            let known = self.known();
            if known.awaited.contains(&pid.as_raw()) {
                drop(known);
                // Its owner buries it in a moment.
                std::thread::sleep(Duration::from_millis(2));
            } else {
                let _ = waitpid(Pid::from_raw(pid.as_raw()), Some(WaitPidFlag::WNOHANG));
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
