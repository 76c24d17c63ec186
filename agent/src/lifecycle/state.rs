//! The states.

use journeyman_protocol::{
    agent::{BuildingInfo, RuntimeStatus},
    job::JobIdentifier,
    remoting::AgentInstruction,
};

use crate::job::folder::JobFolder;

/// What the agent is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The server does not know this agent; it registers.
    Unregistered,
    /// Registered, but an administrator has not enabled it yet; it keeps asking.
    Pending,
    /// The server knows this agent; it asks for a cookie.
    Registered,
    /// Asks for work.
    Idle,
    /// Asks for work and is denied it, until an administrator enables it again.
    Disabled,
    /// A job is being prepared: its runner is starting, or checks out materials.
    Preparing(Run),
    /// A job's tasks run.
    Building(Run),
    /// A job's artifacts are published, or its end is being reported.
    Completing(Run),
    /// A job is broken off.
    Cancelled(Run),
    /// Told to stop; something is left to do.
    Stopping(Remaining),
    /// Nothing is left to do.
    Stopped,
}

/// What a stopping agent still waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remaining {
    /// The answer to a `get_work` under way: it may be the only copy of a job.
    Answer,
    /// The end of its job, which may have been cancelled by the server.
    Finish { run: Run, cancelled: bool },
    /// The end of its job, broken off by a second request to stop.
    Cancel(Run),
}

/// One run of a job by one job runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The run's own folder, by which it is known.
    pub folder: JobFolder,
    pub job: JobIdentifier,
    cancel_passed_on: bool,
    kill_passed_on: bool,
}

// === impl State ===

impl State {
    /// The name for a log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unregistered => "Unregistered",
            Self::Pending => "Pending",
            Self::Registered => "Registered",
            Self::Idle => "Idle",
            Self::Disabled => "Disabled",
            Self::Preparing(_) => "Preparing",
            Self::Building(_) => "Building",
            Self::Completing(_) => "Completing",
            Self::Cancelled(_) => "Cancelled",
            Self::Stopping(_) => "Stopping",
            Self::Stopped => "Stopped",
        }
    }

    /// The job being worked on.
    pub fn run(&self) -> Option<&Run> {
        match self {
            Self::Preparing(run)
            | Self::Building(run)
            | Self::Completing(run)
            | Self::Cancelled(run)
            | Self::Stopping(Remaining::Finish { run, .. } | Remaining::Cancel(run)) => Some(run),
            Self::Unregistered
            | Self::Pending
            | Self::Registered
            | Self::Idle
            | Self::Disabled
            | Self::Stopping(Remaining::Answer)
            | Self::Stopped => None,
        }
    }

    /// What pings say. GoCD: an agent only ever says Idle, Building or Cancelled.
    pub fn runtime_status(&self) -> RuntimeStatus {
        match self {
            Self::Cancelled(_)
            | Self::Stopping(
                Remaining::Cancel(_)
                | Remaining::Finish {
                    cancelled: true, ..
                },
            ) => RuntimeStatus::Cancelled,
            state if state.run().is_some() => RuntimeStatus::Building,
            _ => RuntimeStatus::Idle,
        }
    }

    /// Which job pings name.
    pub fn building_info(&self) -> BuildingInfo {
        self.run()
            .map(|run| BuildingInfo::of(&run.job))
            .unwrap_or_default()
    }

    /// Whether the server expects pings: it knows the agent, and a cookie is there.
    pub fn may_ping(&self) -> bool {
        !matches!(
            self,
            Self::Unregistered | Self::Pending | Self::Registered | Self::Stopped
        )
    }

    /// Whether to ask for work: never while a job is not over, or the server does not know the
    /// agent.
    pub fn may_ask_for_work(&self) -> bool {
        matches!(self, Self::Idle | Self::Disabled)
    }

    /// Whether no `get_work` may begin any more.
    pub fn is_stopping(&self) -> bool {
        matches!(self, Self::Stopping(_) | Self::Stopped)
    }
}

// === impl Run ===

impl Run {
    pub fn new(folder: JobFolder, job: JobIdentifier) -> Self {
        Self {
            folder,
            job,
            cancel_passed_on: false,
            kill_passed_on: false,
        }
    }

    /// Notes that an instruction is passed on; false if it was before. GoCD: the server repeats
    /// an instruction with every ping, and an agent acts on each kind once per job.
    pub(super) fn pass_on(&mut self, instruction: AgentInstruction) -> bool {
        let passed_on = match instruction {
            AgentInstruction::None => return false,
            AgentInstruction::Cancel => &mut self.cancel_passed_on,
            AgentInstruction::KillRunningTasks => &mut self.kill_passed_on,
        };
        !std::mem::replace(passed_on, true)
    }
}
