//! The buttons that keep a run's consoles and artifacts, and let them go.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::fields::Fields;
use super::outcome::{done, origin, refused};
use crate::App;
use crate::answer::Refusal;
use crate::retention::{self, LONGEST_REASON, Pin, PinError};
use crate::users::Actor;

/// What a page says of a run that is kept.
pub(super) fn told(pin: &Pin) -> String {
    match pin.reason.as_str() {
        "" => format!("Pinned by {}", pin.pinned_by),
        reason => format!("Pinned by {}: {reason}", pin.pinned_by),
    }
}

pub(super) async fn pin(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    Path((pipeline, counter)): Path<(String, i64)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let fields = Fields::of(&body);
    let reason = fields.get("reason").unwrap_or_default().trim();
    let back = back(&pipeline, counter);
    if reason.chars().count() > LONGEST_REASON {
        let title = format!("{pipeline}/{counter} was not pinned");
        let why = format!("A reason has at most {LONGEST_REASON} characters.");
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        return Ok(refused(status, title, why, origin(&headers, &back)));
    }
    let outcome = retention::pin(&app, &pipeline, counter, &actor.name, reason).await;
    answer(&headers, back, "pinned", outcome)
}

pub(super) async fn unpin(
    State(app): State<Arc<App>>,
    Path((pipeline, counter)): Path<(String, i64)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let outcome = retention::unpin(&app, &pipeline, counter).await;
    answer(&headers, back(&pipeline, counter), "unpinned", outcome)
}

fn back(pipeline: &str, counter: i64) -> String {
    format!("/go/pipeline/activity/{pipeline}#run-{counter}")
}

fn answer(
    headers: &HeaderMap,
    back: String,
    what: &str,
    outcome: Result<(), PinError>,
) -> Result<Response, Refusal> {
    match outcome {
        Ok(()) => Ok(done(headers, &back)),
        Err(PinError::Database(error)) => Err(error.into()),
        Err(error) => {
            let title = format!("The run was not {what}");
            let back = "/go/pipelines".to_owned();
            Ok(refused(
                StatusCode::NOT_FOUND,
                title,
                error.to_string(),
                back,
            ))
        }
    }
}
