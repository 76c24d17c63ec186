//! An agent as the database keeps it.

use std::fmt;

use journeyman_protocol::{
    agent::{ElasticAgent, RuntimeStatus},
    secret::Secret,
};
use sqlx::SqliteConnection;

use crate::database::DatabaseError;

/// What an admin has decided about an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConfigState {
    /// Nothing yet: it has asked to be let in.
    Pending,
    /// It may work.
    Enabled,
    /// It finishes its job and gets no other.
    Disabled,
}

/// The one word for an agent that people see. GoCD: `AgentInstance.getStatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ShownStatus {
    Pending,
    Disabled,
    Idle,
    Building,
    Cancelled,
    LostContact,
    Missing,
    Unknown,
}

/// An agent that is known to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    pub uuid: String,
    pub hostname: String,
    pub ip_address: String,
    /// The agent's working directory.
    pub location: String,
    pub operating_system: String,
    /// Bytes free for jobs, if the agent has said so.
    pub usable_space: Option<i64>,
    pub agent_version: String,
    pub bootstrapper_version: String,
    pub config_state: ConfigState,
    pub runtime_status: RuntimeStatus,
    pub resources: Vec<String>,
    pub environments: Vec<String>,
    pub elastic: Option<ElasticAgent>,
    /// The cookie the agent must show; none accepts any.
    pub cookie: Option<Secret>,
    /// `pipeline/counter/stage/counter/job`, path-encoded, of the job it builds, or empty.
    pub build_locator: String,
    pub kill_requested: bool,
    /// Milliseconds since the epoch.
    pub cancelled_at: Option<i64>,
    /// Milliseconds since the epoch.
    pub last_heard_at: Option<i64>,
    /// Milliseconds since the epoch.
    pub registered_at: i64,
}

/// Every agent, by host name.
pub async fn list(connection: &mut SqliteConnection) -> Result<Vec<Agent>, DatabaseError> {
    let rows: Vec<AgentRow> = sqlx::query_as("SELECT * FROM agents ORDER BY hostname, uuid")
        .fetch_all(connection)
        .await?;
    rows.into_iter().map(Agent::try_from).collect()
}

/// One agent.
pub async fn find(
    connection: &mut SqliteConnection,
    uuid: &str,
) -> Result<Option<Agent>, DatabaseError> {
    let row: Option<AgentRow> = sqlx::query_as("SELECT * FROM agents WHERE uuid = $1")
        .bind(uuid)
        .fetch_optional(connection)
        .await?;
    row.map(Agent::try_from).transpose()
}

