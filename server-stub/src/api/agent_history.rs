//! `/api/agents/{uuid}/job_run_history`, version 1: the jobs that an agent has done.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, RawQuery};
use axum::response::Response;
use axum::routing::get;
use http::StatusCode;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use super::call::{Call, not_found, time};
use crate::App;
use crate::agents;
use crate::answer::Refusal;
use crate::database::DatabaseError;
use crate::scheduling::run;

const FIND: &str = "/api/agents/:uuid/job_run_history";

/// Which jobs, and in which order.
struct Page {
    offset: i64,
    size: i64,
    order: String,
}

#[derive(sqlx::FromRow)]
struct Done {
    id: i64,
    job: String,
    result: String,
    rerun: bool,
    stage: String,
    stage_counter: i64,
    pipeline: String,
    pipeline_counter: i64,
}

pub(super) fn router() -> Router<Arc<App>> {
    let path = "/api/agents/{uuid}/job_run_history";
    Router::new()
        .route(path, get(history))
        .route(&format!("{path}/{{offset}}"), get(history_of_old))
}

async fn history(
    call: Call<1>,
    Path(uuid): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let page = page(&query.unwrap_or_default())?;
    answer(&call, &uuid, &page).await
}

/// As releases before 19 had it.
async fn history_of_old(
    call: Call<1>,
    Path((uuid, offset)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let page = page(&format!("offset={offset}&page_size=10"))?;
    answer(&call, &uuid, &page).await
}

fn page(query: &str) -> Result<Page, Refusal> {
    let wrong = |text: String| Refusal::message(StatusCode::BAD_REQUEST, text);
    let (mut offset, mut size) = (0, 50);
    let (mut column, mut direction) = ("completed_at", "DESC");
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let number = value.parse::<i64>().ok();
        match name.as_ref() {
            "offset" => {
                let allowed = number.filter(|number| *number >= 0);
                offset = allowed.ok_or_else(|| {
                    wrong("The query parameter 'offset' must be a number, 0 or more.".to_owned())
                })?;
            }
            "page_size" => {
                let allowed = number.filter(|number| (10..=100).contains(number));
                size = allowed.ok_or_else(|| {
                    wrong("The query parameter 'page_size' must be from 10 to 100.".to_owned())
                })?;
            }
            "sort_column" => {
                column = match value.to_lowercase().as_str() {
                    "pipeline" => "pipeline",
                    "stage" => "stage",
                    "job" => "job",
                    "result" => "result",
                    "completed" => "completed_at",
                    _ => {
                        return Err(wrong(
                            "The query parameter 'sort_column' must be one of pipeline, stage, job, \
                             result and completed."
                                .to_owned(),
                        ));
                    }
                };
            }
            "sort_order" => {
                direction = match value.to_uppercase().as_str() {
                    "ASC" => "ASC",
                    "DESC" => "DESC",
                    _ => {
                        return Err(wrong(
                            "The query parameter 'sort_order' must be ASC or DESC.".to_owned(),
                        ));
                    }
                };
            }
            _ => {}
        }
    }
    Ok(Page {
        offset,
        size,
        order: format!("{column} {direction}, jobs.id {direction}"),
    })
}

async fn answer(call: &Call<1>, uuid: &str, page: &Page) -> Result<Response, Refusal> {
    let mut connection = call.reader().await?;
    if agents::find(&mut connection, uuid).await?.is_none() {
        return Err(not_found("Agent", "uuid", uuid));
    }
    let total: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM jobs WHERE agent_uuid = $1 AND state = 'Completed'",
    )
    .bind(uuid)
    .fetch_one(&mut *connection)
    .await
    .map_err(DatabaseError::from)?;
    // The order is one of a few texts of ours.
    let done: Vec<Done> = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT jobs.id, jobs.name AS job, jobs.result, jobs.rerun, stages.name AS stage, \
         stages.counter AS stage_counter, pipeline_runs.pipeline, \
         pipeline_runs.counter AS pipeline_counter, \
         (SELECT max(at) FROM job_transitions WHERE job_id = jobs.id) AS completed_at \
         FROM jobs JOIN stages ON stages.id = jobs.stage_id \
         JOIN pipeline_runs ON pipeline_runs.id = stages.run_id \
         WHERE jobs.agent_uuid = $1 AND jobs.state = 'Completed' \
         ORDER BY {} LIMIT $2 OFFSET $3",
        page.order
    )))
    .bind(uuid)
    .bind(page.size)
    .bind(page.offset)
    .fetch_all(&mut *connection)
    .await
    .map_err(DatabaseError::from)?;
    let mut jobs = Vec::new();
    for one in done {
        let transitions = run::transitions_of(&mut connection, one.id).await?;
        jobs.push(show(&one, &transitions));
    }
    let own = format!("/api/agents/{uuid}/job_run_history");
    Ok(call.answer(&json!({
        "_links": call.links(&own, "agent-job-run-history", Some(FIND)),
        "uuid": uuid,
        "jobs": jobs,
        "pagination": { "page_size": page.size, "offset": page.offset, "total": total },
    })))
}

fn show(done: &Done, transitions: &[run::Transition]) -> Value {
    let transitions = transitions
        .iter()
        .map(|one| json!({ "state_change_time": time(one.at), "state": one.state }));
    json!({
        "job_state_transitions": transitions.collect::<Vec<_>>(),
        "job_name": done.job,
        "stage_name": done.stage,
        "stage_counter": done.stage_counter.to_string(),
        "pipeline_name": done.pipeline,
        "pipeline_counter": done.pipeline_counter,
        "result": done.result,
        "rerun": done.rerun,
    })
}
