//! What has run: the histories of pipelines, stages and jobs, a page at a time, newest first.

mod page;

use std::collections::HashMap;

use sqlx::SqliteConnection;

pub use page::{From, Page, Window};

use crate::database::DatabaseError;
use crate::pipelines::definition::{Approval, Stage};
use crate::pipelines::store;
use crate::scheduling::run::{Run, StageRow};
use crate::scheduling::view::{self, JobView, RunView};
use page::Source;

/// A run of a stage, by itself.
#[derive(Clone, Debug)]
pub struct StageRun {
    pub run: RunName,
    /// None if the run's definition does not know the stage.
    pub approval: Option<Approval>,
    pub row: StageRow,
    pub jobs: Vec<JobView>,
}

/// A run of a job, by itself.
#[derive(Clone, Debug)]
pub struct JobRun {
    pub run: RunName,
    pub stage: StageRow,
    pub job: JobView,
}

/// Which run something is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunName {
    pub pipeline: String,
    pub counter: i64,
    pub label: String,
}

/// Runs of a pipeline. The cursor is the run's counter.
///
/// # Errors
///
/// The database could not be read.
pub async fn runs(
    connection: &mut SqliteConnection,
    pipeline: &str,
    window: Window,
) -> Result<Page<RunView>, DatabaseError> {
    let source = Source {
        from: "pipeline_runs WHERE lower(pipeline) = lower($1)",
        cursor: "counter",
        id: "id",
    };
    let keys = page::keys(connection, &source, &[pipeline], window).await?;
    let runs = view::runs_by_id(connection, keys.ids()).await?;
    let views = view::of_runs(connection, runs).await?;
    Ok(keys.with(views.into_iter().map(|view| (view.run.id, view))))
}

/// Runs of a stage, in whichever run of the pipeline. The cursor is an id of the database.
///
/// # Errors
///
/// The database could not be read.
pub async fn stages(
    connection: &mut SqliteConnection,
    pipeline: &str,
    stage: &str,
    window: Window,
) -> Result<Page<StageRun>, DatabaseError> {
    let source = Source {
        from: "stages WHERE pipeline = lower($1) AND lower(name) = lower($2)",
        cursor: "id",
        id: "id",
    };
    let keys = page::keys(connection, &source, &[pipeline, stage], window).await?;
    let rows = view::stages_by_id(connection, keys.ids()).await?;
    let run_ids: Vec<i64> = rows.iter().map(|row| row.run_id).collect();
    let runs = view::runs_by_id(connection, &run_ids).await?;
    let runs: HashMap<i64, Run> = runs.into_iter().map(|run| (run.id, run)).collect();
    let mut jobs = view::jobs_of_stages(connection, keys.ids()).await?;
    let items = rows.into_iter().filter_map(|row| {
        let run = runs.get(&row.run_id)?;
        let definition = run.definition.stage(&row.name);
        let item = StageRun {
            run: RunName::of(run),
            approval: definition.map(|(_, stage)| stage.approval),
            jobs: jobs.remove(&row.id).unwrap_or_default(),
            row,
        };
        Some((item.row.id, item))
    });
    Ok(keys.with(items))
}

/// Runs of a job, without those that were given to another agent. The cursor is an id of the
/// database.
///
/// # Errors
///
/// The database could not be read.
pub async fn jobs(
    connection: &mut SqliteConnection,
    pipeline: &str,
    stage: &str,
    job: &str,
    window: Window,
) -> Result<Page<JobRun>, DatabaseError> {
    // By the stage: a job that was given to another agent has a newer id than its stage's place.
    let source = Source {
        from: "stages JOIN jobs ON jobs.stage_id = stages.id AND jobs.state <> 'Rescheduled' \
               WHERE stages.pipeline = lower($1) AND lower(stages.name) = lower($2) \
               AND lower(jobs.name) = lower($3)",
        cursor: "stages.id",
        id: "stages.id",
    };
    let keys = page::keys(connection, &source, &[pipeline, stage, job], window).await?;
    let rows = view::stages_by_id(connection, keys.ids()).await?;
    let run_ids: Vec<i64> = rows.iter().map(|row| row.run_id).collect();
    let names = run_names(connection, &run_ids).await?;
    let mut jobs = view::jobs_of_stages(connection, keys.ids()).await?;
    let items = rows.into_iter().filter_map(|stage| {
        let mut of_stage = jobs.remove(&stage.id)?.into_iter();
        let item = JobRun {
            run: names.get(&stage.run_id)?.clone(),
            job: of_stage.find(|one| one.row.name.eq_ignore_ascii_case(job))?,
            stage,
        };
        Some((item.stage.id, item))
    });
    Ok(keys.with(items))
}

/// Whether the pipeline is defined, or has ever run.
///
/// # Errors
///
/// The database could not be read.
pub async fn knows(
    connection: &mut SqliteConnection,
    pipeline: &str,
) -> Result<bool, DatabaseError> {
    Ok(sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM pipelines WHERE lower(name) = lower($1)) \
         OR EXISTS (SELECT 1 FROM pipeline_runs WHERE lower(pipeline) = lower($1))",
    )
    .bind(pipeline)
    .fetch_one(connection)
    .await?)
}

/// Whether the stage is defined, or has ever run.
///
/// # Errors
///
/// The database could not be read.
pub async fn knows_stage(
    connection: &mut SqliteConnection,
    pipeline: &str,
    stage: &str,
) -> Result<bool, DatabaseError> {
    let defined = store::pipeline(connection, pipeline).await?;
    let is_it = |one: &Stage| one.name.eq_ignore_ascii_case(stage);
    if defined.is_some_and(|pipeline| pipeline.stages.iter().any(is_it)) {
        return Ok(true);
    }
    Ok(sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM stages \
         WHERE pipeline = lower($1) AND lower(name) = lower($2))",
    )
    .bind(pipeline)
    .bind(stage)
    .fetch_one(connection)
    .await?)
}

/// Whether the pipeline, as it is now, has the job.
///
/// # Errors
///
/// The database could not be read.
pub async fn defines_job(
    connection: &mut SqliteConnection,
    pipeline: &str,
    stage: &str,
    job: &str,
) -> Result<bool, DatabaseError> {
    let defined = store::pipeline(connection, pipeline).await?;
    let stages = defined.map(|pipeline| pipeline.stages).unwrap_or_default();
    let mut stages = stages.iter();
    let found = stages.find(|one| one.name.eq_ignore_ascii_case(stage));
    let jobs = found.map_or(&[][..], |stage| &stage.jobs);
    Ok(jobs.iter().any(|one| one.name.eq_ignore_ascii_case(job)))
}

/// The names of runs, by the id of their row.
pub(crate) async fn run_names(
    connection: &mut SqliteConnection,
    ids: &[i64],
) -> Result<HashMap<i64, RunName>, DatabaseError> {
    let rows: Vec<(i64, String, i64, String)> = sqlx::query_as(
        "SELECT id, pipeline, counter, label FROM pipeline_runs \
         WHERE id IN (SELECT value FROM json_each($1))",
    )
    .bind(view::id_list(ids))
    .fetch_all(connection)
    .await?;
    let name = |(id, pipeline, counter, label)| {
        let name = RunName {
            pipeline,
            counter,
            label,
        };
        (id, name)
    };
    Ok(rows.into_iter().map(name).collect())
}

impl RunName {
    pub(crate) fn of(run: &Run) -> Self {
        Self {
            pipeline: run.pipeline.clone(),
            counter: run.counter,
            label: run.label.clone(),
        }
    }
}
