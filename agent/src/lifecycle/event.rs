//! What happens to the agent, and what is to be done about it.

use journeyman_protocol::{
    agent::RuntimeStatus, job::JobIdentifier, remoting::AgentInstruction, work::BuildWork,
};

use super::state::Run;
use crate::job::{channel::Phase, folder::JobFolder};

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// The server does not know this agent (remoting answered 403, or `get_work` with
    /// `UnregisteredAgentWork`).
    RegistrationLost,
    /// The server has taken the registration and waits for an administrator.
    ApprovalPending,
    /// The server knows this agent.
    Registered,
    /// The server wants another cookie.
    CookieRejected,
    /// The server has given a cookie.
    CookieReceived,
    /// `get_work`: there is nothing to do.
    NoWork,
    /// `get_work`: the agent is disabled.
    WorkDenied,
    /// `get_work`: a job, and the folder it will have.
    WorkReceived {
        folder: JobFolder,
        work: Box<BuildWork>,
    },
    /// `get_work`: a job that this agent cannot run, and why.
    UnknownWorkReceived {
        folder: JobFolder,
        job: Box<JobIdentifier>,
        reason: String,
    },
    /// A job was found that an earlier agent has left.
    JobFound(Box<Run>),
    /// A runner has said how far it is.
    RunnerProgress {
        folder: JobFolder,
        phase: Phase,
        runtime_status: RuntimeStatus,
    },
    /// The job is over: reported (or given up) and its folder gone. `next` is another job that
    /// an earlier agent has left.
    JobEnded {
        folder: JobFolder,
        next: Option<Box<Run>>,
    },
    /// A ping that named the job of `folder` brought an instruction.
    Instructed {
        folder: JobFolder,
        instruction: AgentInstruction,
    },
    /// Somebody wants the agent to end. GoCD's own agent just dies; here the first request lets
    /// the job finish, the second one cancels it, the third leaves it to itself.
    StopRequested,
    /// No `get_work` is under way and none will begin.
    AskingEnded,
}

/// Something to do.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Register until the server knows the agent.
    Register,
    /// Get a cookie; after the server rejected the last one, with care.
    GetCookie { after_rejection: bool },
    /// Start a runner for this job.
    StartRunner {
        folder: JobFolder,
        work: Box<BuildWork>,
    },
    /// Report this job failed: it cannot be run.
    RefuseJob { run: Box<Run>, reason: String },
    /// Take over this job: follow its runner, or bury it if it is dead.
    TakeOver(Box<Run>),
    /// Tell the job's runner.
    Instruct {
        folder: JobFolder,
        instruction: AgentInstruction,
    },
    /// End the process.
    Exit,
}

// === impl Event ===

impl Event {
    /// The name for a log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RegistrationLost => "RegistrationLost",
            Self::ApprovalPending => "ApprovalPending",
            Self::Registered => "Registered",
            Self::CookieRejected => "CookieRejected",
            Self::CookieReceived => "CookieReceived",
            Self::NoWork => "NoWork",
            Self::WorkDenied => "WorkDenied",
            Self::WorkReceived { .. } => "WorkReceived",
            Self::UnknownWorkReceived { .. } => "UnknownWorkReceived",
            Self::JobFound(_) => "JobFound",
            Self::RunnerProgress { .. } => "RunnerProgress",
            Self::JobEnded { .. } => "JobEnded",
            Self::Instructed { .. } => "Instructed",
            Self::StopRequested => "StopRequested",
            Self::AskingEnded => "AskingEnded",
        }
    }
}
