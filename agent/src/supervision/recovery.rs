//! Jobs that an earlier agent has left.

use std::{fs, path::Path, thread, time::Duration};

use journeyman_host::lock::Lock;

use super::burial::{GRACE, dispose, read_journal};
use crate::{
    job::{
        folder::{JOBS, JobFolder},
        leftovers::end_strays,
    },
    lifecycle::Run,
    remoting::Session,
};

/// A runner that was just started may take this long until its journal says whose job it has.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);

/// The jobs that are not over: the dead ones first, then what still runs. What is over already, or
/// never began, is cleared away. Blocks for some seconds at most.
pub(super) fn find(session: &Session) -> Vec<Run> {
    let (mut dead, mut living) = (Vec::new(), Vec::new());
    let entries = match fs::read_dir(session.workdir.jobs()) {
        Ok(entries) => entries,
        Err(error) => {
            tracing::error!(%error, "Cannot look for jobs of an earlier agent");
            return dead;
        }
    };
    for entry in entries.flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let folder = JobFolder::new(Path::new(JOBS).join(entry.file_name()));
        if is_alive(&folder) {
            if let Some(run) = identify_living(&folder) {
                if let Some(cookie) = session.cookie() {
                    folder.give_cookie(&cookie);
                }
                tracing::info!(job = run.job.locator(), folder = %folder.path().display(), "Found a running job; taking it over");
                living.push(run);
            }
        } else if let Some(run) = identify_dead(session, &folder) {
            dead.push(run);
        }
    }
    dead.append(&mut living);
    dead
}

/// Whether the runner of a folder lives: the kernel knows, by its lock.
pub(super) fn is_alive(folder: &JobFolder) -> bool {
    Lock::is_held(&folder.lock()).unwrap_or_else(|error| {
        tracing::warn!(%error, folder = %folder.path().display(), "Cannot see whether a job runner lives");
        false
    })
}

fn identify_living(folder: &JobFolder) -> Option<Run> {
    let mut waited = Duration::ZERO;
    loop {
        let journal = read_journal(folder);
        if let Some(started) = journal.state.started {
            if let Some(damage) = journal.damage {
                tracing::error!("{damage}; its job is followed to its end");
            }
            return Some(Run::new(folder.clone(), started.job_identifier));
        }
        if !is_alive(folder) {
            // It has left without a trace, because its agent died while starting it.
            return None;
        }
        if waited >= PATIENCE {
            // Its socket will not say more for the pings, but it is followed to its end.
            return Some(Run::new(folder.clone(), Default::default()));
        }
        thread::sleep(PAUSE);
        waited += PAUSE;
    }
}

fn identify_dead(session: &Session, folder: &JobFolder) -> Option<Run> {
    let journal = read_journal(folder);
    match journal.state.started {
        Some(started) => Some(Run::new(folder.clone(), started.job_identifier)),
        None => {
            match &journal.damage {
                Some(damage) => tracing::error!(
                    "{damage}. It does not even say which job it was: nothing can be reported, \
                     and the server will give the job out again"
                ),
                None => {
                    tracing::info!(folder = %folder.path().display(), "Clearing away a job that never began")
                }
            }
            // With the lock, so that a runner which is just being started does not begin.
            let _lock = Lock::acquire(&folder.lock(), Duration::ZERO).ok()?;
            if journal.damage.is_some() {
                let pipelines = session.workdir.pipelines();
                let left = end_strays(&pipelines, GRACE);
                if left > 0 {
                    tracing::error!(left, folder = %pipelines.display(), "Processes of a dead job cannot be ended");
                }
            }
            dispose(session, folder, journal.damage.is_some());
            None
        }
    }
}
