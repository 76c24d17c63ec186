//! What people do with agents.

use std::fmt;

use journeyman_protocol::agent::RuntimeStatus;
use sqlx::SqliteConnection;

use super::{Agent, ConfigState, find};
use crate::{App, database::DatabaseError, pipelines::names::check_name};

/// Why an agent was not changed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("there is no agent with the uuid {uuid}")]
    Unknown { uuid: String },
    #[error("agent {uuid} is pending: enable or disable it in the same request")]
    Pending { uuid: String },
    #[error("agent {uuid} is elastic and cannot have resources")]
    Elastic { uuid: String },
    #[error(
        "`{name}` is not a valid name for the {kind} of an agent: use {}", kind.letters()
    )]
    Name { kind: NameKind, name: String },
    #[error("an agent's host name cannot be empty")]
    EmptyHostname,
    #[error("agent {uuid} cannot be deleted: it must be disabled and not building")]
    NotDeletable { uuid: String },
    #[error(
        "the tasks of agent {uuid} cannot be killed: its job was not cancelled (it is {status})"
    )]
    NotCancelled { uuid: String, status: String },
    #[error("killing the tasks of agent {uuid} was requested before")]
    KillPending { uuid: String },
}

/// What a name of an agent's lists is for, and so what it may hold. GoCD: resources may have spaces
/// and bars, environments are named like pipelines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    Resource,
    Environment,
}

/// What to change about an agent; what is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    pub config_state: Option<ConfigState>,
    pub hostname: Option<String>,
    pub resources: ListChange,
    pub environments: ListChange,
}

/// What to change about an agent's resources or environments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListChange {
    #[default]
    Keep,
    Replace(Vec<String>),
    /// Names are compared without case.
    Edit {
        add: Vec<String>,
        remove: Vec<String>,
    },
}

/// Lets an agent work. A pending one gets its answer at its next registration call.
///
/// # Errors
///
/// See [`AdminError`]; nothing has changed then.
pub async fn enable(app: &App, uuid: &str) -> Result<(), AdminError> {
    let change_state = Change {
        config_state: Some(ConfigState::Enabled),
        ..Change::default()
    };
    change(app, &[uuid], &change_state).await
}

/// Gives an agent no further job; the one it runs goes on to its end.
///
/// # Errors
///
/// See [`AdminError`]; nothing has changed then.
pub async fn disable(app: &App, uuid: &str) -> Result<(), AdminError> {
    let change_state = Change {
        config_state: Some(ConfigState::Disabled),
        ..Change::default()
    };
    change(app, &[uuid], &change_state).await
}

/// Changes several agents, all or none.
///
/// # Errors
///
/// See [`AdminError`]; nothing has changed then.
pub async fn change(app: &App, uuids: &[&str], change: &Change) -> Result<(), AdminError> {
    let mut write = app.database.write().await?;
    for uuid in uuids {
        let agent = find(&mut write, uuid)
            .await?
            .ok_or_else(|| AdminError::Unknown {
                uuid: (*uuid).to_owned(),
            })?;
        let changed = changed(agent, change)?;
        store(&mut write, &changed).await?;
    }
    write.commit().await.map_err(DatabaseError::from)?;
    app.polls.wake_all();
    app.state_changed.raise();
    Ok(())
}

/// Forgets agents, all or none. Each must be disabled and not building.
///
/// # Errors
///
/// See [`AdminError`]; nothing has changed then.
pub async fn delete(app: &App, uuids: &[&str]) -> Result<(), AdminError> {
    let mut write = app.database.write().await?;
    for uuid in uuids {
        let agent = find(&mut write, uuid)
            .await?
            .ok_or_else(|| AdminError::Unknown {
                uuid: (*uuid).to_owned(),
            })?;
        if agent.config_state != ConfigState::Disabled || agent.is_building() {
            return Err(AdminError::NotDeletable {
                uuid: (*uuid).to_owned(),
            });
        }
        sqlx::query("DELETE FROM agents WHERE uuid = $1")
            .bind(uuid)
            .execute(&mut *write)
            .await
            .map_err(DatabaseError::from)?;
    }
    write.commit().await.map_err(DatabaseError::from)?;
    app.state_changed.raise();
    Ok(())
}

