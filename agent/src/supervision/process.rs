//! The agent process from its start to its end.

use std::{
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use journeyman_host::{
    arguments::ConnectionSettings,
    autoregister::AutoRegister,
    connection::{Connection, ConnectionError},
    durable::FileError,
    identity,
    lifeline::Lifeline,
    lock::{Lock, LockError},
    machine,
    properties::Properties,
    workdir::{WorkDir, WorkDirError},
};
use journeyman_protocol::{
    agent::{AgentIdentifier, AgentRuntimeInfo, ElasticAgent},
    launcher::Contact,
};
use thiserror::Error;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    executor::{Agent, carry_out},
    reaper::Reaper,
    recovery,
};
use crate::{
    lifecycle::{Event, Lifecycle, State},
    loops::{InstructionSlot, ask_for_work, pass_instructions_on, ping},
    registration::renew_certificates,
    remoting::{Session, usable_space},
    settings::{BackOff, Settings},
    state::{Place, ReleaseName},
    status_api,
};

/// How long to wait for an agent in the same folder that is about to end: after its launcher was
/// killed, it ends on its own.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// How long the last ping may take: nobody waits for a stop longer than this.
const LAST_WORD: Duration = Duration::from_secs(2);

/// What an agent is started with.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    pub connection: ConnectionSettings,
    /// Whether standard input is a pipe or socket that a parent holds: its end ends the agent.
    pub lifeline: bool,
    /// What the server is told.
    pub bootstrapper_version: String,
    /// For the log.
    pub launcher_version: Option<String>,
    /// The installed release that this is, if it is one; each keeps its own state.
    pub release: Option<ReleaseName>,
}

/// Why an agent has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was asked to.
    Stopped,
    /// Its parent has died. A running job goes on; the next agent takes it over.
    ParentDied,
}

/// An agent that could not start.
#[derive(Debug, Error)]
pub enum StartError {
    #[error(transparent)]
    WorkDir(#[from] WorkDirError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    #[error("--lifeline: standard input is no pipe or socket that a parent holds: {0}")]
    Lifeline(#[source] std::io::Error),
    #[error("cannot be told of signals: {0}")]
    Signals(#[source] std::io::Error),
}

/// Runs the agent in the current folder until it is asked to stop or its parent dies.
///
/// # Errors
/// When it cannot start at all; a server that cannot be reached is no such reason.
pub async fn run(options: AgentOptions) -> Result<Ending, StartError> {
    let workdir = WorkDir::current()?;
    workdir.prepare()?;
    let lifeline = if options.lifeline {
        let lifeline = Lifeline::of_standard_input().map_err(StartError::Lifeline)?;
        Some(Arc::new(lifeline))
    } else {
        None
    };
    let parent_dies = async {
        match &lifeline {
            Some(lifeline) => lifeline.cut().await,
            None => pending().await,
        }
    };
    let mut stops = Stops::listen().map_err(StartError::Signals)?;
    let _lock = {
        let path = workdir.agent_lock();
        tokio::task::spawn_blocking(move || Lock::acquire(&path, LOCK_PATIENCE))
            .await
            .map_err(|error| LockError::Failed {
                path: workdir.agent_lock(),
                source: std::io::Error::other(error),
            })??
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        release = options.release.as_ref().map(ReleaseName::as_str),
        launcher = options.launcher_version,
        bootstrapper = options.bootstrapper_version,
        server = options.connection.base_url(),
        folder = %workdir.root().display(),
        "Agent started"
    );
    let settings = Arc::new(Settings::from_properties(&Properties::of_process()));
    let template = describe(&workdir, &options)?;
    let place = Place::of(&workdir, options.release.as_ref());
    tokio::select! {
        () = parent_dies => {
            tracing::warn!("The launcher has died; leaving a running job to the next agent");
            Ok(Ending::ParentDied)
        }
        result = live(workdir, place, options.connection, template, settings, lifeline.clone(), &mut stops) => {
            result?;
            tracing::info!("Agent stopped");
            Ok(Ending::Stopped)
        }
    }
}

async fn live(
    workdir: WorkDir,
    place: Place,
    connection_settings: ConnectionSettings,
    template: AgentRuntimeInfo,
    settings: Arc<Settings>,
    lifeline: Option<Arc<Lifeline>>,
    stops: &mut Stops,
) -> Result<(), StartError> {
    let connection = tokio::select! {
        connection = connect(&workdir, &connection_settings, &settings, lifeline.as_deref()) => connection?,
        () = stops.requested() => return Ok(()),
    };
    let session = Session::new(workdir, connection_settings, template, connection, place)?;
    let session = Arc::new(session.heard_on(lifeline));
    let mut found = recovery::find(&session);
    let start = match (session.token(), session.cookie()) {
        (None, _) => State::Unregistered,
        (Some(_), None) => State::Registered,
        (Some(_), Some(_)) => State::Idle,
    };
    let first = (!found.is_empty()).then(|| found.remove(0));
    let (lifecycle, effects) = Lifecycle::begin(start.clone(), first);
    let agent = Agent {
        session,
        lifecycle,
        settings,
        reaper: Arc::new(Reaper::adopting_orphans()),
        found: Arc::new(Mutex::new(found.into())),
    };
    let mut loops = spawn_loops(&agent);
    agent.session.say(Contact::Started);
    if start == State::Idle {
        agent.session.say(Contact::Registered);
    }
    let lifecycle = agent.lifecycle.clone();
    let session = Arc::clone(&agent.session);
    let mut work = std::pin::pin!(carry_out(agent, effects));
    loop {
        tokio::select! {
            () = &mut work => {
                loops.shutdown().await;
                say_idle(&session).await;
                return Ok(());
            }
            () = stops.requested() => {
                lifecycle.apply(Event::StopRequested);
            }
            Some(ended) = loops.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "A loop of the agent has failed");
                }
            }
        }
    }
}

