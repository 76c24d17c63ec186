//! What people and locks have decided about a pipeline: whether it is paused, and which run keeps
//! others from starting.
//!
//! A pause holds back triggers, stages that people run, and stages that would follow by themselves.
//! What it held back goes on when it ends, in the transaction that ends it.

use std::collections::HashMap;

use sqlx::SqliteConnection;

use super::progression;
use crate::App;
use crate::database::DatabaseError;
use crate::pipelines::definition::{LockBehavior, Pipeline};
use crate::pipelines::store;

/// The state of one pipeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PipelineState {
    pub pause: Option<Pause>,
    /// The counter of the run that holds the lock.
    pub locked_by: Option<i64>,
}

/// Who has paused a pipeline, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    pub by: String,
    /// May be empty.
    pub cause: String,
    /// Milliseconds since the epoch.
    pub at: i64,
}

/// Why a pipeline was not paused, unpaused or unlocked. All but an unknown pipeline are conflicts.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("there is no pipeline {0}")]
    Unknown(String),
    #[error("{pipeline} cannot be paused: it is paused by {} already", .pause.by)]
    Paused { pipeline: String, pause: Pause },
    #[error("{0} cannot be unpaused: it is not paused")]
    NotPaused(String),
    #[error("{0} cannot be unlocked: its `lock_behavior` is `none`, so no run locks it")]
    NotLockable(String),
    #[error("{0} cannot be unlocked: no run has locked it")]
    NotLocked(String),
    #[error("{pipeline} cannot be unlocked: {active} is active in the run that has locked it")]
    Active { pipeline: String, active: String },
}

/// A row of `pipeline_states`.
#[derive(sqlx::FromRow)]
struct StateRow {
    pipeline: String,
    paused_by: Option<String>,
    pause_cause: Option<String>,
    paused_at: Option<i64>,
    locked_by_run: Option<i64>,
}

/// The state of a pipeline; letter case does not matter. One that nobody has touched is free.
///
/// # Errors
///
/// The database could not be read.
pub async fn state_of(
    connection: &mut SqliteConnection,
    pipeline: &str,
) -> Result<PipelineState, DatabaseError> {
    let row: Option<StateRow> =
        sqlx::query_as("SELECT * FROM pipeline_states WHERE pipeline = lower($1)")
            .bind(pipeline)
            .fetch_optional(connection)
            .await?;
    Ok(row.map(PipelineState::from).unwrap_or_default())
}

/// The states of all pipelines that are not free, by name in lower case.
///
/// # Errors
///
/// The database could not be read.
pub async fn states(
    connection: &mut SqliteConnection,
) -> Result<HashMap<String, PipelineState>, DatabaseError> {
    let rows: Vec<StateRow> = sqlx::query_as(
        "SELECT * FROM pipeline_states WHERE paused_by IS NOT NULL OR locked_by_run IS NOT NULL",
    )
    .fetch_all(connection)
    .await?;
    let state = |row: StateRow| (row.pipeline.clone(), row.into());
    Ok(rows.into_iter().map(state).collect())
}

/// Whether a trigger would be let through now.
///
/// # Errors
///
/// The database could not be read.
pub async fn schedulable(
    connection: &mut SqliteConnection,
    pipeline: &Pipeline,
) -> Result<bool, DatabaseError> {
    if state_of(connection, &pipeline.name).await? != PipelineState::default() {
        return Ok(false);
    }
    let first = pipeline.stages.first().map_or("", |stage| &stage.name);
    let active = progression::active_stage(connection, &pipeline.name, first).await?;
    Ok(active.is_none())
}

/// Pauses a pipeline. Jobs that are active go on to their end.
///
/// # Errors
///
/// See [`StateError`]; nothing has changed then.
pub async fn pause(app: &App, pipeline: &str, by: &str, cause: &str) -> Result<(), StateError> {
    let mut write = app.database.write().await?;
    let pipeline = defined(&mut write, pipeline).await?.name;
    if let Some(pause) = state_of(&mut write, &pipeline).await?.pause {
        return Err(StateError::Paused { pipeline, pause });
    }
    sqlx::query(
        "INSERT INTO pipeline_states (pipeline, paused_by, pause_cause, paused_at) \
         VALUES (lower($1), $2, $3, $4) ON CONFLICT (pipeline) DO UPDATE SET \
         paused_by = excluded.paused_by, pause_cause = excluded.pause_cause, paused_at = excluded.paused_at",
    )
    .bind(&pipeline)
    .bind(by)
    .bind(cause)
    .bind(app.now_ms())
    .execute(&mut *write)
    .await
    .map_err(DatabaseError::from)?;
    write.commit().await.map_err(DatabaseError::from)?;
    app.state_changed.raise();
    Ok(())
}

