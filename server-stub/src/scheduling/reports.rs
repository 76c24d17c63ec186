//! What agents report about their jobs.
//!
//! A report may come twice (its answer was lost) or too late (the job was cancelled or went to
//! another agent): neither changes anything.

use journeyman_protocol::job::{JobIdentifier, JobResult, JobState};
use sqlx::SqliteConnection;

use super::run::{self, JobRow};
use super::{SchedulingError, progression};
use crate::App;
use crate::database::DatabaseError;

/// `report_current_status`. Reports about a cancelled or rescheduled job change nothing.
///
/// # Errors
///
/// The job is unknown or another agent's; nothing has changed then.
pub async fn report_status(
    app: &App,
    agent_uuid: &str,
    job: &JobIdentifier,
    state: JobState,
) -> Result<(), SchedulingError> {
    let mut write = app.database.write().await?;
    let Some(row) = reported(&mut write, agent_uuid, job).await? else {
        return Ok(());
    };
    // GoCD: Completing is set by `report_completing`; Completed is what an agent says of a job it
    // was told to ignore.
    if !matches!(state, JobState::Preparing | JobState::Building)
        || rank(state) <= rank(row.state())
    {
        return Ok(());
    }
    run::set_state(&mut write, row.id, state, app.now_ms()).await?;
    write.commit().await.map_err(DatabaseError::from)?;
    app.state_changed.raise();
    Ok(())
}

/// `report_completing`: the result, before artifacts are uploaded.
///
/// # Errors
///
/// The job is unknown or another agent's; nothing has changed then.
pub async fn report_completing(
    app: &App,
    agent_uuid: &str,
    job: &JobIdentifier,
    result: JobResult,
) -> Result<(), SchedulingError> {
    let mut write = app.database.write().await?;
    let Some(row) = reported(&mut write, agent_uuid, job).await? else {
        return Ok(());
    };
    complete_up_to(&mut write, &row, JobState::Completing, result, app.now_ms()).await?;
    progression::settle(&mut write, row.stage_id, app.now_ms()).await?;
    write.commit().await.map_err(DatabaseError::from)?;
    app.state_changed.raise();
    Ok(())
}

/// `report_completed`: the final result, which may differ. Moves the stage on.
///
/// # Errors
///
/// The job is unknown or another agent's; nothing has changed then.
pub async fn report_completed(
    app: &App,
    agent_uuid: &str,
    job: &JobIdentifier,
    result: JobResult,
) -> Result<(), SchedulingError> {
    let mut write = app.database.write().await?;
    let Some(row) = reported(&mut write, agent_uuid, job).await? else {
        return Ok(());
    };
    let now = app.now_ms();
    complete_up_to(&mut write, &row, JobState::Completed, result, now).await?;
    let started = progression::settle(&mut write, row.stage_id, now).await?;
    write.commit().await.map_err(DatabaseError::from)?;
    if started {
        app.work_changed.raise();
    }
    app.state_changed.raise();
    Ok(())
}

/// Whether the job was cancelled or rescheduled. False for an unknown build id, as in GoCD.
///
/// # Errors
///
/// The database could not be read.
pub async fn is_ignored(app: &App, job: &JobIdentifier) -> Result<bool, SchedulingError> {
    let connection = app.database.readers().acquire().await;
    let mut connection = connection.map_err(DatabaseError::from)?;
    let row = run::job_by_id(&mut connection, job.build_id).await?;
    Ok(row.is_some_and(|row| {
        row.state() == JobState::Rescheduled || row.result() == JobResult::Cancelled
    }))
}

/// The job a report is about; none when the report comes too late to count.
async fn reported(
    connection: &mut SqliteConnection,
    agent_uuid: &str,
    job: &JobIdentifier,
) -> Result<Option<JobRow>, SchedulingError> {
    let Some(row) = run::job_by_id(connection, job.build_id).await? else {
        return Err(SchedulingError::UnknownJob {
            job: job.display_locator(),
            build_id: job.build_id,
        });
    };
    let ended = !row.is_active();
    let ignored = row.state() == JobState::Rescheduled || row.result() == JobResult::Cancelled;
    if ended && ignored {
        return Ok(None);
    }
    if row.agent_uuid.as_deref() != Some(agent_uuid) {
        return Err(SchedulingError::NotAssigned {
            job: job.display_locator(),
            agent: agent_uuid.to_owned(),
        });
    }
    Ok((!ended).then_some(row))
}

/// Goes on to a state with all that lie between, and sets the result.
async fn complete_up_to(
    connection: &mut SqliteConnection,
    row: &JobRow,
    target: JobState,
    result: JobResult,
    now: i64,
) -> Result<(), DatabaseError> {
    // A result this server does not know is no success.
    let result = match result {
        JobResult::Unknown => JobResult::Failed,
        known => known,
    };
    run::set_result(connection, row.id, result).await?;
    let mut steps = vec![JobState::Completing, JobState::Completed];
    if row.state() == JobState::Preparing && target == JobState::Completing {
        steps.insert(0, JobState::Building);
    }
    for step in steps {
        if rank(step) > rank(row.state()) && rank(step) <= rank(target) {
            run::set_state(connection, row.id, step, now).await?;
        }
    }
    Ok(())
}

/// The order in which a job goes through its states.
fn rank(state: JobState) -> u8 {
    match state {
        JobState::Scheduled => 1,
        JobState::Assigned => 2,
        JobState::Preparing => 3,
        JobState::Building => 4,
        JobState::Completing => 5,
        JobState::Completed | JobState::Rescheduled => 6,
        JobState::Unknown | JobState::Discontinued | JobState::Paused | JobState::Waiting => 0,
    }
}
