//! Jobs that say nothing, and jobs that no agent takes: people are warned of them, and after their
//! timeout they are cancelled.
//!
//! One pass over the active jobs, every half a minute. How long a job has been silent is told by its
//! console's file, so a restart of the server forgets nothing and an output costs nothing more.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use jiff::Timestamp;
use journeyman_protocol::job::{JobIdentifier, JobResult, JobState};
use sqlx::SqliteConnection;

use super::run::{self, JobRow};
use super::{SchedulingError, progression};
use crate::answer::Chain;
use crate::database::{self, DatabaseError};
use crate::health::{self, Level};
use crate::{App, agents};

/// How often silent jobs are looked for. GoCD: 30 s.
const INTERVAL: Duration = Duration::from_secs(30);

/// After so long people are warned of a job. GoCD's number.
const QUIET: i64 = 5 * MINUTE;

const MINUTE: i64 = 60_000;

/// So many silent jobs are named; the rest are counted.
const MOST_NAMED: usize = 100;

/// Who cancels a job that was silent for too long. GoCD's word.
const SERVER: &str = "GoCD";

/// The name under which a default timeout is stored that people have set.
const DEFAULT: &str = "default-job-timeout";

/// An active job that has not changed its state for a minute or more.
#[derive(sqlx::FromRow)]
struct Silent {
    id: i64,
    name: String,
    state: String,
    timeout: Option<i64>,
    changed_at: i64,
    pipeline: String,
    counter: i64,
    stage: String,
    stage_counter: i64,
}

/// Looks at all active jobs once: warns, takes warnings back, cancels. Stages that could not start
/// are tried again.
///
/// # Errors
///
/// The database could not be used. What was done until then stays.
pub async fn check(app: &App) -> Result<(), SchedulingError> {
    let now = app.now_ms();
    let (default, jobs) = {
        let connection = app.database.readers().acquire().await;
        let mut connection = connection.map_err(DatabaseError::from)?;
        let default = default_minutes(app, &mut connection).await?;
        let default = i64::try_from(default).unwrap_or(i64::MAX);
        let jobs: Vec<Silent> = sqlx::query_as(
            "SELECT jobs.id, jobs.name, jobs.state, jobs.timeout, pipeline_runs.pipeline, \
             pipeline_runs.counter, stages.name AS stage, stages.counter AS stage_counter, \
             (SELECT MAX(at) FROM job_transitions WHERE job_id = jobs.id) AS changed_at \
             FROM jobs JOIN stages ON stages.id = jobs.stage_id \
             JOIN pipeline_runs ON pipeline_runs.id = stages.run_id \
             WHERE jobs.state IN ('Scheduled', 'Assigned', 'Preparing', 'Building', 'Completing') \
             AND changed_at <= $1 ORDER BY changed_at, jobs.id",
        )
        .bind(now - MINUTE)
        .fetch_all(&mut *connection)
        .await
        .map_err(DatabaseError::from)?;
        (default, jobs)
    };
    let mut quiet = Vec::new();
    for job in jobs {
        let waits = job.state == "Scheduled";
        let since = if waits {
            job.changed_at
        } else {
            job.changed_at.max(last_output(app, job.id).await)
        };
        let minutes = job.timeout.unwrap_or(default);
        let silent = now - since;
        if minutes > 0 && silent >= minutes.saturating_mul(MINUTE) {
            cancel(app, &job, minutes).await?;
        } else if silent >= QUIET {
            quiet.push(job);
        }
    }
    warn(app, &quiet);
    try_again(app).await
}

/// Minutes of silence after which a job is cancelled that does not say; 0 is never. What people have
/// set while the server ran counts more than its configuration.
///
/// # Errors
///
/// The database could not be read.
pub async fn default_minutes(
    app: &App,
    connection: &mut SqliteConnection,
) -> Result<u64, DatabaseError> {
    let set = database::setting(connection, DEFAULT).await?;
    let configured = app.configuration.job_timeout;
    let configured = configured.map_or(0, |time| time.as_secs() / 60);
    Ok(set.and_then(|text| text.parse().ok()).unwrap_or(configured))
}

/// Sets the default timeout of jobs.
///
/// # Errors
///
/// The database could not be written; nothing has changed then.
pub async fn set_default_minutes(app: &App, minutes: u64) -> Result<(), DatabaseError> {
    let mut write = app.database.write().await?;
    database::store_setting(&mut write, DEFAULT, &minutes.to_string()).await?;
    write.commit().await?;
    Ok(())
}

