//! Hearing from agents, and noticing when one is not heard from.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use journeyman_protocol::{agent::AgentRuntimeInfo, remoting::AgentInstruction, secret::Secret};
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::{Agent, find, record::runtime_name, status::Doing};
use crate::{App, answer::Chain, database::DatabaseError, scheduling};

/// How often silent agents are looked for. GoCD: 5 s.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Why a call that carries runtime info is refused.
#[derive(Debug, thiserror::Error)]
pub enum ContactError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("agent {uuid} ({hostname}) is not registered")]
    Unregistered { uuid: String, hostname: String },
    #[error(
        "agent {uuid} ({hostname}) sent no cookie: it has to ask for one with get_cookie before anything else"
    )]
    NoCookie { uuid: String, hostname: String },
    #[error(
        "agent {uuid} ({hostname}) sent a cookie that is no longer valid: another agent with the same \
         uuid has asked for a cookie since. Give one of the two a uuid of its own (config/guid.txt)"
    )]
    DuplicateUuid { uuid: String, hostname: String },
    #[error("agent {uuid} ({hostname}) is registered as an elastic agent and did not speak as one")]
    NotElastic { uuid: String, hostname: String },
}

/// What agents that have nothing new to say were heard with last. It goes to the database with the
/// next [`sweep`]; a server that ends before has forgotten nothing, because after a start silence
/// counts anew.
#[derive(Debug, Default)]
pub struct Contacts(Mutex<HashMap<String, Contact>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Contact {
    at: i64,
    usable_space: i64,
}

impl Contacts {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Contact>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes over what an agent says about itself in a ping or report, if its cookie is the one it was
/// given last, and answers what to tell it. `agent` is what the database has just said of it.
///
/// # Errors
///
/// See [`ContactError`]; nothing has changed then.
pub async fn heard(
    app: &App,
    agent: Agent,
    info: &AgentRuntimeInfo,
) -> Result<AgentInstruction, ContactError> {
    let now = app.now_ms();
    let uuid = &info.identifier.uuid;
    let (agent, after) = accept(Some(agent), info, now)?;
    // A thousand idle agents that say the same every few seconds write nothing.
    if after == Doing::of(&agent) && says_the_same(&agent, info) {
        let contact = Contact {
            at: now,
            usable_space: info.usable_space,
        };
        app.contacts.lock().insert(uuid.clone(), contact);
        return Ok(after.instruction());
    }
    let mut write = app.database.write().await?;
    let (agent, after) = accept(find(&mut write, uuid).await?, info, now)?;
    sqlx::query(
        "UPDATE agents SET runtime_status = $2, build_locator = $3, kill_requested = $4, cancelled_at = $5, \
         last_heard_at = $6, ip_address = $7, location = $8, usable_space = $9, operating_system = $10, \
         agent_version = $11, bootstrapper_version = $12 WHERE uuid = $1",
    )
    .bind(uuid)
    .bind(runtime_name(after.status))
    .bind(&after.build_locator)
    .bind(i64::from(after.kill_requested))
    .bind(after.cancelled_at)
    .bind(now)
    .bind(&info.identifier.ip_address)
    .bind(&info.location)
    .bind(info.usable_space)
    .bind(&info.operating_system_name)
    .bind(&info.agent_version)
    .bind(&info.agent_bootstrapper_version)
    .execute(&mut *write)
    .await
    .map_err(DatabaseError::from)?;
    write.commit().await.map_err(DatabaseError::from)?;
    if Doing::of(&agent) != after {
        app.state_changed.raise();
    }
    Ok(after.instruction())
}

/// What to tell an agent about the job that it runs.
///
/// # Errors
///
/// The database could not be read.
pub async fn instruction(app: &App, uuid: &str) -> Result<AgentInstruction, DatabaseError> {
    let mut connection = app.database.readers().acquire().await?;
    let agent = find(&mut connection, uuid).await?;
    Ok(agent.map_or(AgentInstruction::None, |agent| {
        Doing::of(&agent).instruction()
    }))
}

/// The agent that speaks, if it may, and what it is doing by what it says.
fn accept(
    agent: Option<Agent>,
    info: &AgentRuntimeInfo,
    now: i64,
) -> Result<(Agent, Doing), ContactError> {
    let uuid = info.identifier.uuid.clone();
    let hostname = info.identifier.host_name.clone();
    let Some(agent) = agent else {
        return Err(ContactError::Unregistered { uuid, hostname });
    };
    let Some(cookie) = &info.cookie else {
        return Err(ContactError::NoCookie { uuid, hostname });
    };
    if agent.cookie.as_ref().is_some_and(|stored| stored != cookie) {
        return Err(ContactError::DuplicateUuid { uuid, hostname });
    }
    if agent.elastic.is_some() && info.elastic.is_none() {
        return Err(ContactError::NotElastic { uuid, hostname });
    }
    let locator = &info.building_info.build_locator;
    let after = Doing::of(&agent).after_report(info.runtime_status, locator, now);
    Ok((agent, after))
}

/// Whether the agent says of itself what is known, its free space aside.
fn says_the_same(agent: &Agent, info: &AgentRuntimeInfo) -> bool {
    agent.ip_address == info.identifier.ip_address
        && agent.location == info.location
        && agent.operating_system == info.operating_system_name
        && agent.agent_version == info.agent_version
        && agent.bootstrapper_version == info.agent_bootstrapper_version
}

/// Writes down who was heard, all in one transaction.
async fn write_down(app: &App, connection: &mut SqliteConnection) -> Result<(), DatabaseError> {
    let contacts: Vec<(String, Contact)> = {
        let contacts = app.contacts.lock();
        let all = contacts.iter();
        all.map(|(uuid, contact)| (uuid.clone(), *contact))
            .collect()
    };
    for (uuid, contact) in contacts {
        sqlx::query(
            "UPDATE agents SET last_heard_at = MAX(COALESCE(last_heard_at, 0), $2), usable_space = $3 \
             WHERE uuid = $1",
        )
        .bind(uuid)
        .bind(contact.at)
        .bind(contact.usable_space)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Gives an agent a new cookie, which makes its earlier one invalid.
///
/// # Errors
///
/// The database could not be written.
pub async fn new_cookie(app: &App, uuid: &str) -> Result<Secret, DatabaseError> {
    let cookie = Uuid::new_v4().to_string();
    let mut write = app.database.write().await?;
    sqlx::query("UPDATE agents SET cookie = $2 WHERE uuid = $1")
        .bind(uuid)
        .bind(&cookie)
        .execute(&mut *write)
        .await?;
    write.commit().await?;
    Ok(Secret::from(cookie))
}

/// The server has just started: nobody has been heard from, and silence counts from now. An agent
/// whose job was cancelled stays Cancelled, so that it still gets told.
///
/// # Errors
///
/// The database could not be written.
pub async fn server_started(
    connection: &mut SqliteConnection,
    now_ms: i64,
) -> Result<(), DatabaseError> {
    sqlx::query(
        "UPDATE agents SET last_heard_at = $1, \
         runtime_status = CASE runtime_status WHEN 'Cancelled' THEN 'Cancelled' ELSE 'Missing' END \
         WHERE config_state <> 'Pending'",
    )
    .bind(now_ms)
    .execute(&mut *connection)
    .await?;
    sqlx::query("UPDATE agents SET last_heard_at = $1 WHERE config_state = 'Pending'")
        .bind(now_ms)
        .execute(connection)
        .await?;
    Ok(())
}

/// Marks agents that were silent for too long as lost, puts their jobs back into the queue, and
/// forgets silent pending agents. Answers the uuids of those lost just now.
///
/// # Errors
///
/// The database could not be read or written. What was done until then stays.
pub async fn sweep(app: &App) -> Result<Vec<String>, DatabaseError> {
    let now = app.now_ms();
    let before = |timeout: Duration| {
        now.saturating_sub(i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX))
    };
    let lost_since = before(app.configuration.agent_timeout);
    let forgotten_since = before(app.configuration.pending_timeout);

    let mut write = app.database.write().await?;
    write_down(app, &mut write).await?;
    let lost: Vec<String> = sqlx::query_scalar(
        "UPDATE agents SET runtime_status = 'LostContact' WHERE config_state <> 'Pending' \
         AND runtime_status <> 'LostContact' AND last_heard_at <= $1 RETURNING uuid",
    )
    .bind(lost_since)
    .fetch_all(&mut *write)
    .await?;
    let forgotten =
        sqlx::query("DELETE FROM agents WHERE config_state = 'Pending' AND last_heard_at <= $1")
            .bind(forgotten_since)
            .execute(&mut *write)
            .await?
            .rows_affected();
    // Also those lost earlier: the server may have been killed between the two steps.
    let abandoned: Vec<String> = sqlx::query_scalar(
        "SELECT DISTINCT jobs.agent_uuid FROM jobs JOIN agents ON agents.uuid = jobs.agent_uuid \
         WHERE agents.runtime_status = 'LostContact' \
         AND jobs.state IN ('Assigned', 'Preparing', 'Building', 'Completing')",
    )
    .fetch_all(&mut *write)
    .await?;
    write.commit().await?;
    // What is as old as this sweep is written down; the rest has come since.
    app.contacts.lock().retain(|_, contact| contact.at > now);

    for uuid in &abandoned {
        match scheduling::reschedule_jobs_of(app, uuid).await {
            Ok(jobs) => {
                tracing::warn!(agent = %uuid, jobs, "an agent is lost: its job goes to another")
            }
            Err(error) => {
                tracing::error!(agent = %uuid, error = %Chain(&error), "cannot reschedule the job of a lost agent");
            }
        }
    }
    for uuid in &lost {
        tracing::warn!(agent = %uuid, "lost contact with an agent");
    }
    if !lost.is_empty() || forgotten > 0 {
        app.state_changed.raise();
    }
    Ok(lost)
}

/// Sweeps every [`SWEEP_INTERVAL`] until the server stops.
pub async fn watch(app: Arc<App>) {
    let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = app.stopping.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if let Err(error) = sweep(&app).await {
            tracing::error!(error = %Chain(&error), "cannot look for silent agents; trying again");
        }
    }
}
