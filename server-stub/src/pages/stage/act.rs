//! The buttons of a stage: run, rerun, cancel.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::Locator;
use crate::App;
use crate::answer::Refusal;
use crate::pages::fields::Fields;
use crate::pages::not_found;
use crate::pages::outcome::{done, origin, refused};
use crate::scheduling::{self, CancelError, Refused, Rerun, RerunError, RunStageError};
use crate::users::Actor;

pub(in crate::pages) async fn cancel(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    Path((pipeline, counter, stage, stage_counter)): Path<Locator>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let outcome = scheduling::cancel_stage(&app, &pipeline, counter, &stage, stage_counter, &actor);
    let path = format!("/go/pipelines/{pipeline}/{counter}/{stage}/{stage_counter}");
    match outcome.await {
        Ok(_) => Ok(done(&headers, &path)),
        Err(error) => not_cancelled(error, origin(&headers, &path)),
    }
}

/// The page that says why a stage was not cancelled.
pub(in crate::pages) fn not_cancelled(
    error: CancelError,
    back: String,
) -> Result<Response, Refusal> {
    let status = match &error {
        CancelError::Database(_) => return Err(Refusal::internal("cancel a stage", &error)),
        CancelError::Unknown { .. } => return Err(not_found("such stage")),
        CancelError::Refused { refused, .. } => status(refused),
    };
    let title = "The stage was not cancelled";
    Ok(refused(status, title, error.to_string(), back))
}

/// Runs a stage that waits for a person, or once more with all its jobs.
pub(in crate::pages) async fn run(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    Path((pipeline, counter, stage)): Path<(String, i64, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let error = match scheduling::run_stage(&app, &pipeline, counter, &stage, &actor).await {
        Ok(stage_counter) => {
            let path = format!("/go/pipelines/{pipeline}/{counter}/{stage}/{stage_counter}");
            let from = origin(&headers, &path);
            // From the page of one run of the stage to that of the new one.
            let leaves = from.starts_with(&format!("/go/pipelines/{pipeline}/{counter}/"));
            let to = if leaves { &path } else { &from };
            return Ok(Redirect::to(to).into_response());
        }
        Err(RunStageError::Database(error)) => return Err(error.into()),
        Err(error) => error,
    };
    let status = match &error {
        RunStageError::UnknownRun { .. } | RunStageError::UnknownStage { .. } => {
            StatusCode::NOT_FOUND
        }
        RunStageError::Refused { refused, .. } => status(refused),
        _ => StatusCode::CONFLICT,
    };
    let back = origin(&headers, "/go/pipelines");
    let title = format!("{stage} was not run");
    Ok(refused(status, title, error.to_string(), back))
}

/// Runs some jobs of a stage once more: `what=failed`, or those that are ticked.
pub(in crate::pages) async fn rerun(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    Path((pipeline, counter, stage, stage_counter)): Path<Locator>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let fields = Fields::of(&body);
    let which = match fields.get("what") {
        Some("failed") => Rerun::Failed,
        _ => Rerun::Selected(fields.all("job").map(ToOwned::to_owned).collect()),
    };
    let outcome = scheduling::rerun_jobs(
        &app,
        &pipeline,
        counter,
        &stage,
        stage_counter,
        &which,
        &actor,
    );
    let run = format!("/go/pipelines/{pipeline}/{counter}/{stage}");
    let error = match outcome.await {
        Ok(new) => return Ok(Redirect::to(&format!("{run}/{new}")).into_response()),
        Err(RerunError::Database(error)) => return Err(error.into()),
        Err(error) => error,
    };
    let status = match &error {
        RerunError::UnknownStage { .. } | RerunError::UnknownJobs { .. } => StatusCode::NOT_FOUND,
        RerunError::NoneFailed { .. } | RerunError::NoneSelected { .. } => StatusCode::BAD_REQUEST,
        RerunError::Refused { refused, .. } => status(refused),
        _ => StatusCode::CONFLICT,
    };
    let title = format!("No job of {stage} was run again");
    let back = format!("{run}/{stage_counter}");
    Ok(refused(status, title, error.to_string(), back))
}

fn status(refused: &Refused) -> StatusCode {
    match refused {
        Refused::NotAllowed { .. } => StatusCode::FORBIDDEN,
        _ => StatusCode::CONFLICT,
    }
}
