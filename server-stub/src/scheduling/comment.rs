//! What people remark about a run.

use crate::App;
use crate::database::DatabaseError;

/// Why a comment was not kept.
#[derive(Debug, thiserror::Error)]
pub enum CommentError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("there is no run {pipeline}/{counter}")]
    UnknownRun { pipeline: String, counter: i64 },
}

/// Puts a comment on a run, in the place of an earlier one; an empty one takes it away.
///
/// # Errors
///
/// See [`CommentError`]; nothing has changed then.
pub async fn comment(
    app: &App,
    pipeline: &str,
    counter: i64,
    text: &str,
) -> Result<(), CommentError> {
    let mut write = app.database.write().await?;
    let changed = sqlx::query(
        "UPDATE pipeline_runs SET comment = $3 WHERE lower(pipeline) = lower($1) AND counter = $2",
    )
    .bind(pipeline)
    .bind(counter)
    .bind(Some(text).filter(|text| !text.is_empty()))
    .execute(&mut *write)
    .await
    .map_err(DatabaseError::from)?;
    if changed.rows_affected() == 0 {
        return Err(CommentError::UnknownRun {
            pipeline: pipeline.to_owned(),
            counter,
        });
    }
    write.commit().await.map_err(DatabaseError::from)?;
    app.state_changed.raise();
    Ok(())
}
