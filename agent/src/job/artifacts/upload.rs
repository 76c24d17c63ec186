//! Uploading one file or folder: packed while it is sent, so that nothing of it is kept anywhere.

use std::{
    io,
    path::{Component, Path},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use journeyman_protocol::{console::Tag, files};
use reqwest::{
    Body, Method, Response, StatusCode,
    header::{HeaderMap, HeaderName, HeaderValue},
    multipart::{Form, Part},
};
use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{
    packing::{self, Chunks},
    tree,
};
use crate::{
    job::{
        console::Console,
        server::{CallError, JobServer},
    },
    remoting::refusal::is_unregistered,
};

/// GoCD: attempts for one item, without a pause.
const ATTEMPTS: u32 = 3;
/// Packed pieces of 64 KiB that wait to be sent.
const AHEAD: usize = 8;

/// Uploads for one job.
pub(super) struct Uploader<'a> {
    pub(super) server: &'a JobServer,
    pub(super) console: &'a Console,
    pub(super) pauses: Pauses,
}

/// How long an upload waits for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pauses {
    /// Before the next try, while nobody answers or only a proxy does; doubled each time. That
    /// does not count as an attempt.
    first: Duration,
    longest: Duration,
    /// So long a body is held back for an answer to its headers alone, after a connection broke.
    early_answer: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(500),
            longest: Duration::from_secs(10),
            early_answer: Duration::from_secs(2),
        }
    }
}

/// An item that the server does not have. The text is GoCD's where a console line shows it.
#[derive(Debug, Error)]
pub(super) enum UploadError {
    #[error("its destination leaves the job's artifacts")]
    Destination,
    #[error("Failed to find {0}")]
    Missing(String),
    #[error("cannot read it: {0}")]
    Source(#[from] io::Error),
    #[error("{message}.  HTTP return code is {}", .status.as_u16())]
    Refused { message: String, status: StatusCode },
    #[error("the connection to the server broke: {0}")]
    Broken(String),
}

impl Uploader<'_> {
    /// Uploads a file or folder to a folder of the job's artifacts. Says on the console how that
    /// goes.
    pub(super) async fn upload(&self, item: &Path, dest: &str) -> Result<(), UploadError> {
        let name = item.display();
        let failed = format!("Failed to upload {name}");
        if leaves(dest) {
            let error = UploadError::Destination;
            self.error(&format!("[go] {failed}: {error}: {dest}"));
            return Err(error);
        }
        if !item.exists() {
            let error = UploadError::Missing(name.to_string());
            self.error(&format!("[go] {error}"));
            return Err(error);
        }
        let mut attempt = 1;
        loop {
            let error = match self.attempt(item, dest, attempt).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            tracing::warn!(%error, attempt, item = %name, "An upload failed");
            if attempt == 1
                && let UploadError::Source(source) = &error
                && source.kind() == io::ErrorKind::InvalidFilename
            {
                self.error(&format!("[go] Cannot publish {name}: {source}"));
            }
            self.error(&format!("[go] {failed}"));
            let is_denied = matches!(
                error,
                UploadError::Refused {
                    status: StatusCode::PAYLOAD_TOO_LARGE,
                    ..
                }
            );
            if is_denied || attempt == ATTEMPTS {
                return Err(error);
            }
            attempt += 1;
        }
    }

    async fn attempt(&self, item: &Path, dest: &str, attempt: u32) -> Result<(), UploadError> {
        let name = item.display();
        let owned = item.to_owned();
        // GoCD packs before it says that it uploads: what cannot be read is not uploaded.
        let size = blocking(move || tree::size(&owned)).await?;
        let shown = if dest.is_empty() {
            "[defaultRoot]"
        } else {
            dest
        };
        self.console.line(
            Tag::Publish,
            &format!("[go] Uploading artifacts from {name} to {shown}"),
        );
        let status = self.send(item, dest, size, attempt).await?;
        if status.is_success() {
            return Ok(());
        }
        let mut message = format!("Failed to upload {name}");
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            message = format!(
                "Artifact upload for file {name} (Size: {size}) was denied by the server. This \
                 usually happens when server runs out of disk space."
            );
            self.error(&format!("[go] {message}"));
        }
        Err(UploadError::Refused { message, status })
    }

    /// Sends the item once, through any time that nobody answers.
    async fn send(
        &self,
        item: &Path,
        dest: &str,
        size: u64,
        attempt: u32,
    ) -> Result<StatusCode, UploadError> {
        let path = format!(
            "{}?{}={attempt}&{}={}",
            files::file_path(self.server.job(), dest),
            files::ATTEMPT,
            files::BUILD_ID,
            self.server.job().build_id
        );
        let mut pause = self.pauses.first;
        let mut hold = Duration::ZERO;
        loop {
            let used = self.server.credentials();
            let sending = Sending::start(item, dest, self.console, hold);
            let request = self
                .server
                .file_request(Method::POST, &path)
                .header(files::X_GO_ARTIFACT_SIZE, size)
                .header(files::X_GOCD_CONFIRM, "true");
            let request = match form(item, sending.zip, sending.checksums) {
                Ok(form) => request.multipart(form),
                Err(error) => return Err(UploadError::Broken(error.to_string())),
            };
            let answer = request.send().await.map(|answer: Response| answer.status());
            // The answer may come in the middle of the body. What is left of it is of no use then.
            sending.stop.cancel();
            let packed = match sending.packing.await {
                Ok(packed) => packed,
                Err(error) => Err(io::Error::other(error)),
            };
            let outage = match answer {
                Ok(status) => {
                    let refusal = CallError::Refused { status };
                    if !refusal.is_outage() {
                        // GoCD: 403 also says that a file of that name is there already.
                        if is_unregistered(status) && self.server.renewed(&used, status).await {
                            continue;
                        }
                        return Ok(status);
                    }
                    status.to_string()
                }
                Err(error) => {
                    packed?;
                    let error = error.without_url();
                    // A server that refuses a body may close the connection on it, and then its
                    // answer is lost now and again. The next body waits for an answer first, and
                    // one that broke after that was not refused.
                    if hold > Duration::ZERO && sending.has_sent.load(Ordering::Relaxed) {
                        return Err(UploadError::Broken(format!("{error:?}")));
                    }
                    hold = self.pauses.early_answer;
                    format!("{error:?}")
                }
            };
            tracing::warn!(error = outage, again_in = ?pause, item = %item.display(), "An upload broke");
            sleep(pause).await;
            pause = (pause * 2).min(self.pauses.longest);
        }
    }

    fn error(&self, text: &str) {
        self.console.line(Tag::PublishErr, text);
    }
}