/// Ends a pause; stages that it held back start.
///
/// # Errors
///
/// See [`StateError`]; nothing has changed then.
pub async fn unpause(app: &App, pipeline: &str) -> Result<(), StateError> {
    let mut write = app.database.write().await?;
    let pipeline = defined(&mut write, pipeline).await?.name;
    let ended = sqlx::query(
        "UPDATE pipeline_states SET paused_by = NULL, pause_cause = NULL, paused_at = NULL \
         WHERE pipeline = lower($1) AND paused_by IS NOT NULL",
    )
    .bind(&pipeline)
    .execute(&mut *write)
    .await
    .map_err(DatabaseError::from)?;
    if ended.rows_affected() == 0 {
        return Err(StateError::NotPaused(pipeline));
    }
    progression::wake(&mut write, &pipeline, app.now_ms()).await?;
    write.commit().await.map_err(DatabaseError::from)?;
    app.work_changed.raise();
    app.state_changed.raise();
    Ok(())
}

/// Takes the lock from the run that holds it, so that another can start.
///
/// # Errors
///
/// See [`StateError`]; nothing has changed then.
pub async fn unlock(app: &App, pipeline: &str) -> Result<(), StateError> {
    let mut write = app.database.write().await?;
    let defined = defined(&mut write, pipeline).await?;
    let pipeline = defined.name;
    let Some(holder) = state_of(&mut write, &pipeline).await?.locked_by else {
        // A lock from before the definition changed can be taken away as any other.
        return Err(match defined.lock_behavior {
            LockBehavior::None => StateError::NotLockable(pipeline),
            _ => StateError::NotLocked(pipeline),
        });
    };
    let active: Option<(String, i64)> = sqlx::query_as(
        "SELECT stages.name, stages.counter FROM pipeline_runs \
         JOIN stages ON stages.run_id = pipeline_runs.id \
         WHERE lower(pipeline_runs.pipeline) = lower($1) AND pipeline_runs.counter = $2 \
         AND stages.completed_at IS NULL LIMIT 1",
    )
    .bind(&pipeline)
    .bind(holder)
    .fetch_optional(&mut *write)
    .await
    .map_err(DatabaseError::from)?;
    if let Some((stage, counter)) = active {
        let active = format!("{pipeline}/{holder}/{stage}/{counter}");
        return Err(StateError::Active { pipeline, active });
    }
    release(&mut write, &pipeline, holder).await?;
    progression::wake(&mut write, &pipeline, app.now_ms()).await?;
    write.commit().await.map_err(DatabaseError::from)?;
    app.work_changed.raise();
    app.state_changed.raise();
    Ok(())
}

/// Gives a run the lock of its pipeline, unless another has it.
pub(super) async fn take(
    connection: &mut SqliteConnection,
    pipeline: &str,
    counter: i64,
) -> Result<(), DatabaseError> {
    sqlx::query(
        "INSERT INTO pipeline_states (pipeline, locked_by_run) VALUES (lower($1), $2) \
         ON CONFLICT (pipeline) DO UPDATE SET locked_by_run = excluded.locked_by_run \
         WHERE locked_by_run IS NULL",
    )
    .bind(pipeline)
    .bind(counter)
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes the lock of a pipeline from a run, if it has it.
pub(super) async fn release(
    connection: &mut SqliteConnection,
    pipeline: &str,
    counter: i64,
) -> Result<(), DatabaseError> {
    sqlx::query(
        "UPDATE pipeline_states SET locked_by_run = NULL \
         WHERE pipeline = lower($1) AND locked_by_run = $2",
    )
    .bind(pipeline)
    .bind(counter)
    .execute(connection)
    .await?;
    Ok(())
}

async fn defined(
    connection: &mut SqliteConnection,
    pipeline: &str,
) -> Result<Pipeline, StateError> {
    let found = store::pipeline(connection, pipeline).await?;
    found.ok_or_else(|| StateError::Unknown(pipeline.to_owned()))
}

// === impl Pause ===

impl Pause {
    /// The cause as the end of a sentence.
    pub(super) fn because(&self) -> String {
        match self.cause.as_str() {
            "" => String::new(),
            cause => format!(" ({cause})"),
        }
    }
}

// === impl PipelineState ===

impl PipelineState {
    /// The run that keeps this one from running stages, if another holds the lock.
    #[must_use]
    pub fn locked_against(&self, counter: i64) -> Option<i64> {
        self.locked_by.filter(|holder| *holder != counter)
    }
}

impl From<StateRow> for PipelineState {
    fn from(row: StateRow) -> Self {
        Self {
            pause: row.paused_by.map(|by| Pause {
                by,
                cause: row.pause_cause.unwrap_or_default(),
                at: row.paused_at.unwrap_or_default(),
            }),
            locked_by: row.locked_by_run,
        }
    }
}
