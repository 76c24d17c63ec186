//! How a run goes from stage to stage.
//!
//! Everything here runs inside of the transaction that changed a job, so that a killed server has
//! either done both or neither.

use journeyman_protocol::job::{JobResult, JobState};
use sqlx::SqliteConnection;

use super::run::{self, JobRow, Run, StageRow};
use crate::App;
use crate::database::DatabaseError;
use crate::pipelines::definition::Approval;
use crate::pipelines::store::encode;

/// Who approves a stage that follows from the one before it. GoCD's word.
pub(super) const CHANGES: &str = "changes";

/// Why a stage was not run.
#[derive(Debug, thiserror::Error)]
pub enum RunStageError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("there is no run {pipeline}/{counter}")]
    UnknownRun { pipeline: String, counter: String },
    #[error("the pipeline {pipeline} has no stage {stage}")]
    UnknownStage { pipeline: String, stage: String },
    #[error("{stage} cannot run: {active} is active")]
    Active { stage: String, active: String },
    #[error("{stage} cannot run before the stage {previous} has run")]
    PreviousNotRun { stage: String, previous: String },
    #[error("{stage} may run only after {previous} has passed, which ended {state}")]
    PreviousNotPassed {
        stage: String,
        previous: String,
        state: String,
    },
}

/// The state of a stage by its jobs: the first rule that fits (GoCD).
#[must_use]
pub(super) fn state_of(jobs: &[JobRow]) -> &'static str {
    let any = |result| jobs.iter().any(|job| job.result() == result);
    let active = jobs.iter().any(JobRow::is_active);
    if active && any(JobResult::Failed) {
        "Failing"
    } else if active {
        "Building"
    } else if any(JobResult::Cancelled) {
        "Cancelled"
    } else if any(JobResult::Failed) {
        "Failed"
    } else if any(JobResult::Unknown) {
        "Unknown"
    } else {
        "Passed"
    }
}

/// Makes a run of a stage with all its jobs, waiting for agents.
pub(super) async fn start_stage(
    connection: &mut SqliteConnection,
    run: &Run,
    position: usize,
    approved_by: &str,
    now: i64,
) -> Result<i64, DatabaseError> {
    let Some(stage) = run.definition.pipeline.stages.get(position) else {
        let what = format!("the definition of {}/{}", run.pipeline, run.counter);
        return Err(DatabaseError::content(what, "a stage is missing"));
    };
    let counter: i64 = sqlx::query_scalar(
        "SELECT COALESCE(MAX(counter), 0) + 1 FROM stages WHERE run_id = $1 AND name = $2",
    )
    .bind(run.id)
    .bind(&stage.name)
    .fetch_one(&mut *connection)
    .await?;
    let stage_id: i64 = sqlx::query_scalar(
        "INSERT INTO stages (run_id, name, counter, position, state, approved_by, scheduled_at) \
         VALUES ($1, $2, $3, $4, 'Building', $5, $6) RETURNING id",
    )
    .bind(run.id)
    .bind(&stage.name)
    .bind(counter)
    .bind(i64::try_from(position).unwrap_or(i64::MAX))
    .bind(approved_by)
    .bind(now)
    .fetch_one(&mut *connection)
    .await?;
    // Whatever it waited for, this is what it does now.
    sqlx::query("UPDATE pipeline_runs SET waiting_stage = NULL WHERE id = $1")
        .bind(run.id)
        .execute(&mut *connection)
        .await?;
    let environment = run
        .definition
        .environment
        .as_ref()
        .map(|one| one.name.as_str());
    for (position, job) in (0_i64..).zip(&stage.jobs) {
        insert_job(
            connection,
            &JobRow {
                id: 0,
                stage_id,
                name: job.name.clone(),
                position,
                state: String::new(),
                result: String::new(),
                agent_uuid: None,
                resources: encode(&job.resources)?,
                environment: environment.map(ToOwned::to_owned),
                scheduled_at: now,
            },
        )
        .await?;
    }
    Ok(stage_id)
}

