//! Which job runs where, and what became of it.
//!
//! The remoting API calls this module for everything about jobs; it has checked the agent's
//! identity, token and cookie by then. Writes are one transaction each. Whatever makes a job
//! assignable raises [`App::work_changed`](crate::App::work_changed), whatever people can see raises [`App::state_changed`](crate::App::state_changed).

mod assignment;
mod cancel;
mod comment;
mod fan_in;
mod instances;
pub(crate) mod natural_order;
pub mod passes;
pub mod production;
mod progression;
mod queue;
mod reports;
mod rerun;
mod revisions;
pub mod run;
pub mod state;
#[cfg(test)]
pub(crate) mod tests;
pub mod timeouts;
pub mod timer;
pub mod trigger;
mod upstream;
mod variables;
pub mod view;
pub mod wire;
mod work;

pub use assignment::assign;
pub use cancel::{CancelError, cancel_stage, reschedule_jobs_of};
pub use comment::{CommentError, comment};
pub(crate) use progression::try_again;
pub use progression::{Refused, RunStageError, may_run, resume, run_stage};
pub use queue::{Head, Queue, environments, waiting};
pub use reports::{is_ignored, report_completed, report_completing, report_status};
pub use rerun::{Rerun, RerunError, rerun_jobs};
pub use state::{Pause, PipelineState, StateError, pause, schedulable, unlock, unpause};

use crate::database::DatabaseError;

/// Why a job's report or assignment failed.
#[derive(Debug, thiserror::Error)]
pub enum SchedulingError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// GoCD answers 500: the job belongs to another agent by now.
    #[error(
        "job {job} is not assigned to agent {agent}: it was rescheduled, or another agent runs it"
    )]
    NotAssigned { job: String, agent: String },
    #[error("there is no job {job} with build id {build_id}")]
    UnknownJob { job: String, build_id: i64 },
}
