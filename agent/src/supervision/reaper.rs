//! The agent's children: the runners it started, and what dead runners have left to it.
//!
//! The agent is a child subreaper, so orphans below it become its children and must be waited for.
//! Waiting for any child and letting somebody else wait for a certain one do not go together;
//! hence runners are not Tokio's children, and all waiting is here.

use std::{
    collections::HashMap,
    io,
    process::{Child, Command},
    sync::{Mutex, PoisonError},
};

use nix::{
    errno::Errno,
    sys::{
        prctl,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

/// Waits for all children of this process.
#[derive(Debug, Default)]
pub(super) struct Reaper {
    runners: Mutex<HashMap<i32, oneshot::Sender<String>>>,
    adopts_orphans: bool,
}

/// A process id that no process has.
pub(super) const NOBODY: i32 = -1;

/// A runner that was started, and how it ends, in words.
pub(super) struct Started {
    pub(super) child: Child,
    pub(super) ended: oneshot::Receiver<String>,
}

impl Reaper {
    /// Makes this process the one that orphans below it fall to.
    pub(super) fn adopting_orphans() -> Self {
        let result = prctl::set_child_subreaper(true);
        if let Err(error) = &result {
            tracing::warn!(%error, "Cannot become a child subreaper: some orphans of jobs will not be found");
        }
        Self {
            adopts_orphans: result.is_ok(),
            ..Self::default()
        }
    }

    /// The process whose children, but for the runners, are orphans of dead runners.
    pub(super) fn adopter(&self) -> i32 {
        if self.adopts_orphans {
            std::process::id().cast_signed()
        } else {
            NOBODY
        }
    }

    /// Starts a runner.
    pub(super) fn start(&self, command: &mut Command) -> io::Result<Started> {
        // Under the lock, so that a runner which ends at once is not waited for before it is known.
        let mut runners = self.runners.lock().unwrap_or_else(PoisonError::into_inner);
        let child = command.spawn()?;
        let (sender, ended) = oneshot::channel();
        runners.insert(child.id().cast_signed(), sender);
        Ok(Started { child, ended })
    }

    /// Process ids of the runners that live.
    pub(super) fn runners(&self) -> Vec<i32> {
        let runners = self.runners.lock().unwrap_or_else(PoisonError::into_inner);
        runners.keys().copied().collect()
    }

    /// Waits for children for ever.
    pub(super) async fn run(&self) {
        let mut ended = match signal(SignalKind::child()) {
            Ok(ended) => ended,
            Err(error) => {
                tracing::error!(%error, "Cannot be told of the end of children");
                return std::future::pending().await;
            }
        };
        loop {
            self.reap();
            if ended.recv().await.is_none() {
                return std::future::pending().await;
            }
        }
    }

    fn reap(&self) {
        loop {
            let mut runners = self.runners.lock().unwrap_or_else(PoisonError::into_inner);
            let (pid, how) = match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, format!("exit code {code}")),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, format!("signal {signal}")),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(error) => {
                    tracing::warn!(%error, "Cannot wait for children");
                    return;
                }
            };
            match runners.remove(&pid.as_raw()) {
                Some(runner) => drop(runner.send(how)),
                None => tracing::debug!(%pid, how, "An adopted process has ended"),
            }
        }
    }
}
