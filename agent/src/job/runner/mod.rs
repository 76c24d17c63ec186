//! The runner's process: set-up, the job, and what is left to say at its end.

mod cancel;
mod link;
mod remains;
mod sequence;
mod tasks;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use clap::Parser;
use jiff::{Timestamp, Zoned};
use journeyman_host::{
    arguments::{ConnectionArguments, InvalidArguments},
    connection::{Connection, ConnectionError},
    lock::{Lock, LockError},
    logging,
    properties::Properties,
    workdir::{WorkDir, WorkDirError},
};
use journeyman_protocol::agent::RuntimeStatus;
use thiserror::Error;

use super::{
    channel::{Phase, RunnerInput, RunnerStatus, ServerConnection},
    console::{Charset, Console, LONGEST_LINE},
    containment::{Children, make_group_of_job, remove_group_of_job},
    folder::JobFolder,
    journal::{self, Event, JournalWriteError, JournalWriter, Started},
    masking::Masks,
    server::{CookieSource, JobServer},
    spool::{SpoolError, SpoolWriter},
    streaming::{ConsoleSender, Streaming},
};
use crate::settings::Settings;
use cancel::Cancel;
use link::Link;

/// Property: characters of one line of a task that are shown; 0 or less is no limit but memory's.
const LONGEST_LINE_PROPERTY: &str = "go.console.log.max.line.length";

/// Shared by all that have something to write down.
#[derive(Clone)]
struct Journal(Arc<Mutex<JournalWriter>>);

/// A runner that cannot begin. Nothing of its job has been done.
#[derive(Debug, Error)]
enum SetUpError {
    #[error(transparent)]
    WorkDir(#[from] WorkDirError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Journal(#[from] JournalWriteError),
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error("cannot read the connection arguments: {0}")]
    Words(#[from] clap::Error),
    #[error(transparent)]
    Arguments(#[from] InvalidArguments),
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    #[error("cannot {action}: {source}")]
    System {
        action: &'static str,
        #[source]
        source: io::Error,
    },
}

/// Runs one job to its last report. Called once in a process that does nothing else, in the
/// agent's working directory and in a session of its own. `folder` is the job's, relative.
pub fn run(folder: &Path, input: RunnerInput) -> ExitCode {
    let job = input.work.assignment.job_identifier.locator();
    match set_up_and_run(folder, input) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(job, %error, "The job runner cannot begin");
            // To the agent, which tells the server.
            let _ = write!(io::stdout(), "{}", in_words(&error));
            ExitCode::FAILURE
        }
    }
}

