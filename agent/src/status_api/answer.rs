//! What the status API answers.

use jiff::{Timestamp, fmt::rfc2822::DateTimePrinter};
use percent_encoding::percent_decode_str;
use reqwest::StatusCode;

const PATHS: [&str; 2] = [
    "/health/v1/isConnectedToServer",
    "/health/latest/isConnectedToServer",
];

/// The whole answer to the head of a request; none if it had no end.
pub(super) fn answer(head: Option<&[u8]>, is_connected: bool, now: Timestamp) -> Vec<u8> {
    let (method, status, text) = match head.and_then(request_line) {
        None => ("", StatusCode::BAD_REQUEST, "This is no HTTP request."),
        Some((method, path)) => {
            let (status, text) = decide(method, &path, is_connected);
            (method, status, text)
        }
    };
    let body = if method.eq_ignore_ascii_case("HEAD") {
        ""
    } else {
        text
    };
    let date = DateTimePrinter::new()
        .timestamp_to_rfc9110_string(&now)
        .unwrap_or_default();
    format!(
        "HTTP/1.1 {} {}\r\nDate: {date}\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default(),
        text.len(),
    )
    .into_bytes()
}

/// GoCD: the method is looked at first; paths match by their beginning.
fn decide(method: &str, path: &str, is_connected: bool) -> (StatusCode, &'static str) {
    if !["GET", "HEAD"]
        .iter()
        .any(|known| method.eq_ignore_ascii_case(known))
    {
        (
            StatusCode::METHOD_NOT_ALLOWED,
            "Only GET and HEAD are understood here.",
        )
    } else if !PATHS.iter().any(|known| path.starts_with(known)) {
        (StatusCode::NOT_FOUND, "There is no such page.")
    } else if is_connected {
        (StatusCode::OK, "OK!")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "Bad!")
    }
}

/// Method and path of a request.
fn request_line(head: &[u8]) -> Option<(&str, String)> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    if method.is_empty() || !version.starts_with("HTTP/1.") || words.next().is_some() {
        return None;
    }
    // A proxy asks with the whole URL.
    let path = match target.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => target,
    };
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let path = percent_decode_str(path).decode_utf8_lossy();
    Some((method, path.into_owned()))
}
