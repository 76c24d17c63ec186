//! Running some jobs of a stage once more.

use journeyman_protocol::job::JobResult;
use sqlx::SqliteConnection;

use super::Refused;
use super::progression::{self, NewStage};
use super::run::{self, JobRow};
use crate::App;
use crate::database::DatabaseError;
use crate::users::Actor;

/// Which jobs run once more; the others are copied with their results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rerun {
    /// Those that failed or were cancelled.
    Failed,
    /// By name; letter case does not matter.
    Selected(Vec<String>),
}

/// Why jobs were not run once more.
#[derive(Debug, thiserror::Error)]
pub enum RerunError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("there is no stage {stage}")]
    UnknownStage { stage: String },
    #[error("the stage {stage} has no job {}", .jobs.join(", "))]
    UnknownJobs { stage: String, jobs: Vec<String> },
    #[error("no job of {stage} has failed or was cancelled")]
    NoneFailed { stage: String },
    #[error("name at least one job of {stage}")]
    NoneSelected { stage: String },
    #[error(
        "the job {job} of {stage} runs on the agent {agent} only, which is no longer registered: run the whole stage"
    )]
    AgentGone {
        stage: String,
        job: String,
        agent: String,
    },
    #[error("jobs of {stage} cannot run again: {refused}")]
    Refused { stage: String, refused: Refused },
}

/// Makes a new run of a stage in which some jobs run and the others are copies. Answers its counter.
///
/// # Errors
///
/// See [`RerunError`]; nothing has changed then.
pub async fn rerun_jobs(
    app: &App,
    pipeline: &str,
    counter: i64,
    stage: &str,
    stage_counter: i64,
    which: &Rerun,
    by: &Actor,
) -> Result<i64, RerunError> {
    let locator = format!("{pipeline}/{counter}/{stage}/{stage_counter}");
    let unknown = || RerunError::UnknownStage {
        stage: locator.clone(),
    };
    let mut write = app.database.write().await?;
    let run = run::find_run(&mut write, pipeline, counter).await?;
    let run = run.ok_or_else(unknown)?;
    let from = run::find_stage(&mut write, run.id, stage, stage_counter).await?;
    let from = from.ok_or_else(unknown)?;
    let (position, definition) = run.definition.stage(&from.name).ok_or_else(unknown)?;
    let jobs = run::jobs_of(&mut write, from.id).await?;
    let chosen = choose(&jobs, which, &locator)?;
    progression::check_free(&mut write, &run, definition, by)
        .await?
        .map_err(|refused| RerunError::Refused {
            stage: locator.clone(),
            refused,
        })?;
    for job in jobs.iter().filter(|job| chosen.contains(&job.id)) {
        if let Some(agent) = &job.bound_agent
            && crate::agents::find(&mut write, agent).await?.is_none()
        {
            return Err(RerunError::AgentGone {
                stage: locator,
                job: job.name.clone(),
                agent: agent.clone(),
            });
        }
    }
    let now = app.now_ms();
    let made = progression::insert_stage(
        &mut write,
        &run,
        &NewStage {
            position,
            approved_by: &by.name,
            rerun_of: Some(stage_counter),
            now,
        },
    )
    .await?;
    for job in jobs {
        if chosen.contains(&job.id) {
            let again = JobRow {
                stage_id: made.id,
                rerun: true,
                scheduled_at: now,
                ..job
            };
            progression::insert_job(&mut write, &again).await?;
        } else {
            copy(&mut write, &job, made.id).await?;
        }
    }
    write.commit().await.map_err(DatabaseError::from)?;
    app.work_changed.raise();
    app.state_changed.raise();
    Ok(made.counter)
}

/// The ids of the jobs that run.
fn choose(jobs: &[JobRow], which: &Rerun, stage: &str) -> Result<Vec<i64>, RerunError> {
    let stage = || stage.to_owned();
    match which {
        Rerun::Failed => {
            let failed =
                |job: &&JobRow| matches!(job.result(), JobResult::Failed | JobResult::Cancelled);
            let failed: Vec<i64> = jobs.iter().filter(failed).map(|job| job.id).collect();
            if failed.is_empty() {
                return Err(RerunError::NoneFailed { stage: stage() });
            }
            Ok(failed)
        }
        Rerun::Selected(names) if names.is_empty() => {
            Err(RerunError::NoneSelected { stage: stage() })
        }
        Rerun::Selected(names) => {
            let named = |name: &String| {
                let mut jobs = jobs.iter();
                jobs.find(|job| job.name.eq_ignore_ascii_case(name))
            };
            let unknown = names.iter().filter(|name| named(name).is_none());
            let unknown: Vec<String> = unknown.cloned().collect();
            if !unknown.is_empty() {
                return Err(RerunError::UnknownJobs {
                    stage: stage(),
                    jobs: unknown,
                });
            }
            Ok(names.iter().filter_map(named).map(|job| job.id).collect())
        }
    }
}

/// A copy of an ended job in another run of its stage, with the times of the original.
async fn copy(
    connection: &mut SqliteConnection,
    job: &JobRow,
    stage_id: i64,
) -> Result<(), DatabaseError> {
    let id: i64 = sqlx::query_scalar(
        "INSERT INTO jobs (stage_id, name, position, state, result, agent_uuid, resources, environment, \
         scheduled_at, original_job_id, bound_agent, timeout) \
         SELECT $2, name, position, state, result, agent_uuid, resources, environment, \
         scheduled_at, COALESCE(original_job_id, id), bound_agent, timeout FROM jobs WHERE id = $1 RETURNING id",
    )
    .bind(job.id)
    .bind(stage_id)
    .fetch_one(&mut *connection)
    .await?;
    sqlx::query(
        "INSERT INTO job_transitions (job_id, state, at) \
         SELECT $2, state, at FROM job_transitions WHERE job_id = $1 ORDER BY at, rowid",
    )
    .bind(job.id)
    .bind(id)
    .execute(connection)
    .await?;
    Ok(())
}
