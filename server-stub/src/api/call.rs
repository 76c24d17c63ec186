//! What every call begins with, and how it is answered: the version of the answer, its links, its
//! `ETag`.
//!
//! A handler takes a [`Call`] with the newest version it serves, an [`Actor`](crate::users::Actor)
//! where it matters who asks, and for writes a [`Body`](super::body::Body) as its last argument.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use md5::{Digest as _, Md5};
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::{Sqlite, pool::PoolConnection};

use crate::App;
use crate::answer::Refusal;
use crate::database::DatabaseError;
use crate::hex::hex;
use crate::listening::Peer;

/// Where GoCD describes its API; clients show it and do not follow it.
const DOCUMENTATION: &str = "https://api.gocd.org/current/";

/// What GoCD sends with every document.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("max-age=0, private, must-revalidate");

/// A call of the API whose newest version is `NEWEST`.
pub(super) struct Call<const NEWEST: u32> {
    pub(super) app: Arc<App>,
    /// The server's address as the caller knows it, up to and including `/go`.
    pub(super) base: String,
    /// What the answer is in: the version that was asked for, or the newest.
    version: u32,
    if_match: Option<String>,
    if_none_match: Option<String>,
}

/// A call whose answer has no version and that takes any `Accept`.
pub(super) type AnyCall = Call<{ u32::MAX }>;

impl<const NEWEST: u32> FromRequestParts<Arc<App>> for Call<NEWEST> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refusal> {
        let text = |name: HeaderName| {
            let value = parts.headers.get(name)?;
            value.to_str().ok().map(ToOwned::to_owned)
        };
        Ok(Self {
            app: Arc::clone(app),
            base: app.base_url(&parts.headers, parts.extensions.get::<Peer>()),
            version: version(&parts.headers, NEWEST)?,
            if_match: text(header::IF_MATCH),
            if_none_match: text(header::IF_NONE_MATCH),
        })
    }
}

impl<const NEWEST: u32> Call<NEWEST> {
    /// The same, to be answered with something that has no version.
    pub(super) fn into_any(self) -> AnyCall {
        Call {
            app: self.app,
            base: self.base,
            version: self.version,
            if_match: self.if_match,
            if_none_match: self.if_none_match,
        }
    }

    /// A connection that only reads.
    pub(super) async fn reader(&self) -> Result<PoolConnection<Sqlite>, Refusal> {
        let acquired = self.app.database.readers().acquire().await;
        acquired.map_err(|error| DatabaseError::from(error).into())
    }

    /// The version of the answer.
    pub(super) fn version(&self) -> u32 {
        self.version
    }

    /// 200 with a document.
    pub(super) fn answer(&self, body: &impl Serialize) -> Response {
        self.answer_with(StatusCode::OK, body)
    }

    pub(super) fn answer_with(&self, status: StatusCode, body: &impl Serialize) -> Response {
        document(status, self.version, body)
    }

    /// 200 with `{"message": ...}`.
    pub(super) fn message(&self, text: impl Into<String>) -> Response {
        self.message_with(StatusCode::OK, text)
    }

    pub(super) fn message_with(&self, status: StatusCode, text: impl Into<String>) -> Response {
        self.answer_with(status, &json!({ "message": text.into() }))
    }

    /// 200 with a document and its `ETag`, or 304 if the caller has it already.
    pub(super) fn answer_tagged(&self, body: &impl Serialize) -> Response {
        self.tagged(body, self.answer(body))
    }

    /// Gives an answer the `ETag` of a document; 304 takes its place if the caller has it already.
    pub(super) fn tagged(&self, document: &impl Serialize, mut answer: Response) -> Response {
        let tag = tag(document);
        if self
            .if_none_match
            .as_deref()
            .is_some_and(|asked| names(asked, &tag))
        {
            answer = (
                StatusCode::NOT_MODIFIED,
                [(header::CACHE_CONTROL, CACHE_CONTROL)],
            )
                .into_response();
        }
        if let Ok(value) = HeaderValue::from_str(&tag) {
            answer.headers_mut().insert(header::ETAG, value);
        }
        answer
    }

    /// Refuses a change of something that is no longer as the caller has seen it.
    ///
    /// # Errors
    ///
    /// 412, also when `If-Match` is missing: as GoCD.
    pub(super) fn must_match(&self, what: &str, current: &impl Serialize) -> Result<(), Refusal> {
        let tag = tag(current);
        if self
            .if_match
            .as_deref()
            .is_some_and(|asked| names(asked, &tag))
        {
            return Ok(());
        }
        Err(Refusal::message(
            StatusCode::PRECONDITION_FAILED,
            format!(
                "Someone has modified {what}, or the header 'If-Match' with the ETag of the last GET is missing. Get it again and repeat the change."
            ),
        ))
    }