/// Adds an agent, or replaces everything about it.
pub async fn insert(connection: &mut SqliteConnection, agent: &Agent) -> Result<(), DatabaseError> {
    sqlx::query(
        "INSERT INTO agents (uuid, hostname, ip_address, location, operating_system, usable_space, \
         agent_version, bootstrapper_version, config_state, runtime_status, resources, environments, \
         elastic_agent_id, elastic_plugin_id, cookie, build_locator, kill_requested, cancelled_at, \
         last_heard_at, registered_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20) \
         ON CONFLICT (uuid) DO UPDATE SET hostname = excluded.hostname, ip_address = excluded.ip_address, \
         location = excluded.location, operating_system = excluded.operating_system, \
         usable_space = excluded.usable_space, agent_version = excluded.agent_version, \
         bootstrapper_version = excluded.bootstrapper_version, config_state = excluded.config_state, \
         runtime_status = excluded.runtime_status, resources = excluded.resources, \
         environments = excluded.environments, elastic_agent_id = excluded.elastic_agent_id, \
         elastic_plugin_id = excluded.elastic_plugin_id, cookie = excluded.cookie, \
         build_locator = excluded.build_locator, kill_requested = excluded.kill_requested, \
         cancelled_at = excluded.cancelled_at, last_heard_at = excluded.last_heard_at, \
         registered_at = excluded.registered_at",
    )
    .bind(&agent.uuid)
    .bind(&agent.hostname)
    .bind(&agent.ip_address)
    .bind(&agent.location)
    .bind(&agent.operating_system)
    .bind(agent.usable_space)
    .bind(&agent.agent_version)
    .bind(&agent.bootstrapper_version)
    .bind(agent.config_state.as_str())
    .bind(runtime_name(agent.runtime_status))
    .bind(json_list(&agent.resources))
    .bind(json_list(&agent.environments))
    .bind(agent.elastic.as_ref().map(|elastic| elastic.agent_id.as_str()))
    .bind(agent.elastic.as_ref().map(|elastic| elastic.plugin_id.as_str()))
    .bind(agent.cookie.as_ref().map(Secret::expose))
    .bind(&agent.build_locator)
    .bind(i64::from(agent.kill_requested))
    .bind(agent.cancelled_at)
    .bind(agent.last_heard_at)
    .bind(agent.registered_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// A row of the table `agents`.
#[derive(sqlx::FromRow)]
pub struct AgentRow {
    uuid: String,
    hostname: String,
    ip_address: String,
    location: String,
    operating_system: String,
    usable_space: Option<i64>,
    agent_version: String,
    bootstrapper_version: String,
    config_state: String,
    runtime_status: String,
    resources: String,
    environments: String,
    elastic_agent_id: Option<String>,
    elastic_plugin_id: Option<String>,
    cookie: Option<String>,
    build_locator: String,
    kill_requested: i64,
    cancelled_at: Option<i64>,
    last_heard_at: Option<i64>,
    registered_at: i64,
}

// === impl AgentRow ===

impl TryFrom<AgentRow> for Agent {
    type Error = DatabaseError;

    fn try_from(row: AgentRow) -> Result<Self, DatabaseError> {
        let list = |column: &str, text: &str| {
            serde_json::from_str(text).map_err(|error| {
                DatabaseError::content(format!("{column} of agent {}", row.uuid), error)
            })
        };
        Ok(Self {
            config_state: ConfigState::parse(&row.config_state).ok_or_else(|| {
                DatabaseError::content(
                    format!("the config state of agent {}", row.uuid),
                    &row.config_state,
                )
            })?,
            runtime_status: parse_runtime(&row.runtime_status),
            resources: list("the resources", &row.resources)?,
            environments: list("the environments", &row.environments)?,
            elastic: row.elastic_agent_id.zip(row.elastic_plugin_id).map(
                |(agent_id, plugin_id)| ElasticAgent {
                    agent_id,
                    plugin_id,
                },
            ),
            cookie: row.cookie.map(Secret::from),
            uuid: row.uuid,
            hostname: row.hostname,
            ip_address: row.ip_address,
            location: row.location,
            operating_system: row.operating_system,
            usable_space: row.usable_space,
            agent_version: row.agent_version,
            bootstrapper_version: row.bootstrapper_version,
            build_locator: row.build_locator,
            kill_requested: row.kill_requested != 0,
            cancelled_at: row.cancelled_at,
            last_heard_at: row.last_heard_at,
            registered_at: row.registered_at,
        })
    }
}

// === impl Agent ===

impl Agent {
    /// What people see.
    pub fn shown_status(&self) -> ShownStatus {
        match (self.config_state, self.runtime_status) {
            (ConfigState::Pending, _) => ShownStatus::Pending,
            (ConfigState::Disabled, _) => ShownStatus::Disabled,
            (ConfigState::Enabled, RuntimeStatus::Idle) => ShownStatus::Idle,
            (ConfigState::Enabled, RuntimeStatus::Building) => ShownStatus::Building,
            (ConfigState::Enabled, RuntimeStatus::Cancelled) => ShownStatus::Cancelled,
            (ConfigState::Enabled, RuntimeStatus::LostContact) => ShownStatus::LostContact,
            (ConfigState::Enabled, RuntimeStatus::Missing) => ShownStatus::Missing,
            (ConfigState::Enabled, RuntimeStatus::Unknown) => ShownStatus::Unknown,
        }
    }

    /// Whether it is in a job, cancelled or not.
    pub fn is_building(&self) -> bool {
        matches!(
            self.runtime_status,
            RuntimeStatus::Building | RuntimeStatus::Cancelled
        )
    }
}

// === impl ConfigState ===

impl ConfigState {
    /// The name in the database and the REST API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Enabled => "Enabled",
            Self::Disabled => "Disabled",
        }
    }

    /// The state with this name, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Pending, Self::Enabled, Self::Disabled]
            .into_iter()
            .find(|state| state.as_str().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for ConfigState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

// === impl ShownStatus ===

impl fmt::Display for ShownStatus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

pub(super) const fn runtime_name(status: RuntimeStatus) -> &'static str {
    match status {
        RuntimeStatus::Idle => "Idle",
        RuntimeStatus::Building => "Building",
        RuntimeStatus::LostContact => "LostContact",
        RuntimeStatus::Missing => "Missing",
        RuntimeStatus::Cancelled => "Cancelled",
        RuntimeStatus::Unknown => "Unknown",
    }
}

pub(super) fn parse_runtime(name: &str) -> RuntimeStatus {
    [
        RuntimeStatus::Idle,
        RuntimeStatus::Building,
        RuntimeStatus::LostContact,
        RuntimeStatus::Missing,
        RuntimeStatus::Cancelled,
    ]
    .into_iter()
    .find(|status| runtime_name(*status) == name)
    .unwrap_or(RuntimeStatus::Unknown)
}

pub(super) fn json_list(items: &[String]) -> String {
    serde_json::Value::from(items).to_string()
}