/// An item on its way: it is packed on a thread of its own and sent by this one.
struct Sending {
    zip: Body,
    checksums: Body,
    /// Ends both, whoever waits for whom.
    stop: CancellationToken,
    /// Whether any of the item was handed to the connection.
    has_sent: Arc<AtomicBool>,
    /// Fails only if the item cannot be read: that nobody wants it any more is no failure.
    packing: JoinHandle<io::Result<()>>,
}

impl Sending {
    fn start(item: &Path, dest: &str, console: &Console, hold: Duration) -> Self {
        let (chunks, packed) = mpsc::channel(AHEAD);
        let (list, checksums) = oneshot::channel();
        let (item, dest, now) = (item.to_owned(), dest.to_owned(), console.now());
        let packing = tokio::task::spawn_blocking(move || {
            let mut chunks = Chunks::new(chunks);
            match packing::pack(&item, &dest, &now, &mut chunks) {
                Ok(checksums) => {
                    let _ = list.send(checksums);
                    Ok(())
                }
                Err(_) if chunks.is_unwanted() => Ok(()),
                Err(error) => {
                    chunks.fail(io::Error::new(error.kind(), error.to_string()));
                    Err(error)
                }
            }
        });
        let stop = CancellationToken::new();
        let has_sent = Arc::new(AtomicBool::new(false));
        let zip = Zip {
            packed,
            stop: stop.clone(),
            has_sent: Arc::clone(&has_sent),
            hold,
        };
        Self {
            zip: Body::wrap_stream(stream::unfold(zip, async |mut zip| {
                let chunk = zip.next().await?;
                Some((chunk, zip))
            })),
            checksums: Body::wrap_stream(stream::once(async {
                checksums.await.map_err(io::Error::other)
            })),
            stop,
            has_sent,
            packing,
        }
    }
}

/// The packed item as a body.
struct Zip {
    packed: mpsc::Receiver<io::Result<Bytes>>,
    stop: CancellationToken,
    has_sent: Arc<AtomicBool>,
    hold: Duration,
}

impl Zip {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        let hold = std::mem::take(&mut self.hold);
        tokio::select! {
            () = self.stop.cancelled() => Some(Err(io::ErrorKind::Interrupted.into())),
            chunk = async {
                sleep(hold).await;
                self.packed.recv().await
            } => {
                self.has_sent.store(true, Ordering::Relaxed);
                chunk
            }
        }
    }
}

fn form(item: &Path, zip: Body, checksums: Body) -> reqwest::Result<Form> {
    // GoCD: what is not ASCII is a question mark. The server has no use for the name.
    let name: String = tree::own_name(item)
        .chars()
        .map(|c| {
            if c.is_ascii() && !c.is_ascii_control() {
                c
            } else {
                '?'
            }
        })
        .collect();
    let part = |body: Body, name: String| -> reqwest::Result<Part> {
        Ok(Part::stream(body)
            .file_name(name)
            .mime_str("application/octet-stream")?
            .headers(binary()))
    };
    Ok(Form::new()
        .part(files::ZIP_PART, part(zip, format!("{name}.zip"))?)
        .part(
            files::CHECKSUM_PART,
            part(checksums, files::CHECKSUM_PART_FILE_NAME.to_owned())?,
        ))
}

/// GoCD: each part says that it is not encoded.
fn binary() -> HeaderMap {
    let name = HeaderName::from_static("content-transfer-encoding");
    HeaderMap::from_iter([(name, HeaderValue::from_static("binary"))])
}

/// Work that blocks, on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Whether a destination leads out of the job's artifacts. GoCD: the path of the call is resolved,
/// and the files of other jobs are within reach.
fn leaves(dest: &str) -> bool {
    let mut depth = 0_usize;
    for part in Path::new(dest).components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::ParentDir if depth == 0 => return true,
            Component::ParentDir => depth -= 1,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests;
