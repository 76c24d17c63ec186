//! The body of a write: read in one place, with GoCD's rules against requests that a page of
//! somebody else makes a browser send.

use std::{fmt, sync::Arc};

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value};

use super::call::invalid;
use crate::App;
use crate::answer::Refusal;

/// The fields of a JSON object; none for a request without a body, which must be confirmed.
///
/// The last argument of a handler.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Body(Map<String, Value>);

impl FromRequest<Arc<App>> for Body {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Refusal> {
        let (headers, bytes) = read(request, app).await?;
        if bytes.is_empty() {
            confirmed(&headers)?;
            return Ok(Self::default());
        }
        if media_type(&headers) != "application/json" {
            return Err(Refusal::message(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "The body must be sent with the header 'Content-Type: application/json'.",
            ));
        }
        parse(&bytes)
    }
}

/// The same where old clients send a form: its fields, each a text. A page of somebody else can
/// make a browser send a form, so it must be confirmed as if it were none.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct BodyOrForm(pub(super) Body);

impl FromRequest<Arc<App>> for BodyOrForm {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Refusal> {
        let (headers, bytes) = read(request, app).await?;
        let media_type = media_type(&headers);
        match media_type.as_str() {
            _ if bytes.is_empty() => {
                confirmed(&headers)?;
                Ok(Self::default())
            }
            "application/json" => Ok(Self(parse(&bytes)?)),
            "application/x-www-form-urlencoded" => {
                confirmed(&headers)?;
                let fields = url::form_urlencoded::parse(&bytes);
                let fields = fields.map(|(name, value)| (name.into_owned(), Value::from(value)));
                Ok(Self(Body(fields.collect())))
            }
            _ => Err(Refusal::message(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "The body must be sent with the header 'Content-Type: application/json', or as a form.",
            )),
        }
    }
}

async fn read(request: Request, app: &Arc<App>) -> Result<(HeaderMap, Bytes), Refusal> {
    let headers = request.headers().clone();
    let bytes = Bytes::from_request(request, app).await;
    let bytes = bytes.map_err(|refused| Refusal::message(refused.status(), refused.body_text()))?;
    Ok((headers, bytes))
}

fn parse(bytes: &[u8]) -> Result<Body, Refusal> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(fields)) => Ok(Body(fields)),
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

/// The media type of a body, in lower case and without its parameters.
fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE);
    let text = value.and_then(|value| value.to_str().ok());
    let kind = text.unwrap_or_default().split(';').next();
    kind.unwrap_or_default().trim().to_ascii_lowercase()
}

/// A write without a body must carry a header that no form of a foreign page can send.
///
/// # Errors
///
/// 400, as GoCD.
pub(crate) fn confirmed(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.contains_key("X-GoCD-Confirm") || headers.contains_key("Confirm") {
        return Ok(());
    }
    Err(Refusal::message(
        StatusCode::BAD_REQUEST,
        "A request without a JSON body needs the header 'X-GoCD-Confirm: true'.",
    ))
}

/// The fields of an object. A field that is `null` is as one that is not there; one of another
/// kind than asked for is answered with 422.
impl Body {
    /// The fields of an object inside another.
    pub(super) fn of(fields: Map<String, Value>) -> Self {
        Self(fields)
    }

    pub(crate) fn fields(&self) -> &Map<String, Value> {
        &self.0
    }

    /// All of it, to be read as a type of its own.
    pub(super) fn into_value(self) -> Value {
        Value::Object(self.0)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, Refusal> {
        self.typed(name, "text", Value::as_str)
    }

    /// A text that must be there and not empty.
    pub(super) fn required(&self, name: &str) -> Result<&str, Refusal> {
        let text = self.text(name)?.filter(|text| !text.trim().is_empty());
        text.ok_or_else(|| invalid(format!("'{name}' is missing.")))
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Refusal> {
        self.typed(name, "true or false", Value::as_bool)
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<i64>, Refusal> {
        self.typed(name, "a whole number", Value::as_i64)
    }

    /// An object inside; empty when it is not there.
    pub(super) fn object(&self, name: &str) -> Result<Self, Refusal> {
        let fields = self.typed(name, "an object", Value::as_object)?;
        Ok(Self(fields.cloned().unwrap_or_default()))
    }

    /// A list; empty when it is not there.
    pub(super) fn list(&self, name: &str) -> Result<&[Value], Refusal> {
        let list = self.typed(name, "a list", Value::as_array)?;
        Ok(list.map_or(&[], Vec::as_slice))
    }

    /// A list of texts, or one text with commas between them; none when it is not there.
    pub(super) fn texts(&self, name: &str) -> Result<Option<Vec<String>>, Refusal> {
        self.typed(name, "a list of texts", |value| match value {
            Value::String(text) => {
                let parts = text.split(',').map(str::trim);
                let parts = parts.filter(|part| !part.is_empty());
                Some(parts.map(ToOwned::to_owned).collect())
            }
            Value::Array(items) => items
                .iter()
                .map(|item| item.as_str().map(ToOwned::to_owned))
                .collect(),
            _ => None,
        })
    }

    fn typed<'a, T>(
        &'a self,
        name: &str,
        kind: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Refusal> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let found = read(value);
        let found = found.ok_or_else(|| invalid(format!("'{name}' must be {kind}.")))?;
        Ok(Some(found))
    }
}

impl fmt::Display for Body {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = serde_json::to_string(&self.0).map_err(|_| fmt::Error)?;
        formatter.write_str(&text)
    }
}
