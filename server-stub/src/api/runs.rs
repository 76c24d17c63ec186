//! What only this server has: a run in one answer, with its artifacts, for our own command line;
//! and the list of pipelines. Under `/api/journeyman`, so that it is in nobody's way.

use std::sync::Arc;

use axum::extract::Path;
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::call::{self, Call};
use crate::App;
use crate::answer::Refusal;
use crate::database::DatabaseError;
use crate::pipelines::store;
use crate::scheduling::{run, view};
use crate::users::Actor;

/// A run as the command line sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunSummary {
    pub pipeline: String,
    pub counter: i64,
    pub label: String,
    /// Building, Failing, Passed, Failed, Cancelled.
    pub state: String,
    /// Whether something of it runs or waits for an agent.
    pub active: bool,
    pub trigger_message: String,
    /// Milliseconds since the epoch.
    pub scheduled_at: i64,
    pub jobs: Vec<JobSummary>,
    /// Stages that wait for a person.
    pub waiting: Vec<String>,
    /// The page where all of it can be seen.
    pub page: String,
}

/// A job of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobSummary {
    /// The wire's `buildId`; another one once the job was rescheduled.
    pub id: i64,
    pub stage: String,
    pub stage_counter: i64,
    pub name: String,
    pub state: String,
    pub result: String,
    pub agent: Option<String>,
    pub transitions: Vec<StateChange>,
    pub artifacts: Vec<ArtifactSummary>,
    pub page: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StateChange {
    pub state: String,
    /// Milliseconds since the epoch.
    pub at: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ArtifactSummary {
    pub path: String,
    pub size: i64,
    pub sha256: String,
    pub url: String,
}

/// A pipeline and its latest run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PipelineSummary {
    pub name: String,
    pub group: String,
    pub repository: String,
    pub latest: Option<RunSummary>,
}

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/api/journeyman/pipelines", get(pipelines))
        .route("/api/journeyman/runs/{pipeline}/{counter}", get(one))
}

async fn pipelines(call: Call<1>, actor: Actor) -> Result<Json<Vec<PipelineSummary>>, Refusal> {
    let mut connection = call.reader().await?;
    let mut all = Vec::new();
    for stored in store::pipelines(&mut connection).await? {
        if !actor.sees(&stored.pipeline.group) {
            continue;
        }
        let newest = run::runs_of(&mut connection, &stored.pipeline.name, None, 1).await?;
        let latest = match newest.into_iter().next() {
            Some(run) => Some(summary(&mut connection, run, &call.base).await?),
            None => None,
        };
        all.push(PipelineSummary {
            name: stored.pipeline.name,
            group: stored.pipeline.group,
            repository: stored.repository,
            latest,
        });
    }
    Ok(Json(all))
}

async fn one(
    call: Call<1>,
    Path((pipeline, counter)): Path<(String, String)>,
) -> Result<Json<RunSummary>, Refusal> {
    let mut connection = call.reader().await?;
    let run = if counter == "latest" {
        let newest = run::runs_of(&mut connection, &pipeline, None, 1).await?;
        newest.into_iter().next()
    } else {
        run::find_run(&mut connection, &pipeline, call::counter(&counter)?).await?
    };
    let run = run.ok_or_else(|| {
        let text = format!("There is no run {pipeline}/{counter}.");
        Refusal::message(StatusCode::NOT_FOUND, text)
    })?;
    Ok(Json(summary(&mut connection, run, &call.base).await?))
}

async fn summary(
    connection: &mut sqlx::SqliteConnection,
    run: run::Run,
    base: &str,
) -> Result<RunSummary, DatabaseError> {
    let view = view::of_run(connection, run).await?;
    let mut jobs = Vec::new();
    let mut waiting = Vec::new();
    let mut page = format!("{base}/pipelines");
    let mut all_passed = true;
    for stage in &view.stages {
        let passed_before = all_passed;
        all_passed &= stage.row.as_ref().is_some_and(|row| row.state == "Passed");
        let Some(row) = &stage.row else {
            if stage.can_run && passed_before {
                waiting.push(stage.name.clone());
            }
            continue;
        };
        let locator = format!(
            "{}/{}/{}/{}",
            view.run.pipeline, view.run.counter, row.name, row.counter
        );
        page = format!("{base}/pipelines/{locator}");
        for job in &stage.jobs {
            let files = format!("{base}/files/{locator}/{}", job.row.name);
            let artifacts = view::artifacts_of(connection, job.row.id).await?;
            jobs.push(JobSummary {
                id: job.row.id,
                stage: row.name.clone(),
                stage_counter: row.counter,
                name: job.row.name.clone(),
                state: job.row.state.clone(),
                result: job.row.result.clone(),
                agent: job.row.agent_uuid.clone(),
                transitions: job
                    .transitions
                    .iter()
                    .map(|one| StateChange {
                        state: one.state.clone(),
                        at: one.at,
                    })
                    .collect(),
                artifacts: artifacts
                    .into_iter()
                    .map(|one| ArtifactSummary {
                        url: format!(
                            "{files}/{}",
                            journeyman_protocol::files::encode_path(&one.path)
                        ),
                        path: one.path,
                        size: one.size,
                        sha256: one.sha256,
                    })
                    .collect(),
                page: format!("{base}/tab/build/detail/{locator}/{}", job.row.name),
            });
        }
    }
    Ok(RunSummary {
        state: view.state().to_owned(),
        active: view.is_active(),
        pipeline: view.run.pipeline,
        counter: view.run.counter,
        label: view.run.label,
        trigger_message: view.run.trigger_message,
        scheduled_at: view.run.scheduled_at,
        jobs,
        waiting,
        page,
    })
}
