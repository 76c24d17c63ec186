//! The order of a job: which line, which report, which step comes after which. GoCD's, to the
//! letter.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use journeyman_protocol::{
    agent::RuntimeStatus,
    console::Tag,
    job::{JobResult, JobState},
    work::BuildAssignment,
};
use thiserror::Error;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    Journal, Link,
    cancel::{Cancel, ChildProcesses},
    remains::end_what_is_left,
    tasks::run_all,
};
use crate::job::{
    artifacts,
    channel::Phase,
    console::Console,
    containment::Children,
    environment::Environment,
    journal::Event,
    masking::Mask,
    materials::{self, MaterialContext, delete_content, is_of_pipeline},
    server::{CallError, JobServer},
    shortage::cannot_write,
    streaming::{LAST_PATIENCE, Streaming},
    tasks::{self, TaskContext},
};

/// How long a report waits for a server that answers but refuses the console before it. The lines
/// are tried on meanwhile and afterwards.
const CONSOLE_BEFORE_REPORT: Duration = Duration::from_secs(10);
/// Pauses between attempts to reach a server that is away.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Time for what a job has left behind to end when asked.
const GRACE_AT_END: Duration = Duration::from_secs(2);

/// A job with all it needs.
pub(super) struct Job<'a> {
    /// The agent's working directory, absolute.
    pub(super) root: PathBuf,
    /// The job's own folder, absolute.
    pub(super) folder: PathBuf,
    pub(super) assignment: BuildAssignment,
    pub(super) host_name: String,
    /// What jobs see as `GO_SERVER_URL`.
    pub(super) server_url: String,
    pub(super) server: JobServer,
    pub(super) console: Console,
    /// What tasks must not show.
    pub(super) mask: Mask,
    pub(super) streaming: &'a Streaming,
    pub(super) children: Children,
    pub(super) cancel: Cancel,
    pub(super) link: Link,
    pub(super) journal: Journal,
    /// See [`TaskContext`].
    pub(super) output_limit: Duration,
    /// Whether what the job leaves running may go on, unless it was cancelled.
    pub(super) keeps_background_processes: bool,
}

/// How the steps before the last report came out.
enum Ended {
    /// With this result.
    With(JobResult),
    /// The server wants none of it any more.
    Ignored,
}

/// What ends a job before its time. The text is what the console shows.
#[derive(Debug, Error)]
enum JobError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("{0}")]
    Step(String),
}

