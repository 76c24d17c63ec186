//! Runs, stages and jobs as the database keeps them.

use journeyman_protocol::{
    job::{JobIdentifier, JobResult, JobState},
    revision::MaterialRevisions,
};
use serde::{Deserialize, Serialize};
use sqlx::SqliteConnection;

use super::instances;
use crate::database::DatabaseError;
use crate::pipelines::definition::{Job, Pipeline, Stage, Variable};
use crate::pipelines::store::decode;

/// What a run was started from; later changes of the configuration do not touch it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunDefinition {
    pub pipeline: Pipeline,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<RunEnvironment>,
    /// Variables given with the trigger.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<Variable>,
}

/// The environment a pipeline was in when it was triggered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunEnvironment {
    pub name: String,
    pub variables: Vec<Variable>,
}

impl RunDefinition {
    /// A stage and its place.
    #[must_use]
    pub fn stage(&self, name: &str) -> Option<(usize, &Stage)> {
        let mut stages = self.pipeline.stages.iter().enumerate();
        stages.find(|(_, stage)| stage.name.eq_ignore_ascii_case(name))
    }

    /// The definition of a job of a stage: of a job that runs several times, by the name of any.
    #[must_use]
    pub fn job(&self, stage: &str, name: &str) -> Option<&Job> {
        let (_, stage) = self.stage(stage)?;
        let name = instances::definition_of(name);
        stage.jobs.iter().find(|job| job.name == name)
    }
}

/// One run of a pipeline.
#[derive(Clone, Debug)]
pub struct Run {
    pub id: i64,
    pub pipeline: String,
    pub counter: i64,
    pub label: String,
    /// Empty for a run that changes started.
    pub approver: String,
    pub trigger_message: String,
    pub forced: bool,
    pub definition: RunDefinition,
    pub revisions: MaterialRevisions,
    /// The stage that would be next, but something keeps from starting: it is active in another
    /// run, the pipeline is paused, or another run has locked it.
    pub waiting_stage: Option<String>,
    /// Milliseconds since the epoch.
    pub scheduled_at: i64,
    /// What people have remarked about it.
    pub comment: Option<String>,
    /// See [`natural_order`](super::natural_order).
    pub natural_order: f64,
}

/// A row of `pipeline_runs`.
#[derive(sqlx::FromRow)]
pub(super) struct RunRow {
    pub(super) id: i64,
    pipeline: String,
    counter: i64,
    label: String,
    approver: String,
    trigger_message: String,
    trigger_forced: i64,
    definition: String,
    material_revisions: String,
    scheduled_at: i64,
    waiting_stage: Option<String>,
    comment: Option<String>,
    natural_order: f64,
}

impl TryFrom<RunRow> for Run {
    type Error = DatabaseError;

    fn try_from(row: RunRow) -> Result<Self, DatabaseError> {
        let name = format!("{}/{}", row.pipeline, row.counter);
        Ok(Self {
            definition: decode(&format!("the definition of {name}"), &row.definition)?,
            revisions: decode(&format!("the materials of {name}"), &row.material_revisions)?,
            waiting_stage: row.waiting_stage,
            id: row.id,
            pipeline: row.pipeline,
            counter: row.counter,
            label: row.label,
            approver: row.approver,
            trigger_message: row.trigger_message,
            forced: row.trigger_forced != 0,
            scheduled_at: row.scheduled_at,
            comment: row.comment,
            natural_order: row.natural_order,
        })
    }
}

/// One run of a stage. Its `state` is its result as well once `completed_at` is set.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct StageRow {
    pub id: i64,
    pub run_id: i64,
    pub name: String,
    pub counter: i64,
    pub position: i64,
    pub state: String,
    /// `changes` or a user.
    pub approved_by: String,
    pub cancelled_by: Option<String>,
    /// The counter of the run of this stage whose other jobs were copied; none when all ran.
    pub rerun_of_counter: Option<i64>,
    pub scheduled_at: i64,
    pub completed_at: Option<i64>,
    /// See [`StageRow::has_lost_artifacts`].
    artifacts_deleted: i64,
}

