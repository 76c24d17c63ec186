//! Which job runs where, and what became of it.
//!
//! The remoting API calls this module for everything about jobs; it has checked the agent's
//! identity, token and cookie by then. Writes are one transaction each. Whatever makes a job
//! assignable raises [`App::work_changed`], whatever people can see raises [`App::state_changed`].

use journeyman_protocol::{
    job::{JobIdentifier, JobResult, JobState},
    work::BuildWork,
};

use crate::{App, agents::Agent, database::DatabaseError};

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
    #[error("cannot put together the work for job {job}: {cause}")]
    Document { job: String, cause: String },
}

/// Takes the first waiting job that fits the agent, in one transaction with
/// [`agents::mark_building`](crate::agents::mark_building), and answers its document.
pub async fn assign(_app: &App, _agent: &Agent) -> Result<Option<BuildWork>, SchedulingError> {
    Ok(None)
}

/// `report_current_status`. Reports about a cancelled or rescheduled job change nothing.
pub async fn report_status(
    _app: &App,
    _agent_uuid: &str,
    _job: &JobIdentifier,
    _state: JobState,
) -> Result<(), SchedulingError> {
    Ok(())
}

/// `report_completing`: the result, before artifacts are uploaded.
pub async fn report_completing(
    _app: &App,
    _agent_uuid: &str,
    _job: &JobIdentifier,
    _result: JobResult,
) -> Result<(), SchedulingError> {
    Ok(())
}

/// `report_completed`: the final result, which may differ. Moves the stage on.
pub async fn report_completed(
    _app: &App,
    _agent_uuid: &str,
    _job: &JobIdentifier,
    _result: JobResult,
) -> Result<(), SchedulingError> {
    Ok(())
}

/// Whether the job was cancelled or rescheduled. False for an unknown build id.
pub async fn is_ignored(_app: &App, _job: &JobIdentifier) -> Result<bool, SchedulingError> {
    Ok(false)
}

/// Puts every active job (Assigned to Completing) of an agent back into the queue; answers how many.
pub async fn reschedule_jobs_of(_app: &App, _agent_uuid: &str) -> Result<usize, SchedulingError> {
    Ok(0)
}
