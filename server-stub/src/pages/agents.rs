//! The page of all agents.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::StatusCode;
use journeyman_protocol::agent::RuntimeStatus;

use super::machine::{Machine, machine};
use super::render;
use crate::App;
use crate::agents::{self, Agent, ConfigState};
use crate::answer::Refusal;
use crate::cli::size;
use crate::database::DatabaseError;
use crate::releases::progress::{self, MachineView};
use crate::releases::store;

#[derive(Template)]
#[template(path = "agents.html")]
struct Page {
    agents: Vec<Row>,
    pending: usize,
    enabled: usize,
    disabled: usize,
    notice: Option<String>,
}

impl Page {
    fn here(&self) -> &'static str {
        "agents"
    }
}

struct Row {
    uuid: String,
    hostname: String,
    ip: String,
    system: String,
    location: String,
    status: String,
    /// Nothing of one whose launcher has not told.
    machine: Option<Machine>,
    resources: Vec<String>,
    environments: Vec<String>,
    free: String,
    job: Option<String>,
    can_enable: bool,
    can_disable: bool,
    can_delete: bool,
}

pub(super) async fn page(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    show(&app, StatusCode::OK, None).await
}

async fn show(app: &App, status: StatusCode, notice: Option<String>) -> Result<Response, Refusal> {
    let mut connection = app
        .database
        .readers()
        .acquire()
        .await
        .map_err(DatabaseError::from)?;
    let agents = agents::list(&mut connection).await?;
    let mut machines = progress::machines(&mut connection, app.now_ms()).await?;
    let releases = store::list(&mut connection).await?;
    let releases: HashSet<String> = releases.into_iter().map(|one| one.id).collect();
    let count = |state| {
        agents
            .iter()
            .filter(|agent| agent.config_state == state)
            .count()
    };
    let page = Page {
        pending: count(ConfigState::Pending),
        enabled: count(ConfigState::Enabled),
        disabled: count(ConfigState::Disabled),
        agents: agents
            .into_iter()
            .map(|agent| row(agent, &mut machines, &releases))
            .collect(),
        notice,
    };
    Ok(render(status, &page))
}

/// What a button on the page asks for. Whatever goes wrong is shown on the page.
pub(super) async fn act(
    State(app): State<Arc<App>>,
    Path((uuid, action)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let outcome = match action.as_str() {
        "enable" => agents::enable(&app, &uuid).await,
        "disable" => agents::disable(&app, &uuid).await,
        "delete" => agents::delete(&app, &[&uuid]).await,
        _ => return Err(super::not_found("such action")),
    };
    match outcome {
        Ok(()) => Ok(Redirect::to("/go/agents").into_response()),
        Err(agents::AdminError::Database(error)) => Err(error.into()),
        Err(error) => show(&app, StatusCode::CONFLICT, Some(error.to_string())).await,
    }
}

fn row(
    agent: Agent,
    machines: &mut HashMap<String, MachineView>,
    releases: &HashSet<String>,
) -> Row {
    let silent = matches!(
        agent.runtime_status,
        RuntimeStatus::Missing | RuntimeStatus::LostContact
    );
    let building = agent.is_building();
    Row {
        status: agent.shown_status().to_string(),
        free: match agent.usable_space {
            Some(space) if !silent => size(space),
            _ => "unknown".to_owned(),
        },
        machine: machines
            .remove(&agent.uuid)
            .map(|view| machine(view, releases)),
        job: (building && !agent.build_locator.is_empty()).then_some(agent.build_locator),
        can_enable: agent.config_state != ConfigState::Enabled,
        can_disable: agent.config_state != ConfigState::Disabled,
        can_delete: agent.config_state == ConfigState::Disabled && !building,
        uuid: agent.uuid,
        hostname: agent.hostname,
        ip: agent.ip_address,
        system: agent.operating_system,
        location: agent.location,
        resources: agent.resources,
        environments: agent.environments,
    }
}
