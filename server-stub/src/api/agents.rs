//! `/api/agents`, version 7.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::StatusCode;
use journeyman_protocol::agent::RuntimeStatus;
use serde_json::{Value, json};

use super::body::Body;
use super::call::{Call as Versioned, invalid, not_found};
use super::{agent_history, releases};
use crate::App;
use crate::agents::{self, AdminError, Agent, Change, ConfigState, ListChange};
use crate::answer::Refusal;
use crate::pipelines::definition::Environment;
use crate::pipelines::store;
use crate::releases::progress::{self, MachineView};
use crate::users::audit;

type Call = Versioned<7>;

const ROOT: &str = "/api/agents";
const FIND: &str = "/api/agents/:uuid";

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route(ROOT, get(list).patch(change_many).delete(delete_many))
        .route("/api/agents/{uuid}", get(one).patch(change).delete(delete))
        .route("/api/agents/{uuid}/kill_running_tasks", post(kill))
        .merge(agent_history::router())
}

async fn list(call: Call) -> Result<Response, Refusal> {
    let mut connection = call.reader().await?;
    let agents = agents::list(&mut connection).await?;
    let environments = store::environments(&mut connection).await?;
    let machines = progress::machines(&mut connection, call.app.now_ms()).await?;
    let shown: Vec<Value> = agents
        .iter()
        .map(|agent| show(&call, agent, &environments, machines.get(&agent.uuid)))
        .collect();
    Ok(call.answer(&json!({
        "_links": call.links(ROOT, "agents", None),
        "_embedded": { "agents": shown },
    })))
}

async fn one(call: Call, Path(uuid): Path<String>) -> Result<Response, Refusal> {
    let mut connection = call.reader().await?;
    let agent = agents::find(&mut connection, &uuid).await?;
    let agent = agent.ok_or_else(|| not_found("Agent", "uuid", &uuid))?;
    let machine = progress::machine(&mut connection, &agent, call.app.now_ms()).await?;
    let environments = store::environments(&mut connection).await?;
    let shown = show(&call, &agent, &environments, machine.as_ref());
    Ok(call.answer(&shown))
}

async fn change(call: Call, Path(uuid): Path<String>, body: Body) -> Result<Response, Refusal> {
    audit::detail(body.to_string());
    let replace = |names: Option<Vec<String>>| names.map_or(ListChange::Keep, ListChange::Replace);
    let asked = Change {
        config_state: config_state(&body)?,
        hostname: body.text("hostname")?.map(ToOwned::to_owned),
        resources: replace(body.texts("resources")?),
        environments: replace(body.texts("environments")?),
    };
    if asked == Change::default() {
        return Err(nothing_to_change());
    }
    check_environments(&call, &asked.environments).await?;
    agents::change(&call.app, &[&uuid], &asked)
        .await
        .map_err(|error| refusal(error, &uuid))?;
    one(call, Path(uuid)).await
}

async fn change_many(call: Call, body: Body) -> Result<Response, Refusal> {
    audit::detail(body.to_string());
    let uuids = uuids(&body)?;
    let operations = body.object("operations")?;
    let asked = Change {
        config_state: config_state(&body)?,
        hostname: None,
        resources: edit(&operations, "resources")?,
        environments: edit(&operations, "environments")?,
    };
    if asked == Change::default() {
        return Err(nothing_to_change());
    }
    check_environments(&call, &asked.environments).await?;
    let all: Vec<&str> = uuids.iter().map(String::as_str).collect();
    agents::change(&call.app, &all, &asked)
        .await
        .map_err(|error| refusal(error, &uuids.join(", ")))?;
    let text = format!("Updated agent(s) with uuid(s): [{}].", uuids.join(", "));
    Ok(call.message(text))
}

async fn delete(call: Call, Path(uuid): Path<String>) -> Result<Response, Refusal> {
    delete_all(&call, &[uuid]).await
}

async fn delete_many(call: Call, body: Body) -> Result<Response, Refusal> {
    audit::detail(body.to_string());
    delete_all(&call, &uuids(&body)?).await
}

async fn delete_all(call: &Call, uuids: &[String]) -> Result<Response, Refusal> {
    let all: Vec<&str> = uuids.iter().map(String::as_str).collect();
    agents::delete(&call.app, &all)
        .await
        .map_err(|error| refusal(error, &uuids.join(", ")))?;
    Ok(call.message(format!("Deleted {} agent(s).", uuids.len())))
}

async fn kill(call: Call, Path(uuid): Path<String>, _: Body) -> Result<Response, Refusal> {
    agents::kill_running_tasks(&call.app, &uuid)
        .await
        .map_err(|error| refusal(error, &uuid))?;
    Ok(StatusCode::ACCEPTED.into_response())
}