impl Job<'_> {
    /// Runs the job to its last report.
    pub(super) async fn run(self) {
        let ended = match self.steps().await {
            Ok(ended) => ended,
            Err(error) => {
                self.console.line(Tag::Err, &error.to_string());
                if let JobError::Step(_) = error {
                    self.name_what_cannot_be_written();
                }
                Ended::With(JobResult::Failed)
            }
        };
        self.cancel.watched().acted().await;
        self.end_what_is_left().await;
        let ended = match (ended, self.console.broken()) {
            // Lines are missing: nobody may take this job for a good one.
            (Ended::With(_), Some(_)) => Ended::With(JobResult::Failed),
            (ended, _) => ended,
        };
        self.enter(Phase::Reporting);
        self.console.say_what_is_lost();
        self.line(
            Tag::Completed,
            format_args!("[go] Job completed {}", self.place()),
        );
        self.flush_last(&ended).await;
        self.report_end(&ended).await;
        self.flush(CONSOLE_BEFORE_REPORT).await;
        self.enter(Phase::Done);
    }

    async fn end_what_is_left(&self) {
        let was_cancelled = self.cancel.has_begun();
        if self.keeps_background_processes && !was_cancelled {
            return;
        }
        let remains = blocking(|| end_what_is_left(GRACE_AT_END)).await;
        let remains = remains.unwrap_or_default();
        if remains.left > 0 {
            tracing::error!(remains.left, "Processes of the job could not be ended");
        }
        if let (Some(ended), false) = (remains.ended, was_cancelled) {
            self.line(
                Tag::Notice,
                format_args!(
                    "[go] Ended what the job has left running: {ended}. What is to outlive a job \
                     belongs to a service manager; or set `journeyman.keep.background.processes` in \
                     this agent."
                ),
            );
        }
    }

    /// Says so where a checkout, for example, may have failed because its disk is full.
    fn name_what_cannot_be_written(&self) {
        let folder = self.root.join(&self.assignment.build_working_directory);
        let there = folder.ancestors().find(|folder| folder.exists());
        if let Some(why) = there.and_then(cannot_write) {
            self.line(
                Tag::Err,
                format_args!("[go] The job may have failed because {why}"),
            );
        }
    }

    async fn steps(&self) -> Result<Ended, JobError> {
        if self.is_ignored().await? {
            return Ok(self.ignored().await);
        }
        let now = self
            .console
            .now()
            .strftime("%Y-%m-%d %H:%M:%S %Z")
            .to_string();
        self.line(Tag::Notice, format_args!("[go] Job Started: {now}"));
        self.line(
            Tag::Prep,
            format_args!("[go] Start to prepare {}", self.place()),
        );
        self.report(JobState::Preparing).await?;
        let environment = self.prepare().await?;
        if self.is_ignored().await? {
            return Ok(self.ignored().await);
        }
        self.line(
            Tag::Notice,
            format_args!("[go] Start to build {}", self.place()),
        );
        self.report(JobState::Building).await?;
        self.enter(Phase::Building);
        let result = self.build(environment).await?;
        self.flush(CONSOLE_BEFORE_REPORT).await;
        self.call(|| self.server.report_completing(self.status(), result))
            .await?;
        if self.is_ignored().await? {
            return Ok(Ended::With(result));
        }
        let tag = match result {
            JobResult::Passed => Tag::JobPass,
            _ => Tag::JobFail,
        };
        let word = result.lower_case();
        self.line(tag, format_args!("[go] Current job status: {word}"));
        self.report(JobState::Completing).await?;
        self.enter(Phase::Completing);
        self.line(
            Tag::Publish,
            format_args!("[go] Start to upload {}", self.place()),
        );
        let cancelled = self.cancel.watched();
        let published = tokio::select! {
            published = artifacts::publish(&self.assignment, &self.server, &self.console, &self.root) => {
                published
            }
            // GoCD uploads all of it first, for as long as that takes. The result stays the same:
            // the server has its own for a cancelled job.
            () = cancelled.begun() => {
                self.line(
                    Tag::PublishErr,
                    format_args!("[go] The job was cancelled: the rest is not uploaded."),
                );
                true
            }
        };
        Ok(Ended::With(if published {
            result
        } else {
            JobResult::Failed
        }))
    }

    /// Working directory, materials, environment.
    async fn prepare(&self) -> Result<Arc<Environment>, JobError> {
        self.refuse_what_is_unsupported()?;
        let base = self.assignment.build_working_directory.clone();
        if !is_of_pipeline(&base) {
            return Err(JobError::Step(format!(
                "[go] The working directory of this job is {}, not pipelines/<pipeline>. Nothing \
                 was done there: the server's work is broken, or it is not a GoCD server.",
                base.display()
            )));
        }
        let dir = self.root.join(&base);
        if self.assignment.clean_working_directory && dir.exists() {
            self.line(
                Tag::Notice,
                format_args!(
                    "[go] Cleaning working directory \"{}\" since stage is configured to clean \
                     working directory",
                    dir.display()
                ),
            );
            let cleaned = dir.clone();
            blocking(move || delete_content(&cleaned)).await?.map_err(|error| {
                JobError::Step(format!(
                    "Clean working directory is set to true. Unable to clean working directory for \
                     agent: {}, with error: {error}",
                    dir.display()
                ))
            })?;
        }
        make_directory(&dir)?;
        if self.assignment.fetch_materials {
            self.update_materials(base).await?;
        } else {
            self.line(
                Tag::Prep,
                format_args!(
                    "[go] Skipping material update since stage is configured not to fetch materials"
                ),
            );
        }
        let mut environment = Environment::new(&self.server_url, &self.assignment.initial_context);
        environment.extend(materials::variables(
            &self.assignment.material_revisions,
            &dir,
            &self.host_name,
        ));
        let mut lines = environment.report(|name| std::env::var_os(name).is_some());
        if let Some(last) = lines.last_mut() {
            last.push('\n');
        }
        for line in lines {
            self.console.verbatim(Tag::Prep, &self.mask.apply(&line));
        }
        Ok(Arc::new(environment))
    }

    fn refuse_what_is_unsupported(&self) -> Result<(), JobError> {
        let materials = &self.assignment.material_revisions.revisions;
        let tasks = self.assignment.builders.iter().find_map(tasks::unsupported);
        let material = materials
            .iter()
            .filter(|_| self.assignment.fetch_materials)
            .find_map(|revision| materials::unsupported(&revision.material));
        match tasks.or(material) {
            Some(why) => Err(JobError::Step(why)),
            None => Ok(()),
        }
    }

    async fn update_materials(&self, base: PathBuf) -> Result<(), JobError> {
        let cancel = self.cancel.clone();
        let context = MaterialContext {
            console: self.console.clone(),
            children: self.children.clone(),
            root: self.root.clone(),
            base,
            is_cancelled: Arc::new(move || cancel.has_begun()),
            host_name: self.host_name.clone(),
        };
        let revisions = self.assignment.material_revisions.clone();
        if !self.cancel.enter_materials() {
            return Ok(());
        }
        let updated = blocking(move || materials::update(&revisions, &context)).await?;
        self.cancel.in_nothing();
        match updated {
            // A checkout that a cancel broke off is no failure: the server says so in a moment.
            Err(_) if self.cancel.has_begun() => Ok(()),
            Err(error) => Err(JobError::Step(error.to_string())),
            Ok(()) => Ok(()),
        }
    }

    async fn build(&self, environment: Arc<Environment>) -> Result<JobResult, JobError> {
        let context = TaskContext {
            console: self.console.clone(),
            mask: self.mask.clone(),
            environment,
            children: self.children.clone(),
            root: self.root.clone(),
            scratch: self.folder.clone(),
            server: self.server.clone(),
            stop: CancellationToken::new(),
            kill: Arc::new(ChildProcesses::new(self.console.clone())),
            cancelled: self.cancel.watched(),
            output_limit: self.output_limit,
        };
        let (builders, cancel) = (self.assignment.builders.clone(), self.cancel.clone());
        let folder = self.root.join(&self.assignment.build_working_directory);
        let result = blocking(move || run_all(&builders, &folder, &context, &cancel)).await?;
        Ok(match self.console.broken() {
            // Nobody may take a job whose console is not safe for a good one.
            Some(_) if result == JobResult::Passed => JobResult::Failed,
            _ => result,
        })
    }

    async fn ignored(&self) -> Ended {
        self.line(
            Tag::Notice,
            format_args!("[go] Job is cancelled {}", self.place()),
        );
        self.flush(CONSOLE_BEFORE_REPORT).await;
        Ended::Ignored
    }

    async fn report_end(&self, ended: &Ended) {
        let result = match ended {
            Ended::With(result) => *result,
            Ended::Ignored => JobResult::Cancelled,
        };
        self.link.result(result);
        self.journal.note(&Event::Result { result });
        let reported = self
            .call(|| async {
                match ended {
                    Ended::With(result) => {
                        self.server.report_completed(self.status(), *result).await
                    }
                    Ended::Ignored => {
                        self.server
                            .report_status(self.status(), JobState::Completed)
                            .await
                    }
                }
            })
            .await;
        if let Err(error) = &reported {
            tracing::error!(%error, "The last report was refused");
        }
        let accepted = reported.is_ok();
        self.journal.note(&Event::Reported { accepted });
    }

    async fn report(&self, state: JobState) -> Result<(), CallError> {
        self.flush(CONSOLE_BEFORE_REPORT).await;
        self.call(|| self.server.report_status(self.status(), state))
            .await
    }

    async fn is_ignored(&self) -> Result<bool, CallError> {
        self.call(|| self.server.is_ignored(self.status())).await
    }

    /// Makes a call, again and again while the server is away, and again with a new cookie or
    /// token if it was refused because of the old one.
    async fn call<T, F>(&self, call: impl Fn() -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let mut pause = FIRST_PAUSE;
        loop {
            let used = self.server.credentials();
            let error = match call().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if error.is_outage() {
                tracing::warn!(%error, again_in = ?pause, "The server is away");
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            }
            match error.refused_with() {
                Some(status) if self.server.renewed(&used, status).await => {}
                _ => return Err(error),
            }
        }
    }

    /// As long as the result is not final, no line is given up: with the last report it will be.
    async fn flush_last(&self, ended: &Ended) {
        let is_final = matches!(ended, Ended::Ignored) || self.status() == RuntimeStatus::Cancelled;
        if is_final {
            self.flush(CONSOLE_BEFORE_REPORT).await;
        } else if self.streaming.flush_patiently(LAST_PATIENCE).await.is_err() {
            tracing::error!(
                minutes = LAST_PATIENCE.as_secs() / 60,
                "The server refuses console lines; reporting the job without them"
            );
        }
    }

    async fn flush(&self, patience: Duration) {
        if self.streaming.flush(patience).await.is_err() {
            tracing::warn!("The server refuses console lines; going on without waiting for it");
        }
    }

    fn enter(&self, phase: Phase) {
        self.link.phase(phase);
        self.journal.note(&Event::Phase { phase });
    }

    fn status(&self) -> RuntimeStatus {
        self.link.runtime_status()
    }

    /// A line of what everybody knows: names, places, results.
    fn line(&self, tag: Tag, text: fmt::Arguments<'_>) {
        self.console.verbatim(tag, &text.to_string());
    }

    /// Which job on which machine and where, as lines have it.
    fn place(&self) -> String {
        format!(
            "{} on {} [{}]",
            self.assignment.job_identifier.display_locator(),
            self.host_name,
            self.root.display()
        )
    }
}

fn make_directory(dir: &Path) -> Result<(), JobError> {
    std::fs::create_dir_all(dir).map_err(|error| {
        tracing::error!(%error, dir = %dir.display(), "Cannot make the working directory");
        JobError::Step(format!(
            "Unable to create working directory for agent: {}",
            dir.display()
        ))
    })
}

/// Work that blocks, on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JobError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| JobError::Step(format!("[go] The job runner failed: {error}")))
}