/// Adds a waiting job: name, place and needs of the given one, nothing else of it.
pub(super) async fn insert_job(
    connection: &mut SqliteConnection,
    job: &JobRow,
) -> Result<i64, DatabaseError> {
    let id: i64 = sqlx::query_scalar(
        "INSERT INTO jobs (stage_id, name, position, state, result, resources, environment, scheduled_at) \
         VALUES ($1, $2, $3, 'Scheduled', 'Unknown', $4, $5, $6) RETURNING id",
    )
    .bind(job.stage_id)
    .bind(&job.name)
    .bind(job.position)
    .bind(&job.resources)
    .bind(&job.environment)
    .bind(job.scheduled_at)
    .fetch_one(&mut *connection)
    .await?;
    run::set_state(connection, id, JobState::Scheduled, job.scheduled_at).await?;
    Ok(id)
}

/// Brings a stage's state in line with its jobs, and when it has ended starts what follows.
/// Answers whether jobs were made.
pub(super) async fn settle(
    connection: &mut SqliteConnection,
    stage_id: i64,
    now: i64,
) -> Result<bool, DatabaseError> {
    let stage: StageRow = sqlx::query_as("SELECT * FROM stages WHERE id = $1")
        .bind(stage_id)
        .fetch_one(&mut *connection)
        .await?;
    if !stage.is_active() {
        return Ok(false);
    }
    let jobs = run::jobs_of(connection, stage_id).await?;
    let state = state_of(&jobs);
    let ended = !jobs.iter().any(JobRow::is_active);
    sqlx::query("UPDATE stages SET state = $2, completed_at = $3 WHERE id = $1")
        .bind(stage_id)
        .bind(state)
        .bind(ended.then_some(now))
        .execute(&mut *connection)
        .await?;
    if !ended {
        return Ok(false);
    }
    let run = run::run_by_id(connection, stage.run_id).await?;
    let mut started = false;
    if state == "Passed" {
        started = go_on(connection, &run, &stage, now).await?;
    }
    Ok(start_waiting(connection, &run.pipeline, &stage.name, now).await? || started)
}

/// Starts the stage after a passed one, unless a person has to, or it runs in another run.
async fn go_on(
    connection: &mut SqliteConnection,
    run: &Run,
    passed: &StageRow,
    now: i64,
) -> Result<bool, DatabaseError> {
    let Some((position, _)) = run.definition.stage(&passed.name) else {
        return Ok(false);
    };
    let Some(next) = run.definition.pipeline.stages.get(position + 1) else {
        return Ok(false);
    };
    if next.approval != Approval::Success {
        return Ok(false);
    }
    if active_stage(connection, &run.pipeline, &next.name)
        .await?
        .is_some()
    {
        sqlx::query("UPDATE pipeline_runs SET waiting_stage = $2 WHERE id = $1")
            .bind(run.id)
            .bind(&next.name)
            .execute(&mut *connection)
            .await?;
        return Ok(false);
    }
    start_stage(connection, run, position + 1, CHANGES, now).await?;
    Ok(true)
}

/// A stage has become free: the newest run that waits for it has its turn. Older ones that waited
/// as well are overtaken, as in GoCD; a person can still run them.
async fn start_waiting(
    connection: &mut SqliteConnection,
    pipeline: &str,
    stage: &str,
    now: i64,
) -> Result<bool, DatabaseError> {
    let newest: Option<i64> = sqlx::query_scalar(
        "SELECT id FROM pipeline_runs WHERE pipeline = $1 AND waiting_stage = $2 \
         ORDER BY counter DESC LIMIT 1",
    )
    .bind(pipeline)
    .bind(stage)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(newest) = newest else {
        return Ok(false);
    };
    if active_stage(connection, pipeline, stage).await?.is_some() {
        return Ok(false);
    }
    sqlx::query(
        "UPDATE pipeline_runs SET waiting_stage = NULL WHERE pipeline = $1 AND waiting_stage = $2",
    )
    .bind(pipeline)
    .bind(stage)
    .execute(&mut *connection)
    .await?;
    let run = run::run_by_id(connection, newest).await?;
    let Some((position, _)) = run.definition.stage(stage) else {
        return Ok(false);
    };
    start_stage(connection, &run, position, CHANGES, now).await?;
    Ok(true)
}

