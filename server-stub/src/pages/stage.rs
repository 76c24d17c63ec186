//! The page of one run of a stage.

use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::StatusCode;

use super::{Bar, bars, not_found, render, when};
use crate::App;
use crate::answer::Refusal;
use crate::cli::duration;
use crate::database::DatabaseError;
use crate::scheduling::view::{self, JobView};
use crate::scheduling::{self, CancelError, RunStageError, run};
use crate::users::Actor;

#[derive(Template)]
#[template(path = "stage.html")]
struct Page {
    group: String,
    pipeline: String,
    label: String,
    stage: String,
    counter: i64,
    /// `pipeline/counter`.
    run: String,
    /// `pipeline/counter/stage/counter`.
    locator: String,
    state: String,
    active: bool,
    when: String,
    approved_by: String,
    cause: String,
    stages: Vec<Bar>,
    jobs: Vec<JobRow>,
    changes: Vec<Change>,
    notice: Option<String>,
}

impl Page {
    fn here(&self) -> &'static str {
        "pipelines"
    }
}

struct JobRow {
    name: String,
    state: String,
    took: String,
    agent: String,
    page: String,
}

struct Change {
    revision: String,
    comment: String,
    author: String,
    when: String,
}

type Locator = (String, i64, String, i64);

pub(super) async fn page(
    State(app): State<Arc<App>>,
    Path(locator): Path<Locator>,
) -> Result<Response, Refusal> {
    show(&app, &locator, StatusCode::OK, None).await
}

async fn show(
    app: &App,
    (pipeline, counter, stage, stage_counter): &Locator,
    status: StatusCode,
    notice: Option<String>,
) -> Result<Response, Refusal> {
    let mut connection = app
        .database
        .readers()
        .acquire()
        .await
        .map_err(DatabaseError::from)?;
    let run = run::find_run(&mut connection, pipeline, *counter).await?;
    let run = run.ok_or_else(|| not_found("such run"))?;
    let row = run::find_stage(&mut connection, run.id, stage, *stage_counter).await?;
    let row = row.ok_or_else(|| not_found("such stage"))?;
    let jobs = view::jobs_of_stage(&mut connection, row.id).await?;
    let group = super::group_of(&mut connection, &run).await?;
    let view = view::of_run(&mut connection, run).await?;
    let run = format!("{}/{}", view.run.pipeline, view.run.counter);
    let locator = format!("{run}/{}/{}", row.name, row.counter);
    let changes = view
        .run
        .revisions
        .revisions
        .iter()
        .flat_map(|revision| &revision.modifications)
        .map(|one| Change {
            revision: one.revision.chars().take(10).collect(),
            comment: one.comment.clone().unwrap_or_default(),
            author: one.user_name.clone().unwrap_or_default(),
            when: one
                .modified_time
                .map_or(String::new(), |time| when(time.as_millisecond())),
        })
        .collect();
    let page = Page {
        group,
        stages: bars(&view),
        jobs: jobs.iter().map(|job| job_row(job, &locator)).collect(),
        pipeline: view.run.pipeline,
        label: view.run.label,
        counter: row.counter,
        state: row.state.clone(),
        active: row.is_active(),
        when: when(row.scheduled_at),
        approved_by: row.approved_by,
        cause: view.run.trigger_message,
        stage: row.name,
        run,
        locator,
        changes,
        notice,
    };
    Ok(render(status, &page))
}

fn job_row(job: &JobView, locator: &str) -> JobRow {
    let times = job.transitions.iter().map(|one| one.at);
    let took = times
        .clone()
        .max()
        .zip(times.min())
        .map(|(last, first)| last - first);
    JobRow {
        name: job.row.name.clone(),
        state: job_state(&job.row).to_owned(),
        took: took.map_or(String::new(), duration),
        agent: job.row.agent_uuid.clone().unwrap_or_default(),
        page: format!("/go/tab/build/detail/{locator}/{}", job.row.name),
    }
}

/// One word for a job: its result once it has ended.
pub(super) fn job_state(row: &run::JobRow) -> &str {
    if row.is_active() {
        &row.state
    } else {
        &row.result
    }
}

pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    Path(locator): Path<Locator>,
) -> Result<Response, Refusal> {
    let (pipeline, counter, stage, stage_counter) = &locator;
    let by = &actor.name;
    match scheduling::cancel_stage(&app, pipeline, *counter, stage, *stage_counter, by).await {
        Ok(_) => {
            let path = format!("/go/pipelines/{pipeline}/{counter}/{stage}/{stage_counter}");
            Ok(Redirect::to(&path).into_response())
        }
        Err(CancelError::Database(error)) => Err(error.into()),
        Err(CancelError::Unknown { .. }) => Err(not_found("such stage")),
    }
}

pub(super) async fn run(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    Path((pipeline, counter, stage)): Path<(String, i64, String)>,
) -> Result<Response, Refusal> {
    match scheduling::run_stage(&app, &pipeline, counter, &stage, &actor).await {
        Ok(stage_counter) => {
            let path = format!("/go/pipelines/{pipeline}/{counter}/{stage}/{stage_counter}");
            Ok(Redirect::to(&path).into_response())
        }
        Err(RunStageError::Database(error)) => Err(error.into()),
        Err(error) => Err(Refusal::text(StatusCode::CONFLICT, format!("{error}.\n"))),
    }
}
