//! `/pipelines/value_stream_map/P/C.json`: the value stream of a run, for scripts. Any `Accept`.

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::{Value, json};

use super::call::{counter, not_found};
use super::material::committer;
use crate::App;
use crate::answer::Refusal;
use crate::users::Actor;
use crate::value_stream::{self, Instance, Node, NodeKind, PipelineNode};

/// The document of a run. The page of the same run has the path without `.json`.
pub(crate) async fn document(
    app: &App,
    actor: &Actor,
    pipeline: &str,
    text: &str,
) -> Result<Response, Refusal> {
    let found = value_stream::of(app, pipeline, counter(text)?, actor).await?;
    let found =
        found.ok_or_else(|| not_found("Pipeline", "locator", &format!("{pipeline}/{text}")))?;
    let levels = found.levels.iter().map(|nodes| {
        let nodes: Vec<Value> = nodes.iter().map(show).collect();
        json!({ "nodes": nodes })
    });
    let body = json!({
        "current_pipeline": found.pipeline,
        "levels": levels.collect::<Vec<_>>(),
    });
    let text = serde_json::to_string_pretty(&body)
        .map_err(|error| Refusal::internal("write a value stream", &error))?;
    let media_type = [(header::CONTENT_TYPE, "application/json;charset=utf-8")];
    Ok((StatusCode::OK, media_type, text).into_response())
}

fn show(node: &Node) -> Value {
    let mut shown = json!({
        "id": node.id,
        "name": "",
        "node_type": "DUMMY",
        "depth": node.depth,
        "parents": node.parents,
        "dependents": node.dependents,
        "locator": "",
        "instances": [],
    });
    match &node.kind {
        NodeKind::Line => {}
        NodeKind::Hidden => {
            shown["node_type"] = json!("PIPELINE");
            shown["view_type"] = json!("NO_PERMISSION");
            shown["message"] = json!("You are not authorized to view this pipeline");
        }
        NodeKind::Pipeline(pipeline) => {
            shown["name"] = json!(pipeline.name);
            shown["node_type"] = json!("PIPELINE");
            shown["locator"] = json!(format!("/go/pipeline/activity/{}", pipeline.name));
            shown["instances"] = instances(pipeline);
        }
        NodeKind::Other(kind) => {
            shown["name"] = json!(kind);
            shown["node_type"] = json!(kind.to_uppercase());
        }
        NodeKind::Git(git) => {
            shown["name"] = json!(git.url);
            shown["node_type"] = json!("GIT");
            shown["material_names"] = json!(git.names);
            let revisions = git.revisions.iter().map(|modifications| {
                let modifications = modifications.iter().map(|one| {
                    let page = format!(
                        "/go/materials/value_stream_map/{}/{}",
                        node.id, one.revision
                    );
                    json!({
                        "revision": one.revision,
                        "user": committer(one),
                        "comment": one.comment,
                        "modified_time": one.modified_time,
                        "locator": page,
                    })
                });
                json!({ "modifications": modifications.collect::<Vec<_>>() })
            });
            shown["material_revisions"] = revisions.collect();
        }
    }
    shown
}

/// The runs of a pipeline; one that has not run yet is shown as a run without a counter.
fn instances(pipeline: &PipelineNode) -> Value {
    if pipeline.instances.is_empty() {
        let stages = pipeline.stages.iter();
        let stages: Vec<Value> = stages
            .map(|name| json!({ "name": name, "status": "Unknown", "locator": "", "duration": null }))
            .collect();
        return json!([{ "label": "", "counter": 0, "locator": "", "stages": stages }]);
    }
    let show = |one: &Instance| {
        let run = format!("{}/{}", pipeline.name, one.counter);
        let stages = one.stages.iter().map(|stage| {
            let page = stage
                .counter
                .map(|counter| format!("/go/pipelines/{run}/{}/{counter}", stage.name));
            json!({
                "name": stage.name,
                "status": stage.state,
                "locator": page.unwrap_or_default(),
                "duration": stage.seconds,
            })
        });
        json!({
            "label": one.label,
            "counter": one.counter,
            "locator": format!("/go/pipelines/value_stream_map/{run}"),
            "stages": stages.collect::<Vec<_>>(),
        })
    };
    pipeline.instances.iter().map(show).collect()
}
