//! Starting a runner.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::{
        fd::OwnedFd,
        unix::{fs::DirBuilderExt, process::CommandExt},
    },
    path::Path,
    process::{ChildStdout, Command, Stdio},
};

use journeyman_host::{durable, workdir::WorkDir};
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
    sync::oneshot,
};

use super::reaper::{Reaper, Started};
use crate::job::{channel::RunnerInput, folder::JobFolder, leftovers::RUNNER_SUBCOMMAND};

/// This very program, also after an upgrade has replaced its file.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// Most bytes of a runner's reason not to begin.
const MOST_WORDS: u64 = 4096;

/// A runner could not be started.
#[derive(Debug, Error)]
pub(super) enum StartRunnerError {
    #[error("cannot make the job's folder {folder}: {source}; check free space and permissions")]
    Folder {
        folder: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot start the job runner: {0}")]
    Spawn(#[source] io::Error),
    #[error("cannot hand the job to its runner: {0}")]
    Input(#[source] io::Error),
    #[error("the job runner could not begin: {0}")]
    Begin(String),
}

/// Starts a runner for `input` in `folder`, and waits until it has begun. What comes back is told
/// when it has ended.
pub(super) async fn start(
    workdir: &WorkDir,
    reaper: &Reaper,
    folder: &JobFolder,
    input: &RunnerInput,
) -> Result<oneshot::Receiver<String>, StartRunnerError> {
    make_folder(workdir, folder).map_err(|source| StartRunnerError::Folder {
        folder: folder.path().display().to_string(),
        source,
    })?;
    if let Some(cookie) = &input.runtime_info.cookie {
        JobFolder::new(workdir.root().join(folder.path())).give_cookie(cookie);
    }
    let mut command = Command::new(OWN_PROGRAM);
    command
        .arg0("journeyman-agent")
        .arg(RUNNER_SUBCOMMAND)
        .arg(folder.path())
        .current_dir(workdir.root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(output(&workdir.agent_stderr()));
    let Started { mut child, ended } = reaper
        .start(&mut command)
        .map_err(StartRunnerError::Spawn)?;
    tracing::info!(
        runner = child.id(),
        folder = %folder.path().display(),
        "Started a job runner"
    );
    // The document holds the job's secrets: it goes through the pipe and nowhere else. A runner
    // that gets only a part of it, because this process dies now, ends without a trace.
    let document = serde_json::to_vec(input)
        .map_err(|error| StartRunnerError::Input(io::Error::other(error)))?;
    if let Some(stdin) = child.stdin.take() {
        let sent = async {
            let mut pipe = pipe::Sender::from_owned_fd(OwnedFd::from(stdin))?;
            pipe.write_all(&document).await
        };
        match sent.await {
            // It has ended before it read all: its end tells more than this.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            result => result.map_err(StartRunnerError::Input)?,
        }
    }
    match words_of(child.stdout.take()).await {
        words if words.is_empty() => Ok(ended),
        words => Err(StartRunnerError::Begin(words)),
    }
}

/// What a runner says on its output, which it closes when it has begun: why it cannot. One that
/// dies on the way has said nothing, and its end is told otherwise.
async fn words_of(stdout: Option<ChildStdout>) -> String {
    let Some(stdout) = stdout else {
        return String::new();
    };
    let mut words = Vec::new();
    if let Ok(pipe) = pipe::Receiver::from_owned_fd(OwnedFd::from(stdout)) {
        let _ = pipe.take(MOST_WORDS).read_to_end(&mut words).await;
    }
    String::from_utf8_lossy(&words).trim().to_owned()
}

fn make_folder(workdir: &WorkDir, folder: &JobFolder) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(workdir.root().join(folder.path()))?;
    durable::sync_folder(&workdir.jobs()).map_err(io::Error::other)
}

fn output(log: &Path) -> Stdio {
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(log)
        .map_or_else(|_| Stdio::null(), |file: File| file.into())
}