impl StageRow {
    /// Whether its consoles and artifacts were deleted to keep to the limits.
    #[must_use]
    pub fn has_lost_artifacts(&self) -> bool {
        matches!(self.artifacts_deleted, 1 | 2)
    }

    /// The result in GoCD's answers: Unknown until all jobs have ended, or one has failed.
    #[must_use]
    pub fn result(&self) -> &str {
        match (self.completed_at, self.state.as_str()) {
            (Some(_), state) => state,
            (None, "Failing") => "Failed",
            (None, _) => "Unknown",
        }
    }

    #[must_use]
    pub fn is_active(&self) -> bool {
        self.completed_at.is_none()
    }
}

/// One run of a job. The id is the wire's `buildId`.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct JobRow {
    pub id: i64,
    pub stage_id: i64,
    pub name: String,
    pub position: i64,
    pub state: String,
    pub result: String,
    pub agent_uuid: Option<String>,
    /// JSON list.
    pub resources: String,
    pub environment: Option<String>,
    pub scheduled_at: i64,
    /// The job that this one is a copy of. Console and artifacts are the original's.
    pub original_job_id: Option<i64>,
    /// Whether it runs once more what ran in the stage that this one is a rerun of.
    pub rerun: bool,
    /// The only agent that gets it.
    pub bound_agent: Option<String>,
    /// Minutes without output or agent after which it is cancelled; none for the server's default.
    pub timeout: Option<i64>,
}

impl JobRow {
    #[must_use]
    pub fn state(&self) -> JobState {
        parse(&self.state)
    }

    #[must_use]
    pub fn result(&self) -> JobResult {
        parse(&self.result)
    }

    /// The job whose console and artifacts are this one's: the original of a copy.
    #[must_use]
    pub fn files_id(&self) -> i64 {
        self.original_job_id.unwrap_or(self.id)
    }

    /// Whether an agent has it or is to get it.
    #[must_use]
    pub fn is_active(&self) -> bool {
        !matches!(self.state(), JobState::Completed | JobState::Rescheduled)
    }
}

/// A state or result by its name; an unknown name is Unknown.
fn parse<T: serde::de::DeserializeOwned + Default>(name: &str) -> T {
    serde_json::from_value(serde_json::Value::from(name)).unwrap_or_default()
}

/// When a job came into a state.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Transition {
    pub state: String,
    /// Milliseconds since the epoch.
    pub at: i64,
}

/// Finds a run by name and counter; letter case does not matter.
pub async fn find_run(
    connection: &mut SqliteConnection,
    pipeline: &str,
    counter: i64,
) -> Result<Option<Run>, DatabaseError> {
    let row: Option<RunRow> = sqlx::query_as(
        "SELECT * FROM pipeline_runs WHERE lower(pipeline) = lower($1) AND counter = $2",
    )
    .bind(pipeline)
    .bind(counter)
    .fetch_optional(connection)
    .await?;
    row.map(Run::try_from).transpose()
}

/// A run by its row.
pub(super) async fn run_by_id(
    connection: &mut SqliteConnection,
    id: i64,
) -> Result<Run, DatabaseError> {
    let row: RunRow = sqlx::query_as("SELECT * FROM pipeline_runs WHERE id = $1")
        .bind(id)
        .fetch_one(connection)
        .await?;
    row.try_into()
}

