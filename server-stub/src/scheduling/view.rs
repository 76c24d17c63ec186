//! A run with its stages, jobs and artifacts, as people look at it.

use std::collections::HashMap;

use sqlx::SqliteConnection;

use super::run::{JobRow, Run, RunRow, StageRow, Transition};
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
    let what = format!("the run {}/{}", run.pipeline, run.counter);
    let mut views = of_runs(connection, vec![run]).await?;
    let view = views.pop();
    view.ok_or_else(|| DatabaseError::content(what, "it has no view"))
}

/// The views of runs, in their order, with as many statements as one of them takes.
pub async fn of_runs(
    connection: &mut SqliteConnection,
    runs: Vec<Run>,
) -> Result<Vec<RunView>, DatabaseError> {
    let ids: Vec<i64> = runs.iter().map(|run| run.id).collect();
    let rows: Vec<StageRow> = sqlx::query_as(
        "SELECT * FROM stages WHERE run_id IN (SELECT value FROM json_each($1)) \
         ORDER BY position, counter",
    )
    .bind(id_list(&ids))
    .fetch_all(&mut *connection)
    .await?;
    let mut of_run: HashMap<i64, Vec<StageRow>> = HashMap::new();
    for row in rows {
        of_run.entry(row.run_id).or_default().push(row);
    }
    let mut latest = Vec::new();
    for rows in of_run.values() {
        for (place, row) in rows.iter().enumerate() {
            // The runs of one stage stand side by side.
            if rows.get(place + 1).is_none_or(|next| next.name != row.name) {
                latest.push(row.id);
            }
        }
    }
    let mut jobs = jobs_of_stages(connection, &latest).await?;
    let views = runs.into_iter().map(|run| {
        let rows = of_run.remove(&run.id).unwrap_or_default();
        assemble(run, &rows, &mut jobs)
    });
    Ok(views.collect())
}

fn assemble(run: Run, rows: &[StageRow], jobs: &mut HashMap<i64, Vec<JobView>>) -> RunView {
    let busy = rows.iter().any(StageRow::is_active);
    let mut stages: Vec<StageView> = Vec::new();
    let mut previous: Option<StageRow> = None;
    for (position, definition) in run.definition.pipeline.stages.iter().enumerate() {
        let row = rows
            .iter()
            .rfind(|row| row.name == definition.name)
            .cloned();
        let reached = match (&previous, definition.approval) {
            (None, _) => position == 0,
            (Some(before), Approval::ManualOnSuccess) => before.state == "Passed",
            (Some(_), _) => true,
        };
        stages.push(StageView {
            name: definition.name.clone(),
            approval: definition.approval,
            can_run: !busy && reached,
            jobs: row
                .as_ref()
                .and_then(|row| jobs.remove(&row.id))
                .unwrap_or_default(),
            row: row.clone(),
        });
        previous = row;
    }
    RunView { run, stages }
}

/// The jobs of one run of a stage with their states.
pub async fn jobs_of_stage(
    connection: &mut SqliteConnection,
    stage_id: i64,
) -> Result<Vec<JobView>, DatabaseError> {
    let mut jobs = jobs_of_stages(connection, &[stage_id]).await?;
    Ok(jobs.remove(&stage_id).unwrap_or_default())
}

/// The jobs of runs of stages with their states, by the stage's row; without those that were
/// rescheduled.
pub async fn jobs_of_stages(
    connection: &mut SqliteConnection,
    stage_ids: &[i64],
) -> Result<HashMap<i64, Vec<JobView>>, DatabaseError> {
    let rows: Vec<JobRow> = sqlx::query_as(
        "SELECT * FROM jobs WHERE stage_id IN (SELECT value FROM json_each($1)) \
         AND state <> 'Rescheduled' ORDER BY position, id",
    )
    .bind(id_list(stage_ids))
    .fetch_all(&mut *connection)
    .await?;
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let changes: Vec<(i64, String, i64)> = sqlx::query_as(
        "SELECT job_id, state, at FROM job_transitions \
         WHERE job_id IN (SELECT value FROM json_each($1)) ORDER BY at, rowid",
    )
    .bind(id_list(&ids))
    .fetch_all(connection)
    .await?;
    let mut transitions: HashMap<i64, Vec<Transition>> = HashMap::new();
    for (job, state, at) in changes {
        let of_job = transitions.entry(job).or_default();
        of_job.push(Transition { state, at });
    }
    let mut jobs: HashMap<i64, Vec<JobView>> = HashMap::new();
    for row in rows {
        let transitions = transitions.remove(&row.id).unwrap_or_default();
        let of_stage = jobs.entry(row.stage_id).or_default();
        of_stage.push(JobView { row, transitions });
    }
    Ok(jobs)
}

/// Runs by the ids of their rows, in no order.
pub async fn runs_by_id(
    connection: &mut SqliteConnection,
    ids: &[i64],
) -> Result<Vec<Run>, DatabaseError> {
    let rows: Vec<RunRow> =
        sqlx::query_as("SELECT * FROM pipeline_runs WHERE id IN (SELECT value FROM json_each($1))")
            .bind(id_list(ids))
            .fetch_all(connection)
            .await?;
    rows.into_iter().map(Run::try_from).collect()
}

/// Runs of stages by the ids of their rows, in no order.
pub async fn stages_by_id(
    connection: &mut SqliteConnection,
    ids: &[i64],
) -> Result<Vec<StageRow>, DatabaseError> {
    Ok(
        sqlx::query_as("SELECT * FROM stages WHERE id IN (SELECT value FROM json_each($1))")
            .bind(id_list(ids))
            .fetch_all(connection)
            .await?,
    )
}

/// Ids as one parameter of a statement, to be taken apart by `json_each`.
pub(crate) fn id_list(ids: &[i64]) -> String {
    serde_json::Value::from(ids).to_string()
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
