//! `/api/stages`: running stages (version 2), all else about them (version 3).

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, RawQuery};
use axum::response::Response;
use axum::routing::{get, post};
use http::StatusCode;
use serde_json::{Value, json};

use super::body::{Body, BodyOrForm};
use super::call::{self, Call, invalid};
use super::instances::must_exist;
use super::jobs::show_job;
use super::paging;
use super::pipelines::operation;
use crate::App;
use crate::answer::Refusal;
use crate::history::{self, RunName, StageRun, Window};
use crate::jobs::StageLocator;
use crate::scheduling::run::{self, Run, StageRow};
use crate::scheduling::view::{self, JobView};
use crate::scheduling::{self, CancelError, Refused, Rerun, RerunError, RunStageError};
use crate::users::{Actor, audit};

pub(super) fn router() -> Router<Arc<App>> {
    let stages = "/api/stages/{pipeline}";
    let stage = format!("{stages}/{{counter}}/{{stage}}");
    let one = format!("{stage}/{{stage_counter}}");
    Router::new()
        .route(&format!("{stage}/run"), post(run_stage))
        .route(&one, get(instance))
        .route(&format!("{one}/cancel"), post(cancel))
        .route(&format!("{one}/run-failed-jobs"), post(run_failed))
        .route(&format!("{one}/run-selected-jobs"), post(run_selected))
        .route(&format!("{stages}/{{stage}}/history"), get(recent))
        // Of old releases.
        .route("/run/{pipeline}/{counter}/{stage}", post(run_stage))
        .route(&format!("{stages}/{{stage}}/cancel"), post(cancel_latest))
        .route(
            &format!("{stages}/{{stage}}/history/{{offset}}"),
            get(by_offset),
        )
        .route(
            &format!("{stages}/{{stage}}/instance/{{counter}}/{{stage_counter}}"),
            get(old_instance),
        )
}

async fn run_stage(
    call: Call<2>,
    actor: Actor,
    Path((pipeline, counter, stage)): Path<(String, String, String)>,
    _: BodyOrForm,
) -> Result<Response, Refusal> {
    let counter = if counter.eq_ignore_ascii_case("latest") {
        let mut connection = call.reader().await?;
        let newest = run::runs_of(&mut connection, &pipeline, None, 1).await?;
        let newest = newest.first().map(|run| run.counter);
        newest.ok_or_else(|| call::not_found("Pipeline", "name", &pipeline))?
    } else {
        call::counter(&counter)?
    };
    let stage_counter = scheduling::run_stage(&call.app, &pipeline, counter, &stage, &actor)
        .await
        .map_err(|error| refusal(&pipeline, counter, &stage, error))?;
    audit::detail(format!("run {counter}, stage run {stage_counter}"));
    let text = format!("Request to run stage {pipeline}/{counter}/{stage} accepted");
    Ok(call.message_with(StatusCode::ACCEPTED, text))
}

pub(super) fn refusal(pipeline: &str, counter: i64, stage: &str, error: RunStageError) -> Refusal {
    let status = match &error {
        RunStageError::Database(_) => return Refusal::internal("run a stage", &error),
        RunStageError::UnknownRun { .. } | RunStageError::UnknownStage { .. } => {
            StatusCode::NOT_FOUND
        }
        RunStageError::Refused { refused, .. } => status_of(refused),
        RunStageError::PreviousNotPassed { .. } => StatusCode::CONFLICT,
        RunStageError::PreviousNotRun { .. } => StatusCode::BAD_REQUEST,
    };
    let tried = format!("Failed to run stage [{stage}] of pipeline [{pipeline}/{counter}]");
    operation(status, &tried, error)
}

fn status_of(refused: &Refused) -> StatusCode {
    match refused {
        Refused::NotAllowed { .. } => StatusCode::FORBIDDEN,
        Refused::Active { .. }
        | Refused::Paused { .. }
        | Refused::Locked { .. }
        | Refused::NoAgent { .. } => StatusCode::CONFLICT,
    }
}

async fn run_failed(
    call: Call<3>,
    actor: Actor,
    Path(path): Path<(String, String, String, String)>,
    _: BodyOrForm,
) -> Result<Response, Refusal> {
    rerun(&call, &actor, &locator(path)?, &Rerun::Failed).await
}

async fn run_selected(
    call: Call<3>,
    actor: Actor,
    Path(path): Path<(String, String, String, String)>,
    body: Body,
) -> Result<Response, Refusal> {
    let locator = locator(path)?;
    let jobs = body.texts("jobs")?;
    let jobs = jobs.ok_or_else(|| invalid("'jobs' is missing: the names of the jobs to run."))?;
    rerun(&call, &actor, &locator, &Rerun::Selected(jobs)).await
}

