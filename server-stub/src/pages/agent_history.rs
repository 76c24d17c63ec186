//! The page of the jobs that an agent has done.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;

use super::{not_found, render, when};
use crate::App;
use crate::agents;
use crate::answer::Refusal;
use crate::cli::duration;
use crate::database::DatabaseError;

/// Jobs on one page.
const SHOWN: i64 = 50;

#[derive(Template)]
#[template(path = "agent_history.html")]
struct Page {
    uuid: String,
    hostname: String,
    status: String,
    location: String,
    jobs: Vec<Row>,
    /// The id from which the next page goes on.
    older: Option<i64>,
}

impl Page {
    fn here(&self) -> &'static str {
        "agents"
    }
}

struct Row {
    locator: String,
    state: String,
    begun: String,
    took: String,
}

#[derive(Deserialize)]
pub(super) struct Asked {
    before: Option<i64>,
}

#[derive(sqlx::FromRow)]
struct Job {
    id: i64,
    locator: String,
    state: String,
    result: String,
    scheduled_at: i64,
    ended_at: i64,
}

pub(super) async fn page(
    State(app): State<Arc<App>>,
    Path(uuid): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    let mut connection = app
        .database
        .readers()
        .acquire()
        .await
        .map_err(DatabaseError::from)?;
    let agent = agents::find(&mut connection, &uuid).await?;
    let agent = agent.ok_or_else(|| not_found("such agent"))?;
    let jobs: Vec<Job> = sqlx::query_as(
        "SELECT jobs.id, pipeline_runs.pipeline || '/' || pipeline_runs.counter || '/' || stages.name || '/' || stages.counter || '/' || jobs.name AS locator, \
         jobs.state, jobs.result, jobs.scheduled_at, \
         (SELECT max(at) FROM job_transitions WHERE job_id = jobs.id) AS ended_at \
         FROM jobs JOIN stages ON stages.id = jobs.stage_id JOIN pipeline_runs ON pipeline_runs.id = stages.run_id \
         WHERE jobs.agent_uuid = $1 AND jobs.id < COALESCE($2, 9223372036854775807) ORDER BY jobs.id DESC LIMIT $3",
    )
    .bind(&uuid)
    .bind(asked.before)
    .bind(SHOWN)
    .fetch_all(&mut *connection)
    .await
    .map_err(DatabaseError::from)?;
    let is_full = i64::try_from(jobs.len()).is_ok_and(|count| count == SHOWN);
    let page = Page {
        older: jobs.last().filter(|_| is_full).map(|one| one.id),
        jobs: jobs
            .into_iter()
            .map(|job| Row {
                took: duration(job.ended_at - job.scheduled_at),
                begun: when(job.scheduled_at),
                state: if job.state == "Completed" {
                    job.result
                } else {
                    job.state
                },
                locator: job.locator,
            })
            .collect(),
        status: super::agents::status(&agent).0.to_owned(),
        uuid: agent.uuid,
        hostname: agent.hostname,
        location: agent.location,
    };
    Ok(render(StatusCode::OK, &page))
}
