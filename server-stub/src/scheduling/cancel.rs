//! Ending jobs early, and giving them to another agent.

use journeyman_protocol::job::{JobResult, JobState};

use super::run::{self, JobRow, StageRow};
use super::{Refused, SchedulingError, progression};
use crate::database::DatabaseError;
use crate::users::Actor;
use crate::{App, agents};

/// Why a stage was not cancelled.
#[derive(Debug, thiserror::Error)]
pub enum CancelError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("there is no stage {stage}")]
    Unknown { stage: String },
    #[error("{stage} was not cancelled: {refused}")]
    Refused { stage: String, refused: Refused },
}

/// Cancels a stage: its jobs count as ended at once, agents learn of it with their next ping.
/// Answers whether there was anything to cancel. Whom its `approval` does not let run it, it does not
/// let cancel it (GoCD).
///
/// # Errors
///
/// See [`CancelError`]; nothing has changed then.
pub async fn cancel_stage(
    app: &App,
    pipeline: &str,
    counter: i64,
    stage: &str,
    stage_counter: i64,
    by: &Actor,
) -> Result<bool, CancelError> {
    let locator = format!("{pipeline}/{counter}/{stage}/{stage_counter}");
    let unknown = || CancelError::Unknown {
        stage: locator.clone(),
    };
    let mut write = app.database.write().await?;
    let run = run::find_run(&mut write, pipeline, counter).await?;
    let run = run.ok_or_else(unknown)?;
    let stage: StageRow = run::find_stage(&mut write, run.id, stage, stage_counter)
        .await?
        .ok_or_else(unknown)?;
    if !stage.is_active() {
        return Ok(false);
    }
    let definition = run.definition.stage(&stage.name).map(|(_, one)| one);
    if let Some(definition) = definition
        && !progression::may_run(&definition.operators, &run.definition.pipeline.group, by)
    {
        let user = by.name.clone();
        return Err(CancelError::Refused {
            stage: locator,
            refused: Refused::NotAllowed { user },
        });
    }
    let now = app.now_ms();
    let jobs = run::jobs_of(&mut write, stage.id).await?;
    for job in jobs.iter().filter(|job| job.is_active()) {
        run::set_result(&mut write, job.id, JobResult::Cancelled).await?;
        run::set_state(&mut write, job.id, JobState::Completed, now).await?;
        if let Some(agent) = &job.agent_uuid {
            let locator = run::identifier(&run, &stage, job).locator();
            agents::mark_cancelled(&mut write, agent, &locator, now).await?;
        }
    }
    sqlx::query("UPDATE stages SET cancelled_by = $2 WHERE id = $1")
        .bind(stage.id)
        .bind(&by.name)
        .execute(&mut *write)
        .await
        .map_err(DatabaseError::from)?;
    let started = progression::settle(&mut write, stage.id, now).await?;
    write.commit().await.map_err(DatabaseError::from)?;
    if started {
        app.work_changed.raise();
    }
    app.instructed.raise();
    app.state_changed.raise();
    Ok(true)
}

/// Puts every active job (Assigned to Completing) of an agent back into the queue; answers how
/// many. The old job is ignored from then on, a new one with its name takes its place.
///
/// # Errors
///
/// The database could not be used; nothing has changed then.
pub async fn reschedule_jobs_of(app: &App, agent_uuid: &str) -> Result<usize, SchedulingError> {
    // Every poll of an idle agent comes here, and mostly there is nothing to do.
    {
        let connection = app.database.readers().acquire().await;
        let mut connection = connection.map_err(DatabaseError::from)?;
        if !run::has_active_job(&mut connection, agent_uuid).await? {
            return Ok(0);
        }
    }
    let mut write = app.database.write().await?;
    let jobs: Vec<JobRow> = sqlx::query_as(
        "SELECT * FROM jobs WHERE agent_uuid = $1 \
         AND state IN ('Assigned', 'Preparing', 'Building', 'Completing')",
    )
    .bind(agent_uuid)
    .fetch_all(&mut *write)
    .await
    .map_err(DatabaseError::from)?;
    if jobs.is_empty() {
        return Ok(0);
    }
    let now = app.now_ms();
    for job in &jobs {
        run::set_state(&mut write, job.id, JobState::Rescheduled, now).await?;
        let again = JobRow {
            scheduled_at: now,
            ..job.clone()
        };
        progression::insert_job(&mut write, &again).await?;
        progression::settle(&mut write, job.stage_id, now).await?;
    }
    write.commit().await.map_err(DatabaseError::from)?;
    app.work_changed.raise();
    app.state_changed.raise();
    Ok(jobs.len())
}
