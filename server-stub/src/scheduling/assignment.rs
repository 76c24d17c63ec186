//! Which waiting job an agent gets.

use journeyman_protocol::{
    job::{JobResult, JobState},
    work::BuildWork,
};
use sqlx::SqliteConnection;

use super::run::{self, JobRow, StageRow};
use super::{SchedulingError, progression, queue, upstream, work};
use crate::App;
use crate::agents::{self, Agent, ConfigState};
use crate::database::DatabaseError;

/// Takes the oldest waiting job that fits the agent, in one transaction with
/// [`agents::mark_building`], and answers its document. An agent that is not enabled, or has a job
/// already, gets none.
///
/// # Errors
///
/// The database could not be used; nothing was assigned then.
pub async fn assign(app: &App, agent: &Agent) -> Result<Option<BuildWork>, SchedulingError> {
    if app.maintenance.is_on() {
        return Ok(None);
    }
    let waiting = queue::waiting(app).await?;
    // Most calls find nothing: they read nothing more, and take no turn at writing.
    if waiting.is_empty() {
        return Ok(None);
    }
    let home = {
        let connection = app.database.readers().acquire().await;
        let mut connection = connection.map_err(DatabaseError::from)?;
        queue::environments(&mut connection, agent).await?
    };
    if !waiting.iter().any(|head| head.fits(agent, &home)) {
        return Ok(None);
    }
    let mut write = app.database.write().await?;
    // What the caller knows may be older than this transaction.
    let Some(agent) = agents::find(&mut write, &agent.uuid).await? else {
        return Ok(None);
    };
    if agent.config_state != ConfigState::Enabled || agent.elastic.is_some() {
        return Ok(None);
    }
    if run::has_active_job(&mut write, &agent.uuid).await? {
        return Ok(None);
    }
    let home = queue::environments(&mut write, &agent).await?;
    let mut given = None;
    let mut started = false;
    loop {
        let heads = queue::heads(&mut write, 1).await?;
        let fitting = heads.iter().filter(|head| head.fits(&agent, &home));
        let Some(head) = fitting.min_by_key(|head| (head.scheduled_at, head.job)) else {
            break;
        };
        let job = sqlx::query_as("SELECT * FROM jobs WHERE id = $1")
            .bind(head.job)
            .fetch_one(&mut *write);
        let job: JobRow = job.await.map_err(DatabaseError::from)?;
        match put_together(app, &mut write, &agent, &job).await? {
            Ok(document) => {
                sqlx::query("UPDATE jobs SET agent_uuid = $2 WHERE id = $1")
                    .bind(job.id)
                    .bind(&agent.uuid)
                    .execute(&mut *write)
                    .await
                    .map_err(DatabaseError::from)?;
                run::set_state(&mut write, job.id, JobState::Assigned, app.now_ms()).await?;
                let locator = document.assignment.job_identifier.locator();
                agents::mark_building(&mut write, &agent.uuid, &locator).await?;
                app.metrics.assigned(app.now_ms() - job.scheduled_at);
                given = Some(document);
                break;
            }
            Err(cause) => {
                // It would be first in the queue for ever, and nothing behind it would be run.
                tracing::error!(
                    job = job.name,
                    build_id = job.id,
                    cause,
                    "a job cannot be put together and has failed"
                );
                let now = app.now_ms();
                run::set_result(&mut write, job.id, JobResult::Failed).await?;
                run::set_state(&mut write, job.id, JobState::Completed, now).await?;
                started |= progression::settle(&mut write, job.stage_id, now).await?;
            }
        }
    }
    write.commit().await.map_err(DatabaseError::from)?;
    if given.is_some() || started {
        // The queue is another, and those that wait may have been woken for what is gone.
        app.work_changed.raise();
        app.state_changed.raise();
    }
    Ok(given)
}

/// The document for a job, or why there can be none.
async fn put_together(
    app: &App,
    connection: &mut SqliteConnection,
    agent: &Agent,
    job: &JobRow,
) -> Result<Result<BuildWork, String>, DatabaseError> {
    let stage: StageRow = sqlx::query_as("SELECT * FROM stages WHERE id = $1")
        .bind(job.stage_id)
        .fetch_one(&mut *connection)
        .await?;
    let run = run::run_by_id(connection, stage.run_id).await?;
    let stages: Vec<StageRow> =
        sqlx::query_as("SELECT * FROM stages WHERE run_id = $1 ORDER BY counter")
            .bind(stage.run_id)
            .fetch_all(&mut *connection)
            .await?;
    let origins = match run.definition.job(&stage.name, &job.name) {
        Some(definition) => upstream::origins(connection, &run, definition).await?,
        None => upstream::Origins::new(),
    };
    let document = work::document(&run, &stages, &origins, &stage, job, &agent.resources);
    Ok(document.and_then(|document| work::reveal(document, &app.cipher)))
}
