//! How a run goes from stage to stage.
//!
//! Everything here runs inside of the transaction that changed a job, so that a killed server has
//! either done both or neither.

use journeyman_protocol::job::{JobResult, JobState};
use sqlx::SqliteConnection;

use super::run::{self, JobRow, Run, StageRow};
use super::{instances, state};
use crate::App;
use crate::database::DatabaseError;
use crate::maintenance;
use crate::pipelines::definition::{Approval, LockBehavior, Operators, Stage};
use crate::pipelines::store::encode;
use crate::users::{Actor, Role};

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
    #[error("{stage} cannot run: {refused}")]
    Refused { stage: String, refused: Refused },
    #[error("{stage} cannot run before the stage {previous} has run")]
    PreviousNotRun { stage: String, previous: String },
    #[error("{stage} may run only after {previous} has passed, which ended {state}")]
    PreviousNotPassed {
        stage: String,
        previous: String,
        state: String,
    },
}

/// What keeps a person from running a stage, or jobs of one. All but the first are conflicts with
/// what there is now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error(
        "only the users and roles of its `approval` may run it or cancel it, and {user} is not among them"
    )]
    NotAllowed { user: String },
    #[error("{active} is active")]
    Active { active: String },
    #[error("the pipeline {pipeline} is paused by {}{}", .pause.by, .pause.because())]
    Paused {
        pipeline: String,
        pause: state::Pause,
    },
    #[error("the run {pipeline}/{holder} has locked the pipeline")]
    Locked { pipeline: String, holder: i64 },
    #[error(
        "its job {job} is to run on all agents, and no agent that is enabled and in contact fits it"
    )]
    NoAgent { job: String },
}

/// A run of a stage that is to be made.
pub(super) struct NewStage<'a> {
    pub(super) position: usize,
    pub(super) approved_by: &'a str,
    /// The run of the stage whose other jobs are copied.
    pub(super) rerun_of: Option<i64>,
    pub(super) now: i64,
}

