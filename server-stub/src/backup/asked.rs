//! Backups that people ask a running server for: one at a time, each with a row that says what came
//! of it.

use std::{path::PathBuf, sync::Arc};

use sqlx::SqliteConnection;

use super::create;
use crate::{App, answer::Chain, database::DatabaseError};

/// A backup that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Asked {
    pub id: i64,
    /// Milliseconds since the epoch.
    pub started_at: i64,
    pub started_by: String,
    /// Where it is, or was to be.
    pub path: String,
    /// `IN_PROGRESS`, `COMPLETED`, `ERROR` or `ABORTED`: the server ended meanwhile.
    pub status: String,
    pub message: String,
}

const COLUMNS: &str = "SELECT id, started_at, started_by, path, status, message FROM backups";

/// Begins a backup; nothing if one is under way.
///
/// # Errors
///
/// The database could not be used; none is begun then.
pub async fn ask(app: &Arc<App>, by: &str) -> Result<Option<i64>, DatabaseError> {
    let now = app.clock.now();
    let mut write = app.database.write().await?;
    if running(&mut write).await?.is_some() {
        return Ok(None);
    }
    let folder = app.paths.backups();
    let id: i64 = sqlx::query_scalar(
        "INSERT INTO backups (started_at, started_by, path, status, message) \
         VALUES ($1, $2, '', 'IN_PROGRESS', 'The backup is being made.') RETURNING id",
    )
    .bind(now.as_millisecond())
    .bind(by)
    .fetch_one(&mut *write)
    .await?;
    let name = now.strftime("backup_%Y%m%d-%H%M%S");
    let place = folder.join(format!("{name}-{id}.tar.zst"));
    // Whoever reads it has another working directory.
    let place = std::path::absolute(&place).unwrap_or(place);
    sqlx::query("UPDATE backups SET path = $2 WHERE id = $1")
        .bind(id)
        .bind(place.display().to_string())
        .execute(&mut *write)
        .await?;
    write.commit().await?;
    app.state_changed.raise();
    app.tasks.spawn(make(Arc::clone(app), id, place));
    Ok(Some(id))
}

async fn make(app: Arc<App>, id: i64, place: PathBuf) {
    let made = tokio::select! {
        made = create(&app.paths, &place, app.clock.now()) => made,
        // The row says so at the next start.
        () = app.stopping.cancelled() => return,
    };
    let (status, message) = match made {
        Ok(made) if made.missing.is_empty() => {
            let message = format!("Backup was generated successfully: {} files.", made.files);
            ("COMPLETED", message)
        }
        Ok(made) => {
            let missing = made.missing.len();
            let message = format!(
                "Backup was generated successfully: {} files. {missing} files that the database speaks of were not on the disk.",
                made.files
            );
            ("COMPLETED", message)
        }
        Err(error) => {
            tracing::error!(id, cause = %Chain(&error), "a backup has failed");
            (
                "ERROR",
                format!("Failed to perform backup: {}", Chain(&error)),
            )
        }
    };
    if let Err(error) = end(&app, id, status, &message).await {
        tracing::error!(id, cause = %Chain(&error), "what came of a backup could not be recorded");
    }
    app.state_changed.raise();
}

async fn end(app: &App, id: i64, status: &str, message: &str) -> Result<(), DatabaseError> {
    let mut write = app.database.write().await?;
    sqlx::query("UPDATE backups SET status = $2, message = $3 WHERE id = $1")
        .bind(id)
        .bind(status)
        .bind(message)
        .execute(&mut *write)
        .await?;
    write.commit().await?;
    Ok(())
}

/// At start: what was under way is so no more.
pub(crate) async fn server_started(connection: &mut SqliteConnection) -> Result<(), DatabaseError> {
    sqlx::query(
        "UPDATE backups SET status = 'ABORTED', message = 'The server ended while the backup was made.' \
         WHERE status = 'IN_PROGRESS'",
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The one that is under way.
///
/// # Errors
///
/// The database could not be read.
pub async fn running(connection: &mut SqliteConnection) -> Result<Option<Asked>, DatabaseError> {
    let statement = format!("{COLUMNS} WHERE status = 'IN_PROGRESS' ORDER BY id DESC");
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(statement))
        .fetch_optional(connection)
        .await?)
}

/// One of them.
///
/// # Errors
///
/// The database could not be read.
pub async fn find(
    connection: &mut SqliteConnection,
    id: i64,
) -> Result<Option<Asked>, DatabaseError> {
    let statement = format!("{COLUMNS} WHERE id = $1");
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(statement))
        .bind(id)
        .fetch_optional(connection)
        .await?)
}

/// The newest first.
///
/// # Errors
///
/// The database could not be read.
pub async fn latest(
    connection: &mut SqliteConnection,
    most: i64,
) -> Result<Vec<Asked>, DatabaseError> {
    let statement = format!("{COLUMNS} ORDER BY id DESC LIMIT $1");
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(statement))
        .bind(most)
        .fetch_all(connection)
        .await?)
}
