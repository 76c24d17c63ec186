//! Sending the spool to the server while it grows.
//!
//! One upload is in flight at a time, so the order at the server is the order in the spool. What
//! the server has not confirmed is sent again, whatever the answer was and for as long as it
//! takes; nothing is dropped. With our own server the offset of each part makes that exactly
//! once, with a GoCD server (which only ever appends) at least once.

use std::{path::Path, time::Duration};

use reqwest::StatusCode;
use thiserror::Error;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

use super::{
    console::{Charset, text_of},
    server::{CallError, ConsoleAnswer, JobServer},
    spool::{MAX_CHUNK, Overflow, SpoolError, SpoolReader},
};
use crate::remoting::refusal;

/// Pauses after failed uploads: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How long a server that answers, but refuses the console, is tried when all else of a job is done
/// and only its last report is missing. Longer than a server is usually out of order, but not for
/// ever: the agent could take no other job.
pub const LAST_PATIENCE: Duration = Duration::from_secs(15 * 60);
/// A server that refuses even this many bytes at once does not do so for their number.
const SMALLEST: usize = 1024;

/// Sends a spool part by part.
pub struct ConsoleSender {
    reader: SpoolReader,
    server: JobServer,
    /// What the server calls the charset of the job's console.
    charset_name: String,
    charset: Charset,
    offset: u64,
    /// Most bytes of one part; less than usual for a server that takes no large ones.
    limit: usize,
}

/// A part that could not be sent.
#[derive(Debug, Error)]
pub enum SendError {
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error("the server did not take console lines: {0}")]
    Call(#[from] CallError),
    /// Our own server and the spool disagree, and going where the server is does not help.
    #[error("the server has {length} bytes of console, this agent has sent {offset}")]
    Astray { length: u64, offset: u64 },
}

/// Where the streaming of a job's console stands.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// Bytes that the server has.
    pub acknowledged: u64,
    /// Since when the server answers, but does not take lines.
    refusing_since: Option<Instant>,
}

/// The streaming of a running job.
pub struct Streaming {
    progress: watch::Receiver<Progress>,
    lengths: watch::Receiver<u64>,
    urgent: watch::Sender<u64>,
    task: JoinHandle<()>,
}

/// The server does not take the console, so that there is no point in waiting for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the server still refuses console lines")]
pub struct StillRefused;

// === impl ConsoleSender ===

impl ConsoleSender {
    /// A sender for the spool at `path` whose first `offset` bytes the server has. `charset` is
    /// the name of the charset that the server wants.
    ///
    /// # Errors
    /// When the spool cannot be opened.
    pub fn open(
        path: &Path,
        offset: u64,
        server: JobServer,
        charset: &str,
    ) -> Result<Self, SpoolError> {
        Ok(Self {
            reader: SpoolReader::open(path)?,
            server,
            charset_name: charset.to_owned(),
            charset: Charset::for_name(charset),
            offset,
            limit: MAX_CHUNK,
        })
    }

    /// Sends what the spool's writer holds in memory as well.
    pub fn with_overflow(mut self, overflow: Overflow) -> Self {
        self.reader = self.reader.with_overflow(overflow);
        self
    }

    /// Bytes that the server has.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Sends the next part, once. False: there was nothing to send.
    ///
    /// # Errors
    /// When the spool cannot be read, or the server did not take the part: it is the next one
    /// again.
    pub async fn send_next(&mut self) -> Result<bool, SendError> {
        let (end, answer) = loop {
            let chunk = self.reader.chunk(self.offset, self.limit)?;
            let length = chunk.len();
            if length == 0 {
                return Ok(false);
            }
            let end = self.offset + length as u64;
            let chunk = match self.charset {
                Charset::Utf8 => chunk,
                charset => charset.encode(&text_of(&chunk)).into_owned(),
            };
            let used = self.server.credentials();
            let answer = self
                .server
                .put_console(self.offset, chunk, &self.charset_name)
                .await;
            match answer {
                // Made once more with the agent's new token.
                Err(CallError::Refused { status })
                    if refusal::is_unregistered(status)
                        && self.server.renewed(&used, status).await => {}
                Err(CallError::Refused {
                    status: StatusCode::PAYLOAD_TOO_LARGE,
                }) if length > SMALLEST => {
                    self.limit = (length / 2).max(SMALLEST);
                    tracing::info!(
                        length,
                        next = self.limit,
                        "Sending smaller parts of the console"
                    );
                }
                answer => {
                    if answer.is_err() {
                        // If it was the size, that will turn out again.
                        self.limit = MAX_CHUNK;
                    }
                    break (end, answer?);
                }
            }
        };
        match answer {
            ConsoleAnswer::Stored { .. } => self.offset = end,
            ConsoleAnswer::Behind { length } if length < self.offset => {
                tracing::warn!(
                    length,
                    offset = self.offset,
                    "The server has lost console lines; they are sent again"
                );
                self.offset = length;
            }
            ConsoleAnswer::Behind { length } => {
                return Err(SendError::Astray {
                    length,
                    offset: self.offset,
                });
            }
        }
        Ok(true)
    }

