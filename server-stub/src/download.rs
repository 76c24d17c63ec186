//! Sending a file: whole, or the one range that was asked for.

use std::{io, path::Path};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _},
};
use tokio_util::io::ReaderStream;

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
    let mut file = File::open(path).await?;
    let metadata = file.metadata().await?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "not a file"));
    }
    let size = metadata.len();
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
    file.seek(io::SeekFrom::Start(begin)).await?;
    let body = Body::from_stream(ReaderStream::with_capacity(file.take(length), 64 * 1024));
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