async fn rerun(
    call: &Call<3>,
    actor: &Actor,
    stage: &StageLocator,
    which: &Rerun,
) -> Result<Response, Refusal> {
    let StageLocator {
        pipeline,
        counter,
        stage,
        stage_counter,
    } = stage;
    let made = scheduling::rerun_jobs(
        &call.app,
        pipeline,
        *counter,
        stage,
        *stage_counter,
        which,
        actor,
    );
    let made = made.await.map_err(|error| {
        let status = match &error {
            RerunError::Database(_) => return Refusal::internal("run jobs again", &error),
            RerunError::UnknownStage { stage } => {
                return call::not_found("Stage", "locator", stage);
            }
            RerunError::UnknownJobs { .. } => StatusCode::NOT_FOUND,
            RerunError::NoneFailed { .. } | RerunError::NoneSelected { .. } => {
                StatusCode::BAD_REQUEST
            }
            RerunError::AgentGone { .. } => StatusCode::CONFLICT,
            RerunError::Refused { refused, .. } => status_of(refused),
        };
        let tried =
            format!("Failed to rerun jobs of stage [{stage}] of pipeline [{pipeline}/{counter}]");
        operation(status, &tried, error)
    })?;
    audit::detail(format!("stage run {made}"));
    Ok(call.message_with(StatusCode::ACCEPTED, "Request to rerun jobs accepted"))
}

async fn cancel(
    call: Call<3>,
    actor: Actor,
    Path(path): Path<(String, String, String, String)>,
    _: BodyOrForm,
) -> Result<Response, Refusal> {
    cancel_one(&call, &actor, &locator(path)?).await
}

/// The active run of a stage, else the latest.
async fn cancel_latest(
    call: Call<3>,
    actor: Actor,
    Path((pipeline, stage)): Path<(String, String)>,
    _: BodyOrForm,
) -> Result<Response, Refusal> {
    let found: Option<(i64, i64)> = sqlx::query_as(
        "SELECT pipeline_runs.counter, stages.counter FROM stages \
         JOIN pipeline_runs ON pipeline_runs.id = stages.run_id WHERE stages.id = COALESCE( \
         (SELECT id FROM stages WHERE completed_at IS NULL AND +pipeline = lower($1) \
          AND lower(name) = lower($2) ORDER BY id DESC LIMIT 1), \
         (SELECT id FROM stages WHERE pipeline = lower($1) AND lower(name) = lower($2) \
          ORDER BY id DESC LIMIT 1))",
    )
    .bind(&pipeline)
    .bind(&stage)
    .fetch_optional(&mut *call.reader().await?)
    .await
    .map_err(crate::database::DatabaseError::from)?;
    let (counter, stage_counter) =
        found.ok_or_else(|| call::not_found("Stage", "locator", &format!("{pipeline}/{stage}")))?;
    let locator = StageLocator {
        pipeline,
        counter,
        stage,
        stage_counter,
    };
    cancel_one(&call, &actor, &locator).await
}

async fn cancel_one(
    call: &Call<3>,
    actor: &Actor,
    stage: &StageLocator,
) -> Result<Response, Refusal> {
    let StageLocator {
        pipeline,
        counter,
        stage,
        stage_counter,
    } = stage;
    let done =
        scheduling::cancel_stage(&call.app, pipeline, *counter, stage, *stage_counter, actor);
    let done = done.await.map_err(|error| match error {
        CancelError::Database(error) => Refusal::from(error),
        CancelError::Unknown { stage } => call::not_found("Stage", "locator", &stage),
        CancelError::Refused { refused, .. } => {
            let tried =
                format!("Failed to cancel stage [{stage}] of pipeline [{pipeline}/{counter}]");
            operation(status_of(&refused), &tried, refused)
        }
    })?;
    Ok(call.message(match done {
        true => "Stage cancelled successfully.",
        false => "Stage is not active. Cancellation Ignored.",
    }))
}

/// The run of a stage that the parts of a path name.
pub(super) fn locator(
    (pipeline, counter, stage, stage_counter): (String, String, String, String),
) -> Result<StageLocator, Refusal> {
    Ok(StageLocator {
        pipeline,
        counter: call::counter(&counter)?,
        stage,
        stage_counter: call::counter(&stage_counter)?,
    })
}

