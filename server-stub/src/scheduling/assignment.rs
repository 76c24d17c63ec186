//! Which waiting job an agent gets.

use journeyman_protocol::{
    job::{JobResult, JobState},
    work::BuildWork,
};
use sqlx::SqliteConnection;
use tokio::sync::Mutex;

use super::run::{self, JobRow, StageRow};
use super::{SchedulingError, progression, upstream, work};
use crate::App;
use crate::agents::{self, Agent, ConfigState};
use crate::database::DatabaseError;
use crate::pipelines::store::decode;

/// What waiting jobs need, of each set of needs the first job only. The database has the truth; this
/// is kept so that a thousand idle agents that ask one after the other read it once. One agent at
/// a time is looked after: there is one writer anyway.
#[derive(Debug, Default)]
pub struct Queue(Mutex<Option<Heads>>);

#[derive(Debug)]
struct Heads {
    /// Of [`App::work_changed`] before they were read.
    generation: u64,
    heads: Vec<Head>,
}

/// A job that is the first of those with the same needs.
#[derive(Debug)]
struct Head {
    job: i64,
    scheduled_at: i64,
    environment: Option<String>,
    resources: Vec<String>,
    /// Only this agent gets it, whatever it needs.
    bound_agent: Option<String>,
}

/// Takes the oldest waiting job that fits the agent, in one transaction with
/// [`agents::mark_building`], and answers its document. An agent that is not enabled, or has a job
/// already, gets none.
///
/// # Errors
///
/// The database could not be used; nothing was assigned then.
pub async fn assign(app: &App, agent: &Agent) -> Result<Option<BuildWork>, SchedulingError> {
    let mut queue = app.queue.0.lock().await;
    let generation = app.work_changed.generation();
    if queue
        .as_ref()
        .is_none_or(|known| known.generation != generation)
    {
        *queue = None;
        let connection = app.database.readers().acquire().await;
        let mut connection = connection.map_err(DatabaseError::from)?;
        let heads = heads(&mut connection).await?;
        *queue = Some(Heads { generation, heads });
    }
    let waiting = queue.as_ref().map_or(&[][..], |known| &known.heads);
    // Most calls find nothing: they read nothing more, and take no turn at writing.
    if waiting.is_empty() {
        return Ok(None);
    }
    let home = {
        let connection = app.database.readers().acquire().await;
        let mut connection = connection.map_err(DatabaseError::from)?;
        environments(&mut connection, agent).await?
    };
    if !waiting.iter().any(|head| head.fits(agent, &home)) {
        return Ok(None);
    }
    // Whatever comes of it, the queue is another.
    *queue = None;
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
    let home = environments(&mut write, &agent).await?;
    let mut given = None;
    let mut started = false;
    loop {
        let heads = heads(&mut write).await?;
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
    if started {
        app.work_changed.raise();
    }
    if given.is_some() || started {
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

/// The first job of each set of needs, however many wait behind it: one step through the index for
/// each set. Bound jobs are all of them; there are as many as agents at most for each stage. SQLite
/// is told the indexes because it would else read all that wait.
async fn heads(connection: &mut SqliteConnection) -> Result<Vec<Head>, DatabaseError> {
    let rows: Vec<JobRow> = sqlx::query_as(
        "WITH RECURSIVE kinds (needs) AS ( \
             SELECT MIN(needs) FROM jobs INDEXED BY jobs_queue WHERE state = 'Scheduled' AND bound_agent IS NULL \
             UNION ALL \
             SELECT (SELECT MIN(needs) FROM jobs INDEXED BY jobs_queue WHERE state = 'Scheduled' AND bound_agent IS NULL \
                     AND needs > kinds.needs) \
             FROM kinds WHERE kinds.needs IS NOT NULL) \
         SELECT jobs.* FROM kinds JOIN jobs ON jobs.id = \
             (SELECT first.id FROM jobs AS first INDEXED BY jobs_queue WHERE first.state = 'Scheduled' \
              AND first.bound_agent IS NULL AND first.needs = kinds.needs \
              ORDER BY first.scheduled_at, first.id LIMIT 1) \
         WHERE kinds.needs IS NOT NULL \
         UNION ALL SELECT * FROM jobs INDEXED BY jobs_bound WHERE state = 'Scheduled' AND bound_agent IS NOT NULL",
    )
    .fetch_all(connection)
    .await?;
    let head = |row: JobRow| {
        Ok(Head {
            job: row.id,
            scheduled_at: row.scheduled_at,
            environment: row.environment,
            resources: decode("the resources of a job", &row.resources)?,
            bound_agent: row.bound_agent,
        })
    };
    rows.into_iter().map(head).collect()
}

/// The environments an agent is in, by an admin or by a file.
pub(super) async fn environments(
    connection: &mut SqliteConnection,
    agent: &Agent,
) -> Result<Vec<String>, DatabaseError> {
    let files: Vec<String> =
        sqlx::query_scalar("SELECT environment FROM environment_agents WHERE agent_uuid = $1")
            .bind(&agent.uuid)
            .fetch_all(connection)
            .await?;
    let mut all = agent.environments.clone();
    all.extend(files);
    Ok(all)
}

/// A job of an environment goes to that environment's agents only, and the other way round; an
/// agent needs all of the job's resources, and may have more. `home` are the agent's environments.
pub(super) fn fits(
    agent: &Agent,
    home: &[String],
    needs: &[String],
    environment: Option<&str>,
) -> bool {
    let has = |list: &[String], name: &str| list.iter().any(|one| one.eq_ignore_ascii_case(name));
    let at_home = match environment {
        Some(environment) => has(home, environment),
        None => home.is_empty(),
    };
    at_home && needs.iter().all(|need| has(&agent.resources, need))
}

// === impl Head ===

impl Head {
    fn fits(&self, agent: &Agent, home: &[String]) -> bool {
        match &self.bound_agent {
            Some(bound) => *bound == agent.uuid,
            None => fits(agent, home, &self.resources, self.environment.as_deref()),
        }
    }
}