fn set_up_and_run(folder: &Path, input: RunnerInput) -> Result<(), SetUpError> {
    input.properties.clone().set_in_process();
    let settings = Settings::from_properties(&Properties::of_process());
    let system = |action| move |source: io::Error| SetUpError::System { action, source };
    nix::sys::prctl::set_child_subreaper(true)
        .map_err(|errno| system("become the parent of a job's orphans")(errno.into()))?;
    let masks = Masks::of(&input.work.assignment);
    let hidden = masks.own.clone();
    logging::hide_secrets(move |text| hidden.apply(text).into_owned());
    let workdir = WorkDir::current()?;
    let folder = JobFolder::new(folder);
    let _lock = Lock::acquire(&folder.lock(), Duration::ZERO)?;
    let mut journal = JournalWriter::open(&folder.journal())?;
    journal.append(&Event::Started(Box::new(started(&input))))?;
    let journal = Journal(Arc::new(Mutex::new(journal)));
    let spool = SpoolWriter::open(&folder.console())?;

    // One thread, and threads of their own for what blocks.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("start"))?;
    // Before the first thread: the client is made in a way that wants that.
    let server = runtime.block_on(connect(&workdir, &folder, &input))?;
    make_group_of_job();
    let children = Children::default();
    children
        .reap_orphans()
        .map_err(system("start a thread for orphans"))?;

    let longest_line = Properties::of_process()
        .parse(LONGEST_LINE_PROPERTY)
        .unwrap_or(LONGEST_LINE as i64);
    let charset_name = input.work.console_log_charset.clone();
    let console = Console::new(
        spool,
        Charset::for_name(&charset_name),
        Arc::new(Zoned::now),
    )
    .cropping_at(longest_line)
    .hiding(masks.own);
    runtime.block_on(async {
        let (link, instructions) = Link::open(
            &folder,
            RunnerStatus {
                phase: Phase::Preparing,
                runtime_status: RuntimeStatus::Building,
                job_identifier: input.work.assignment.job_identifier.clone(),
                result: None,
            },
        )
        .map_err(system("open its socket"))?;
        let sender = ConsoleSender::open(&folder.console(), 0, server.clone(), &charset_name)?
            .with_overflow(console.overflow());
        let noted = journal.clone();
        let streaming = Streaming::start(
            sender,
            console.lengths(),
            Duration::from_millis(input.console_interval_ms),
            move |offset| noted.note(&Event::Acknowledged { offset }),
        );
        let cancel = Cancel::new(
            console.clone(),
            link.clone(),
            journal.clone(),
            children.clone(),
            settings.cancel_grace,
        );
        let listening = tokio::spawn(cancel.clone().listen(instructions));
        let job = sequence::Job {
            root: workdir.root().to_owned(),
            folder: workdir.root().join(folder.path()),
            assignment: input.work.assignment,
            host_name: input.runtime_info.identifier.host_name,
            server_url: input.server.configured_url,
            server,
            console,
            mask: masks.output,
            streaming: &streaming,
            children,
            cancel,
            link,
            journal,
            output_limit: settings.task_output_limit,
            keeps_background_processes: settings.keeps_background_processes,
        };
        // Nothing can go wrong any more: the agent waits for this.
        let _ = nix::unistd::dup2_stdout(io::stderr());
        job.run().await;
        listening.abort();
        streaming.stop();
        remove_group_of_job();
        Ok(())
    })
}

/// An error with all its causes.
fn in_words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !words.contains(&text) {
            words.push_str(": ");
            words.push_str(&text);
        }
        cause = error.source();
    }
    words
}

fn started(input: &RunnerInput) -> Started {
    let mut runtime_info = input.runtime_info.clone();
    runtime_info.cookie = None;
    Started {
        format: journal::FORMAT,
        at: Timestamp::now(),
        pid: i32::try_from(std::process::id()).unwrap_or_default(),
        job_identifier: input.work.assignment.job_identifier.clone(),
        runtime_info,
        server: input.server.clone(),
        console_charset: input.work.console_log_charset.clone(),
    }
}

async fn connect(
    workdir: &WorkDir,
    folder: &JobFolder,
    input: &RunnerInput,
) -> Result<JobServer, SetUpError> {
    #[derive(Parser)]
    struct Words {
        #[command(flatten)]
        connection: ConnectionArguments,
    }
    let words = std::iter::once("run-job").chain(input.server.arguments.iter().map(String::as_str));
    let settings = Words::try_parse_from(words)?.connection.validate()?;
    let connection = Connection::open(workdir, &settings).await?;
    Ok(JobServer::new(
        connection.client().clone(),
        ServerConnection {
            base_url: connection.base_url().to_owned(),
            ..input.server.clone()
        },
        input.runtime_info.clone(),
        input.work.assignment.job_identifier.clone(),
        PathBuf::from(workdir.root()),
        CookieSource::Job(folder.clone()),
    ))
}

// === impl Journal ===

impl Journal {
    /// Writes an event down. A journal that cannot be written is no reason to end a job: at worst
    /// something is said or sent twice after a crash.
    fn note(&self, event: &Event) {
        let mut journal = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = journal.append(event) {
            tracing::error!(%error, "The job goes on without it");
        }
    }
}
