//! What all calls have in common: versions, bodies, confirmation, links.

use axum::body::Bytes;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::App;
use crate::answer::Refusal;

/// Where GoCD describes its API; clients show it and do not follow it.
const DOCUMENTATION: &str = "https://api.gocd.org/current/";

/// The version to answer with. GoCD wants one exact media type; published clients send old
/// versions, lists and `*/*`, so only a version from the future is refused.
///
/// # Errors
///
/// 404, as GoCD.
pub(super) fn version(headers: &HeaderMap, newest: u32) -> Result<u32, Refusal> {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    let Some(asked) = accept.and_then(|accept| accept.split("application/vnd.go.cd.v").nth(1))
    else {
        return Ok(newest);
    };
    let digits: String = asked.chars().take_while(char::is_ascii_digit).collect();
    match digits.parse() {
        Ok(version) if (1..=newest).contains(&version) => Ok(version),
        _ => Err(Refusal::text(
            StatusCode::NOT_FOUND,
            format!(
                "The URL appears incorrect: version {digits} of this call is not served; the newest is {newest}.\n"
            ),
        )),
    }
}

/// A versioned JSON document.
pub(super) fn document(status: StatusCode, version: u32, body: &Value) -> Response {
    let text = serde_json::to_string_pretty(body).unwrap_or_default();
    let media_type = format!("application/vnd.go.cd.v{version}+json;charset=utf-8");
    let mut response = (status, text).into_response();
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&media_type) {
        headers.insert(header::CONTENT_TYPE, value);
    }
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("max-age=0, private, must-revalidate"),
    );
    response
}

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

/// A write without a body must carry a header that no form of a foreign page can send.
///
/// # Errors
///
/// 400, as GoCD.
pub(super) fn confirmed(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.contains_key("X-GoCD-Confirm") || headers.contains_key("Confirm") {
        return Ok(());
    }
    Err(Refusal::message(
        StatusCode::BAD_REQUEST,
        "A request without a body needs the header 'X-GoCD-Confirm: true'.",
    ))
}

/// A counter out of a path.
///
/// # Errors
///
/// 422, as GoCD.
pub(super) fn counter(text: &str) -> Result<i64, Refusal> {
    text.parse()
        .ok()
        .filter(|counter| *counter > 0)
        .ok_or_else(|| {
            Refusal::message(
                StatusCode::UNPROCESSABLE_ENTITY,
                format!("The counter '{text}' must be a number greater than 0."),
            )
        })
}

/// 404 for an entity that is not there.
pub(super) fn not_found(kind: &str, by: &str, name: &str) -> Refusal {
    Refusal::message(
        StatusCode::NOT_FOUND,
        format!("{kind} with {by} '{name}' was not found!"),
    )
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

/// `_links` with `self`, `doc` and `find`.
pub(super) fn links(own: &str, topic: &str, find: Option<&str>) -> Value {
    let mut links = json!({
        "self": { "href": own },
        "doc": { "href": format!("{DOCUMENTATION}#{topic}") },
    });
    if let Some(find) = find {
        links["find"] = json!({ "href": find });
    }
    links
}
