//! `/api/admin/maintenance_mode`, version 1.

use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::StatusCode;
use serde_json::{Value, json};

use super::body::Body;
use super::call::{Call, time};
use crate::App;
use crate::answer::Refusal;
use crate::database::DatabaseError;
use crate::maintenance;
use crate::materials;
use crate::pipelines::location;
use crate::users::Actor;

const ROOT: &str = "/api/admin/maintenance_mode";

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route(&format!("{ROOT}/enable"), post(enable))
        .route(&format!("{ROOT}/disable"), post(disable))
        .route(&format!("{ROOT}/info"), get(info))
}

async fn enable(call: Call<1>, actor: Actor, _: Body) -> Result<Response, Refusal> {
    if maintenance::switch(&call.app, true, &actor.name).await? {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let text = "Failed to enable server maintenance mode. Server is already in maintenance mode.";
    Err(Refusal::message(StatusCode::CONFLICT, text))
}

async fn disable(call: Call<1>, actor: Actor, _: Body) -> Result<Response, Refusal> {
    if maintenance::switch(&call.app, false, &actor.name).await? {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let text = "Failed to disable server maintenance mode. Server is not in maintenance mode.";
    Err(Refusal::message(StatusCode::CONFLICT, text))
}

#[derive(sqlx::FromRow)]
struct Active {
    pipeline: String,
    pipeline_counter: i64,
    stage: String,
    stage_counter: i64,
    name: String,
    state: String,
    scheduled_at: i64,
    agent_uuid: Option<String>,
}

/// Whether there is maintenance, and what is still under way.
async fn info(call: Call<1>) -> Result<Response, Refusal> {
    let state = call.app.maintenance.state();
    let mut document = json!({
        "_links": call.links(&format!("{ROOT}/info"), "maintenance-mode-info", None),
        "is_maintenance_mode": state.on,
        "metadata": { "updated_by": state.by, "updated_on": time(state.at) },
    });
    if state.on {
        let mut connection = call.reader().await?;
        let jobs: Vec<Active> = sqlx::query_as(
            "SELECT runs.pipeline, runs.counter AS pipeline_counter, stages.name AS stage, \
             stages.counter AS stage_counter, jobs.name, jobs.state, jobs.scheduled_at, jobs.agent_uuid \
             FROM jobs JOIN stages ON stages.id = jobs.stage_id JOIN pipeline_runs runs ON runs.id = stages.run_id \
             WHERE stages.completed_at IS NULL AND jobs.state <> 'Completed' ORDER BY jobs.id",
        )
        .fetch_all(&mut *connection)
        .await
        .map_err(DatabaseError::from)?;
        let (building, waiting): (Vec<_>, Vec<_>) =
            jobs.iter().partition(|job| job.agent_uuid.is_some());
        let busy = call.app.materials.busy();
        let updating: Vec<Value> = materials::list(&mut connection)
            .await?
            .iter()
            .filter(|one| busy.contains(&one.fingerprint))
            .filter_map(|one| {
                let git = one.git()?;
                let attributes = json!({ "url": location::without_credentials(&git.url), "branch": git.branch });
                Some(json!({ "type": "git", "fingerprint": one.fingerprint, "attributes": attributes }))
            })
            .collect();
        document["attributes"] = json!({
            "has_running_systems": !building.is_empty() || !updating.is_empty(),
            "running_systems": {
                "material_update_in_progress": updating,
                "building_jobs": building.into_iter().map(describe).collect::<Vec<_>>(),
                "scheduled_jobs": waiting.into_iter().map(describe).collect::<Vec<_>>(),
            },
        });
    }
    Ok(call.answer(&document))
}

fn describe(job: &Active) -> Value {
    json!({
        "pipeline_name": job.pipeline,
        "pipeline_counter": job.pipeline_counter,
        "stage_name": job.stage,
        "stage_counter": job.stage_counter.to_string(),
        "name": job.name,
        "state": job.state,
        "scheduled_date": time(job.scheduled_at),
        "agent_uuid": job.agent_uuid,
    })
}