/// A run of a stage that was made.
pub(super) struct MadeStage {
    pub(super) id: i64,
    pub(super) counter: i64,
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

/// Makes a run of a stage with all its jobs, waiting for agents; answers its counter. Nothing is
/// made when it is refused.
pub(super) async fn start_stage(
    connection: &mut SqliteConnection,
    run: &Run,
    position: usize,
    approved_by: &str,
    now: i64,
) -> Result<Result<i64, Refused>, DatabaseError> {
    let stage = stage_at(run, position)?;
    let environment = run.definition.environment.as_ref();
    let environment = environment.map(|one| one.name.as_str());
    let mut jobs = Vec::new();
    for job in &stage.jobs {
        match instances::of(connection, job, environment).await? {
            Ok(made) => jobs.push((job, made)),
            Err(refused) => return Ok(Err(refused)),
        }
    }
    let new = NewStage {
        position,
        approved_by,
        rerun_of: None,
        now,
    };
    let made = insert_stage(connection, run, &new).await?;
    for (position, (job, instances)) in (0_i64..).zip(jobs) {
        let resources = encode(&job.resources)?;
        for instance in instances {
            let row = JobRow {
                id: 0,
                stage_id: made.id,
                name: instance.name,
                position,
                state: String::new(),
                result: String::new(),
                agent_uuid: None,
                resources: resources.clone(),
                environment: environment.map(ToOwned::to_owned),
                scheduled_at: now,
                original_job_id: None,
                rerun: false,
                bound_agent: instance.bound_agent,
                timeout: job.timeout.map(i64::from),
            };
            insert_job(connection, &row).await?;
        }
    }
    Ok(Ok(made.counter))
}

/// Makes a run of a stage without its jobs. It takes the lock, if runs of its pipeline lock.
pub(super) async fn insert_stage(
    connection: &mut SqliteConnection,
    run: &Run,
    new: &NewStage<'_>,
) -> Result<MadeStage, DatabaseError> {
    let stage = stage_at(run, new.position)?;
    let (id, counter): (i64, i64) = sqlx::query_as(
        "INSERT INTO stages (run_id, name, counter, position, state, approved_by, rerun_of_counter, scheduled_at) \
         SELECT $1, $2, COALESCE(MAX(counter), 0) + 1, $3, 'Building', $4, $5, $6 \
         FROM stages WHERE run_id = $1 AND name = $2 RETURNING id, counter",
    )
    .bind(run.id)
    .bind(&stage.name)
    .bind(i64::try_from(new.position).unwrap_or(i64::MAX))
    .bind(new.approved_by)
    .bind(new.rerun_of)
    .bind(new.now)
    .fetch_one(&mut *connection)
    .await?;
    // Whatever it waited for, this is what it does now.
    sqlx::query(
        "UPDATE pipeline_runs SET waiting_stage = NULL WHERE id = $1 AND waiting_stage IS NOT NULL",
    )
    .bind(run.id)
    .execute(&mut *connection)
    .await?;
    if run.definition.pipeline.lock_behavior != LockBehavior::None {
        state::take(connection, &run.pipeline, run.counter).await?;
    }
    Ok(MadeStage { id, counter })
}

fn stage_at(run: &Run, position: usize) -> Result<&Stage, DatabaseError> {
    let stage = run.definition.pipeline.stages.get(position);
    stage.ok_or_else(|| {
        let what = format!("the definition of {}/{}", run.pipeline, run.counter);
        DatabaseError::content(what, "a stage is missing")
    })
}

/// Adds a waiting job: what the given one is, nothing of what became of it.
pub(super) async fn insert_job(
    connection: &mut SqliteConnection,
    job: &JobRow,
) -> Result<i64, DatabaseError> {
    let id: i64 = sqlx::query_scalar(
        "INSERT INTO jobs (stage_id, name, position, state, result, resources, environment, scheduled_at, \
         rerun, bound_agent, timeout) \
         VALUES ($1, $2, $3, 'Scheduled', 'Unknown', $4, $5, $6, $7, $8, $9) RETURNING id",
    )
    .bind(job.stage_id)
    .bind(&job.name)
    .bind(job.position)
    .bind(&job.resources)
    .bind(&job.environment)
    .bind(job.scheduled_at)
    .bind(job.rerun)
    .bind(&job.bound_agent)
    .bind(job.timeout)
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
    let Some((position, _)) = run.definition.stage(&stage.name) else {
        return Ok(false);
    };
    let next = run.definition.pipeline.stages.get(position + 1);
    if state == "Passed"
        && let Some(next) = next
        && next.approval == Approval::Success
    {
        sqlx::query("UPDATE pipeline_runs SET waiting_stage = $2 WHERE id = $1")
            .bind(run.id)
            .bind(&next.name)
            .execute(&mut *connection)
            .await?;
    }
    let rests = match run.definition.pipeline.lock_behavior {
        LockBehavior::None => false,
        LockBehavior::LockOnFailure => next.is_none(),
        LockBehavior::UnlockWhenFinished => {
            state != "Passed" || next.is_none_or(|next| next.approval != Approval::Success)
        }
    };
    if rests {
        state::release(connection, &run.pipeline, run.counter).await?;
    }
    wake(connection, &run.pipeline, now).await
}

/// Starts the stages of a pipeline that nothing holds back any more; answers whether there were any.
/// What waits is in the database, so whoever removes a hindrance calls this in the same
/// transaction.
pub(super) async fn wake(
    connection: &mut SqliteConnection,
    pipeline: &str,
    now: i64,
) -> Result<bool, DatabaseError> {
    let waiting: Vec<String> = sqlx::query_scalar(
        "SELECT DISTINCT waiting_stage FROM pipeline_runs \
         WHERE lower(pipeline) = lower($1) AND waiting_stage IS NOT NULL",
    )
    .bind(pipeline)
    .fetch_all(&mut *connection)
    .await?;
    if !waiting.is_empty() && maintenance::is_on(connection).await? {
        return Ok(false);
    }
    let mut started = false;
    for stage in waiting {
        let state = state::state_of(connection, pipeline).await?;
        if state.pause.is_some() {
            break;
        }
        started |= start_waiting(connection, pipeline, &stage, &state, now).await?;
    }
    Ok(started)
}

/// If a stage is free, the newest run that waits for it has its turn. Older ones that waited as well
/// are overtaken, as in GoCD; a person can still run them.
async fn start_waiting(
    connection: &mut SqliteConnection,
    pipeline: &str,
    stage: &str,
    state: &state::PipelineState,
    now: i64,
) -> Result<bool, DatabaseError> {
    if active_stage(connection, pipeline, stage).await?.is_some() {
        return Ok(false);
    }
    let newest: Option<i64> = sqlx::query_scalar(
        "SELECT id FROM pipeline_runs WHERE lower(pipeline) = lower($1) AND waiting_stage = $2 \
         AND counter = COALESCE($3, counter) ORDER BY counter DESC LIMIT 1",
    )
    .bind(pipeline)
    .bind(stage)
    .bind(state.locked_by)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(newest) = newest else {
        return Ok(false);
    };
    let run = run::run_by_id(connection, newest).await?;
    if let Some((position, _)) = run.definition.stage(stage) {
        let started = start_stage(connection, &run, position, CHANGES, now).await?;
        if let Err(refused) = started {
            // It goes on waiting.
            let run = format!("{}/{}", run.pipeline, run.counter);
            tracing::warn!(run, stage, %refused, "a stage cannot start yet");
            return Ok(false);
        }
    }
    sqlx::query(
        "UPDATE pipeline_runs SET waiting_stage = NULL \
         WHERE lower(pipeline) = lower($1) AND waiting_stage = $2",
    )
    .bind(pipeline)
    .bind(stage)
    .execute(connection)
    .await?;
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
         WHERE lower(pipeline_runs.pipeline) = lower($1) AND stages.name = $2 \
         AND stages.completed_at IS NULL LIMIT 1",
    )
    .bind(pipeline)
    .bind(stage)
    .fetch_optional(connection)
    .await?;
    Ok(found.map(|(run, counter)| format!("{pipeline}/{run}/{stage}/{counter}")))
}

