//! Access tokens: shown once when they are made, stored as digests, revoked for good.

use sqlx::SqliteConnection;

use super::secret::{self, NoRandomness};
use crate::database::DatabaseError;

/// Milliseconds between two notes of when a token was used.
const USE_NOTED: i64 = 60_000;

/// What is known of a token; not the token.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct AccessToken {
    pub id: i64,
    pub user_name: String,
    pub description: String,
    pub created_at: i64,
    pub last_used_at: Option<i64>,
    pub revoked_at: Option<i64>,
    pub revoked_by: Option<String>,
    pub revoke_cause: Option<String>,
    pub user_removed: bool,
}

/// Which tokens to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    Active,
    Revoked,
    All,
}

/// Why there is no new token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
}

const COLUMNS: &str = "SELECT id, user_name, description, created_at, last_used_at, revoked_at, revoked_by, \
                       revoke_cause, user_removed FROM access_tokens";

/// Makes a token. The text is nowhere else.
///
/// # Errors
///
/// See [`TokenError`].
pub async fn create(
    connection: &mut SqliteConnection,
    user: &str,
    description: &str,
    now: i64,
) -> Result<(AccessToken, String), TokenError> {
    let text = secret::new()?;
    let id: i64 = sqlx::query_scalar(
        "INSERT INTO access_tokens (user_name, description, token_hash, created_at) VALUES ($1, $2, $3, $4) RETURNING id",
    )
    .bind(user)
    .bind(description)
    .bind(secret::digest_of(&text))
    .bind(now)
    .fetch_one(connection)
    .await
    .map_err(DatabaseError::from)?;
    let token = AccessToken {
        id,
        user_name: user.to_owned(),
        description: description.to_owned(),
        created_at: now,
        last_used_at: None,
        revoked_at: None,
        revoked_by: None,
        revoke_cause: None,
        user_removed: false,
    };
    Ok((token, text))
}

/// The token with this text, unless it is revoked.
pub(super) async fn with_text(
    connection: &mut SqliteConnection,
    text: &str,
) -> Result<Option<AccessToken>, DatabaseError> {
    let statement = format!("{COLUMNS} WHERE token_hash = $1 AND revoked_at IS NULL");
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(statement))
        .bind(secret::digest_of(text))
        .fetch_optional(connection)
        .await?)
}

/// Whether the use of a token should be noted again.
pub(super) fn is_use_worth_noting(token: &AccessToken, now: i64) -> bool {
    token
        .last_used_at
        .is_none_or(|last| now >= last + USE_NOTED)
}

/// Notes that a token was used.
pub(super) async fn note_use(
    connection: &mut SqliteConnection,
    id: i64,
    now: i64,
) -> Result<(), DatabaseError> {
    sqlx::query("UPDATE access_tokens SET last_used_at = $2 WHERE id = $1")
        .bind(id)
        .bind(now)
        .execute(connection)
        .await?;
    Ok(())
}

/// The tokens of a user, or of all.
pub async fn list(
    connection: &mut SqliteConnection,
    user: Option<&str>,
    filter: Filter,
) -> Result<Vec<AccessToken>, DatabaseError> {
    let which = match filter {
        Filter::Active => "revoked_at IS NULL",
        Filter::Revoked => "revoked_at IS NOT NULL",
        Filter::All => "1 = 1",
    };
    let statement =
        format!("{COLUMNS} WHERE {which} AND ($1 IS NULL OR user_name = $1) ORDER BY id");
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(statement))
        .bind(user)
        .fetch_all(connection)
        .await?)
}

/// One token, of a user or of anybody.
pub async fn find(
    connection: &mut SqliteConnection,
    user: Option<&str>,
    id: i64,
) -> Result<Option<AccessToken>, DatabaseError> {
    let statement = format!("{COLUMNS} WHERE id = $2 AND ($1 IS NULL OR user_name = $1)");
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(statement))
        .bind(user)
        .bind(id)
        .fetch_optional(connection)
        .await?)
}

/// Revokes a token. Returns whether it was not revoked before.
pub async fn revoke(
    connection: &mut SqliteConnection,
    id: i64,
    by: &str,
    cause: &str,
    now: i64,
) -> Result<bool, DatabaseError> {
    let done = sqlx::query(
        "UPDATE access_tokens SET revoked_at = $2, revoked_by = $3, revoke_cause = $4 \
         WHERE id = $1 AND revoked_at IS NULL",
    )
    .bind(id)
    .bind(now)
    .bind(by)
    .bind(cause)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Revokes all tokens of a user who is removed.
pub(super) async fn revoke_all(
    connection: &mut SqliteConnection,
    user: &str,
    by: &str,
    now: i64,
) -> Result<(), DatabaseError> {
    sqlx::query(
        "UPDATE access_tokens SET revoked_at = $2, revoked_by = $3, revoke_cause = 'the user was removed', \
         user_removed = 1 WHERE user_name = $1 AND revoked_at IS NULL",
    )
    .bind(user)
    .bind(now)
    .bind(by)
    .execute(connection)
    .await?;
    Ok(())
}
