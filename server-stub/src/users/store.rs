//! Users and their roles, as the database keeps them.

use sqlx::SqliteConnection;

use super::{EVERY_GROUP, Grant, LOCAL, NOBODY, Rights, tokens};
use crate::database::DatabaseError;

/// The longest name of a user, in bytes.
const LONGEST_NAME: usize = 64;

/// What stands before the digest of no password: random text, which no password leads to, and which
/// sessions end with as with another password.
pub(super) const NO_PASSWORD: char = '!';

/// A user whose password is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub password_hash: String,
    pub created_at: i64,
}

impl User {
    /// Whether there is one; else only a provider lets the user in.
    pub fn has_password(&self) -> bool {
        !self.password_hash.starts_with(NO_PASSWORD)
    }
}

/// A text that cannot be the name of a user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` cannot be the name of a user: use up to {LONGEST_NAME} letters (a to z), digits, `-`, `_`, `.` and `@`, \
     beginning with a letter or digit, and neither `{LOCAL}` nor `{NOBODY}`"
)]
pub struct NameError(String);

/// The name as it is stored: in lower case.
///
/// # Errors
///
/// See [`NameError`].
pub fn valid_name(given: &str) -> Result<String, NameError> {
    let name = given.to_ascii_lowercase();
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    let reserved = name == LOCAL || name == NOBODY;
    if !begins || name.len() > LONGEST_NAME || !name.chars().all(letters) || reserved {
        return Err(NameError(given.chars().take(LONGEST_NAME).collect()));
    }
    Ok(name)
}

/// A user, if the password is here.
pub async fn find(
    connection: &mut SqliteConnection,
    name: &str,
) -> Result<Option<User>, DatabaseError> {
    let row: Option<(String, String, i64)> =
        sqlx::query_as("SELECT name, password_hash, created_at FROM users WHERE name = $1")
            .bind(name)
            .fetch_optional(connection)
            .await?;
    Ok(row.map(user))
}

/// All users whose passwords are here, by name.
pub async fn list(connection: &mut SqliteConnection) -> Result<Vec<User>, DatabaseError> {
    let rows: Vec<(String, String, i64)> =
        sqlx::query_as("SELECT name, password_hash, created_at FROM users ORDER BY name")
            .fetch_all(connection)
            .await?;
    Ok(rows.into_iter().map(user).collect())
}

fn user((name, password_hash, created_at): (String, String, i64)) -> User {
    User {
        name,
        password_hash,
        created_at,
    }
}

/// Makes a user, or gives one another password; open sessions end by that.
pub async fn set_password(
    connection: &mut SqliteConnection,
    name: &str,
    password_hash: &str,
    now: i64,
) -> Result<(), DatabaseError> {
    sqlx::query(
        "INSERT INTO users (name, password_hash, created_at) VALUES ($1, $2, $3) \
         ON CONFLICT (name) DO UPDATE SET password_hash = excluded.password_hash",
    )
    .bind(name)
    .bind(password_hash)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets a user with roles, sessions, and for good all access tokens. Returns whether there was
/// anything to forget.
pub async fn remove(
    connection: &mut SqliteConnection,
    name: &str,
    by: &str,
    now: i64,
) -> Result<bool, DatabaseError> {
    tokens::revoke_all(connection, name, by, now).await?;
    let mut removed = 0;
    for statement in [
        "DELETE FROM sessions WHERE user_name = $1",
        "DELETE FROM user_roles WHERE user_name = $1",
        "DELETE FROM user_details WHERE user_name = $1",
        "DELETE FROM identities WHERE user_name = $1",
        "DELETE FROM users WHERE name = $1",
    ] {
        removed += sqlx::query(statement)
            .bind(name)
            .execute(&mut *connection)
            .await?
            .rows_affected();
    }
    Ok(removed > 0)
}

/// What a user may do, also one of the password file.
pub async fn rights(
    connection: &mut SqliteConnection,
    name: &str,
) -> Result<Rights, DatabaseError> {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT group_name, role FROM user_roles WHERE user_name = $1 ORDER BY group_name",
    )
    .bind(name)
    .fetch_all(connection)
    .await?;
    let grants = rows.into_iter().map(|(group, role)| {
        let role = role.parse();
        let role = role.map_err(|error| DatabaseError::content("a user's role", error))?;
        Ok::<_, DatabaseError>(Grant { role, group })
    });
    Ok(Rights::new(grants.collect::<Result<_, _>>()?))
}

/// Gives a user these roles in place of all others. Of several in one group the greatest counts.
pub async fn set_rights(
    connection: &mut SqliteConnection,
    name: &str,
    grants: &[Grant],
) -> Result<(), DatabaseError> {
    sqlx::query("DELETE FROM user_roles WHERE user_name = $1")
        .bind(name)
        .execute(&mut *connection)
        .await?;
    let mut grants: Vec<&Grant> = grants.iter().collect();
    grants.sort_by_key(|grant| grant.role);
    for grant in grants {
        let group = match grant.group.trim() {
            "" => EVERY_GROUP.to_owned(),
            group => group.to_lowercase(),
        };
        sqlx::query(
            "INSERT INTO user_roles (user_name, group_name, role) VALUES ($1, $2, $3) \
             ON CONFLICT (user_name, group_name) DO UPDATE SET role = excluded.role",
        )
        .bind(name)
        .bind(group)
        .bind(grant.role.name())
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_letters_in_lower_case() {
        assert_eq!(valid_name("Ann.O@example").unwrap(), "ann.o@example");
        for bad in [
            "",
            "-x",
            "a b",
            "ä",
            "Local",
            "anonymous",
            "a/b",
            &"x".repeat(65),
        ] {
            assert!(valid_name(bad).is_err(), "{bad}");
        }
    }
}
