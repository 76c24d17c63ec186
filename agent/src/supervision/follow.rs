//! Following a living runner through its socket.

use std::{future::Future, time::Duration};

use journeyman_protocol::remoting::AgentInstruction;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    sync::watch,
    time::sleep,
};

use crate::{
    job::{
        channel::{Instruction, RunnerStatus},
        folder::JobFolder,
    },
    lifecycle::{Event, Lifecycle},
};

/// Pauses between attempts to connect: a runner needs some milliseconds to open its socket.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The instructions for one run so far. A new connection is told all of them again, which does
/// no harm, so that none is lost with a connection.
pub(super) type Instructions = watch::Receiver<Vec<AgentInstruction>>;

/// Follows the runner of `folder` until `ended` says that it is dead: tells the lifecycle how far
/// it is, and the runner what the server wants.
pub(super) async fn follow(
    folder: &JobFolder,
    lifecycle: &Lifecycle,
    instructions: Instructions,
    ended: impl Future<Output = String>,
) -> String {
    tokio::select! {
        how = ended => how,
        () = talk(folder, lifecycle, instructions) => String::new(),
    }
}

/// Never returns: a connection that breaks is made again.
async fn talk(folder: &JobFolder, lifecycle: &Lifecycle, instructions: Instructions) {
    let mut pause = FIRST_PAUSE;
    loop {
        // The path is relative to the working directory: the kernel takes 107 bytes at most.
        if let Ok(stream) = UnixStream::connect(folder.socket()).await {
            pause = FIRST_PAUSE;
            relay(folder, lifecycle, instructions.clone(), stream).await;
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn relay(
    folder: &JobFolder,
    lifecycle: &Lifecycle,
    mut instructions: Instructions,
    stream: UnixStream,
) {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    let mut told = 0;
    loop {
        let due: Vec<AgentInstruction> = instructions.borrow_and_update()[told..].to_vec();
        for instruction in due {
            let Ok(mut line) = serde_json::to_vec(&Instruction { instruction }) else {
                return;
            };
            line.push(b'\n');
            if writer.write_all(&line).await.is_err() {
                return;
            }
            told += 1;
        }
        tokio::select! {
            changed = instructions.changed() => if changed.is_err() {
                return;
            },
            line = lines.next_line() => match line {
                Ok(Some(line)) => report(folder, lifecycle, &line),
                Ok(None) | Err(_) => return,
            },
        }
    }
}

fn report(folder: &JobFolder, lifecycle: &Lifecycle, line: &str) {
    match serde_json::from_str::<RunnerStatus>(line) {
        Ok(status) => {
            lifecycle.apply(Event::RunnerProgress {
                folder: folder.clone(),
                phase: status.phase,
                runtime_status: status.runtime_status,
            });
        }
        Err(error) => {
            // Of a runner of another release, for example.
            tracing::warn!(%error, "A message of the job runner is not understood, and skipped");
        }
    }
}
