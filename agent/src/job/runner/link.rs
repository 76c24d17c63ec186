//! The runner's socket: tells agents how far the job is, and hears what the server wants.

use std::{fs, io, sync::Arc};

use journeyman_protocol::{agent::RuntimeStatus, job::JobResult, remoting::AgentInstruction};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{mpsc, watch},
};

use crate::job::{
    channel::{Instruction, Phase, RunnerStatus},
    folder::JobFolder,
};

/// What the runner says about itself. Cheap to clone.
#[derive(Clone)]
pub(super) struct Link {
    status: Arc<watch::Sender<RunnerStatus>>,
}

impl Link {
    /// Opens the socket and serves any number of agents, one after the other or together. What
    /// comes back is the instructions they pass on, each as often as they do.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub(super) fn open(
        folder: &JobFolder,
        status: RunnerStatus,
    ) -> io::Result<(Self, mpsc::UnboundedReceiver<AgentInstruction>)> {
        match fs::remove_file(folder.socket()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(folder.socket())?;
        let (status, watching) = watch::channel(status);
        // Unbounded: an agent sends two kinds, and each at most once a connection.
        let (sender, instructions) = mpsc::unbounded_channel();
        tokio::spawn(accept(listener, watching, sender));
        let status = Arc::new(status);
        Ok((Self { status }, instructions))
    }

    pub(super) fn phase(&self, phase: Phase) {
        self.status.send_modify(|status| status.phase = phase);
    }

    pub(super) fn cancelled(&self) {
        self.status
            .send_modify(|status| status.runtime_status = RuntimeStatus::Cancelled);
    }

    pub(super) fn result(&self, result: JobResult) {
        self.status
            .send_modify(|status| status.result = Some(result));
    }

    pub(super) fn runtime_status(&self) -> RuntimeStatus {
        self.status.borrow().runtime_status
    }
}

async fn accept(
    listener: UnixListener,
    status: watch::Receiver<RunnerStatus>,
    instructions: mpsc::UnboundedSender<AgentInstruction>,
) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve(stream, status.clone(), instructions.clone()));
            }
            Err(error) => {
                // Too many open files, for example: the agent tries again, and so do we.
                tracing::warn!(%error, "Cannot take a connection of the agent");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

/// Until the agent goes, or the runner ends.
async fn serve(
    stream: UnixStream,
    mut status: watch::Receiver<RunnerStatus>,
    instructions: mpsc::UnboundedSender<AgentInstruction>,
) {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    status.mark_changed();
    loop {
        tokio::select! {
            changed = status.changed() => {
                if changed.is_err() {
                    return;
                }
                let line = serde_json::to_vec(&*status.borrow_and_update());
                let Ok(mut line) = line else { return };
                line.push(b'\n');
                if writer.write_all(&line).await.is_err() {
                    return;
                }
            }
            line = lines.next_line() => match line {
                Ok(Some(line)) => match serde_json::from_str::<Instruction>(&line) {
                    Ok(Instruction { instruction }) => {
                        if instructions.send(instruction).is_err() {
                            return;
                        }
                    }
                    Err(error) => tracing::warn!(%error, "An agent's instruction is not understood"),
                },
                Ok(None) | Err(_) => return,
            },
        }
    }
}
