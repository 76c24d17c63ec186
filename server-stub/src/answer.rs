//! What a request is answered with when it cannot be fulfilled.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use serde_json::json;

use crate::database::DatabaseError;

/// A request that is refused or has failed: a status and a body in the form its caller expects.
///
/// GoCD answers people's requests (REST) with `{"message"}`, errors of the remoting API with
/// `{"error"}`, files with plain text and the agents' filter with nothing at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{0}: {1}")]
    Message(StatusCode, String),
    #[error("{0}: {1}")]
    Error(StatusCode, String),
    #[error("{0}: {1}")]
    Text(StatusCode, String),
    #[error("{0}")]
    Empty(StatusCode),
}

impl Refusal {
    /// JSON `{"message": ...}`.
    pub fn message(status: StatusCode, message: impl Into<String>) -> Self {
        Self::Message(status, message.into())
    }

    /// JSON `{"error": ...}`.
    pub fn error(status: StatusCode, error: impl Into<String>) -> Self {
        Self::Error(status, error.into())
    }

    /// Plain text.
    pub fn text(status: StatusCode, text: impl Into<String>) -> Self {
        Self::Text(status, text.into())
    }

    /// The server failed. The cause is logged here; the caller learns no more than what was tried.
    pub fn internal(tried: &str, cause: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(cause = %Chain(cause), tried, "a request failed");
        Self::Error(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("cannot {tried}: the server's log says why"),
        )
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Message(status, message) => {
                (status, Json(json!({ "message": message }))).into_response()
            }
            Self::Error(status, error) => (status, Json(json!({ "error": error }))).into_response(),
            Self::Text(status, text) => (
                status,
                [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
                text,
            )
                .into_response(),
            Self::Empty(status) => status.into_response(),
        }
    }
}

impl From<DatabaseError> for Refusal {
    fn from(error: DatabaseError) -> Self {
        let refusal = Self::internal("use the database", &error);
        if error.is_full() {
            return Self::error(
                StatusCode::INSUFFICIENT_STORAGE,
                "the server's disk is full: nothing was changed. Free some space in its data folder",
            );
        }
        refusal
    }
}

/// Shows an error with all its causes, on one line.
pub struct Chain<'a>(pub &'a (dyn std::error::Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(formatter, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}
