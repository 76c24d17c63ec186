//! What is left to do for a job whose runner is dead.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use journeyman_host::{durable, lock::Lock, properties::Properties};
use journeyman_protocol::{
    agent::RuntimeStatus,
    console::{Tag, format_line},
    job::JobResult,
};

use super::{
    reaper::{NOBODY, Reaper},
    reporting::report_completed,
};
use crate::{
    job::{
        channel::ServerConnection,
        folder::JobFolder,
        journal::{self, Event as JournalEvent, JournalReadError, JournalState, JournalWriter},
        leftovers::Leftovers,
        server::{CookieSource, JobServer},
        spool::{Disk, Overflow, SpoolError, SpoolWriter, Whose},
        streaming::{ConsoleSender, LAST_PATIENCE},
    },
    lifecycle::{Lifecycle, Run},
    remoting::Session,
    settings::Settings,
};

/// Time for a dead runner's processes to end when asked politely.
pub(super) const GRACE: Duration = Duration::from_secs(10);
/// How long a server that answers may refuse the rest of the console of a cancelled job.
const CANCELLED_PATIENCE: Duration = Duration::from_secs(30);
/// How many job folders that were set aside are kept.
const KEPT: usize = 10;
/// Charset of a spool whose journal does not say: GoCD's default.
const CHARSET: &str = "UTF-8";

/// A journal as far as it can be read.
pub(super) struct Journal {
    pub(super) state: JournalState,
    /// What is wrong with it.
    pub(super) damage: Option<String>,
}

/// Reads the journal of a job; whatever is wrong with it is said in `damage`.
pub(super) fn read_journal(folder: &JobFolder) -> Journal {
    match journal::read(&folder.journal()) {
        Ok(state) => Journal {
            state,
            damage: None,
        },
        Err(error) => {
            let damage = Some(error.to_string());
            let state = match error {
                JournalReadError::Corrupt { state, .. }
                | JournalReadError::Format { state, .. } => *state,
                JournalReadError::Read { .. } => JournalState::default(),
            };
            Journal { state, damage }
        }
    }
}

/// Concludes a job whose runner is not alive any more: if it has not made its last report, ends
/// what is left of its processes, completes the console, reports the job, and removes the folder.
/// `how` says how the runner ended, if that is known.
pub(super) async fn conclude(
    session: &Session,
    lifecycle: &Lifecycle,
    reaper: &Reaper,
    run: &Run,
    how: &str,
) {
    // Whoever else might still want this folder (a runner that was just being started) finds it
    // locked and leaves.
    let lock = Lock::acquire(&run.folder.lock(), Duration::ZERO);
    if let Err(error) = &lock {
        tracing::warn!(%error, "Concluding a job without its lock");
    }
    let journal = read_journal(&run.folder);
    if let Some(damage) = &journal.damage {
        tracing::error!(
            job = run.job.locator(),
            "{damage}; the job's folder is set aside after its report"
        );
    }
    if !journal.state.reported {
        tracing::warn!(
            job = run.job.locator(),
            how,
            "A job runner ended without its last report; reporting for it"
        );
        bury(session, lifecycle, reaper, run, &journal.state, how).await;
    }
    let unsent = unsent(&run.folder);
    if unsent > 0 {
        tracing::error!(
            job = run.job.locator(),
            unsent,
            "The server has not taken the end of this job's console; the job's folder is set aside \
             with all of it, in the file `console`"
        );
    }
    dispose(session, &run.folder, journal.damage.is_some() || unsent > 0);
}

/// Bytes of the console that the server does not have.
fn unsent(folder: &JobFolder) -> u64 {
    let length = fs::metadata(folder.console()).map_or(0, |facts| facts.len());
    length.saturating_sub(read_journal(folder).state.acknowledged)
}

