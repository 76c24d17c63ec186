//! `/api/agents`, version 7.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{HeaderMap, StatusCode};
use journeyman_protocol::agent::RuntimeStatus;
use serde_json::{Value, json};

use super::{releases, reply};
use crate::App;
use crate::agents::{self, AdminError, Agent, Change, ConfigState, ListChange};
use crate::answer::Refusal;
use crate::database::DatabaseError;
use crate::pipelines::store;
use crate::releases::progress::{self, MachineView};
use crate::users::audit;

const VERSION: u32 = 7;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route(
            "/api/agents",
            get(list).patch(change_many).delete(delete_many),
        )
        .route("/api/agents/{uuid}", get(one).patch(change).delete(delete))
        .route("/api/agents/{uuid}/kill_running_tasks", post(kill))
}

async fn list(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Refusal> {
    let version = reply::version(&headers, VERSION)?;
    let base = reply::base(&app, &headers);
    let mut connection = app
        .database
        .readers()
        .acquire()
        .await
        .map_err(DatabaseError::from)?;
    let agents = agents::list(&mut connection).await?;
    let machines = progress::machines(&mut connection, app.now_ms()).await?;
    let shown: Vec<Value> = agents
        .iter()
        .map(|agent| show(agent, machines.get(&agent.uuid), &base))
        .collect();
    let body = json!({
        "_links": reply::links(&format!("{base}/api/agents"), "agents", None),
        "_embedded": { "agents": shown },
    });
    Ok(reply::document(StatusCode::OK, version, &body))
}

async fn one(
    State(app): State<Arc<App>>,
    Path(uuid): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let version = reply::version(&headers, VERSION)?;
    answer(&app, &uuid, &headers, version).await
}

async fn answer(
    app: &App,
    uuid: &str,
    headers: &HeaderMap,
    version: u32,
) -> Result<Response, Refusal> {
    let mut connection = app
        .database
        .readers()
        .acquire()
        .await
        .map_err(DatabaseError::from)?;
    let agent = agents::find(&mut connection, uuid).await?;
    let agent = agent.ok_or_else(|| reply::not_found("Agent", "uuid", uuid))?;
    let machine = progress::machine(&mut connection, &agent, app.now_ms()).await?;
    let base = reply::base(app, headers);
    Ok(reply::document(
        StatusCode::OK,
        version,
        &show(&agent, machine.as_ref(), &base),
    ))
}

async fn change(
    State(app): State<Arc<App>>,
    Path(uuid): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let version = reply::version(&headers, VERSION)?;
    let body = reply::body(&headers, &body)?.unwrap_or_default();
    audit::detail(body.to_string());
    let asked = Change {
        config_state: config_state(&body)?,
        hostname: text(&body, "hostname")?,
        resources: replacement(&body, "resources")?,
        environments: replacement(&body, "environments")?,
    };
    if asked == Change::default() {
        return Err(nothing_to_change());
    }
    check_environments(&app, &asked.environments).await?;
    agents::change(&app, &[&uuid], &asked)
        .await
        .map_err(|error| refusal(error, &uuid))?;
    answer(&app, &uuid, &headers, version).await
}

async fn change_many(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let version = reply::version(&headers, VERSION)?;
    let body = reply::body(&headers, &body)?.unwrap_or_default();
    audit::detail(body.to_string());
    let uuids = uuids(&body)?;
    let operations = body.get("operations").cloned().unwrap_or_default();
    let asked = Change {
        config_state: config_state(&body)?,
        hostname: None,
        resources: edit(&operations, "resources")?,
        environments: edit(&operations, "environments")?,
    };
    if asked == Change::default() {
        return Err(nothing_to_change());
    }
    check_environments(&app, &asked.environments).await?;
    let all: Vec<&str> = uuids.iter().map(String::as_str).collect();
    agents::change(&app, &all, &asked)
        .await
        .map_err(|error| refusal(error, &uuids.join(", ")))?;
    let text = format!("Updated agent(s) with uuid(s): [{}].", uuids.join(", "));
    Ok(reply::message(StatusCode::OK, version, text))
}

async fn delete(
    State(app): State<Arc<App>>,
    Path(uuid): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let version = reply::version(&headers, VERSION)?;
    delete_all(&app, &[uuid], version).await
}

async fn delete_many(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let version = reply::version(&headers, VERSION)?;
    let body = reply::body(&headers, &body)?.unwrap_or_default();
    audit::detail(body.to_string());
    delete_all(&app, &uuids(&body)?, version).await
}

async fn delete_all(app: &App, uuids: &[String], version: u32) -> Result<Response, Refusal> {
    let all: Vec<&str> = uuids.iter().map(String::as_str).collect();
    agents::delete(app, &all)
        .await
        .map_err(|error| refusal(error, &uuids.join(", ")))?;
    let text = format!("Deleted {} agent(s).", uuids.len());
    Ok(reply::message(StatusCode::OK, version, text))
}

async fn kill(
    State(app): State<Arc<App>>,
    Path(uuid): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    reply::version(&headers, VERSION)?;
    reply::body(&headers, &body)?;
    agents::kill_running_tasks(&app, &uuid)
        .await
        .map_err(|error| refusal(error, &uuid))?;
    Ok(StatusCode::ACCEPTED.into_response())
}

/// An agent in GoCD's form, and as `journeyman` what its machine says of releases.
fn show(agent: &Agent, machine: Option<&MachineView>, base: &str) -> Value {
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
    let environments: Vec<Value> = agent
        .environments
        .iter()
        .map(|name| json!({ "name": name, "origin": { "type": "gocd" } }))
        .collect();
    let own = format!("{base}/api/agents/{}", agent.uuid);
    let find = format!("{base}/api/agents/:uuid");
    let mut shown = json!({
        "_links": reply::links(&own, "agents", Some(&find)),
        "uuid": agent.uuid,
        "hostname": agent.hostname,
        "ip_address": agent.ip_address,
        "sandbox": agent.location,
        "operating_system": agent.operating_system,
        "agent_config_state": agent.config_state.as_str(),
        "agent_state": agent_state,
        "agent_version": agent.agent_version,
        "agent_bootstrapper_version": agent.bootstrapper_version,
        "environments": environments,
        "build_state": build_state,
        "free_space": match agent.usable_space {
            Some(space) if !silent => json!(space),
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

fn nothing_to_change() -> Refusal {
    Refusal::message(
        StatusCode::BAD_REQUEST,
        "The request names nothing to change.",
    )
}

fn invalid(text: impl Into<String>) -> Refusal {
    Refusal::message(StatusCode::UNPROCESSABLE_ENTITY, text)
}

fn uuids(body: &Value) -> Result<Vec<String>, Refusal> {
    let uuids = names(body.get("uuids").unwrap_or(&Value::Null), "uuids")?;
    if uuids.is_empty() {
        return Err(Refusal::message(
            StatusCode::BAD_REQUEST,
            "The request names no agents in 'uuids'.",
        ));
    }
    Ok(uuids)
}

fn config_state(body: &Value) -> Result<Option<ConfigState>, Refusal> {
    let Some(name) = text(body, "agent_config_state")? else {
        return Ok(None);
    };
    match ConfigState::parse(&name) {
        Some(state @ (ConfigState::Enabled | ConfigState::Disabled)) => Ok(Some(state)),
        _ => Err(invalid(format!(
            "'{name}' is no value for agent_config_state; 'Enabled' and 'Disabled' are."
        ))),
    }
}

fn text(body: &Value, name: &str) -> Result<Option<String>, Refusal> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(invalid(format!("'{name}' must be text."))),
    }
}

/// A list, or one text with commas.
fn names(value: &Value, name: &str) -> Result<Vec<String>, Refusal> {
    let split = |text: &str| {
        let parts = text.split(',').map(str::trim);
        parts
            .filter(|part| !part.is_empty())
            .map(ToOwned::to_owned)
            .collect()
    };
    match value {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => Ok(split(text)),
        Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map(ToOwned::to_owned))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| invalid(format!("'{name}' must be a list of texts."))),
        _ => Err(invalid(format!("'{name}' must be a list of texts."))),
    }
}

fn replacement(body: &Value, name: &str) -> Result<ListChange, Refusal> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(ListChange::Keep),
        Some(value) => Ok(ListChange::Replace(names(value, name)?)),
    }
}

fn edit(operations: &Value, name: &str) -> Result<ListChange, Refusal> {
    let Some(operation) = operations.get(name) else {
        return Ok(ListChange::Keep);
    };
    let part = |key: &str| names(operation.get(key).unwrap_or(&Value::Null), name);
    let (add, remove) = (part("add")?, part("remove")?);
    if add.is_empty() && remove.is_empty() {
        return Ok(ListChange::Keep);
    }
    Ok(ListChange::Edit { add, remove })
}

/// An agent can only be in environments that some pipeline file defines.
async fn check_environments(app: &App, change: &ListChange) -> Result<(), Refusal> {
    let wanted = match change {
        ListChange::Keep => return Ok(()),
        ListChange::Replace(names) => names,
        ListChange::Edit { add, .. } => add,
    };
    let mut connection = app
        .database
        .readers()
        .acquire()
        .await
        .map_err(DatabaseError::from)?;
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
            return reply::not_found("Agent", "uuid", uuid);
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