/// Tells an agent that is cancelling its job to kill what still runs.
///
/// # Errors
///
/// See [`AdminError`]; nothing has changed then.
pub async fn kill_running_tasks(app: &App, uuid: &str) -> Result<(), AdminError> {
    let mut write = app.database.write().await?;
    let agent = find(&mut write, uuid)
        .await?
        .ok_or_else(|| AdminError::Unknown {
            uuid: uuid.to_owned(),
        })?;
    if agent.runtime_status != RuntimeStatus::Cancelled {
        return Err(AdminError::NotCancelled {
            uuid: uuid.to_owned(),
            status: agent.shown_status().to_string(),
        });
    }
    if agent.kill_requested {
        return Err(AdminError::KillPending {
            uuid: uuid.to_owned(),
        });
    }
    sqlx::query("UPDATE agents SET kill_requested = 1 WHERE uuid = $1")
        .bind(uuid)
        .execute(&mut *write)
        .await
        .map_err(DatabaseError::from)?;
    write.commit().await.map_err(DatabaseError::from)?;
    app.instructed.raise();
    Ok(())
}

fn changed(agent: Agent, change: &Change) -> Result<Agent, AdminError> {
    if agent.config_state == ConfigState::Pending
        && !matches!(
            change.config_state,
            Some(ConfigState::Enabled | ConfigState::Disabled)
        )
    {
        return Err(AdminError::Pending { uuid: agent.uuid });
    }
    if agent.elastic.is_some() && change.resources != ListChange::Keep {
        return Err(AdminError::Elastic { uuid: agent.uuid });
    }
    let hostname = match &change.hostname {
        Some(hostname) if hostname.trim().is_empty() => return Err(AdminError::EmptyHostname),
        Some(hostname) => hostname.trim().to_owned(),
        None => agent.hostname,
    };
    let config_state = change.config_state.unwrap_or(agent.config_state);
    Ok(Agent {
        hostname,
        config_state,
        // GoCD: an enabled agent nobody knew anything about counts as idle.
        runtime_status: match agent.runtime_status {
            RuntimeStatus::Unknown if config_state == ConfigState::Enabled => RuntimeStatus::Idle,
            status => status,
        },
        resources: change
            .resources
            .apply(agent.resources, NameKind::Resource)?,
        environments: change
            .environments
            .apply(agent.environments, NameKind::Environment)?,
        ..agent
    })
}

async fn store(connection: &mut SqliteConnection, agent: &Agent) -> Result<(), DatabaseError> {
    super::insert(connection, agent).await
}

// === impl NameKind ===

impl NameKind {
    /// Whether this can be a name.
    pub fn allows(self, name: &str) -> bool {
        match self {
            Self::Resource => {
                !name.trim().is_empty()
                    && name
                        .chars()
                        .all(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_' | '.' | '|'))
            }
            Self::Environment => check_name(name).is_ok(),
        }
    }

    fn letters(self) -> &'static str {
        match self {
            Self::Resource => "letters, digits, spaces, `-`, `_`, `.` and `|`",
            Self::Environment => "letters, digits, `-`, `_` and `.`",
        }
    }
}

impl fmt::Display for NameKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Resource => "resource",
            Self::Environment => "environment",
        })
    }
}

// === impl ListChange ===

impl ListChange {
    fn apply(&self, current: Vec<String>, kind: NameKind) -> Result<Vec<String>, AdminError> {
        let wanted = match self {
            Self::Keep => return Ok(current),
            Self::Replace(names) => names.clone(),
            Self::Edit { add, remove } => current
                .into_iter()
                .filter(|name| {
                    !remove
                        .iter()
                        .any(|removed| removed.trim().eq_ignore_ascii_case(name))
                })
                .chain(add.iter().cloned())
                .collect(),
        };
        let mut names: Vec<String> = Vec::new();
        for name in wanted {
            let name = name.trim();
            if !kind.allows(name) {
                return Err(AdminError::Name {
                    kind,
                    name: name.to_owned(),
                });
            }
            if !names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }
}
