//! The page of all agents.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::StatusCode;
use journeyman_protocol::agent::RuntimeStatus;
use serde::Deserialize;
use sqlx::SqliteConnection;
use url::form_urlencoded;

use super::machine::{Machine, machine};
use super::render;
use crate::App;
use crate::agents::{self, AdminError, Agent, Change, ConfigState, ListChange};
use crate::answer::Refusal;
use crate::cli::size;
use crate::database::DatabaseError;
use crate::releases::progress::{self, MachineView};
use crate::releases::store;
use crate::users::Actor;

#[derive(Template)]
#[template(path = "agents.html")]
struct Page {
    agents: Vec<Row>,
    columns: Vec<Column>,
    filter: String,
    sort: String,
    known: usize,
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

/// A heading by which one can sort.
struct Column {
    name: &'static str,
    link: String,
    /// For `aria-sort`; nothing for a column that is not sorted by.
    sorted: Option<&'static str>,
    is_number: bool,
}

struct Row {
    uuid: String,
    hostname: String,
    ip: String,
    system: String,
    location: String,
    status: String,
    tone: &'static str,
    /// Nothing of one whose launcher has not told.
    machine: Option<Machine>,
    resources: Vec<String>,
    environments: Vec<String>,
    elastic: bool,
    space: Option<i64>,
    free: String,
    job: Option<String>,
    can_enable: bool,
    can_disable: bool,
    can_delete: bool,
}

/// What of the list is shown, and how.
#[derive(Clone, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    filter: String,
    /// A column's key, with `-` before it from the greatest to the least.
    #[serde(default)]
    sort: String,
}

type Compare = fn(&Row, &Row) -> std::cmp::Ordering;

/// Columns by which the list can be sorted: in addresses, and as people read them.
const COLUMNS: [(&str, &str, Compare); 5] = [
    ("name", "Agent", |a, b| {
        a.hostname.to_lowercase().cmp(&b.hostname.to_lowercase())
    }),
    ("status", "Status", |a, b| a.status.cmp(&b.status)),
    ("resources", "Resources", |a, b| {
        a.resources.cmp(&b.resources)
    }),
    ("environments", "Environments", |a, b| {
        a.environments.cmp(&b.environments)
    }),
    ("free", "Free space", |a, b| a.space.cmp(&b.space)),
];

pub(super) async fn page(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    show(&app, &actor, &asked, StatusCode::OK, None).await
}

async fn show(
    app: &App,
    actor: &Actor,
    asked: &Asked,
    status: StatusCode,
    notice: Option<String>,
) -> Result<Response, Refusal> {
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
    let hidden = hidden_pipelines(&mut connection, actor).await?;
    let count = |state| {
        agents
            .iter()
            .filter(|agent| agent.config_state == state)
            .count()
    };
    let (pending, enabled, disabled) = (
        count(ConfigState::Pending),
        count(ConfigState::Enabled),
        count(ConfigState::Disabled),
    );
    let known = agents.len();
    let mut rows: Vec<Row> = agents
        .into_iter()
        .map(|agent| row(agent, &mut machines, &releases, &hidden))
        .filter(|row| row.matches(&asked.filter))
        .collect();
    let (key, down) = match asked.sort.strip_prefix('-') {
        Some(key) => (key, true),
        None => (asked.sort.as_str(), false),
    };
    if let Some((.., compare)) = COLUMNS.iter().find(|(name, ..)| *name == key) {
        rows.sort_by(|a, b| if down { compare(b, a) } else { compare(a, b) });
    }
    let columns = COLUMNS.iter().map(|(name, title, _)| {
        let is_sorted = *name == key;
        let turned = if is_sorted && !down { "-" } else { "" };
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("sort", &format!("{turned}{name}"))
            .append_pair("filter", &asked.filter)
            .finish();
        Column {
            name: title,
            link: format!("/go/agents?{query}"),
            sorted: is_sorted.then_some(if down { "descending" } else { "ascending" }),
            is_number: *name == "free",
        }
    });
    let page = Page {
        columns: columns.collect(),
        agents: rows,
        filter: asked.filter.clone(),
        sort: asked.sort.clone(),
        known,
        pending,
        enabled,
        disabled,
        notice,
    };
    Ok(render(status, &page))
}

/// Pipelines of which the one who looks may not know, in lower case.
async fn hidden_pipelines(
    connection: &mut SqliteConnection,
    actor: &Actor,
) -> Result<HashSet<String>, DatabaseError> {
    if actor.rights.everywhere().is_some() {
        return Ok(HashSet::new());
    }
    let all = crate::pipelines::store::pipelines(connection).await?;
    let hidden = all.into_iter().map(|stored| stored.pipeline);
    let hidden = hidden.filter(|pipeline| !actor.sees(&pipeline.group));
    Ok(hidden
        .map(|pipeline| pipeline.name.to_lowercase())
        .collect())
}