/// When a job's console has grown last, in milliseconds since the epoch; 0 when it never has.
async fn last_output(app: &App, job: i64) -> i64 {
    let Ok(Some(at)) = app.consoles.of(job).changed_at().await else {
        return 0;
    };
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn warn(app: &App, quiet: &[Silent]) {
    let key = |job: &Silent| format!("job:{}", job.id);
    for job in quiet.iter().take(MOST_NAMED) {
        let locator = job.locator();
        let minutes = QUIET / MINUTE;
        let (message, detail) = if job.state == "Scheduled" {
            (
                format!("No agent has taken the job {locator}."),
                format!(
                    "It has waited for more than {minutes} minutes. See that an agent with its resources, and \
                     in its pipeline's environment, is enabled and in contact."
                ),
            )
        } else {
            (
                format!("The job {locator} is silent."),
                format!(
                    "Nothing came to its console for more than {minutes} minutes. It may hang: look at it, \
                     and cancel its stage if it does."
                ),
            )
        };
        health::raise(app, &key(job), Level::Warning, message, detail);
    }
    let more = quiet.len().saturating_sub(MOST_NAMED);
    if more > 0 {
        let message = format!("{more} more jobs are silent, or wait for an agent.");
        health::raise(app, "job:more", Level::Warning, message, "");
    }
    let named: Vec<String> = quiet.iter().take(MOST_NAMED).map(key).collect();
    health::keep_only(app, "job:", |rest| {
        named
            .iter()
            .any(|key| key.strip_prefix("job:") == Some(rest))
            || (rest == "more" && more > 0)
    });
}

async fn cancel(app: &App, silent: &Silent, minutes: i64) -> Result<(), SchedulingError> {
    let mut write = app.database.write().await?;
    let now = app.now_ms();
    let job = run::job_by_id(&mut write, silent.id).await?;
    // It may have gone on since it was looked at.
    let Some(job) = job.filter(|job| job.is_active() && job.state == silent.state) else {
        return Ok(());
    };
    cancel_job(&mut write, silent, &job, now).await?;
    sqlx::query("UPDATE stages SET cancelled_by = COALESCE(cancelled_by, $2) WHERE id = $1")
        .bind(job.stage_id)
        .bind(SERVER)
        .execute(&mut *write)
        .await
        .map_err(DatabaseError::from)?;
    let started = progression::settle(&mut write, job.stage_id, now).await?;
    write.commit().await.map_err(DatabaseError::from)?;
    if started {
        app.work_changed.raise();
    }
    app.instructed.raise();
    app.state_changed.raise();
    let what = match job.state() {
        JobState::Scheduled => "no agent took it",
        _ => "it said nothing",
    };
    let job = silent.locator();
    tracing::warn!(
        job,
        minutes,
        "cancelled a job because {what} for so many minutes"
    );
    let time = Timestamp::from_millisecond(now).unwrap_or_default();
    let time = time.strftime("%H:%M:%S%.3f");
    let line = format!("##|{time} [go] Cancelled by the server: {what} for {minutes} minutes.\n");
    if let Err(error) = app.consoles.of(silent.id).note(&line).await {
        tracing::error!(job, error = %Chain(&error), "cannot say on its console why a job was cancelled");
    }
    Ok(())
}

async fn cancel_job(
    connection: &mut sqlx::SqliteConnection,
    silent: &Silent,
    job: &JobRow,
    now: i64,
) -> Result<(), DatabaseError> {
    run::set_result(connection, job.id, JobResult::Cancelled).await?;
    run::set_state(connection, job.id, JobState::Completed, now).await?;
    if let Some(agent) = &job.agent_uuid {
        agents::mark_cancelled(connection, agent, &silent.identifier().locator(), now).await?;
    }
    Ok(())
}

/// Stages that wait although nothing that has an end of its own holds them back: no agent fits a
/// job that is to run on all of them.
async fn try_again(app: &App) -> Result<(), SchedulingError> {
    let waiting = progression::waiting(app).await?;
    if waiting.is_empty() {
        health::keep_only(app, "stage:", |_| false);
        return Ok(());
    }
    progression::try_again(app).await?;
    let mut stuck = Vec::new();
    for one in progression::waiting(app).await? {
        if !one.without_agents {
            continue;
        }
        let locator = format!("{}/{}/{}", one.pipeline, one.counter, one.stage);
        health::raise(
            app,
            &format!("stage:{locator}"),
            Level::Error,
            format!("The stage {locator} cannot start."),
            "One of its jobs is to run on all agents, and no agent that is enabled and in contact fits it. \
             The stage starts when there is one.",
        );
        stuck.push(locator);
    }
    health::keep_only(app, "stage:", |rest| stuck.iter().any(|one| one == rest));
    Ok(())
}

/// Checks every half a minute until the server stops.
pub async fn watch(app: Arc<App>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = app.stopping.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if let Err(error) = check(&app).await {
            tracing::error!(error = %Chain(&error), "cannot look for silent jobs; trying again");
        }
    }
}

// === impl Silent ===

impl Silent {
    fn identifier(&self) -> JobIdentifier {
        JobIdentifier {
            pipeline_name: self.pipeline.clone(),
            pipeline_counter: i32::try_from(self.counter).unwrap_or(i32::MAX),
            stage_name: self.stage.clone(),
            stage_counter: self.stage_counter.to_string(),
            build_name: self.name.clone(),
            ..JobIdentifier::default()
        }
    }

    fn locator(&self) -> String {
        self.identifier().locator()
    }
}
