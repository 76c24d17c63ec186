//! A run with its stages, jobs and artifacts, as people look at it.

use sqlx::SqliteConnection;

use super::run::{self, JobRow, Run, StageRow, Transition};
use crate::database::DatabaseError;
use crate::pipelines::definition::Approval;

/// A run and the latest run of each of its stages.
#[derive(Clone, Debug)]
pub struct RunView {
    pub run: Run,
    pub stages: Vec<StageView>,
}

/// A stage of a run.
#[derive(Clone, Debug)]
pub struct StageView {
    pub name: String,
    pub approval: Approval,
    /// None for a stage that has not run yet.
    pub row: Option<StageRow>,
    pub jobs: Vec<JobView>,
    /// Whether a person may run it now.
    pub can_run: bool,
}

/// A job of a stage.
#[derive(Clone, Debug)]
pub struct JobView {
    pub row: JobRow,
    pub transitions: Vec<Transition>,
}

/// A file that a job has published.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct ArtifactView {
    pub path: String,
    /// Bytes.
    pub size: i64,
    /// Lower-case hex.
    pub sha256: String,
}

/// The view of a run.
pub async fn of_run(connection: &mut SqliteConnection, run: Run) -> Result<RunView, DatabaseError> {
    let rows = run::stages_of(connection, run.id).await?;
    let busy = rows.iter().any(StageRow::is_active);
    let mut stages: Vec<StageView> = Vec::new();
    let mut previous: Option<StageRow> = None;
    for (position, definition) in run.definition.pipeline.stages.iter().enumerate() {
        let row = rows
            .iter()
            .rfind(|row| row.name == definition.name)
            .cloned();
        let jobs = match &row {
            Some(row) => jobs_of_stage(connection, row.id).await?,
            None => Vec::new(),
        };
        let reached = match (&previous, definition.approval) {
            (None, _) => position == 0,
            (Some(before), Approval::ManualOnSuccess) => before.state == "Passed",
            (Some(_), _) => true,
        };
        stages.push(StageView {
            name: definition.name.clone(),
            approval: definition.approval,
            can_run: !busy && reached,
            row: row.clone(),
            jobs,
        });
        previous = row;
    }
    Ok(RunView { run, stages })
}

/// The jobs of one run of a stage with their states.
pub async fn jobs_of_stage(
    connection: &mut SqliteConnection,
    stage_id: i64,
) -> Result<Vec<JobView>, DatabaseError> {
    let mut jobs = Vec::new();
    for row in run::jobs_of(connection, stage_id).await? {
        let transitions = run::transitions_of(connection, row.id).await?;
        jobs.push(JobView { row, transitions });
    }
    Ok(jobs)
}

/// What a job has published, by path; for a copy, what its original has.
pub async fn artifacts_of(
    connection: &mut SqliteConnection,
    job_id: i64,
) -> Result<Vec<ArtifactView>, DatabaseError> {
    Ok(sqlx::query_as(
        "SELECT path, size, sha256 FROM artifacts WHERE job_id = \
             COALESCE((SELECT original_job_id FROM jobs WHERE id = $1), $1) ORDER BY path",
    )
    .bind(job_id)
    .fetch_all(connection)
    .await?)
}

impl RunView {
    /// Whether something of it runs, or will without a person: a job waits for an agent, or a
    /// stage for another run.
    #[must_use]
    pub fn is_active(&self) -> bool {
        let mut rows = self.stages.iter().filter_map(|stage| stage.row.as_ref());
        self.run.waiting_stage.is_some() || rows.any(StageRow::is_active)
    }

    /// One word for the whole run: the state of the last stage that has run.
    #[must_use]
    pub fn state(&self) -> &str {
        let rows: Vec<&StageRow> = self
            .stages
            .iter()
            .filter_map(|one| one.row.as_ref())
            .collect();
        let telling = rows.iter().find(|row| row.is_active());
        let telling = telling.or_else(|| rows.iter().find(|row| row.state != "Passed"));
        telling.or(rows.last()).map_or("Unknown", |row| &row.state)
    }
}