/// What a button beside an agent asks for. Whatever goes wrong is shown on the page.
pub(super) async fn act(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    Path((uuid, action)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let outcome = match action.as_str() {
        "enable" => agents::enable(&app, &uuid).await,
        "disable" => agents::disable(&app, &uuid).await,
        "delete" => agents::delete(&app, &[&uuid]).await,
        _ => return Err(super::not_found("such action")),
    };
    answer(&app, &actor, &Asked::default(), outcome).await
}

async fn answer(
    app: &App,
    actor: &Actor,
    asked: &Asked,
    outcome: Result<(), AdminError>,
) -> Result<Response, Refusal> {
    match outcome {
        Ok(()) => {
            let query = form_urlencoded::Serializer::new(String::new())
                .append_pair("sort", &asked.sort)
                .append_pair("filter", &asked.filter)
                .finish();
            let query = match (asked.sort.as_str(), asked.filter.as_str()) {
                ("", "") => String::new(),
                _ => format!("?{query}"),
            };
            Ok(Redirect::to(&format!("/go/agents{query}")).into_response())
        }
        Err(AdminError::Database(error)) => Err(error.into()),
        Err(error) => {
            let notice = Some(format!("Nothing was changed: {error}."));
            show(app, actor, asked, StatusCode::CONFLICT, notice).await
        }
    }
}

/// What the form about the agents that are ticked asks for.
pub(super) async fn change(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let (mut uuids, mut action) = (Vec::new(), String::new());
    let (mut asked, mut add, mut remove) = (Asked::default(), Vec::new(), Vec::new());
    for (name, value) in form_urlencoded::parse(&body) {
        let names = || {
            value
                .split(',')
                .map(|one| one.trim().to_owned())
                .filter(|one| !one.is_empty())
        };
        match name.as_ref() {
            "uuid" => uuids.push(value.into_owned()),
            "action" => action = value.into_owned(),
            "add" => add.extend(names()),
            "remove" => remove.extend(names()),
            "filter" => asked.filter = value.into_owned(),
            "sort" => asked.sort = value.into_owned(),
            _ => {}
        }
    }
    let uuids: Vec<&str> = uuids.iter().map(String::as_str).collect();
    let refuse = |notice: &str| {
        show(
            &app,
            &actor,
            &asked,
            StatusCode::UNPROCESSABLE_ENTITY,
            Some(notice.to_owned()),
        )
    };
    if uuids.is_empty() {
        return refuse("Nothing was changed: tick the agents that are to change first.").await;
    }
    let edit = ListChange::Edit { add, remove };
    let is_empty = edit
        == ListChange::Edit {
            add: Vec::new(),
            remove: Vec::new(),
        };
    let state = |state| Change {
        config_state: Some(state),
        ..Change::default()
    };
    let outcome = match action.as_str() {
        "enable" => agents::change(&app, &uuids, &state(ConfigState::Enabled)).await,
        "disable" => agents::change(&app, &uuids, &state(ConfigState::Disabled)).await,
        "delete" => agents::delete(&app, &uuids).await,
        "resources" | "environments" if is_empty => {
            return refuse("Nothing was changed: write the names to add or to remove first.").await;
        }
        "resources" => {
            let change = Change {
                resources: edit,
                ..Change::default()
            };
            agents::change(&app, &uuids, &change).await
        }
        "environments" => {
            let change = Change {
                environments: edit,
                ..Change::default()
            };
            agents::change(&app, &uuids, &change).await
        }
        _ => return Err(super::not_found("such action")),
    };
    crate::users::audit::detail(format!("{action}: {}", uuids.join(", ")));
    answer(&app, &actor, &asked, outcome).await
}

impl Row {
    fn matches(&self, filter: &str) -> bool {
        let words = filter.split_whitespace().map(str::to_lowercase);
        let texts = [
            &self.hostname,
            &self.uuid,
            &self.ip,
            &self.system,
            &self.location,
            &self.status,
        ];
        let texts = texts
            .into_iter()
            .chain(&self.resources)
            .chain(&self.environments);
        let all: Vec<String> = texts.map(|text| text.to_lowercase()).collect();
        words
            .into_iter()
            .all(|word| all.iter().any(|text| text.contains(&word)))
    }
}

/// GoCD's words for an agent, and the colour of them.
pub(super) fn status(agent: &Agent) -> (&'static str, &'static str) {
    use RuntimeStatus::{Building, Cancelled, LostContact, Missing};
    match (agent.config_state, agent.runtime_status) {
        (ConfigState::Pending, _) => ("Pending", "busy"),
        (ConfigState::Disabled, Building) => ("Disabled (Building)", ""),
        (ConfigState::Disabled, Cancelled) => ("Disabled (Cancelled)", ""),
        (ConfigState::Disabled, _) => ("Disabled", ""),
        (ConfigState::Enabled, Building) => ("Building", "busy"),
        (ConfigState::Enabled, Cancelled) => ("Building (Cancelled)", "busy"),
        (ConfigState::Enabled, LostContact) => ("LostContact", "bad"),
        (ConfigState::Enabled, Missing) => ("Missing", "bad"),
        (ConfigState::Enabled, RuntimeStatus::Idle) => ("Idle", "good"),
        (ConfigState::Enabled, RuntimeStatus::Unknown) => ("Unknown", ""),
    }
}

fn row(
    agent: Agent,
    machines: &mut HashMap<String, MachineView>,
    releases: &HashSet<String>,
    hidden: &HashSet<String>,
) -> Row {
    let silent = matches!(
        agent.runtime_status,
        RuntimeStatus::Missing | RuntimeStatus::LostContact
    );
    let building = agent.is_building();
    let (status, tone) = status(&agent);
    let space = agent.usable_space.filter(|_| !silent);
    let pipeline = agent.build_locator.split('/').next().unwrap_or_default();
    let is_shown = building && !pipeline.is_empty() && !hidden.contains(&pipeline.to_lowercase());
    Row {
        status: status.to_owned(),
        tone,
        space,
        free: space.map_or_else(|| "unknown".to_owned(), size),
        machine: machines
            .remove(&agent.uuid)
            .map(|view| machine(view, releases)),
        can_enable: agent.config_state != ConfigState::Enabled,
        can_disable: agent.config_state != ConfigState::Disabled,
        can_delete: agent.config_state == ConfigState::Disabled && !building,
        job: is_shown.then_some(agent.build_locator),
        uuid: agent.uuid,
        hostname: agent.hostname,
        ip: agent.ip_address,
        system: agent.operating_system,
        location: agent.location,
        elastic: agent.elastic.is_some(),
        resources: agent.resources,
        environments: agent.environments,
    }
}
