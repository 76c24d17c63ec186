//! Receiving an upload: files into temporary files, a zip into what it holds.

use std::{io, time::Duration};

use axum::{body::Bytes, extract::Multipart};
use bytes::Buf as _;
use futures_util::{Stream, StreamExt as _};
use http::StatusCode;
use journeyman_protocol::files::{CHECKSUM_PART, FILE_PART, ZIP_PART};
use ring::digest;
use tempfile::{NamedTempFile, TempDir};
use tokio::{
    io::AsyncWriteExt as _,
    sync::{Semaphore, mpsc},
};

use super::unpack::{self, Entry, SHA256, UnpackError};
use crate::{App, answer::Refusal, space};

/// Zips that are unpacked at the same time: each takes a thread of those that also read and write
/// consoles, and there are 512.
static UNPACKING: Semaphore = Semaphore::const_new(128);
/// How long the next bytes of a zip may take, which has such a thread.
const STALLED: Duration = Duration::from_secs(120);
/// Pieces of a body that may wait for being unpacked.
const AHEAD: usize = 8;

/// What an upload may hold; gone from the disk when dropped.
#[derive(Default)]
pub(super) struct Received {
    pub(super) zip: Option<Zip>,
    pub(super) file: Option<File>,
    pub(super) checksums: Option<File>,
}

/// A zip's files, in a folder, and what they are.
pub(super) struct Zip {
    pub(super) staging: TempDir,
    pub(super) entries: Vec<Entry>,
}

/// A file with what was measured while it came.
pub(super) struct File {
    pub(super) content: NamedTempFile,
    pub(super) size: u64,
    pub(super) sha256: [u8; SHA256],
}

/// Receives the parts of an upload, `budget` bytes at most.
pub(super) async fn parts(
    app: &App,
    mut multipart: Multipart,
    budget: u64,
) -> Result<Received, Refusal> {
    let broken = |error: axum::extract::multipart::MultipartError| {
        Refusal::text(
            StatusCode::BAD_REQUEST,
            format!("cannot read the upload: {error}\n"),
        )
    };
    let mut received = Received::default();
    let mut left = budget;
    while let Some(part) = multipart.next_field().await.map_err(broken)? {
        let name = part.name().unwrap_or_default().to_owned();
        let body = part.map(|chunk| chunk.map_err(broken));
        let slot = match name.as_str() {
            ZIP_PART => {
                let zip = unzip(app, body, left).await?;
                let files = zip.entries.iter().filter_map(|entry| entry.file.as_ref());
                left = left.saturating_sub(files.map(|file| file.size).sum());
                received.zip = Some(zip);
                continue;
            }
            FILE_PART => &mut received.file,
            CHECKSUM_PART => &mut received.checksums,
            _ => continue,
        };
        let file = stream(app, body, left, budget).await?;
        left -= file.size;
        *slot = Some(file);
    }
    Ok(received)
}

/// Receives a body, `limit` bytes at most.
pub(super) async fn stream(
    app: &App,
    body: impl Stream<Item = Result<Bytes, Refusal>>,
    limit: u64,
    budget: u64,
) -> Result<File, Refusal> {
    let failed = |error: io::Error| Refusal::internal("store an upload", &error);
    let content = NamedTempFile::new_in(app.paths.incoming()).map_err(failed)?;
    let mut file = tokio::fs::File::from_std(content.as_file().try_clone().map_err(failed)?);
    let mut context = digest::Context::new(&digest::SHA256);
    let mut size: u64 = 0;
    let mut body = std::pin::pin!(body);
    while let Some(chunk) = body.next().await {
        let chunk = chunk?;
        size += chunk.len() as u64;
        app.metrics.artifact_received(chunk.len());
        if size > limit {
            return Err(space::full(size, budget));
        }
        context.update(&chunk);
        file.write_all(&chunk).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)?;
    Ok(File {
        content,
        size,
        sha256: unpack::bytes_of(context),
    })
}

/// Unpacks a zip while it arrives.
async fn unzip(
    app: &App,
    body: impl Stream<Item = Result<Bytes, Refusal>>,
    budget: u64,
) -> Result<Zip, Refusal> {
    let failed = |error: io::Error| Refusal::internal("store an upload", &error);
    // Never closed.
    let _turn = UNPACKING.acquire().await;
    let staging = tempfile::tempdir_in(app.paths.incoming()).map_err(failed)?;
    let (pieces, rest) = mpsc::channel(AHEAD);
    let unpacking = tokio::task::spawn_blocking(move || {
        let rest = Pieces {
            piece: Bytes::new(),
            rest,
        };
        let entries = unpack::unpack(rest, staging.path(), budget)?;
        Ok(Zip { staging, entries })
    });
    let mut body = std::pin::pin!(body);
    loop {
        let piece = tokio::time::timeout(STALLED, body.next()).await;
        let piece = piece.map_err(|_| {
            let text = format!("nothing of the upload came for {} s\n", STALLED.as_secs());
            Refusal::text(StatusCode::REQUEST_TIMEOUT, text)
        })?;
        let Some(piece) = piece.transpose()? else {
            break;
        };
        if pieces.send(piece).await.is_err() {
            // It was refused, and says why.
            break;
        }
    }
    drop(pieces);
    let unpacked = unpacking
        .await
        .map_err(|error| failed(io::Error::other(error)))?;
    unpacked.map_err(|error| match error {
        UnpackError::Leaves(_) | UnpackError::Link(_) => {
            Refusal::text(StatusCode::FORBIDDEN, format!("{error}\n"))
        }
        UnpackError::TooLarge(_) => {
            Refusal::text(StatusCode::PAYLOAD_TOO_LARGE, format!("{error}\n"))
        }
        UnpackError::Zip(_) => Refusal::text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("cannot unpack the upload: {error}\n"),
        ),
        UnpackError::Io(_) => Refusal::internal("unpack an upload", &error),
    })
}

/// What arrives, for a reader on a thread of its own. A body that broke off just ends: a zip says
/// itself where its end is.
struct Pieces {
    piece: Bytes,
    rest: mpsc::Receiver<Bytes>,
}

impl io::Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.rest.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
