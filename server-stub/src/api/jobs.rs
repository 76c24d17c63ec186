//! `/api/jobs`, version 1.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, RawQuery};
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};

use super::call::{self, Call};
use super::instances::must_exist;
use super::{paging, stages};
use crate::App;
use crate::answer::Refusal;
use crate::history::{self, RunName, Window};
use crate::scheduling::run::StageRow;
use crate::scheduling::view::JobView;

pub(super) fn router() -> Router<Arc<App>> {
    let history = "/api/jobs/{pipeline}/{stage}/{job}/history";
    Router::new()
        .route(
            "/api/jobs/{pipeline}/{counter}/{stage}/{stage_counter}/{job}",
            get(instance),
        )
        .route(history, get(recent))
        // Of old releases.
        .route(&format!("{history}/{{offset}}"), get(by_offset))
}

async fn instance(
    call: Call<1>,
    Path((pipeline, counter, stage, stage_counter, job)): Path<(
        String,
        String,
        String,
        String,
        String,
    )>,
) -> Result<Response, Refusal> {
    let locator = stages::locator((pipeline, counter, stage, stage_counter))?;
    let (run, row, jobs) = stages::find(&call, &locator).await?;
    let mut jobs = jobs.iter();
    let found = jobs.find(|one| one.row.name.eq_ignore_ascii_case(&job));
    let found = found.ok_or_else(|| call::not_found("Job", "name", &job))?;
    Ok(call.answer(&show_job(&RunName::of(&run), &row, found)))
}

async fn recent(
    call: Call<1>,
    Path((pipeline, stage, job)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let window = paging::window(query.as_deref())?;
    list(&call, &pipeline, &stage, &job, window).await
}

async fn by_offset(
    call: Call<1>,
    Path((pipeline, stage, job, offset)): Path<(String, String, String, String)>,
) -> Result<Response, Refusal> {
    list(&call, &pipeline, &stage, &job, paging::offset(&offset)?).await
}

async fn list(
    call: &Call<1>,
    pipeline: &str,
    stage: &str,
    job: &str,
    window: Window,
) -> Result<Response, Refusal> {
    let mut connection = call.reader().await?;
    must_exist(&mut connection, pipeline).await?;
    let page = history::jobs(&mut connection, pipeline, stage, job, window).await?;
    if page.items.is_empty() && !history::defines_job(&mut connection, pipeline, stage, job).await?
    {
        return Err(call::not_found("Job", "name", job));
    }
    let path = format!("/api/jobs/{pipeline}/{stage}/{job}/history");
    let body = paging::document(call, &path, window, "jobs", &page, |one| {
        show_job(&one.run, &one.stage, &one.job)
    });
    Ok(call.answer(&body))
}

/// A run of a job in GoCD's form.
pub(super) fn show_job(run: &RunName, stage: &StageRow, job: &JobView) -> Value {
    let transitions = job.transitions.iter();
    let transitions: Vec<Value> = transitions
        .map(|one| json!({ "state": one.state, "state_change_time": one.at }))
        .collect();
    json!({
        "name": job.row.name,
        "state": job.row.state,
        "result": job.row.result,
        "original_job_id": job.row.original_job_id,
        "scheduled_date": job.row.scheduled_at,
        "rerun": job.row.rerun,
        "agent_uuid": job.row.agent_uuid,
        "pipeline_name": run.pipeline,
        "pipeline_counter": run.counter,
        "stage_name": stage.name,
        "stage_counter": stage.counter.to_string(),
        "job_state_transitions": transitions,
    })
}
