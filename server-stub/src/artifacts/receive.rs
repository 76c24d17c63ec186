//! Receiving an upload into temporary files.

use axum::{body::Bytes, extract::Multipart};
use futures_util::{Stream, StreamExt as _};
use http::StatusCode;
use journeyman_protocol::files::{CHECKSUM_PART, FILE_PART, ZIP_PART};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt as _;

use crate::{App, answer::Refusal, space};

/// What an upload may hold; gone from the disk when dropped.
#[derive(Default)]
pub(super) struct Received {
    pub(super) zip: Option<NamedTempFile>,
    pub(super) file: Option<NamedTempFile>,
    pub(super) checksums: Option<NamedTempFile>,
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
        let slot = match part.name() {
            Some(ZIP_PART) => &mut received.zip,
            Some(FILE_PART) => &mut received.file,
            Some(CHECKSUM_PART) => &mut received.checksums,
            _ => continue,
        };
        let (file, size) =
            stream(app, part.map(|chunk| chunk.map_err(broken)), left, budget).await?;
        left -= size;
        *slot = Some(file);
    }
    Ok(received)
}

/// Receives a body, `limit` bytes at most, and answers its size.
pub(super) async fn stream(
    app: &App,
    body: impl Stream<Item = Result<Bytes, Refusal>>,
    limit: u64,
    budget: u64,
) -> Result<(NamedTempFile, u64), Refusal> {
    let failed = |error: std::io::Error| Refusal::internal("store an upload", &error);
    let temporary = NamedTempFile::new_in(app.paths.incoming()).map_err(failed)?;
    let mut file = tokio::fs::File::from_std(temporary.as_file().try_clone().map_err(failed)?);
    let mut size: u64 = 0;
    let mut body = std::pin::pin!(body);
    while let Some(chunk) = body.next().await {
        let chunk = chunk?;
        size += chunk.len() as u64;
        app.metrics.artifact_received(chunk.len());
        if size > limit {
            return Err(space::full(size, budget));
        }
        file.write_all(&chunk).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)?;
    Ok((temporary, size))
}
