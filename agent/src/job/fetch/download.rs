//! One download with its tries and pauses.

use std::{
    error::Error as _,
    io::{self, Read},
    path::PathBuf,
    time::Duration,
};

use bytes::{Buf, Bytes};
use journeyman_protocol::console::Tag;
use reqwest::{Method, Response, StatusCode};
use thiserror::Error;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::{job::tasks::TaskContext, remoting::refusal::is_unregistered};

/// GoCD: tries of one download.
const TRIES: u32 = 4;
/// GoCD: pause before asking again for a zip that is being made.
const NOT_YET: Duration = Duration::from_secs(5);

/// What is done with what comes.
pub(super) trait Target {
    /// Takes the body of a good answer.
    fn take(&mut self, body: Body<'_>, context: &TaskContext) -> Result<(), FetchError>;

    /// Says on the console how an answer is to be understood; false: it is no good one.
    fn judge(&mut self, status: StatusCode, context: &TaskContext) -> Result<bool, FetchError>;
}

/// Time and chance, so that tests need neither.
pub(super) trait Pauses {
    /// Between 0 and 1.
    fn chance(&self) -> f64;
    /// Ends early when the job is stopped.
    fn pause(&self, length: Duration, stop: &CancellationToken);
}

pub(super) struct RealPauses;

/// A fetch that did not work. The text is part of a console line.
#[derive(Debug, Error)]
pub(super) enum FetchError {
    #[error("the job is cancelled")]
    Stopped,
    #[error("Giving up fetching resource '{0}'. Tried {TRIES} times and failed.")]
    GivenUp(String),
    #[error("cannot get it from the server: {0}")]
    Http(String),
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{source}")]
    Zip {
        #[source]
        source: io::Error,
    },
    /// GoCD's words.
    #[error("File {0} is outside extraction target directory")]
    Leaves(String),
    /// GoCD's words.
    #[error("Artifact download failed for [{0}]")]
    Mismatch(String),
    #[error("this version of the agent does not know the fetch handler {0}")]
    Unknown(String),
}

/// The body of an answer. Reading it ends with an error when the job is stopped.
pub(super) struct Body<'a> {
    response: Response,
    chunk: Bytes,
    stop: &'a CancellationToken,
}

/// Gets what is at a path of the server, with GoCD's tries: four, with a growing and random pause
/// between them; an answer 202 (it is being made) counts for nothing.
pub(super) fn perform(
    path_and_query: &str,
    target: &mut dyn Target,
    context: &TaskContext,
    pauses: &dyn Pauses,
) -> Result<(), FetchError> {
    let url = context.server.url(path_and_query);
    for attempt in 1..=TRIES {
        let tried = download(path_and_query, target, context, pauses)
            .and_then(|status| Ok((status, target.judge(status, context)?)));
        if context.stop.is_cancelled() {
            return Err(FetchError::Stopped);
        }
        let cause = match tried {
            Ok((_, true)) => return Ok(()),
            Ok((status, false)) => {
                format!(
                    "Unsuccessful response '{}' from the server",
                    status.as_u16()
                )
            }
            Err(error) => format!("Caught an exception '{error}'"),
        };
        if attempt == TRIES {
            break;
        }
        let seconds = (f64::from(attempt) * 10.0 + 10.0 * pauses.chance()).round();
        context.console.line(
            Tag::Err,
            &format!(
                "[go] Could not fetch artifact {url}. Pausing {seconds} seconds to retry. Error was \
                 : {cause}"
            ),
        );
        pauses.pause(Duration::from_secs_f64(seconds), &context.stop);
        if context.stop.is_cancelled() {
            return Err(FetchError::Stopped);
        }
    }
    Err(FetchError::GivenUp(url))
}

fn download(
    path_and_query: &str,
    target: &mut dyn Target,
    context: &TaskContext,
    pauses: &dyn Pauses,
) -> Result<StatusCode, FetchError> {
    loop {
        let used = context.server.credentials();
        let request = context.server.file_request(Method::GET, path_and_query);
        let response = interruptible(&context.stop, request.send())
            .ok_or(FetchError::Stopped)?
            .map_err(|error| FetchError::Http(why(&error)))?;
        let status = response.status();
        match status {
            StatusCode::ACCEPTED => {
                pauses.pause(NOT_YET, &context.stop);
                if context.stop.is_cancelled() {
                    return Err(FetchError::Stopped);
                }
            }
            StatusCode::OK => {
                let body = Body {
                    response,
                    chunk: Bytes::new(),
                    stop: &context.stop,
                };
                target.take(body, context)?;
                return Ok(status);
            }
            // The agent's registration is lost, and it is getting another.
            _ if is_unregistered(status)
                && interruptible(&context.stop, context.server.renewed(&used, status))
                    .ok_or(FetchError::Stopped)? => {}
            _ => return Ok(status),
        }
    }
}

/// Whether GoCD takes a status as success. Redirections, which its agent follows and this one does
/// not, are none.
pub(super) fn is_good(status: StatusCode) -> bool {
    status.is_success() || status == StatusCode::NOT_MODIFIED
}

/// Waits for the job runner's own thread to do this, or for the job to be stopped.
fn interruptible<T>(stop: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    Handle::current().block_on(async {
        tokio::select! {
            () = stop.cancelled() => None,
            done = work => Some(done),
        }
    })
}

/// The innermost cause, which is the one that says something.
fn why(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    match error.source() {
        Some(_) => cause.to_string(),
        // The error's own text has the URL in it, which stands in the line already.
        None => "the connection broke".to_owned(),
    }
}

// === impl Body ===

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.chunk.has_remaining() {
            let next = interruptible(self.stop, self.response.chunk())
                .ok_or_else(|| io::Error::other(FetchError::Stopped))?
                .map_err(|error| io::Error::other(FetchError::Http(why(&error))))?;
            match next {
                Some(chunk) => self.chunk = chunk,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.chunk.remaining());
        self.chunk.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

// === impl RealPauses ===

impl Pauses for RealPauses {
    fn chance(&self) -> f64 {
        let [a, b, c, d, ..] = uuid::Uuid::new_v4().into_bytes();
        f64::from(u32::from_le_bytes([a, b, c, d])) / f64::from(u32::MAX)
    }

    fn pause(&self, length: Duration, stop: &CancellationToken) {
        let _ = interruptible(stop, tokio::time::sleep(length));
    }
}