/// Whether somebody may run a stage that names users or roles: an admin of the pipeline's group may,
/// a user who is named, and who has a role that is named. The roles are the server's own (`view`,
/// `operate`, `admin`), held in that group, and each is held by whoever has a greater one. That
/// the user may operate the group at all is checked before.
#[must_use]
pub fn may_run(operators: &Operators, group: &str, by: &Actor) -> bool {
    let role = by.rights.in_group(group);
    operators.is_everybody()
        || role == Some(Role::Admin)
        || operators
            .users
            .iter()
            .any(|user| user.eq_ignore_ascii_case(&by.name))
        || operators.roles.iter().any(|name| {
            let named: Option<Role> = name.to_lowercase().parse().ok();
            named.is_some_and(|named| role >= Some(named))
        })
}

/// Whether a person may run a stage of a run now, as far as that does not depend on the stages
/// before it.
pub(super) async fn check_free(
    connection: &mut SqliteConnection,
    run: &Run,
    stage: &Stage,
    by: &Actor,
) -> Result<Result<(), Refused>, DatabaseError> {
    if !may_run(&stage.operators, &run.definition.pipeline.group, by) {
        let user = by.name.clone();
        return Ok(Err(Refused::NotAllowed { user }));
    }
    let pipeline = || run.pipeline.clone();
    let state = state::state_of(connection, &run.pipeline).await?;
    if let Some(holder) = state.locked_against(run.counter) {
        let pipeline = pipeline();
        return Ok(Err(Refused::Locked { pipeline, holder }));
    }
    if let Some(pause) = state.pause {
        let pipeline = pipeline();
        return Ok(Err(Refused::Paused { pipeline, pause }));
    }
    let here: Option<(String, i64)> = sqlx::query_as(
        "SELECT name, counter FROM stages WHERE run_id = $1 AND completed_at IS NULL LIMIT 1",
    )
    .bind(run.id)
    .fetch_optional(&mut *connection)
    .await?;
    let active = match here {
        Some((name, counter)) => Some(format!("{}/{}/{name}/{counter}", run.pipeline, run.counter)),
        None => active_stage(connection, &run.pipeline, &stage.name).await?,
    };
    Ok(active.map_or(Ok(()), |active| Err(Refused::Active { active })))
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
    by: &Actor,
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
    check_free(&mut write, &run, definition, by)
        .await?
        .map_err(|refused| RunStageError::Refused {
            stage: name.clone(),
            refused,
        })?;
    let stages = run::stages_of(&mut write, run.id).await?;
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
    let started = start_stage(&mut write, &run, position, &by.name, app.now_ms()).await?;
    let counter = started.map_err(|refused| RunStageError::Refused {
        stage: name,
        refused,
    })?;
    write.commit().await.map_err(DatabaseError::from)?;
    app.work_changed.raise();
    app.state_changed.raise();
    Ok(counter)
}

/// A stage that waits.
pub(super) struct Waiting {
    pub(super) pipeline: String,
    pub(super) counter: i64,
    pub(super) stage: String,
    /// Nothing keeps it from starting but that no agent fits one of its jobs.
    pub(super) without_agents: bool,
}

/// The stages that wait, and whether they wait for agents.
pub(super) async fn waiting(app: &App) -> Result<Vec<Waiting>, DatabaseError> {
    let mut connection = app.database.readers().acquire().await?;
    let rows: Vec<(String, i64, String)> = sqlx::query_as(
        "SELECT pipeline, counter, waiting_stage FROM pipeline_runs WHERE waiting_stage IS NOT NULL",
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut waiting = Vec::new();
    for (pipeline, counter, stage) in rows {
        let state = state::state_of(&mut connection, &pipeline).await?;
        let active = active_stage(&mut connection, &pipeline, &stage).await?;
        waiting.push(Waiting {
            without_agents: state.pause.is_none()
                && state.locked_against(counter).is_none()
                && active.is_none(),
            pipeline,
            counter,
            stage,
        });
    }
    Ok(waiting)
}

/// At start: whatever a stage or run waits for is looked at once more, so that
/// nothing stands still because of how the server ended.
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
    wake_all(&mut write, now).await?;
    write.commit().await?;
    app.work_changed.raise();
    Ok(())
}

/// Tries again what waits in any pipeline.
///
/// # Errors
///
/// The database could not be used.
pub(crate) async fn try_again(app: &App) -> Result<(), DatabaseError> {
    let mut write = app.database.write().await?;
    let started = wake_all(&mut write, app.now_ms()).await?;
    write.commit().await?;
    if started {
        app.work_changed.raise();
        app.state_changed.raise();
    }
    Ok(())
}

async fn wake_all(connection: &mut SqliteConnection, now: i64) -> Result<bool, DatabaseError> {
    let waiting: Vec<String> = sqlx::query_scalar(
        "SELECT DISTINCT lower(pipeline) FROM pipeline_runs WHERE waiting_stage IS NOT NULL",
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut started = false;
    for pipeline in waiting {
        started |= wake(connection, &pipeline, now).await?;
    }
    Ok(started)
}