/// The last word of an agent that stops: it runs no job. Without it the server, which heard of the
/// job's end but not of the agent's, would take it for building until it counts as lost.
async fn say_idle(session: &Session) {
    // A runner that outlives this agent still has its folder, and its job must not be called off.
    let runs_nothing =
        std::fs::read_dir(session.workdir.jobs()).is_ok_and(|mut jobs| jobs.next().is_none());
    let (Some(token), Some(_), true) = (session.token(), session.cookie(), runs_nothing) else {
        return;
    };
    let (remoting, info) = (session.remoting(), session.runtime_info(&State::Idle));
    match timeout(LAST_WORD, remoting.ping(&token, info, None)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::info!(%error, "The server was not told of the stop"),
        Err(_) => tracing::info!("The server was not told of the stop: it does not answer"),
    }
}

fn spawn_loops(agent: &Agent) -> JoinSet<()> {
    let mut loops = JoinSet::new();
    let slot = Arc::new(InstructionSlot::default());
    // The call for work is what a waiting job depends on: it goes first.
    let Agent {
        session,
        lifecycle,
        settings,
        reaper,
        ..
    } = agent.clone();
    loops.spawn(async move { ask_for_work(&session, &lifecycle, &settings).await });
    loops.spawn(async move { reaper.run().await });
    let (agent_pings, pings_to) = (agent.clone(), slot.clone());
    loops.spawn(async move {
        let Agent {
            session,
            lifecycle,
            settings,
            ..
        } = &agent_pings;
        ping(session, lifecycle, settings, &pings_to).await;
    });
    let listens = agent.clone();
    loops.spawn(async move {
        pass_instructions_on(&slot, &listens.lifecycle, &listens.settings).await;
    });
    let serves = agent.clone();
    loops.spawn(async move { status_api::serve(&serves.session, &serves.settings).await });
    let session = agent.session.clone();
    loops.spawn(async move { renew_certificates(&session, Timestamp::now).await });
    loops
}

/// The connection to begin with. A server that is down, or shows another certificate than the
/// pinned one, is asked again; settings that cannot work are an error.
async fn connect(
    workdir: &WorkDir,
    settings: &ConnectionSettings,
    timings: &Settings,
    lifeline: Option<&Lifeline>,
) -> Result<Connection, ConnectionError> {
    let mut back_off = BackOff::new(timings.work_pauses);
    let mut said = String::new();
    loop {
        match Connection::open(workdir, settings).await {
            Err(error @ ConnectionError::Pin(_)) => {
                if let (true, Some(lifeline)) = (error.is_unreachable(), lifeline) {
                    lifeline.say(Contact::Away);
                }
                let text = error.to_string();
                if text != said {
                    tracing::error!("{text}");
                    said = text;
                }
                sleep(back_off.pause()).await;
            }
            result => return result,
        }
    }
}

/// What the agent tells about itself for as long as it lives.
fn describe(workdir: &WorkDir, options: &AgentOptions) -> Result<AgentRuntimeInfo, FileError> {
    let auto = AutoRegister::load(workdir).unwrap_or_else(|error| {
        tracing::error!(%error, "The agent does not know whether it is elastic");
        AutoRegister::default()
    });
    Ok(AgentRuntimeInfo {
        elastic: auto.is_elastic().then(|| ElasticAgent {
            agent_id: auto.elastic_agent_id.clone(),
            plugin_id: auto.elastic_plugin_id.clone(),
        }),
        identifier: AgentIdentifier {
            host_name: machine::host_name(),
            ip_address: machine::ip_address(&options.connection.server_url),
            uuid: identity::guid(workdir)?,
        },
        location: workdir.root().display().to_string(),
        usable_space: usable_space(workdir),
        operating_system_name: machine::operating_system(),
        agent_bootstrapper_version: options.bootstrapper_version.clone(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        ..AgentRuntimeInfo::default()
    })
}

/// Requests to stop: SIGTERM, and SIGINT of a terminal.
struct Stops {
    terminate: Signal,
    interrupt: Signal,
}

impl Stops {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The next request. Cancel-safe.
    async fn requested(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
