//! Runs that are kept whatever the limits say.

use std::collections::HashMap;

use sqlx::SqliteConnection;

use crate::{App, database::DatabaseError};

/// The longest reason, in characters.
pub const LONGEST_REASON: usize = 1000;

/// A run that is kept.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, sqlx::FromRow)]
pub struct Pin {
    pub pipeline: String,
    pub counter: i64,
    pub label: String,
    pub pinned_by: String,
    pub reason: String,
    /// Milliseconds since the epoch.
    pub pinned_at: i64,
}

/// A run was not pinned or unpinned.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("there is no run {pipeline}/{counter}")]
    Unknown { pipeline: String, counter: i64 },
}

/// Keeps a run; one that is kept already gets the new reason.
///
/// # Errors
///
/// There is no such run, or the database could not be used.
pub async fn pin(
    app: &App,
    pipeline: &str,
    counter: i64,
    user: &str,
    reason: &str,
) -> Result<(), PinError> {
    let mut write = app.database.write().await?;
    let run = find(&mut write, pipeline, counter).await?;
    sqlx::query(
        "INSERT INTO pinned_runs (run_id, pinned_by, reason, pinned_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (run_id) DO UPDATE SET pinned_by = excluded.pinned_by, reason = excluded.reason, \
         pinned_at = excluded.pinned_at",
    )
    .bind(run)
    .bind(user)
    .bind(reason)
    .bind(app.now_ms())
    .execute(&mut *write)
    .await
    .map_err(DatabaseError::from)?;
    write.commit().await.map_err(DatabaseError::from)?;
    app.state_changed.raise();
    Ok(())
}

/// Lets a run go like any other.
///
/// # Errors
///
/// There is no such run, or the database could not be used.
pub async fn unpin(app: &App, pipeline: &str, counter: i64) -> Result<(), PinError> {
    let mut write = app.database.write().await?;
    let run = find(&mut write, pipeline, counter).await?;
    sqlx::query("DELETE FROM pinned_runs WHERE run_id = $1")
        .bind(run)
        .execute(&mut *write)
        .await
        .map_err(DatabaseError::from)?;
    write.commit().await.map_err(DatabaseError::from)?;
    app.state_changed.raise();
    Ok(())
}

/// Those of some runs that are kept, by their id.
///
/// # Errors
///
/// The database could not be read.
pub async fn pins_of(
    connection: &mut SqliteConnection,
    runs: &[i64],
) -> Result<HashMap<i64, Pin>, DatabaseError> {
    #[derive(sqlx::FromRow)]
    struct Row {
        run_id: i64,
        #[sqlx(flatten)]
        pin: Pin,
    }
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT run.id AS run_id, run.pipeline, run.counter, run.label, pin.pinned_by, pin.reason, pin.pinned_at \
         FROM pinned_runs pin JOIN pipeline_runs run ON run.id = pin.run_id \
         WHERE pin.run_id IN (SELECT value FROM json_each($1))",
    )
    .bind(serde_json::json!(runs).to_string())
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.run_id, row.pin)).collect())
}

/// All runs that are kept, by pipeline, the newest first.
///
/// # Errors
///
/// The database could not be read.
pub async fn pinned(connection: &mut SqliteConnection) -> Result<Vec<Pin>, DatabaseError> {
    Ok(sqlx::query_as(
        "SELECT run.pipeline, run.counter, run.label, pin.pinned_by, pin.reason, pin.pinned_at \
         FROM pinned_runs pin JOIN pipeline_runs run ON run.id = pin.run_id \
         ORDER BY lower(run.pipeline), run.counter DESC",
    )
    .fetch_all(connection)
    .await?)
}

async fn find(
    connection: &mut SqliteConnection,
    pipeline: &str,
    counter: i64,
) -> Result<i64, PinError> {
    let found: Option<i64> = sqlx::query_scalar(
        "SELECT id FROM pipeline_runs WHERE lower(pipeline) = lower($1) AND counter = $2",
    )
    .bind(pipeline)
    .bind(counter)
    .fetch_optional(connection)
    .await
    .map_err(DatabaseError::from)?;
    found.ok_or_else(|| PinError::Unknown {
        pipeline: pipeline.to_owned(),
        counter,
    })
}