    /// An address below `/go`.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// `_links` with `self`, `doc` and `find`; the paths are below `/go`.
    pub(super) fn links(&self, own: &str, topic: &str, find: Option<&str>) -> Value {
        links(
            &self.url(own),
            topic,
            find.map(|find| self.url(find)).as_deref(),
        )
    }
}

/// The version to answer with. GoCD wants one exact media type; published clients send old
/// versions, lists and `*/*`, so only a version from the future is refused.
///
/// # Errors
///
/// 404, as GoCD.
pub(super) fn version(headers: &HeaderMap, newest: u32) -> Result<u32, Refusal> {
    let accept = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut refused = None;
    for asked in accept.flat_map(|accept| accept.split(',')) {
        let media_type = asked.split(';').next().unwrap_or_default().trim();
        let versioned = media_type.strip_prefix("application/vnd.go.cd.v");
        let Some(number) = versioned.and_then(|rest| rest.strip_suffix("+json")) else {
            continue;
        };
        match number.parse() {
            Ok(version) if (1..=newest).contains(&version) => return Ok(version),
            _ => refused = Some(number.to_owned()),
        }
    }
    let Some(number) = refused else {
        return Ok(newest);
    };
    Err(Refusal::text(
        StatusCode::NOT_FOUND,
        format!(
            "The URL appears incorrect: version {number} of this call is not served; the newest is {newest}.\n"
        ),
    ))
}

/// A versioned JSON document.
pub(super) fn document(status: StatusCode, version: u32, body: &impl Serialize) -> Response {
    let text = match serde_json::to_string_pretty(body) {
        Ok(text) => text,
        Err(error) => return Refusal::internal("write an answer", &error).into_response(),
    };
    let media_type = format!("application/vnd.go.cd.v{version}+json;charset=utf-8");
    let mut response = (status, text).into_response();
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&media_type) {
        headers.insert(header::CONTENT_TYPE, value);
    }
    headers.insert(header::CACHE_CONTROL, CACHE_CONTROL);
    response
}

/// The `ETag` of a document, quotes included: it is another one when the document is.
fn tag(document: &impl Serialize) -> String {
    // What cannot be written is not answered either.
    let text = serde_json::to_vec(document).unwrap_or_default();
    format!("\"{}\"", hex(&Md5::digest(&text)))
}

/// Whether a header with one or more tags names this one. Proxies that compress add `--gzip` to a
/// tag, and `W/` before it.
fn names(header: &str, tag: &str) -> bool {
    header.split(',').any(|asked| {
        let asked = asked.trim().trim_start_matches("W/").trim_matches('"');
        let asked = asked.trim_end_matches("--gzip");
        asked == "*" || asked == tag.trim_matches('"')
    })
}

/// `_links` with `self`, `doc` and `find`, of whole addresses.
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

/// A time in those documents that have no milliseconds.
pub(super) fn time(milliseconds: i64) -> String {
    let time = Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH);
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
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
            invalid(format!(
                "The counter '{text}' must be a number greater than 0."
            ))
        })
}

/// 404 for an entity that is not there.
pub(super) fn not_found(kind: &str, by: &str, name: &str) -> Refusal {
    Refusal::message(
        StatusCode::NOT_FOUND,
        format!("{kind} with {by} '{name}' was not found!"),
    )
}

/// 422: understood, and not possible.
pub(super) fn invalid(text: impl Into<String>) -> Refusal {
    Refusal::message(StatusCode::UNPROCESSABLE_ENTITY, text)
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn a_version_from_the_future_is_refused_only_when_nothing_else_is_asked_for() {
        let table = [
            (None, Some(7)),
            (Some("*/*"), Some(7)),
            (Some("application/json"), Some(7)),
            (Some("application/vnd.go.cd+json"), Some(7)),
            (Some("application/vnd.go.cd.v7+json"), Some(7)),
            (Some("application/vnd.go.cd.v4+json"), Some(4)),
            (
                Some("text/html, application/vnd.go.cd.v2+json;q=0.9"),
                Some(2),
            ),
            (Some("application/vnd.go.cd.v8+json"), None),
            (Some("application/vnd.go.cd.v0+json"), None),
            (Some("application/vnd.go.cd.v99999999999+json"), None),
            (
                Some("application/vnd.go.cd.v8+json, application/vnd.go.cd.v6+json"),
                Some(6),
            ),
        ];
        for (accept, expected) in table {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(header::ACCEPT, accept.parse().unwrap());
            }
            assert_eq!(version(&headers, 7).ok(), expected, "{accept:?}");
        }
    }

    #[test]
    fn a_tag_is_known_again_after_a_proxy_had_it() {
        let tag = tag(&json!({ "a": 1 }));
        assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag}");
        let inner = tag.trim_matches('"');
        for asked in [
            tag.clone(),
            inner.to_owned(),
            format!("\"{inner}--gzip\""),
            format!("W/{tag}"),
            format!("\"other\", {tag}"),
        ] {
            assert!(names(&asked, &tag), "{asked}");
        }
        assert!(!names("\"other\"", &tag));
    }
}
