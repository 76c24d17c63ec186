//! What waiting jobs need.

use std::sync::Arc;

use sqlx::SqliteConnection;
use tokio::sync::Mutex;

use super::run::JobRow;
use crate::App;
use crate::agents::Agent;
use crate::database::DatabaseError;
use crate::pipelines::store::decode;

/// As many jobs with the same needs are counted: nobody has more agents that wait.
const MOST: i64 = 10_000;

/// What waiting jobs need, of each set of needs the first job only. The database has the truth; this
/// is kept so that a thousand idle agents that ask one after the other read it once.
#[derive(Debug, Default)]
pub struct Queue(Mutex<Option<Known>>);

#[derive(Debug)]
struct Known {
    /// Of [`App::work_changed`] before they were read.
    generation: u64,
    heads: Arc<[Head]>,
}

/// A job that is the first of those with the same needs.
#[derive(Debug)]
pub struct Head {
    pub(super) job: i64,
    pub(super) scheduled_at: i64,
    environment: Option<String>,
    resources: Vec<String>,
    /// Only this agent gets it, whatever it needs.
    bound_agent: Option<String>,
    /// How many there are with the same needs.
    pub jobs: usize,
}

/// What waits now, as far as [`App::work_changed`] says.
///
/// # Errors
///
/// The database could not be read.
pub async fn waiting(app: &App) -> Result<Arc<[Head]>, DatabaseError> {
    // Held while it is read, so that all who ask meanwhile get what one has read.
    let mut queue = app.queue.0.lock().await;
    let generation = app.work_changed.generation();
    if let Some(known) = &*queue
        && known.generation == generation
    {
        return Ok(Arc::clone(&known.heads));
    }
    *queue = None;
    let mut connection = app.database.readers().acquire().await?;
    let heads: Arc<[Head]> = heads(&mut connection, MOST).await?.into();
    *queue = Some(Known {
        generation,
        heads: Arc::clone(&heads),
    });
    Ok(heads)
}

/// The first job of each set of needs, however many wait behind it, which are counted up to `most`: one
/// step through the index for each set. Bound jobs are all of them; there are as many as agents at most
/// for each stage. SQLite is told the indexes because it would else read all that wait.
pub(super) async fn heads(
    connection: &mut SqliteConnection,
    most: i64,
) -> Result<Vec<Head>, DatabaseError> {
    let rows: Vec<HeadRow> = sqlx::query_as(
        "WITH RECURSIVE kinds (needs) AS ( \
             SELECT MIN(needs) FROM jobs INDEXED BY jobs_queue WHERE state = 'Scheduled' AND bound_agent IS NULL \
             UNION ALL \
             SELECT (SELECT MIN(needs) FROM jobs INDEXED BY jobs_queue WHERE state = 'Scheduled' AND bound_agent IS NULL \
                     AND needs > kinds.needs) \
             FROM kinds WHERE kinds.needs IS NOT NULL) \
         SELECT jobs.*, (SELECT COUNT(*) FROM \
             (SELECT 1 FROM jobs AS same INDEXED BY jobs_queue WHERE same.state = 'Scheduled' \
              AND same.bound_agent IS NULL AND same.needs = kinds.needs LIMIT $1)) AS waiting \
         FROM kinds JOIN jobs ON jobs.id = \
             (SELECT first.id FROM jobs AS first INDEXED BY jobs_queue WHERE first.state = 'Scheduled' \
              AND first.bound_agent IS NULL AND first.needs = kinds.needs \
              ORDER BY first.scheduled_at, first.id LIMIT 1) \
         WHERE kinds.needs IS NOT NULL \
         UNION ALL SELECT *, 1 FROM jobs INDEXED BY jobs_bound WHERE state = 'Scheduled' AND bound_agent IS NOT NULL",
    )
    .bind(most)
    .fetch_all(connection)
    .await?;
    let head = |row: HeadRow| {
        Ok(Head {
            job: row.job.id,
            scheduled_at: row.job.scheduled_at,
            environment: row.job.environment,
            resources: decode("the resources of a job", &row.job.resources)?,
            bound_agent: row.job.bound_agent,
            jobs: usize::try_from(row.waiting).unwrap_or(usize::MAX),
        })
    };
    rows.into_iter().map(head).collect()
}

#[derive(sqlx::FromRow)]
struct HeadRow {
    #[sqlx(flatten)]
    job: JobRow,
    waiting: i64,
}

/// The environments an agent is in, by an admin or by a file.
///
/// # Errors
///
/// The database could not be read.
pub async fn environments(
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
    /// Whether the agent, which is in the environments `home`, may get such a job.
    #[must_use]
    pub fn fits(&self, agent: &Agent, home: &[String]) -> bool {
        match &self.bound_agent {
            Some(bound) => *bound == agent.uuid,
            None => fits(agent, home, &self.resources, self.environment.as_deref()),
        }
    }
}
