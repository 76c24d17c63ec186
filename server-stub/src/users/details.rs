//! What users say about themselves.

use serde::Serialize;
use sqlx::SqliteConnection;

use crate::{
    database::DatabaseError,
    pipelines::store::{decode, encode},
};

/// Where a user can be reached, and by which names they commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Details {
    pub email: Option<String>,
    /// Whether the user wants mail. This server sends none.
    pub email_me: bool,
    /// Names in commits that are this user.
    pub checkin_aliases: Vec<String>,
}

/// What a user has said; also one of the password file.
pub async fn of(connection: &mut SqliteConnection, name: &str) -> Result<Details, DatabaseError> {
    let row: Option<(Option<String>, bool, String)> = sqlx::query_as(
        "SELECT email, email_me, checkin_aliases FROM user_details WHERE user_name = $1",
    )
    .bind(name)
    .fetch_optional(connection)
    .await?;
    let Some((email, email_me, aliases)) = row else {
        return Ok(Details::default());
    };
    Ok(Details {
        email,
        email_me,
        checkin_aliases: decode("the aliases of a user", &aliases)?,
    })
}

/// Puts this in the place of what the user has said before.
pub async fn set(
    connection: &mut SqliteConnection,
    name: &str,
    details: &Details,
) -> Result<(), DatabaseError> {
    sqlx::query(
        "INSERT INTO user_details (user_name, email, email_me, checkin_aliases) \
         VALUES ($1, $2, $3, $4) ON CONFLICT (user_name) DO UPDATE SET email = excluded.email, \
         email_me = excluded.email_me, checkin_aliases = excluded.checkin_aliases",
    )
    .bind(name)
    .bind(&details.email)
    .bind(details.email_me)
    .bind(encode(&details.checkin_aliases)?)
    .execute(connection)
    .await?;
    Ok(())
}
