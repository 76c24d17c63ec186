//! Sending a file: whole, or the one range that was asked for.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{Stream, stream};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use tokio::task::{JoinHandle, spawn_blocking};

/// Bytes that are read at once: each read goes to another thread and back.
const PIECE: usize = 512 * 1024;

/// The answer with a file as its body.
///
/// # Errors
///
/// The file cannot be opened or is not a file.
pub async fn send(
    path: &Path,
    content_type: &'static str,
    headers: &HeaderMap,
) -> io::Result<Response> {
    let (file, size) = {
        let path = path.to_owned();
        in_background(move || open(&path)).await?
    };
    let range = headers
        .get(header::RANGE)
        .and_then(|range| parse_range(range.to_str().ok()?, size));
    let (status, begin, length) = match range {
        None => (StatusCode::OK, 0, size),
        Some(Some((begin, end))) => (StatusCode::PARTIAL_CONTENT, begin, end - begin + 1),
        Some(None) => {
            let of = [(header::CONTENT_RANGE, format!("bytes */{size}"))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, of).into_response());
        }
    };
    let body = Body::from_stream(pieces(file, begin, length));
    let mut response = (status, body).into_response();
    let answer = response.headers_mut();
    answer.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    answer.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {begin}-{}/{size}", begin + length - 1);
        if let Ok(range) = HeaderValue::try_from(range) {
            answer.insert(header::CONTENT_RANGE, range);
        }
    }
    Ok(response)
}

/// A file and its size.
fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "not a file"));
    }
    // The system reads further ahead then; where it cannot be told, it is slower.
    let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_SEQUENTIAL);
    Ok((file, metadata.len()))
}

/// A part of a file, piece by piece: while one is sent the next is read, and no more than that.
fn pieces(
    mut file: File,
    begin: u64,
    length: u64,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let first = read(
        move || {
            file.seek(SeekFrom::Start(begin))?;
            Ok(file)
        },
        length,
    );
    stream::try_unfold(Some(first), |reading| async {
        let Some(reading) = reading else {
            return Ok(None);
        };
        let (file, piece, left) = reading.await.map_err(io::Error::other)??;
        if piece.is_empty() {
            return Ok(None);
        }
        let next = (left > 0).then(|| read(|| Ok(file), left));
        Ok(Some((piece, next)))
    })
}

/// Reads the next piece of `left` bytes; answers it with what is left after it.
fn read(
    file: impl FnOnce() -> io::Result<File> + Send + 'static,
    left: u64,
) -> JoinHandle<io::Result<(File, Bytes, u64)>> {
    spawn_blocking(move || {
        let file = file()?;
        let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let mut piece = Vec::with_capacity(most);
        let read = (&file).take(most as u64).read_to_end(&mut piece)?;
        Ok((file, piece.into(), left - read as u64))
    })
}

async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}

/// First and last byte of a single range; `Some(None)` when it lies outside the file, `None` when
/// the header asks for something else, which is then ignored (RFC 9110).
fn parse_range(header: &str, size: u64) -> Option<Option<(u64, u64)>> {
    let range = header.strip_prefix("bytes=")?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.trim(), last.trim());
    if first.is_empty() {
        let suffix: u64 = last.parse().ok()?;
        return Some((suffix > 0 && size > 0).then(|| (size.saturating_sub(suffix), size - 1)));
    }
    let first: u64 = first.parse().ok()?;
    let last: u64 = if last.is_empty() {
        u64::MAX
    } else {
        last.parse().ok()?
    };
    if last < first {
        return None;
    }
    Some((first < size).then(|| (first, last.min(size - 1))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_of_several_pieces_comes_whole_and_in_parts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let content: Vec<u8> = (0..2 * PIECE + 7).map(|at| (at / 100) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let last = content.len() - 1;
        let parts = [
            (None, 0, last),
            (Some("bytes=5-"), 5, last),
            (Some("bytes=100-1048577"), 100, 1_048_577),
        ];
        for (range, first, last) in parts {
            let mut headers = HeaderMap::new();
            if let Some(range) = range {
                headers.insert(header::RANGE, HeaderValue::from_static(range));
            }
            let response = send(&path, "text/plain", &headers).await.unwrap();
            let body = axum::body::to_bytes(response.into_body(), usize::MAX).await;
            assert!(body.unwrap() == content[first..=last], "{range:?}");
        }
    }

    #[test]
    fn ranges() {
        assert_eq!(parse_range("bytes=0-4", 10), Some(Some((0, 4))));
        assert_eq!(parse_range("bytes=4-", 10), Some(Some((4, 9))));
        assert_eq!(parse_range("bytes=4-99", 10), Some(Some((4, 9))));
        assert_eq!(parse_range("bytes=-3", 10), Some(Some((7, 9))));
        assert_eq!(parse_range("bytes=10-", 10), Some(None));
        assert_eq!(parse_range("bytes=-0", 10), Some(None));
        assert_eq!(parse_range("bytes=0-", 0), Some(None));
        for ignored in ["bytes=0-1,3-4", "lines=0-1", "bytes=5-4", "bytes=x"] {
            assert_eq!(parse_range(ignored, 10), None, "{ignored}");
        }
    }
}
