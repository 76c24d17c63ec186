//! What the agent's loops share: the connection of the moment, and who they are on it.

use std::{
    fs,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use journeyman_host::{
    arguments::ConnectionSettings, connection::Connection, durable::FileError, identity,
    lifeline::Lifeline, workdir::WorkDir,
};
use journeyman_protocol::{agent::AgentRuntimeInfo, launcher::Contact, secret::Secret};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{client::RemotingClient, error::CallError};
use crate::{
    job::{channel::ServerConnection, folder::JobFolder},
    lifecycle::State,
    state::{AgentState, Place},
};

/// A secure address that nobody has answered on for this long, and so often, is given up for the
/// configured one.
const SECURE_PATIENCE: Duration = Duration::from_secs(60);
const SECURE_FAILURES: u32 = 5;

/// The connection and the credentials of this agent.
#[derive(Debug)]
pub struct Session {
    pub workdir: WorkDir,
    pub settings: ConnectionSettings,
    template: AgentRuntimeInfo,
    now: Mutex<Now>,
    place: Place,
    cookie: watch::Sender<Option<Secret>>,
    reconnected: Notify,
    health: Arc<Health>,
    lifeline: Option<Arc<Lifeline>>,
}

/// When the server last knew this agent.
#[derive(Debug, Default)]
pub struct Health {
    last_ping: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Now {
    connection: Connection,
    remoting: Arc<RemotingClient>,
    token: Option<Secret>,
    unanswered: Option<Unanswered>,
}

/// Calls that nobody has answered, one after the other.
#[derive(Clone, Copy, Debug)]
struct Unanswered {
    since: Instant,
    calls: u32,
}

impl Session {
    /// A session over `connection`. `template` is what the agent tells about itself, but for what
    /// changes; the token comes from its file, and the cookie from the agent's own state in `place`.
    ///
    /// # Errors
    /// A file of the identity or the state cannot be read.
    pub fn new(
        workdir: WorkDir,
        settings: ConnectionSettings,
        template: AgentRuntimeInfo,
        connection: Connection,
        place: Place,
    ) -> Result<Self, FileError> {
        let state = place.load()?;
        let now = Now {
            remoting: remoting_over(
                &connection,
                &template.identifier.uuid,
                connection.is_secure(),
            ),
            connection,
            token: identity::token(&workdir)?,
            unanswered: None,
        };
        Ok(Self {
            workdir,
            settings,
            template,
            now: Mutex::new(now),
            place,
            cookie: watch::Sender::new(state.cookie),
            reconnected: Notify::new(),
            health: Arc::default(),
            lifeline: None,
        })
    }

    /// The same, telling the launcher at the other end of this how the agent is.
    pub fn heard_on(self, lifeline: Option<Arc<Lifeline>>) -> Self {
        Self { lifeline, ..self }
    }

    /// Tells the launcher, if one listens.
    pub fn say(&self, contact: Contact) {
        if let Some(lifeline) = &self.lifeline {
            lifeline.say(contact);
        }
    }

    pub fn uuid(&self) -> &str {
        &self.template.identifier.uuid
    }

    pub fn template(&self) -> &AgentRuntimeInfo {
        &self.template
    }

    pub fn health(&self) -> Arc<Health> {
        self.health.clone()
    }

    pub fn connection(&self) -> Connection {
        self.now().connection.clone()
    }

    pub fn remoting(&self) -> Arc<RemotingClient> {
        self.now().remoting.clone()
    }

    /// Uses another connection from now on. Calls under way end on the old one.
    pub fn reconnect(&self, connection: Connection) {
        let mut now = self.now();
        let is_journeyman = now.remoting.is_journeyman() || connection.is_secure();
        now.remoting = remoting_over(&connection, self.uuid(), is_journeyman);
        now.connection = connection;
        now.unanswered = None;
        self.reconnected.notify_one();
    }

    /// Returns when another connection is used since the last return. For one caller. Cancel safe.
    pub async fn reconnected(&self) {
        self.reconnected.notified().await;
    }

    pub fn token(&self) -> Option<Secret> {
        self.now().token.clone()
    }

    /// Keeps the token, on disk first.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep_token(&self, token: Secret) -> Result<(), FileError> {
        identity::save_token(&self.workdir, &token)?;
        self.now().token = Some(token);
        Ok(())
    }

    /// Forgets the token, which the server has called wrong.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn forget_token(&self) -> Result<(), FileError> {
        self.now().token = None;
        identity::remove_token(&self.workdir)
    }

    pub fn cookie(&self) -> Option<Secret> {
        self.cookie.borrow().clone()
    }

    /// The cookie of the moment, for who works on when this one is replaced.
    pub fn cookies(&self) -> watch::Receiver<Option<Secret>> {
        self.cookie.subscribe()
    }

    /// Keeps the cookie, on disk first, and gives it to the job runners.
    ///
    /// # Errors
    /// The agent's state cannot be written.
    pub fn keep_cookie(&self, cookie: Secret) -> Result<(), FileError> {
        self.place.save(&AgentState {
            cookie: Some(cookie.clone()),
        })?;
        for job in fs::read_dir(self.workdir.jobs())
            .into_iter()
            .flatten()
            .flatten()
        {
            JobFolder::new(job.path()).give_cookie(&cookie);
        }
        self.cookie.send_replace(Some(cookie));
        Ok(())
    }

    /// What a call says about this agent in `state`.
    pub fn runtime_info(&self, state: &State) -> AgentRuntimeInfo {
        AgentRuntimeInfo {
            runtime_status: state.runtime_status(),
            building_info: state.building_info(),
            usable_space: usable_space(&self.workdir),
            cookie: self.cookie(),
            ..self.template.clone()
        }
    }

    /// How a job runner reaches the server.
    pub fn server_connection(&self) -> ServerConnection {
        let now = self.now();
        ServerConnection {
            base_url: now.connection.base_url().to_owned(),
            configured_url: now.connection.configured_url().to_owned(),
            is_journeyman: now.remoting.is_journeyman(),
            arguments: self
                .settings
                .to_arguments()
                .into_iter()
                .map(|word| word.to_string_lossy().into_owned())
                .collect(),
        }
    }

    /// Notes how a call went, and tells the launcher if nobody took it. True: the secure address has been silent for so long that the
    /// configured one should be asked for another, by registering again.
    pub fn note<T>(&self, result: &Result<T, CallError>) -> bool {
        if let Err(error) = result
            && let Some(contact) = error.contact()
        {
            self.say(contact);
        }
        let mut now = self.now();
        if !matches!(result, Err(error) if error.is_network()) {
            now.unanswered = None;
            return false;
        }
        let unanswered = now.unanswered.get_or_insert_with(|| Unanswered {
            since: Instant::now(),
            calls: 0,
        });
        unanswered.calls += 1;
        let silent =
            unanswered.calls >= SECURE_FAILURES && unanswered.since.elapsed() >= SECURE_PATIENCE;
        if silent {
            now.unanswered = None;
        }
        silent && now.connection.is_secure()
    }

    fn now(&self) -> std::sync::MutexGuard<'_, Now> {
        // Held for some assignments only, none of which can panic half-way.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Health ===

impl Health {
    /// Notes that a ping was answered with success.
    pub fn pinged(&self, now: Instant) {
        *self.last_ping() = Some(now);
    }

    /// GoCD: contact is lost after two intervals without a successful ping.
    pub fn is_connected(&self, now: Instant, ping_interval: Duration) -> bool {
        self.last_ping()
            .is_some_and(|last| now.duration_since(last) < ping_interval * 2)
    }

    fn last_ping(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.last_ping
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes left for jobs, for a call.
pub fn usable_space(workdir: &WorkDir) -> i64 {
    let space = workdir.usable_space().unwrap_or_else(|error| {
        tracing::warn!(%error, "Cannot find out the free disk space");
        0
    });
    i64::try_from(space).unwrap_or(i64::MAX)
}

fn remoting_over(connection: &Connection, uuid: &str, is_journeyman: bool) -> Arc<RemotingClient> {
    Arc::new(RemotingClient::new(
        connection.client().clone(),
        connection.base_url(),
        uuid,
        is_journeyman,
    ))
}