/// An agent in GoCD's form, and as `journeyman` what its machine says of releases.
fn show(
    call: &Call,
    agent: &Agent,
    defined: &[Environment],
    machine: Option<&MachineView>,
) -> Value {
    let base = &call.base;
    let silent = matches!(
        agent.runtime_status,
        RuntimeStatus::Missing | RuntimeStatus::LostContact
    );
    let (agent_state, build_state) = match agent.runtime_status {
        RuntimeStatus::Idle => ("Idle", "Idle"),
        RuntimeStatus::Building => ("Building", "Building"),
        RuntimeStatus::Cancelled => ("Building", "Cancelled"),
        RuntimeStatus::LostContact => ("LostContact", "Unknown"),
        RuntimeStatus::Missing => ("Missing", "Unknown"),
        RuntimeStatus::Unknown => ("Unknown", "Unknown"),
    };
    let mut shown = json!({
        "_links": call.links(&format!("{ROOT}/{}", agent.uuid), "agents", Some(FIND)),
        "uuid": agent.uuid,
        "hostname": agent.hostname,
        "ip_address": agent.ip_address,
        "sandbox": agent.location,
        "operating_system": agent.operating_system,
        "agent_config_state": agent.config_state.as_str(),
        "agent_state": agent_state,
        "agent_version": agent.agent_version,
        "agent_bootstrapper_version": agent.bootstrapper_version,
        "environments": environments(call, agent, defined),
        "build_state": build_state,
        "free_space": match agent.usable_space {
            Some(space) if !silent => json!(space),
            // Then a number, always.
            _ if call.version() <= 4 => json!(0),
            _ => json!("unknown"),
        },
    });
    match &agent.elastic {
        Some(elastic) => {
            shown["elastic_agent_id"] = json!(elastic.agent_id);
            shown["elastic_plugin_id"] = json!(elastic.plugin_id);
        }
        None => shown["resources"] = json!(agent.resources),
    }
    let parts: Vec<&str> = agent.build_locator.split('/').collect();
    if let ([pipeline, counter, stage, stage_counter, job], true) =
        (&parts[..], agent.is_building())
    {
        let stage_path = format!("{pipeline}/{counter}/{stage}/{stage_counter}");
        shown["build_details"] = json!({
            "_links": {
                "job": { "href": format!("{base}/tab/build/detail/{stage_path}/{job}") },
                "stage": { "href": format!("{base}/pipelines/{stage_path}") },
                "pipeline": { "href": format!("{base}/pipeline/activity/{pipeline}") },
            },
            "pipeline_name": pipeline,
            "stage_name": stage,
            "job_name": job,
        });
    }
    if let Some(machine) = machine {
        shown["journeyman"] = releases::show_machine(machine);
    }
    shown
}

/// The environments that an admin has put the agent into, and those that files put it into.
/// Versions before 5 have their names only.
fn environments(call: &Call, agent: &Agent, defined: &[Environment]) -> Vec<Value> {
    let is_put = |name: &str| {
        let mut put = agent.environments.iter();
        put.any(|one| one.eq_ignore_ascii_case(name))
    };
    let by_file = defined
        .iter()
        .filter(|one| one.agents.contains(&agent.uuid));
    let by_file = by_file.filter(|one| !is_put(&one.name));
    let by_file = by_file.map(|one| (&one.name, "config-repo", "/api/admin/config_repos"));
    let put = agent.environments.iter();
    let put = put.map(|name| (name, "gocd", "/admin/environments"));
    let show = |(name, origin, place)| {
        if call.version() <= 4 {
            return json!(name);
        }
        let links = call.links(place, "agents", None);
        json!({ "name": name, "origin": { "type": origin, "_links": links } })
    };
    put.chain(by_file).map(show).collect()
}

fn nothing_to_change() -> Refusal {
    Refusal::message(
        StatusCode::BAD_REQUEST,
        "The request names nothing to change.",
    )
}

fn uuids(body: &Body) -> Result<Vec<String>, Refusal> {
    let uuids = body.texts("uuids")?.unwrap_or_default();
    if uuids.is_empty() {
        return Err(Refusal::message(
            StatusCode::BAD_REQUEST,
            "The request names no agents in 'uuids'.",
        ));
    }
    Ok(uuids)
}

fn config_state(body: &Body) -> Result<Option<ConfigState>, Refusal> {
    let Some(name) = body.text("agent_config_state")? else {
        return Ok(None);
    };
    match ConfigState::parse(name) {
        Some(state @ (ConfigState::Enabled | ConfigState::Disabled)) => Ok(Some(state)),
        _ => Err(invalid(format!(
            "'{name}' is no value for agent_config_state; 'Enabled' and 'Disabled' are."
        ))),
    }
}

fn edit(operations: &Body, name: &str) -> Result<ListChange, Refusal> {
    let operation = operations.object(name)?;
    let add = operation.texts("add")?.unwrap_or_default();
    let remove = operation.texts("remove")?.unwrap_or_default();
    if add.is_empty() && remove.is_empty() {
        return Ok(ListChange::Keep);
    }
    Ok(ListChange::Edit { add, remove })
}

/// An agent can only be in environments that some pipeline file defines.
async fn check_environments(call: &Call, change: &ListChange) -> Result<(), Refusal> {
    let wanted = match change {
        ListChange::Keep => return Ok(()),
        ListChange::Replace(names) => names,
        ListChange::Edit { add, .. } => add,
    };
    let mut connection = call.reader().await?;
    let known = store::environments(&mut connection).await?;
    for name in wanted {
        if !known
            .iter()
            .any(|one| one.name.eq_ignore_ascii_case(name.trim()))
        {
            return Err(invalid(format!(
                "Environment with name '{name}' was not found!"
            )));
        }
    }
    Ok(())
}

fn refusal(error: AdminError, uuids: &str) -> Refusal {
    let status = match &error {
        AdminError::Database(_) => return Refusal::internal("change an agent", &error),
        AdminError::Unknown { uuid } if !uuids.contains(", ") => {
            return not_found("Agent", "uuid", uuid);
        }
        AdminError::Unknown { uuid } => {
            let text = format!("Agents with uuids '[{uuid}]' were not found!");
            return Refusal::message(StatusCode::NOT_FOUND, text);
        }
        AdminError::Pending { .. } | AdminError::Elastic { .. } => StatusCode::BAD_REQUEST,
        AdminError::Name { .. } | AdminError::EmptyHostname | AdminError::NotDeletable { .. } => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        AdminError::NotCancelled { .. } | AdminError::KillPending { .. } => StatusCode::CONFLICT,
    };
    Refusal::message(status, error.to_string())
}
