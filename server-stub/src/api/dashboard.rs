//! `/api/dashboard`, version 4.

use std::sync::Arc;

use axum::Router;
use axum::response::Response;
use axum::routing::get;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::call::Call;
use crate::App;
use crate::answer::Refusal;
use crate::dashboard::{self, Card, CardRun, CardStage, Members};
use crate::pipelines::definition::Approval;
use crate::users::{Actor, Role};

pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route("/api/dashboard", get(show))
}

async fn show(call: Call<4>, actor: Actor) -> Result<Response, Refusal> {
    let dashboard = dashboard::of(&call.app, &actor).await?;
    let members = |one: &Members, path: &str| {
        json!({
            "_links": call.links(&format!("{path}{}", one.name), "dashboard", None),
            "name": one.name,
            "pipelines": one.pipelines,
            "can_administer": one.can_administer,
            "defines_pipelines": true,
        })
    };
    let groups = dashboard.groups.iter();
    let groups: Vec<Value> = groups
        .map(|one| members(one, "/api/admin/pipeline_groups/"))
        .collect();
    let environments = dashboard.environments.iter();
    let environments: Vec<Value> = environments
        .map(|one| members(one, "/api/admin/environments/"))
        .collect();
    let pipelines = dashboard.pipelines.iter();
    let pipelines: Vec<Value> = pipelines.map(|one| card(&call, one)).collect();
    Ok(call.answer_tagged(&json!({
        "_links": call.links("/api/dashboard", "dashboard", None),
        // Nobody has views of their own.
        "_personalization": "0",
        "_embedded": {
            "pipeline_groups": groups,
            "environments": environments,
            "pipelines": pipelines,
        },
    })))
}

fn card(call: &Call<4>, card: &Card) -> Value {
    let pause = card.state.pause.as_ref();
    let operates = card.role >= Role::Operate;
    let runs: Vec<Value> = card.runs.iter().map(|one| run(call, card, one)).collect();
    let mut shown = json!({
        "_links": call.links(&format!("/api/pipelines/{}/history", card.name), "pipelines", None),
        "name": card.name,
        "last_updated_timestamp": card.updated_at,
        "locked": card.state.locked_by.is_some(),
        "pause_info": {
            "paused": pause.is_some(),
            "paused_by": pause.map(|pause| &pause.by),
            "pause_reason": pause.map(|pause| &pause.cause),
            "paused_at": pause.map(|pause| time(pause.at)),
        },
        "template_info": {
            "is_using_template": card.template.is_some(),
            "template_name": card.template,
        },
        "can_operate": operates,
        "can_administer": card.role >= Role::Admin,
        "can_unlock": operates,
        "can_pause": operates,
        "from_config_repo": true,
        "config_repo_id": card.repository,
        "config_repo_material_url": card.repository_url,
        "_embedded": { "instances": runs },
    });
    if let Some(tool) = &card.tracking_tool {
        shown["tracking_tool"] = json!({ "regex": tool.regex, "link": tool.link });
    }
    shown
}

fn run(call: &Call<4>, card: &Card, run: &CardRun) -> Value {
    let locator = format!("{}/{}", card.name, run.counter);
    let stages = run.stages.iter();
    let stages: Vec<Value> = stages
        .map(|one| stage(call, &card.name, run, one))
        .collect();
    let triggered_by = match run.approver.as_str() {
        "" => "changes",
        user => user,
    };
    json!({
        "_links": { "self": { "href": call.url(&format!("/api/pipelines/{locator}")) } },
        "label": run.label,
        "counter": run.counter,
        "triggered_by": format!("Triggered by {triggered_by}"),
        "scheduled_at": time(run.scheduled_at),
        "_embedded": { "stages": stages },
    })
}

fn stage(call: &Call<4>, pipeline: &str, run: &CardRun, stage: &CardStage) -> Value {
    let own = |run: i64, counter: i64| {
        let url = call.url(&format!(
            "/api/stages/{pipeline}/{run}/{}/{counter}",
            stage.name
        ));
        json!({ "self": { "href": url } })
    };
    let row = stage.row.as_ref();
    let counter = row.map_or(1, |row| row.counter);
    let mut shown = json!({
        "_links": own(run.counter, counter),
        "name": stage.name,
        "counter": counter.to_string(),
        "status": row.map_or("Unknown", |row| &row.state),
        "allow_only_on_success_of_previous_stage": stage.approval == Approval::ManualOnSuccess,
        "can_operate": stage.can_operate,
        "approval_type": match stage.approval {
            Approval::Success => "auto",
            Approval::Manual | Approval::ManualOnSuccess => "manual",
        },
        "approved_by": row.map(|row| &row.approved_by),
        "scheduled_at": row.map(|row| time(row.scheduled_at)),
    });
    if let Some(user) = row.and_then(|row| row.cancelled_by.as_ref()) {
        shown["cancelled_by"] = json!(user);
    }
    if let Some(previous) = &stage.previous {
        shown["previous_stage"] = json!({
            "_links": own(previous.run_counter, previous.counter),
            "name": stage.name,
            "counter": previous.counter.to_string(),
            "status": previous.state,
        });
    }
    shown
}

fn time(milliseconds: i64) -> Option<Timestamp> {
    // In whole seconds, as GoCD writes it.
    Timestamp::from_second(milliseconds.div_euclid(1000)).ok()
}