/// Where a stage of a pipeline is active, as `pipeline/counter/stage/counter`.
pub(super) async fn active_stage(
    connection: &mut SqliteConnection,
    pipeline: &str,
    stage: &str,
) -> Result<Option<String>, DatabaseError> {
    let found: Option<(i64, i64)> = sqlx::query_as(
        "SELECT pipeline_runs.counter, stages.counter FROM stages \
         JOIN pipeline_runs ON pipeline_runs.id = stages.run_id \
         WHERE pipeline_runs.pipeline = $1 AND stages.name = $2 AND stages.completed_at IS NULL LIMIT 1",
    )
    .bind(pipeline)
    .bind(stage)
    .fetch_optional(connection)
    .await?;
    Ok(found.map(|(run, counter)| format!("{pipeline}/{run}/{stage}/{counter}")))
}

/// Runs a stage because a person says so: one that waits for that, or once more. Answers its
/// counter.
///
/// # Errors
///
/// See [`RunStageError`]; nothing has changed then.
pub async fn run_stage(
    app: &App,
    pipeline: &str,
    counter: i64,
    stage: &str,
    user: &str,
) -> Result<i64, RunStageError> {
    let mut write = app.database.write().await?;
    let run = run::find_run(&mut write, pipeline, counter).await?;
    let run = run.ok_or_else(|| RunStageError::UnknownRun {
        pipeline: pipeline.to_owned(),
        counter: counter.to_string(),
    })?;
    let found = run.definition.stage(stage);
    let (position, definition) = found.ok_or_else(|| RunStageError::UnknownStage {
        pipeline: run.pipeline.clone(),
        stage: stage.to_owned(),
    })?;
    let name = definition.name.clone();
    let stages = run::stages_of(&mut write, run.id).await?;
    let active = match stages.iter().find(|one| one.is_active()) {
        Some(one) => Some(format!(
            "{}/{}/{}/{}",
            run.pipeline, run.counter, one.name, one.counter
        )),
        None => active_stage(&mut write, &run.pipeline, &name).await?,
    };
    if let Some(active) = active {
        return Err(RunStageError::Active {
            stage: name,
            active,
        });
    }
    if let Some(previous) = position
        .checked_sub(1)
        .and_then(|before| run.definition.pipeline.stages.get(before))
    {
        let latest = stages.iter().rfind(|one| one.name == previous.name);
        let Some(latest) = latest else {
            return Err(RunStageError::PreviousNotRun {
                stage: name,
                previous: previous.name.clone(),
            });
        };
        if definition.approval == Approval::ManualOnSuccess && latest.state != "Passed" {
            return Err(RunStageError::PreviousNotPassed {
                stage: name,
                previous: previous.name.clone(),
                state: latest.state.clone(),
            });
        }
    }
    let id = start_stage(&mut write, &run, position, user, app.now_ms()).await?;
    let counter: i64 = sqlx::query_scalar("SELECT counter FROM stages WHERE id = $1")
        .bind(id)
        .fetch_one(&mut *write)
        .await
        .map_err(DatabaseError::from)?;
    write.commit().await.map_err(DatabaseError::from)?;
    app.work_changed.raise();
    app.state_changed.raise();
    Ok(counter)
}

/// At start: whatever a stage or run waits for is looked at once more, so that nothing stands
/// still because of how the server ended.
///
/// # Errors
///
/// The database could not be used.
pub async fn resume(app: &App) -> Result<(), DatabaseError> {
    let mut write = app.database.write().await?;
    let now = app.now_ms();
    let active: Vec<i64> = sqlx::query_scalar("SELECT id FROM stages WHERE completed_at IS NULL")
        .fetch_all(&mut *write)
        .await?;
    for stage in active {
        settle(&mut write, stage, now).await?;
    }
    let waiting: Vec<(String, String)> = sqlx::query_as(
        "SELECT DISTINCT pipeline, waiting_stage FROM pipeline_runs WHERE waiting_stage IS NOT NULL",
    )
    .fetch_all(&mut *write)
    .await?;
    for (pipeline, stage) in waiting {
        start_waiting(&mut write, &pipeline, &stage, now).await?;
    }
    write.commit().await?;
    app.work_changed.raise();
    Ok(())
}
