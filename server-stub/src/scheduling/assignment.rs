//! Which waiting job an agent gets.

use journeyman_protocol::{
    job::{JobResult, JobState},
    work::BuildWork,
};

use super::run::{self, JobRow, StageRow};
use super::{SchedulingError, progression, upstream, work};
use crate::App;
use crate::agents::{self, Agent, ConfigState};
use crate::database::DatabaseError;
use crate::pipelines::store::decode;

/// Takes the first waiting job that fits the agent, in one transaction with
/// [`agents::mark_building`], and answers its document. An agent that is not enabled, or has a job
/// already, gets none.
///
/// # Errors
///
/// The database could not be used; nothing was assigned then.
pub async fn assign(app: &App, agent: &Agent) -> Result<Option<BuildWork>, SchedulingError> {
    let mut write = app.database.write().await?;
    // What the caller knows may be older than this transaction.
    let Some(agent) = agents::find(&mut write, &agent.uuid).await? else {
        return Ok(None);
    };
    if agent.config_state != ConfigState::Enabled || agent.elastic.is_some() {
        return Ok(None);
    }
    let busy: Option<i64> = sqlx::query_scalar(
        "SELECT id FROM jobs WHERE agent_uuid = $1 \
         AND state IN ('Assigned', 'Preparing', 'Building', 'Completing') LIMIT 1",
    )
    .bind(&agent.uuid)
    .fetch_optional(&mut *write)
    .await
    .map_err(DatabaseError::from)?;
    if busy.is_some() {
        return Ok(None);
    }
    let waiting: Vec<JobRow> =
        sqlx::query_as("SELECT * FROM jobs WHERE state = 'Scheduled' ORDER BY scheduled_at, id")
            .fetch_all(&mut *write)
            .await
            .map_err(DatabaseError::from)?;
    let mut given = None;
    let mut started = false;
    for job in waiting {
        let needs: Vec<String> = decode("the resources of a job", &job.resources)?;
        if !fits(&agent, &needs, job.environment.as_deref()) {
            continue;
        }
        let stage: StageRow = sqlx::query_as("SELECT * FROM stages WHERE id = $1")
            .bind(job.stage_id)
            .fetch_one(&mut *write)
            .await
            .map_err(DatabaseError::from)?;
        let run = run::run_by_id(&mut write, stage.run_id).await?;
        let stages: Vec<StageRow> =
            sqlx::query_as("SELECT * FROM stages WHERE run_id = $1 ORDER BY counter")
                .bind(stage.run_id)
                .fetch_all(&mut *write)
                .await
                .map_err(DatabaseError::from)?;
        let origins = match run.definition.job(&stage.name, &job.name) {
            Some(definition) => upstream::origins(&mut write, &run, definition).await?,
            None => upstream::Origins::new(),
        };
        let document = work::document(&run, &stages, &origins, &stage, &job, &agent.resources);
        match document.and_then(|document| work::reveal(document, &app.cipher)) {
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
                given = Some(document);
                break;
            }
            Err(cause) => {
                // It would be first in the queue for ever, and nothing behind it would be run.
                let name = run::identifier(&run, &stage, &job).display_locator();
                tracing::error!(
                    job = name,
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
    if started {
        app.work_changed.raise();
    }
    if given.is_some() || started {
        app.state_changed.raise();
    }
    Ok(given)
}

/// A job of an environment goes to that environment's agents only, and the other way round; an
/// agent needs all of the job's resources, and may have more.
fn fits(agent: &Agent, needs: &[String], environment: Option<&str>) -> bool {
    let has = |list: &[String], name: &str| list.iter().any(|one| one.eq_ignore_ascii_case(name));
    let at_home = match environment {
        Some(environment) => has(&agent.environments, environment),
        None => agent.environments.is_empty(),
    };
    at_home && needs.iter().all(|need| has(&agent.resources, need))
}