    /// Sends all there is, trying again through any outage of the server. `on_progress` is told
    /// the new offset after each part.
    ///
    /// # Errors
    /// When the spool cannot be read, or the server has refused the lines for `patience`.
    pub async fn send_all(
        &mut self,
        patience: Duration,
        mut on_progress: impl FnMut(u64),
    ) -> Result<(), SendError> {
        let mut pause = FIRST_PAUSE;
        let mut refusing_since = None;
        loop {
            match self.send_next().await {
                Ok(false) => return Ok(()),
                Ok(true) => {
                    on_progress(self.offset);
                    pause = FIRST_PAUSE;
                    refusing_since = None;
                }
                Err(SendError::Spool(error)) => return Err(error.into()),
                Err(error) => {
                    if is_refusal(&error) {
                        let since = *refusing_since.get_or_insert_with(Instant::now);
                        if since.elapsed() >= patience {
                            return Err(error);
                        }
                    } else {
                        refusing_since = None;
                    }
                    sleep(pause).await;
                    pause = longer(pause);
                }
            }
        }
    }
}

fn is_refusal(error: &SendError) -> bool {
    match error {
        SendError::Call(error) => !error.is_outage(),
        SendError::Spool(_) | SendError::Astray { .. } => true,
    }
}

fn longer(pause: Duration) -> Duration {
    (pause * 2).min(LONGEST_PAUSE)
}

// === impl Streaming ===

impl Streaming {
    /// Begins to stream. `lengths` tells how much is in the spool; `interval` is the longest
    /// pause between two uploads while there is something to send; `on_progress` is told each new
    /// offset.
    pub fn start(
        sender: ConsoleSender,
        lengths: watch::Receiver<u64>,
        interval: Duration,
        on_progress: impl FnMut(u64) + Send + 'static,
    ) -> Self {
        let (progress_sender, progress) = watch::channel(Progress {
            acknowledged: sender.offset(),
            refusing_since: None,
        });
        let (urgent, urgent_receiver) = watch::channel(0);
        let task = tokio::spawn(stream(
            sender,
            lengths.clone(),
            urgent_receiver,
            interval,
            progress_sender,
            on_progress,
        ));
        Self {
            progress,
            lengths,
            urgent,
            task,
        }
    }

    /// Waits until the server has all that is in the spool now. No end to an outage of the
    /// server, but only `patience` for one that answers and refuses, counted from its first refusal.
    ///
    /// # Errors
    /// When the server has refused the lines for that long. They are still tried.
    pub async fn flush(&self, patience: Duration) -> Result<(), StillRefused> {
        self.wait(patience, None).await
    }

    /// [`Self::flush`] with all of `patience` from now on, however long the server has refused the
    /// lines already.
    ///
    /// # Errors
    /// As for [`Self::flush`].
    pub async fn flush_patiently(&self, patience: Duration) -> Result<(), StillRefused> {
        self.wait(patience, Some(Instant::now())).await
    }

    async fn wait(&self, patience: Duration, from: Option<Instant>) -> Result<(), StillRefused> {
        let target = *self.lengths.borrow();
        self.urgent
            .send_if_modified(|urgent| std::mem::replace(urgent, target.max(*urgent)) < target);
        let mut progress = self.progress.clone();
        loop {
            let now = *progress.borrow_and_update();
            if now.acknowledged >= target {
                return Ok(());
            }
            let give_up = now
                .refusing_since
                .map(|since| from.map_or(since, |from| from.max(since)) + patience);
            let expired = async {
                match give_up {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = progress.changed() => if changed.is_err() {
                    return Err(StillRefused);
                },
                () = expired => return Err(StillRefused),
            }
        }
    }

    /// Ends the streaming, wherever it stands.
    pub fn stop(self) {
        self.task.abort();
    }
}

async fn stream(
    mut sender: ConsoleSender,
    mut lengths: watch::Receiver<u64>,
    mut urgent: watch::Receiver<u64>,
    interval: Duration,
    progress: watch::Sender<Progress>,
    mut on_progress: impl FnMut(u64),
) {
    let mut pause = FIRST_PAUSE;
    let mut failures: u32 = 0;
    loop {
        let written = match lengths.wait_for(|length| *length > sender.offset()).await {
            Ok(length) => *length,
            Err(_) => return,
        };
        debug_assert!(written > sender.offset());
        let begun = Instant::now();
        match sender.send_next().await {
            Ok(sent) => {
                pause = FIRST_PAUSE;
                failures = 0;
                on_progress(sender.offset());
                progress.send_replace(Progress {
                    acknowledged: sender.offset(),
                    refusing_since: None,
                });
                if sent
                    && !wait_for_more(&mut lengths, &mut urgent, sender.offset(), begun + interval)
                        .await
                {
                    return;
                }
            }
            Err(error) => {
                failures += 1;
                // The first failures and then ever fewer: an outage must not fill the log.
                if failures.is_power_of_two() {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        failures,
                        "Console lines were not sent; trying again"
                    );
                }
                progress.send_modify(|progress| {
                    if is_refusal(&error) {
                        progress.refusing_since.get_or_insert_with(Instant::now);
                    } else {
                        progress.refusing_since = None;
                    }
                });
                sleep(pause).await;
                pause = longer(pause);
            }
        }
    }
}

/// Waits for the next upload to be due: at the end of the interval, or sooner when a whole chunk
/// is there or somebody waits for the lines. False when the job is over.
async fn wait_for_more(
    lengths: &mut watch::Receiver<u64>,
    urgent: &mut watch::Receiver<u64>,
    offset: u64,
    due: Instant,
) -> bool {
    tokio::select! {
        () = sleep_until(due) => true,
        length = lengths.wait_for(|length| *length >= offset + MAX_CHUNK as u64) => length.is_ok(),
        target = urgent.wait_for(|target| *target > offset) => target.is_ok(),
    }
}

#[cfg(test)]
#[path = "streaming_tests.rs"]
mod tests;
