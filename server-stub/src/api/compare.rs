//! `/api/pipelines/P/compare/FROM/TO`, version 2.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use http::StatusCode;
use journeyman_protocol::material::Material;
use serde_json::{Value, json};

use super::call::{self, Call};
use super::material;
use crate::App;
use crate::answer::Refusal;
use crate::compare::{self, Change, CompareError};
use crate::users::Actor;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route(
        "/api/pipelines/{pipeline}/compare/{from}/{to}",
        get(between),
    )
}

async fn between(
    call: Call<2>,
    actor: Actor,
    Path((pipeline, from, to)): Path<(String, String, String)>,
) -> Result<Response, Refusal> {
    let (from, to) = (call::counter(&from)?, call::counter(&to)?);
    let comparison = compare::between(&call.app, &pipeline, from, to, &actor).await;
    let comparison = comparison.map_err(|error| match error {
        CompareError::Database(error) => Refusal::from(error),
        CompareError::UnknownRun { pipeline, counter } => {
            let text =
                format!("Pipeline with name '{pipeline}' and counter '{counter}' was not found!");
            Refusal::message(StatusCode::NOT_FOUND, text)
        }
    })?;
    let own = format!("/api/pipelines/{}/compare/{from}/{to}", comparison.pipeline);
    let changes: Vec<Value> = comparison.changes.iter().map(show).collect();
    Ok(call.answer(&json!({
        "_links": call.links(&own, "compare", None),
        "pipeline_name": comparison.pipeline,
        "from_counter": from,
        "to_counter": to,
        "is_bisect": comparison.is_bisect,
        "changes": changes,
    })))
}

fn show(change: &Change) -> Value {
    let is_upstream = matches!(change.material, Material::DependencyMaterial(_));
    let revisions = change.modifications.iter().map(|one| match is_upstream {
        true => json!({
            "revision": one.revision,
            "pipeline_counter": one.pipeline_label,
            "completed_at": one.modified_time,
        }),
        false => json!({
            "revision_sha": one.revision,
            "modified_by": material::committer(one),
            "modified_at": one.modified_time,
            "commit_message": one.comment,
        }),
    });
    json!({
        "material": material::settings(&change.material),
        "revision": revisions.collect::<Vec<_>>(),
    })
}
