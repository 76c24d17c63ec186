//! For which users an OpenID provider vouches, and whom it means by them.
//!
//! What a provider calls somebody can change hands; its subject cannot. So a user is bound to the
//! subject that signs in first, and nobody becomes a user who is there already, with a password
//! say, unless an admin has said that the provider vouches for that user.

use sqlx::SqliteConnection;

use super::{
    secret::{self, NoRandomness},
    store,
};
use crate::database::DatabaseError;

/// Somebody at a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) issuer: String,
    pub(super) subject: String,
}

/// What is known of a user in this respect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// The provider does not vouch for this user.
    None,
    /// It does, and nobody has signed in yet.
    Open,
    Bound,
}

/// The user whom a subject is bound to.
pub(super) async fn user_of(
    connection: &mut SqliteConnection,
    who: &Subject,
) -> Result<Option<String>, DatabaseError> {
    Ok(
        sqlx::query_scalar("SELECT user_name FROM identities WHERE issuer = $1 AND subject = $2")
            .bind(&who.issuer)
            .bind(&who.subject)
            .fetch_optional(connection)
            .await?,
    )
}

/// Whether a provider vouches for a user.
pub(crate) async fn of(
    connection: &mut SqliteConnection,
    user: &str,
) -> Result<Identity, DatabaseError> {
    let subject: Option<Option<String>> =
        sqlx::query_scalar("SELECT subject FROM identities WHERE user_name = $1")
            .bind(user)
            .fetch_optional(connection)
            .await?;
    Ok(match subject {
        None => Identity::None,
        Some(None) => Identity::Open,
        Some(Some(_)) => Identity::Bound,
    })
}

/// Lets the provider vouch for a user: whoever it calls so next, also in place of who was before.
pub(crate) async fn allow(
    connection: &mut SqliteConnection,
    user: &str,
) -> Result<(), DatabaseError> {
    sqlx::query(
        "INSERT INTO identities (user_name) VALUES ($1) \
         ON CONFLICT (user_name) DO UPDATE SET issuer = NULL, subject = NULL",
    )
    .bind(user)
    .execute(connection)
    .await?;
    Ok(())
}

/// From now on this subject is the user.
pub(super) async fn bind(
    connection: &mut SqliteConnection,
    user: &str,
    who: &Subject,
) -> Result<(), DatabaseError> {
    sqlx::query(
        "INSERT INTO identities (user_name, issuer, subject) VALUES ($1, $2, $3) \
         ON CONFLICT (user_name) DO UPDATE SET issuer = excluded.issuer, subject = excluded.subject",
    )
    .bind(user)
    .bind(&who.issuer)
    .bind(&who.subject)
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends it, and the user's sessions.
pub(crate) async fn forbid(
    connection: &mut SqliteConnection,
    user: &str,
) -> Result<(), DatabaseError> {
    for statement in [
        "DELETE FROM identities WHERE user_name = $1",
        "DELETE FROM sessions WHERE user_name = $1",
    ] {
        sqlx::query(statement)
            .bind(user)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Makes a user who has no password, and so can only sign in.
pub(crate) async fn create(
    connection: &mut SqliteConnection,
    user: &str,
    now: i64,
) -> Result<(), CreateError> {
    let hash = format!("{}{}", store::NO_PASSWORD, secret::new()?);
    store::set_password(connection, user, &hash, now).await?;
    Ok(())
}

/// Why a user could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CreateError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
}
