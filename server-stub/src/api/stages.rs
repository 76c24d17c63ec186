//! `/api/stages` (run: version 2, the others: 3) and `/api/jobs` (version 1).

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::reply;
use crate::App;
use crate::answer::Refusal;
use crate::database::DatabaseError;
use crate::scheduling::run::{self, Run, StageRow};
use crate::scheduling::view::{self, JobView};
use crate::scheduling::{self, CancelError, Refused, RunStageError};
use crate::users::Actor;

const RUN_VERSION: u32 = 2;
const STAGE_VERSION: u32 = 3;
const JOB_VERSION: u32 = 1;

pub(super) fn router() -> Router<Arc<App>> {
    let stage = "/api/stages/{pipeline}/{counter}/{stage}";
    let job = "/api/jobs/{pipeline}/{counter}/{stage}/{stage_counter}/{job}";
    Router::new()
        .route(&format!("{stage}/run"), post(run_stage))
        .route(&format!("{stage}/{{stage_counter}}"), get(instance))
        .route(&format!("{stage}/{{stage_counter}}/cancel"), post(cancel))
        .route(job, get(job_instance))
}

async fn run_stage(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    Path((pipeline, counter, stage)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let version = reply::version(&headers, RUN_VERSION)?;
    reply::body(&headers, &body)?;
    let counter = if counter.eq_ignore_ascii_case("latest") {
        let mut connection = app
            .database
            .readers()
            .acquire()
            .await
            .map_err(DatabaseError::from)?;
        let newest = run::runs_of(&mut connection, &pipeline, None, 1).await?;
        let newest = newest.first().map(|run| run.counter);
        newest.ok_or_else(|| reply::not_found("Pipeline", "name", &pipeline))?
    } else {
        reply::counter(&counter)?
    };
    scheduling::run_stage(&app, &pipeline, counter, &stage, &actor)
        .await
        .map_err(refusal)?;
    let text = format!("Request to run stage {pipeline}/{counter}/{stage} accepted");
    Ok(reply::message(StatusCode::ACCEPTED, version, text))
}

async fn cancel(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    Path((pipeline, counter, stage, stage_counter)): Path<(String, String, String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let version = reply::version(&headers, STAGE_VERSION)?;
    reply::body(&headers, &body)?;
    let (counter, stage_counter) = (reply::counter(&counter)?, reply::counter(&stage_counter)?);
    let done =
        scheduling::cancel_stage(&app, &pipeline, counter, &stage, stage_counter, &actor.name)
            .await
            .map_err(|error| match error {
                CancelError::Database(error) => Refusal::from(error),
                CancelError::Unknown { stage } => reply::not_found("Stage", "locator", &stage),
            })?;
    let text = if done {
        "Stage cancelled successfully."
    } else {
        "Stage is not active. Cancellation Ignored."
    };
    Ok(reply::message(StatusCode::OK, version, text))
}

pub(super) fn refusal(error: RunStageError) -> Refusal {
    let status = match &error {
        RunStageError::Database(_) => return Refusal::internal("run a stage", &error),
        RunStageError::UnknownRun { .. } | RunStageError::UnknownStage { .. } => {
            StatusCode::NOT_FOUND
        }
        RunStageError::Refused {
            refused: Refused::NotAllowed { .. },
            ..
        } => StatusCode::FORBIDDEN,
        RunStageError::Refused { .. } | RunStageError::PreviousNotPassed { .. } => {
            StatusCode::CONFLICT
        }
        RunStageError::PreviousNotRun { .. } => StatusCode::BAD_REQUEST,
    };
    Refusal::message(status, error.to_string())
}

async fn find(
    app: &App,
    pipeline: &str,
    counter: &str,
    stage: &str,
    stage_counter: &str,
) -> Result<(Run, StageRow, Vec<JobView>), Refusal> {
    let not_there = || {
        let locator = format!("{pipeline}/{counter}/{stage}/{stage_counter}");
        reply::not_found("Stage", "locator", &locator)
    };
    let counter = reply::counter(counter)?;
    let stage_counter = reply::counter(stage_counter)?;
    let mut connection = app
        .database
        .readers()
        .acquire()
        .await
        .map_err(DatabaseError::from)?;
    let run = run::find_run(&mut connection, pipeline, counter).await?;
    let run = run.ok_or_else(not_there)?;
    let row = run::find_stage(&mut connection, run.id, stage, stage_counter).await?;
    let row = row.ok_or_else(not_there)?;
    let jobs = view::jobs_of_stage(&mut connection, row.id).await?;
    Ok((run, row, jobs))
}

async fn instance(
    State(app): State<Arc<App>>,
    Path((pipeline, counter, stage, stage_counter)): Path<(String, String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let version = reply::version(&headers, STAGE_VERSION)?;
    let (run, row, jobs) = find(&app, &pipeline, &counter, &stage, &stage_counter).await?;
    let definition = run.definition.stage(&row.name).map(|(_, stage)| stage);
    let last = jobs
        .iter()
        .flat_map(|job| &job.transitions)
        .map(|one| one.at)
        .max();
    let shown: Vec<Value> = jobs.iter().map(|job| show_job(&run, &row, job)).collect();
    let mut body = json!({
        "name": row.name,
        "counter": row.counter,
        "approval_type": definition.map(|stage| stage.approval.wire_name()),
        "approved_by": row.approved_by,
        "scheduled_at": row.scheduled_at,
        "last_transitioned_time": last,
        "result": row.result(),
        "rerun_of_counter": null,
        "fetch_materials": definition.is_none_or(|stage| stage.fetch_materials),
        "clean_working_directory": definition.is_some_and(|stage| stage.clean_workspace),
        "artifacts_deleted": false,
        "pipeline_name": run.pipeline,
        "pipeline_counter": run.counter,
        "jobs": shown,
    });
    if let Some(user) = &row.cancelled_by {
        body["cancelled_by"] = json!(user);
    }
    Ok(reply::document(StatusCode::OK, version, &body))
}

async fn job_instance(
    State(app): State<Arc<App>>,
    Path((pipeline, counter, stage, stage_counter, job)): Path<(
        String,
        String,
        String,
        String,
        String,
    )>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let version = reply::version(&headers, JOB_VERSION)?;
    let (run, row, jobs) = find(&app, &pipeline, &counter, &stage, &stage_counter).await?;
    let found = jobs
        .iter()
        .find(|one| one.row.name.eq_ignore_ascii_case(&job));
    let found = found.ok_or_else(|| reply::not_found("Job", "name", &job))?;
    Ok(reply::document(
        StatusCode::OK,
        version,
        &show_job(&run, &row, found),
    ))
}

fn show_job(run: &Run, stage: &StageRow, job: &JobView) -> Value {
    let transitions: Vec<Value> = job
        .transitions
        .iter()
        .map(|one| json!({ "state": one.state, "state_change_time": one.at }))
        .collect();
    json!({
        "name": job.row.name,
        "state": job.row.state,
        "result": job.row.result,
        "original_job_id": null,
        "scheduled_date": job.row.scheduled_at,
        "rerun": false,
        "agent_uuid": job.row.agent_uuid,
        "pipeline_name": run.pipeline,
        "pipeline_counter": run.counter,
        "stage_name": stage.name,
        "stage_counter": stage.counter.to_string(),
        "job_state_transitions": transitions,
    })
}
