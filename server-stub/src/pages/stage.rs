//! The page of one run of a stage.

mod act;
mod durations;

pub(super) use act::{cancel, not_cancelled, rerun, run};

use std::collections::HashMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::StatusCode;
use journeyman_protocol::job::JobResult;
use sqlx::SqliteConnection;

use super::bars::{self, Bar};
use super::changes::{self, Change, Tracker};
use super::times::{Moment, length};
use super::{may, not_found, pins, render};
use crate::App;
use crate::answer::Refusal;
use crate::database::DatabaseError;
use crate::history::{self, From, StageRun, Window};
use crate::retention;
use crate::scheduling::run::{self, JobRow, Run};
use crate::scheduling::state;
use crate::scheduling::view::{self, JobView};
use durations::Chart;

/// Runs of the stage in the list at the side, and in the chart.
const HISTORY: i64 = 20;

#[derive(Template)]
#[template(path = "stage.html")]
struct Page {
    pipeline: String,
    counter: i64,
    label: String,
    stage: String,
    stage_counter: i64,
    /// `/go/pipelines/pipeline/counter/stage/counter`.
    address: String,
    state: String,
    active: bool,
    /// Whether the one who looks may run it, and cancel it.
    may_run: bool,
    /// Whether they may pin the run.
    may_pin: bool,
    /// What keeps it from running now; nothing when it can.
    held: Option<String>,
    scheduled: Moment,
    took: Option<String>,
    approved_by: String,
    cancelled_by: Option<String>,
    rerun_of: Option<i64>,
    cause: String,
    comment: Option<String>,
    /// Who keeps the files of the run, and why.
    pinned: Option<String>,
    bars: Vec<Bar>,
    earlier: Option<String>,
    later: Option<String>,
    jobs: Vec<Job>,
    any_failed: bool,
    changes: Vec<Change>,
    history: Vec<Other>,
    chart: Chart,
}

impl Page {
    fn here(&self) -> &'static str {
        "pipelines"
    }
}

struct Job {
    name: String,
    state: String,
    took: String,
    agent: String,
    page: String,
    /// Copied from the stage that this one is a rerun of.
    copied: bool,
}

/// A run of the same stage.
struct Other {
    name: String,
    page: String,
    state: String,
    when: Moment,
    took: Option<String>,
    current: bool,
}

type Locator = (String, i64, String, i64);

pub(super) async fn page(
    State(app): State<Arc<App>>,
    Path((pipeline, counter, stage, stage_counter)): Path<Locator>,
) -> Result<Response, Refusal> {
    let mut connection = app.database.readers().acquire().await;
    let connection = connection
        .as_mut()
        .map_err(|error| Refusal::internal("use the database", error))?;
    let run = run::find_run(connection, &pipeline, counter).await?;
    let run = run.ok_or_else(|| not_found("such run"))?;
    let row = run::find_stage(connection, run.id, &stage, stage_counter).await?;
    let row = row.ok_or_else(|| not_found("such stage"))?;
    let now = app.now_ms();
    let group = super::group_of(connection, &run).await?;
    let jobs = view::jobs_of_stage(connection, row.id).await?;
    let agents = hosts(connection, &jobs).await?;
    let state = state::state_of(connection, &run.pipeline).await?;
    let newest = Window {
        size: HISTORY,
        from: From::Newest,
    };
    let others = history::stages(connection, &run.pipeline, &row.name, newest).await?;
    let neighbour = |order| neighbour(&run, &row.name, order);
    let (earlier, later) = (neighbour(Side::Earlier), neighbour(Side::Later));
    let earlier = find_neighbour(connection, earlier).await?;
    let later = find_neighbour(connection, later).await?;
    let view = view::of_run(connection, run).await?;
    let run = &view.run;
    let kept = retention::pins_of(connection, &[run.id]).await?;
    let held = match (&state.pause, state.locked_against(run.counter)) {
        (Some(pause), _) => Some(format!("The pipeline is paused by {}", pause.by)),
        (None, Some(holder)) => Some(format!("Run {holder} has locked the pipeline")),
        (None, None) if view.is_active() => Some("A stage of this run is active".to_owned()),
        (None, None) => None,
    };
    let address = format!(
        "/go/pipelines/{}/{}/{}/{}",
        run.pipeline, run.counter, row.name, row.counter
    );
    let tracker = Tracker::new(run.definition.pipeline.tracking_tool.as_ref());
    let page = Page {
        any_failed: jobs
            .iter()
            .any(|job| matches!(job.row.result(), JobResult::Failed | JobResult::Cancelled)),
        jobs: jobs
            .iter()
            .map(|job| job_of(job, &address, &agents, now))
            .collect(),
        changes: changes::of_run(&run.revisions, &tracker, now),
        chart: Chart::of(&others.items),
        history: others
            .items
            .iter()
            .map(|one| other(one, row.id, now))
            .collect(),
        bars: bars::of_view(&state, &view, &group),
        may_pin: may::operate(&group),
        may_run: may::run_stage(run, &row.name, &group),
        pipeline: run.pipeline.clone(),
        counter: run.counter,
        label: run.label.clone(),
        cause: run.trigger_message.clone(),
        comment: run.comment.clone(),
        pinned: kept.get(&run.id).map(pins::told),
        scheduled: Moment::at(row.scheduled_at),
        took: row.completed_at.map(|end| length(end - row.scheduled_at)),
        active: row.is_active(),
        stage: row.name,
        stage_counter: row.counter,
        state: row.state,
        approved_by: row.approved_by,
        cancelled_by: row.cancelled_by,
        rerun_of: row.rerun_of_counter,
        held,
        address,
        earlier,
        later,
    };
    Ok(render(StatusCode::OK, &page))
}

