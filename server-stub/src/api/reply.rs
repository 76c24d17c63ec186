//! The same as in [`call`](super::call), one by one, for handlers that do not take a `Call` yet.

use axum::body::Bytes;
use axum::response::Response;
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};

pub(super) use super::body::confirmed;
pub(super) use super::call::{counter, document, not_found, version};
use crate::App;
use crate::answer::Refusal;

/// `{"message": ...}`.
pub(super) fn message(status: StatusCode, version: u32, text: impl Into<String>) -> Response {
    document(status, version, &json!({ "message": text.into() }))
}

/// The JSON body of a write, or none if the call has no body and is confirmed.
///
/// # Errors
///
/// 415, 400: what GoCD answers.
pub(super) fn body(headers: &HeaderMap, body: &Bytes) -> Result<Option<Value>, Refusal> {
    if body.is_empty() {
        confirmed(headers)?;
        return Ok(None);
    }
    let media_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if !media_type
        .split(';')
        .next()
        .is_some_and(|one| one.trim().eq_ignore_ascii_case("application/json"))
    {
        return Err(Refusal::message(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "The body must be sent with the header 'Content-Type: application/json'.",
        ));
    }
    match serde_json::from_slice(body) {
        Ok(value @ Value::Object(_)) => Ok(Some(value)),
        Ok(_) => Err(Refusal::error(
            StatusCode::BAD_REQUEST,
            "The body must be a JSON object.",
        )),
        Err(error) => Err(Refusal::error(
            StatusCode::BAD_REQUEST,
            format!("The body is not JSON: {error}."),
        )),
    }
}

/// `http://host:port/go` as the caller knows it.
pub(super) fn base(app: &App, headers: &HeaderMap) -> String {
    let host = headers
        .get(header::HOST)
        .and_then(|value| value.to_str().ok());
    let Some(host) = host else {
        return app.endpoints.http_url.clone();
    };
    let secure = host
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse() == Ok(app.endpoints.https_port));
    let scheme = if secure { "https" } else { "http" };
    format!("{scheme}://{host}/go")
}
