//! Sessions of pages: a random cookie, stored as a digest.

use sqlx::SqliteConnection;

use super::secret;
use crate::database::DatabaseError;

/// GoCD's name of the cookie.
pub(super) const COOKIE: &str = "JSESSIONID";
/// Milliseconds without a request after which a session is over: 12 hours.
pub(super) const IDLE: i64 = 12 * 3600 * 1000;
/// Milliseconds after which it is over in any case: 7 days.
pub(super) const LONGEST: i64 = 7 * 24 * 3600 * 1000;
/// Milliseconds between two notes that a session is in use.
const USE_NOTED: i64 = 60_000;

/// A session that is not over.
pub(super) struct Session {
    pub(super) user_name: String,
    pub(super) credential: String,
    /// Whether [`note_use`] should be called.
    pub(super) worth_noting: bool,
}

/// Opens a session. Its id is new whatever the browser sent before, so that nobody can have given
/// it to the browser.
pub(super) async fn open(
    connection: &mut SqliteConnection,
    id: &str,
    user: &str,
    password_hash: &str,
    now: i64,
) -> Result<(), DatabaseError> {
    sqlx::query("DELETE FROM sessions WHERE used_at <= $1 OR started_at <= $2")
        .bind(now - IDLE)
        .bind(now - LONGEST)
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "INSERT INTO sessions (id_hash, user_name, credential, started_at, used_at) VALUES ($1, $2, $3, $4, $4)",
    )
    .bind(secret::digest_of(id))
    .bind(user)
    .bind(credential(password_hash))
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// The session with this id.
pub(super) async fn find(
    connection: &mut SqliteConnection,
    id: &str,
    now: i64,
) -> Result<Option<Session>, DatabaseError> {
    let row: Option<(String, String, i64)> = sqlx::query_as(
        "SELECT user_name, credential, used_at FROM sessions WHERE id_hash = $1 AND used_at > $2 AND started_at > $3",
    )
    .bind(secret::digest_of(id))
    .bind(now - IDLE)
    .bind(now - LONGEST)
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|(user_name, credential, used_at)| Session {
        user_name,
        credential,
        worth_noting: now >= used_at + USE_NOTED,
    }))
}

/// Notes that a session is in use.
pub(super) async fn note_use(
    connection: &mut SqliteConnection,
    id: &str,
    now: i64,
) -> Result<(), DatabaseError> {
    sqlx::query("UPDATE sessions SET used_at = $2 WHERE id_hash = $1")
        .bind(secret::digest_of(id))
        .bind(now)
        .execute(connection)
        .await?;
    Ok(())
}

/// Ends a session.
pub(super) async fn close(
    connection: &mut SqliteConnection,
    id: &str,
) -> Result<(), DatabaseError> {
    sqlx::query("DELETE FROM sessions WHERE id_hash = $1")
        .bind(secret::digest_of(id))
        .execute(connection)
        .await?;
    Ok(())
}

/// What a session remembers of the password it was opened with.
pub(super) fn credential(password_hash: &str) -> String {
    secret::derived(password_hash, "session")
}

/// What forms of a session must hold. Another site cannot know it.
pub(super) fn form_token(id: &str) -> String {
    secret::derived(id, "form")
}