/// The addresses of GoCD's tabs lead to the parts of the page.
pub(super) async fn tab(
    Path((pipeline, counter, stage, stage_counter, tab)): Path<(String, i64, String, i64, String)>,
) -> Response {
    let part = match tab.as_str() {
        "overview" => "",
        "materials" => "#changes",
        "jobs" => "#jobs",
        "stats" => "#durations",
        _ => return not_found("such page").into_response(),
    };
    let address = format!("/go/pipelines/{pipeline}/{counter}/{stage}/{stage_counter}{part}");
    Redirect::to(&address).into_response()
}

fn job_of(job: &JobView, address: &str, agents: &HashMap<String, String>, now: i64) -> Job {
    let times = job.transitions.iter().map(|one| one.at);
    let last = match job.row.is_active() {
        true => Some(now),
        false => times.clone().max(),
    };
    let took = last.zip(times.min()).map(|(last, first)| last - first);
    let agent = job.row.agent_uuid.as_ref();
    let locator = address.trim_start_matches("/go/pipelines/");
    Job {
        state: job_state(&job.row).to_owned(),
        took: took.map_or(String::new(), length),
        agent: agent
            .map(|uuid| agents.get(uuid).unwrap_or(uuid).clone())
            .unwrap_or_default(),
        page: format!("/go/tab/build/detail/{locator}/{}", job.row.name),
        copied: job.row.original_job_id.is_some(),
        name: job.row.name.clone(),
    }
}

/// One word for a job: its result once it has ended.
pub(super) fn job_state(row: &JobRow) -> &str {
    if row.is_active() {
        &row.state
    } else {
        &row.result
    }
}

/// The host names of the agents that have the jobs.
async fn hosts(
    connection: &mut SqliteConnection,
    jobs: &[JobView],
) -> Result<HashMap<String, String>, DatabaseError> {
    let uuids: Vec<&String> = jobs
        .iter()
        .filter_map(|job| job.row.agent_uuid.as_ref())
        .collect();
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT uuid, hostname FROM agents WHERE uuid IN (SELECT value FROM json_each($1))",
    )
    .bind(serde_json::Value::from_iter(uuids.into_iter().cloned()).to_string())
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().collect())
}

fn other(one: &StageRun, current: i64, now: i64) -> Other {
    let (run, row) = (&one.run, &one.row);
    let again = match row.counter {
        1 => String::new(),
        counter => format!(" ({counter})"),
    };
    Other {
        name: format!("{}{again}", run.label),
        page: format!(
            "/go/pipelines/{}/{}/{}/{}",
            run.pipeline, run.counter, row.name, row.counter
        ),
        state: row.state.clone(),
        when: Moment::ago(row.scheduled_at, now),
        took: row.completed_at.map(|end| length(end - row.scheduled_at)),
        current: row.id == current,
    }
}

#[derive(Clone, Copy)]
enum Side {
    Earlier,
    Later,
}

/// The same stage in the run before or after this one.
struct Neighbour {
    statement: &'static str,
    pipeline: String,
    counter: i64,
    stage: String,
}

fn neighbour(run: &Run, stage: &str, side: Side) -> Neighbour {
    Neighbour {
        statement: match side {
            Side::Earlier => {
                "SELECT pipeline_runs.counter, MAX(stages.counter) FROM pipeline_runs \
                 JOIN stages ON stages.run_id = pipeline_runs.id AND lower(stages.name) = lower($3) \
                 WHERE lower(pipeline_runs.pipeline) = lower($1) AND pipeline_runs.counter < $2 \
                 GROUP BY pipeline_runs.counter ORDER BY pipeline_runs.counter DESC LIMIT 1"
            }
            Side::Later => {
                "SELECT pipeline_runs.counter, MAX(stages.counter) FROM pipeline_runs \
                 JOIN stages ON stages.run_id = pipeline_runs.id AND lower(stages.name) = lower($3) \
                 WHERE lower(pipeline_runs.pipeline) = lower($1) AND pipeline_runs.counter > $2 \
                 GROUP BY pipeline_runs.counter ORDER BY pipeline_runs.counter LIMIT 1"
            }
        },
        pipeline: run.pipeline.clone(),
        counter: run.counter,
        stage: stage.to_owned(),
    }
}

/// Its page, if there is one.
async fn find_neighbour(
    connection: &mut SqliteConnection,
    of: Neighbour,
) -> Result<Option<String>, DatabaseError> {
    let Neighbour {
        pipeline, stage, ..
    } = &of;
    let found: Option<(i64, i64)> = sqlx::query_as(of.statement)
        .bind(pipeline)
        .bind(of.counter)
        .bind(stage)
        .fetch_optional(connection)
        .await?;
    let page = |(run, counter)| format!("/go/pipelines/{pipeline}/{run}/{stage}/{counter}");
    Ok(found.map(page))
}
