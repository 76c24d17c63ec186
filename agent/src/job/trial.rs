//! A job on trial: what a job runner is made of, put to work on a task of this program's own.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Zoned;
use journeyman_protocol::{
    agent::AgentRuntimeInfo,
    builder::{Builder, CommandBuilderWithArgList},
    console::Tag,
    environment::EnvironmentVariableContext,
    job::JobIdentifier,
};
use thiserror::Error;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    cancelled::{CancelProgress, Cancelled},
    channel::ServerConnection,
    console::{Charset, Console},
    containment::{Children, end_descendants, make_group_of_job, remove_group_of_job},
    environment::Environment,
    folder::JobFolder,
    masking::Mask,
    server::{CookieSource, JobServer},
    spool::{SpoolError, SpoolWriter},
    tasks::{self, KillAll, TaskContext},
};

/// The argument that makes this program the task.
pub const SUBCOMMAND: &str = "stand-in";
/// What it prints.
pub const WORDS: &str = "a task of the self-test";

/// How long the task may take to say something; a machine can be very busy.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the task stays if nobody ends it.
const LONGEST: Duration = Duration::from_secs(30);

/// Jobs cannot run here.
#[derive(Debug, Error)]
pub(crate) enum TrialError {
    #[error("a job runner cannot {action}: {source}")]
    System {
        action: &'static str,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error("a task of a job cannot run: {0}")]
    Task(String),
    #[error("a process of a job cannot be ended")]
    Deaf,
}

/// The task: says something and stays until it is ended.
pub fn stand_in(out: &mut dyn io::Write) {
    let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
    let _ = writeln!(out, "{WORDS}").and_then(|()| out.flush());
    std::thread::sleep(LONGEST);
}

/// Starts a task of a job in `folder`, waits for what it prints, and ends it. `program` is this one.
/// To be called in a process without other children.
pub(crate) async fn run(
    folder: &Path,
    program: &Path,
    client: reqwest::Client,
) -> Result<(), TrialError> {
    let system = |action| move |source: io::Error| TrialError::System { action, source };
    nix::sys::prctl::set_child_subreaper(true)
        .map_err(|errno| system("become the parent of a job's orphans")(errno.into()))?;
    let spool = JobFolder::new(folder).console();
    let console = Console::new(
        SpoolWriter::open(&spool)?,
        Charset::for_name("UTF-8"),
        Arc::new(Zoned::now),
    );
    // As a job does. Finding the time zone takes more stack than the threads have that read a task's
    // output, and is remembered.
    console.line(Tag::Notice, "[go] Self-test");
    let (_progress, cancelled) = watch::channel(CancelProgress::default());
    let context = TaskContext {
        console: console.clone(),
        environment: Arc::new(Environment::new("", &EnvironmentVariableContext::default())),
        mask: Mask::default(),
        children: Children::default(),
        root: folder.to_owned(),
        scratch: folder.to_owned(),
        server: nowhere(folder, client),
        stop: CancellationToken::new(),
        kill: Arc::new(Nobody),
        cancelled: Cancelled::new(cancelled),
        output_limit: PATIENCE,
    };
    let task = Builder::CommandBuilderWithArgList(CommandBuilderWithArgList {
        command: program.display().to_string(),
        args: vec![SUBCOMMAND.to_owned()],
        working_dir: PathBuf::new(),
        ..CommandBuilderWithArgList::default()
    });
    make_group_of_job();
    let mut lengths = console.lengths();
    let mut running = tokio::task::spawn_blocking(move || tasks::run(&task, &context));
    let deadline = Instant::now() + PATIENCE;
    let has_spoken = || fs::read_to_string(&spool).is_ok_and(|text| text.contains(WORDS));
    let mut heard = false;
    while !heard && Instant::now() < deadline {
        tokio::select! {
            _ = timeout(PATIENCE, lengths.changed()) => heard = has_spoken(),
            _ = &mut running => break,
        }
    }
    let left = end_descendants();
    remove_group_of_job();
    if !left.is_empty() {
        return Err(TrialError::Deaf);
    }
    if !heard {
        let text = fs::read_to_string(&spool).unwrap_or_default();
        let said: Vec<&str> = text.split_whitespace().collect();
        return Err(TrialError::Task(format!(
            "it did not say what it should, but `{}`",
            said.join(" ")
        )));
    }
    Ok(())
}

/// No call is made.
fn nowhere(folder: &Path, client: reqwest::Client) -> JobServer {
    JobServer::new(
        client,
        ServerConnection {
            base_url: String::new(),
            configured_url: String::new(),
            is_journeyman: false,
            arguments: Vec::new(),
        },
        AgentRuntimeInfo::default(),
        JobIdentifier::default(),
        folder,
        CookieSource::Job(JobFolder::new(folder)),
    )
}

/// The task asks for nobody's end.
struct Nobody;

impl KillAll for Nobody {
    fn kill_all(&self) {}
}