/// A run of a stage that must be there.
pub(super) async fn find<const NEWEST: u32>(
    call: &Call<NEWEST>,
    stage: &StageLocator,
) -> Result<(Run, StageRow, Vec<JobView>), Refusal> {
    let not_there = || call::not_found("Stage", "locator", &stage.to_string());
    let mut connection = call.reader().await?;
    let run = run::find_run(&mut connection, &stage.pipeline, stage.counter).await?;
    let run = run.ok_or_else(not_there)?;
    let found = run::find_stage(&mut connection, run.id, &stage.stage, stage.stage_counter).await?;
    let row = found.ok_or_else(not_there)?;
    let jobs = view::jobs_of_stage(&mut connection, row.id).await?;
    Ok((run, row, jobs))
}

async fn instance(
    call: Call<3>,
    Path(path): Path<(String, String, String, String)>,
) -> Result<Response, Refusal> {
    show_instance(&call, &locator(path)?).await
}

async fn old_instance(
    call: Call<3>,
    Path((pipeline, stage, counter, stage_counter)): Path<(String, String, String, String)>,
) -> Result<Response, Refusal> {
    let locator = locator((pipeline, counter, stage, stage_counter))?;
    show_instance(&call, &locator).await
}

async fn show_instance(call: &Call<3>, stage: &StageLocator) -> Result<Response, Refusal> {
    let (run, row, jobs) = find(call, stage).await?;
    let definition = run.definition.stage(&row.name).map(|(_, stage)| stage);
    let changes = jobs.iter().flat_map(|job| &job.transitions);
    let last = changes.map(|one| one.at).max();
    let name = RunName::of(&run);
    let shown: Vec<Value> = jobs.iter().map(|job| show_job(&name, &row, job)).collect();
    let mut body = json!({
        "name": row.name,
        "counter": row.counter,
        "approval_type": definition.map(|stage| stage.approval.wire_name()),
        "approved_by": row.approved_by,
        "scheduled_at": row.scheduled_at,
        "last_transitioned_time": last,
        "result": row.result(),
        "rerun_of_counter": row.rerun_of_counter,
        "fetch_materials": definition.is_none_or(|stage| stage.fetch_materials),
        "clean_working_directory": definition.is_some_and(|stage| stage.clean_workspace),
        "artifacts_deleted": row.has_lost_artifacts(),
        "pipeline_name": run.pipeline,
        "pipeline_counter": run.counter,
        "jobs": shown,
    });
    say_who_cancelled(&row, &mut body);
    Ok(call.answer(&body))
}

fn say_who_cancelled(row: &StageRow, body: &mut Value) {
    if let ("Cancelled", Some(user)) = (row.result(), &row.cancelled_by) {
        body["cancelled_by"] = json!(user);
    }
}

async fn recent(
    call: Call<3>,
    Path((pipeline, stage)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let window = paging::window(query.as_deref())?;
    list(&call, &pipeline, &stage, window).await
}

async fn by_offset(
    call: Call<3>,
    Path((pipeline, stage, offset)): Path<(String, String, String)>,
) -> Result<Response, Refusal> {
    list(&call, &pipeline, &stage, paging::offset(&offset)?).await
}

async fn list(
    call: &Call<3>,
    pipeline: &str,
    stage: &str,
    window: Window,
) -> Result<Response, Refusal> {
    let mut connection = call.reader().await?;
    must_exist(&mut connection, pipeline).await?;
    let page = history::stages(&mut connection, pipeline, stage, window).await?;
    if page.items.is_empty() && !history::knows_stage(&mut connection, pipeline, stage).await? {
        return Err(call::not_found("Stage", "name", stage));
    }
    let path = format!("/api/stages/{pipeline}/{stage}/history");
    let body = paging::document(call, &path, window, "stages", &page, show);
    Ok(call.answer(&body))
}

fn show(stage: &StageRun) -> Value {
    let row = &stage.row;
    let jobs = stage.jobs.iter();
    let jobs: Vec<Value> = jobs.map(|job| show_job(&stage.run, row, job)).collect();
    let mut shown = json!({
        "name": row.name,
        "counter": row.counter.to_string(),
        "approval_type": stage.approval.map(|approval| approval.wire_name()),
        "approved_by": row.approved_by,
        "scheduled_at": row.scheduled_at,
        "result": row.result(),
        "status": row.state,
        "rerun_of_counter": row.rerun_of_counter,
        "pipeline_name": stage.run.pipeline,
        "pipeline_counter": stage.run.counter,
        "jobs": jobs,
    });
    say_who_cancelled(row, &mut shown);
    shown
}