async fn bury(
    session: &Session,
    lifecycle: &Lifecycle,
    reaper: &Reaper,
    run: &Run,
    journal: &JournalState,
    how: &str,
) {
    let connection = session.server_connection();
    let started = journal.started.as_ref();
    let server_url = started.map_or(&connection.configured_url, |started| {
        &started.server.configured_url
    });
    end_leftovers(run, server_url.clone(), reaper).await;

    let is_journeyman =
        connection.is_journeyman || started.is_some_and(|started| started.server.is_journeyman);
    let server = JobServer::new(
        session.connection().client().clone(),
        ServerConnection {
            is_journeyman,
            ..connection
        },
        session.runtime_info(&lifecycle.state()),
        run.job.clone(),
        session.workdir.root(),
        CookieSource::Agent(session.cookies()),
    );
    // Not being able to note it costs a repetition after another crash, nothing more.
    let mut notes = JournalWriter::open(&run.folder.journal())
        .inspect_err(|error| tracing::warn!(%error, "Cannot note what is done for a dead job"))
        .ok();
    let mut note = |event: JournalEvent| {
        if let Some(writer) = &mut notes
            && let Err(error) = writer.append(&event)
        {
            tracing::warn!(%error, "Cannot note what is done for a dead job");
        }
    };
    let mut overflow = Overflow::default();
    let result = match journal.result {
        // Only the last report is missing.
        Some(result) => result,
        None => {
            let result = if journal.cancelled {
                JobResult::Cancelled
            } else {
                JobResult::Failed
            };
            match last_words(&run.folder, journal.acknowledged, how) {
                Ok(held) => overflow = held,
                Err(error) => tracing::error!(%error, "Cannot complete the console of a dead job"),
            }
            note(JournalEvent::Result { result });
            result
        }
    };
    // The result of a cancelled job is final.
    let patience = if journal.cancelled {
        CANCELLED_PATIENCE
    } else {
        LAST_PATIENCE
    };
    let charset = started.map_or(CHARSET, |started| started.console_charset.as_str());
    let sent = async {
        let mut sender = ConsoleSender::open(
            &run.folder.console(),
            journal.acknowledged,
            server.clone(),
            charset,
        )?
        .with_overflow(overflow);
        sender
            .send_all(patience, |offset| {
                note(JournalEvent::Acknowledged { offset });
            })
            .await
    };
    if let Err(error) = sent.await {
        tracing::error!(%error, job = run.job.locator(), "Cannot send the rest of a dead job's console");
    }
    let status = if journal.cancelled {
        RuntimeStatus::Cancelled
    } else {
        RuntimeStatus::Building
    };
    let accepted = report_completed(session, lifecycle, &server, status, result).await;
    note(JournalEvent::Reported { accepted });
    tracing::info!(job = run.job.locator(), %result, accepted, "Reported the end of a dead job");
}

async fn end_leftovers(run: &Run, server_url: String, reaper: &Reaper) {
    let job = run.job.clone();
    let settings = Settings::from_properties(&Properties::of_process());
    // Those that earlier jobs were to leave running have become this process's children as well.
    let adopter = if settings.keeps_background_processes {
        NOBODY
    } else {
        reaper.adopter()
    };
    let known = reaper.runners();
    let ended = tokio::task::spawn_blocking(move || {
        Leftovers {
            job: &job,
            server_url: &server_url,
            adopter,
            known: &known,
        }
        .end(GRACE)
    });
    match ended.await {
        Ok(0) => {}
        Ok(left) => tracing::error!(left, "Processes of a dead job could not be ended"),
        Err(error) => tracing::error!(%error, "Cannot end the processes of a dead job"),
    }
}

/// Says on the console what happened. A spool that lost bytes the server already has is continued
/// where the server is, so that these words are not taken for known ones. What comes back is held
/// where the disk does not take it.
fn last_words(folder: &JobFolder, acknowledged: u64, how: &str) -> Result<Overflow, SpoolError> {
    let path = folder.console();
    if fs::metadata(&path).map_or(0, |facts| facts.len()) < acknowledged {
        tracing::error!(
            spool = %path.display(),
            acknowledged,
            "The console spool is shorter than what was sent of it; it is continued after that"
        );
        let _ = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .and_then(|file| file.set_len(acknowledged));
    }
    let mut text = String::from("[go] The job runner ended unexpectedly");
    if !how.is_empty() {
        text.push_str(&format!(" ({how})"));
    }
    text.push_str("; the agent has ended what was left of the job and reports it failed.");
    let now = jiff::Zoned::now().time();
    let mut spool = SpoolWriter::open(&path)?;
    if let Disk::Bad(error) = spool.append(format_line(Tag::Err, now, &text).as_bytes(), Whose::Job)
    {
        tracing::error!(
            why = error.advice(),
            "The end of a dead job's console is held in memory"
        );
    }
    Ok(spool.overflow())
}

/// Removes the folder of a job that is over, or sets it aside, to be looked at.
pub(super) fn dispose(session: &Session, folder: &JobFolder, keep: bool) {
    let path = session.workdir.root().join(folder.path());
    let result = if keep {
        set_aside(&session.workdir.refused(), &path).map(|aside| {
            tracing::warn!(kept_as = %aside.display(), "Set a job's folder aside");
        })
    } else {
        fs::remove_dir_all(&path)
    };
    if let Err(error) = result
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::error!(%error, folder = %path.display(), "Cannot remove the folder of a job that is over");
    }
}

fn set_aside(refused: &Path, folder: &Path) -> std::io::Result<PathBuf> {
    fs::create_dir_all(refused)?;
    // Nobody needs it any more, and it must not lie there.
    let _ = fs::remove_file(JobFolder::new(folder).cookie());
    let mut name = std::ffi::OsString::from("job-");
    name.push(folder.file_name().unwrap_or_default());
    let aside = refused.join(name);
    durable::rename(folder, &aside).map_err(std::io::Error::other)?;
    drop_oldest(refused)?;
    Ok(aside)
}

/// Keeps the disk from filling with folders that nobody looks at.
fn drop_oldest(refused: &Path) -> std::io::Result<()> {
    let mut jobs = Vec::new();
    for entry in fs::read_dir(refused)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("job-") {
            jobs.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    jobs.sort();
    for (_, path) in jobs.iter().rev().skip(KEPT) {
        fs::remove_dir_all(path)?;
    }
    Ok(())
}