/// The newest runs of a pipeline, newest first, older than `before` if that is given.
pub async fn runs_of(
    connection: &mut SqliteConnection,
    pipeline: &str,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Run>, DatabaseError> {
    let rows: Vec<RunRow> = sqlx::query_as(
        "SELECT * FROM pipeline_runs WHERE lower(pipeline) = lower($1) \
         AND counter < COALESCE($2, 9223372036854775807) ORDER BY counter DESC LIMIT $3",
    )
    .bind(pipeline)
    .bind(before)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(Run::try_from).collect()
}

/// Every run of every stage of a pipeline's run, in order.
pub async fn stages_of(
    connection: &mut SqliteConnection,
    run_id: i64,
) -> Result<Vec<StageRow>, DatabaseError> {
    Ok(
        sqlx::query_as("SELECT * FROM stages WHERE run_id = $1 ORDER BY position, counter")
            .bind(run_id)
            .fetch_all(connection)
            .await?,
    )
}

/// One run of a stage.
pub async fn find_stage(
    connection: &mut SqliteConnection,
    run_id: i64,
    name: &str,
    counter: i64,
) -> Result<Option<StageRow>, DatabaseError> {
    Ok(sqlx::query_as(
        "SELECT * FROM stages WHERE run_id = $1 AND lower(name) = lower($2) AND counter = $3",
    )
    .bind(run_id)
    .bind(name)
    .bind(counter)
    .fetch_optional(connection)
    .await?)
}

/// A stage's jobs as people see them: without those that were rescheduled.
pub async fn jobs_of(
    connection: &mut SqliteConnection,
    stage_id: i64,
) -> Result<Vec<JobRow>, DatabaseError> {
    Ok(sqlx::query_as(
        "SELECT * FROM jobs WHERE stage_id = $1 AND state <> 'Rescheduled' ORDER BY position, id",
    )
    .bind(stage_id)
    .fetch_all(connection)
    .await?)
}

/// A job by its id.
pub async fn job_by_id(
    connection: &mut SqliteConnection,
    id: i64,
) -> Result<Option<JobRow>, DatabaseError> {
    Ok(sqlx::query_as("SELECT * FROM jobs WHERE id = $1")
        .bind(id)
        .fetch_optional(connection)
        .await?)
}

/// Whether an agent has a job that has not ended.
pub(super) async fn has_active_job(
    connection: &mut SqliteConnection,
    agent_uuid: &str,
) -> Result<bool, DatabaseError> {
    let found: Option<i64> = sqlx::query_scalar(
        "SELECT id FROM jobs WHERE agent_uuid = $1 \
         AND state IN ('Assigned', 'Preparing', 'Building', 'Completing') LIMIT 1",
    )
    .bind(agent_uuid)
    .fetch_optional(connection)
    .await?;
    Ok(found.is_some())
}

/// A job's states with their times, oldest first.
pub async fn transitions_of(
    connection: &mut SqliteConnection,
    job_id: i64,
) -> Result<Vec<Transition>, DatabaseError> {
    Ok(
        sqlx::query_as(
            "SELECT state, at FROM job_transitions WHERE job_id = $1 ORDER BY at, rowid",
        )
        .bind(job_id)
        .fetch_all(connection)
        .await?,
    )
}

/// Which job a row is, as the wire names it.
#[must_use]
pub fn identifier(run: &Run, stage: &StageRow, job: &JobRow) -> JobIdentifier {
    JobIdentifier {
        pipeline_name: run.pipeline.clone(),
        pipeline_counter: i32::try_from(run.counter).unwrap_or(i32::MAX),
        pipeline_label: run.label.clone(),
        stage_name: stage.name.clone(),
        build_name: job.name.clone(),
        build_id: job.id,
        stage_counter: stage.counter.to_string(),
        rerun_of_counter: stage
            .rerun_of_counter
            .and_then(|counter| i32::try_from(counter).ok()),
    }
}

/// Puts a job into a state and notes the time.
pub(super) async fn set_state(
    connection: &mut SqliteConnection,
    job_id: i64,
    state: JobState,
    now: i64,
) -> Result<(), DatabaseError> {
    let state = state.to_string();
    sqlx::query("UPDATE jobs SET state = $2 WHERE id = $1")
        .bind(job_id)
        .bind(&state)
        .execute(&mut *connection)
        .await?;
    sqlx::query("INSERT INTO job_transitions (job_id, state, at) VALUES ($1, $2, $3)")
        .bind(job_id)
        .bind(&state)
        .bind(now)
        .execute(connection)
        .await?;
    Ok(())
}

/// Gives a job a result.
pub(super) async fn set_result(
    connection: &mut SqliteConnection,
    job_id: i64,
    result: JobResult,
) -> Result<(), DatabaseError> {
    sqlx::query("UPDATE jobs SET result = $2 WHERE id = $1")
        .bind(job_id)
        .bind(result.to_string())
        .execute(connection)
        .await?;
    Ok(())
}
