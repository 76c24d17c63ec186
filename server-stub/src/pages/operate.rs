//! The buttons of a pipeline: pause, unpause, unlock.

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
use crate::scheduling::state::{self, StateError};
use crate::users::Actor;

const HOME: &str = "/go/pipelines";

pub(super) async fn pause(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    Path(pipeline): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let fields = Fields::of(&body);
    let cause = fields.get("cause").unwrap_or_default().trim();
    let outcome = state::pause(&app, &pipeline, &actor.name, cause).await;
    answer(&headers, &pipeline, "paused", outcome)
}

pub(super) async fn unpause(
    State(app): State<Arc<App>>,
    Path(pipeline): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let outcome = state::unpause(&app, &pipeline).await;
    answer(&headers, &pipeline, "unpaused", outcome)
}

pub(super) async fn unlock(
    State(app): State<Arc<App>>,
    Path(pipeline): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let outcome = state::unlock(&app, &pipeline).await;
    answer(&headers, &pipeline, "unlocked", outcome)
}

fn answer(
    headers: &HeaderMap,
    pipeline: &str,
    what: &str,
    outcome: Result<(), StateError>,
) -> Result<Response, Refusal> {
    let error = match outcome {
        Ok(()) => return Ok(done(headers, HOME)),
        Err(StateError::Database(error)) => return Err(error.into()),
        Err(error) => error,
    };
    let status = match error {
        StateError::Unknown(_) => StatusCode::NOT_FOUND,
        _ => StatusCode::CONFLICT,
    };
    let title = format!("{pipeline} was not {what}");
    let back = origin(headers, HOME);
    Ok(refused(status, title, error.to_string(), back))
}
