//! The table `modifications`.

use journeyman_protocol::revision::ModifiedAction;
use serde::{Deserialize, Serialize};
use sqlx::SqliteConnection;

use crate::database::DatabaseError;
use crate::pipelines::git::Commit;
use crate::pipelines::store::{decode, encode};

/// Modifications attached to one run. GoCD has no limit; a run after years of silence needs one.
pub const MODIFICATIONS_OF_A_RUN: i64 = 500;

/// Digits of the shortest abbreviation of a revision.
const SHORTEST_ABBREVIATION: usize = 7;

const COLUMNS: &str = "position, revision, user_name, email, comment, modified_at";

/// A commit that was seen. Those of one material are ordered by `position`.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Modification {
    pub position: i64,
    pub revision: String,
    /// Author, as `Name <address>`.
    pub user_name: String,
    pub email: String,
    pub comment: String,
    /// Milliseconds since the epoch.
    pub modified_at: i64,
}

/// A file that a commit has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// With `/`, from the root of the repository.
    pub path: String,
    pub action: ModifiedAction,
}

/// The files that several commits have changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    pub known: Vec<File>,
    /// So many more, which were not stored.
    pub more: i64,
}

/// Where the branch is, as far as it was seen.
pub async fn head(
    connection: &mut SqliteConnection,
    fingerprint: &str,
) -> Result<Option<Modification>, DatabaseError> {
    let found = between(connection, fingerprint, None, i64::MAX, 1).await?;
    Ok(found.into_iter().next())
}

/// A revision that was seen, also by an abbreviation that is long enough and stands for one only.
pub async fn find(
    connection: &mut SqliteConnection,
    fingerprint: &str,
    revision: &str,
) -> Result<Option<Modification>, DatabaseError> {
    let revision = revision.to_ascii_lowercase();
    let statement = format!(
        "SELECT {COLUMNS} FROM modifications WHERE fingerprint = $1 AND revision >= $2 \
         AND revision < $3 ORDER BY position DESC LIMIT 2"
    );
    // Hexadecimal digits are all less than this.
    let end = format!("{revision}g");
    let found: Vec<Modification> = sqlx::query_as(sqlx::AssertSqlSafe(statement))
        .bind(fingerprint)
        .bind(&revision)
        .bind(end)
        .fetch_all(connection)
        .await?;
    let one = match &found[..] {
        [one] => Some(one),
        [one, other] if one.revision == other.revision => Some(one),
        _ => None,
    };
    let long_enough = revision.len() >= SHORTEST_ABBREVIATION;
    Ok(one
        .filter(|one| long_enough || one.revision == revision)
        .cloned())
}

/// What came after one position, up to another, newest first.
pub async fn between(
    connection: &mut SqliteConnection,
    fingerprint: &str,
    after: Option<i64>,
    to: i64,
    limit: i64,
) -> Result<Vec<Modification>, DatabaseError> {
    let statement = format!(
        "SELECT {COLUMNS} FROM modifications WHERE fingerprint = $1 AND position > $2 \
         AND position <= $3 ORDER BY position DESC LIMIT $4"
    );
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(statement))
        .bind(fingerprint)
        .bind(after.unwrap_or(i64::MIN))
        .bind(to)
        .bind(limit)
        .fetch_all(connection)
        .await?)
}

/// The files of what came after one position, up to another.
pub async fn files_between(
    connection: &mut SqliteConnection,
    fingerprint: &str,
    after: Option<i64>,
    to: i64,
) -> Result<Files, DatabaseError> {
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "SELECT files, more_files FROM modifications WHERE fingerprint = $1 AND position > $2 \
         AND position <= $3 ORDER BY position DESC LIMIT $4",
    )
    .bind(fingerprint)
    .bind(after.unwrap_or(i64::MIN))
    .bind(to)
    .bind(MODIFICATIONS_OF_A_RUN)
    .fetch_all(connection)
    .await?;
    let mut files = Files::default();
    for (known, more) in rows {
        let known: Vec<File> = decode("the files of a modification", &known)?;
        files.known.extend(known);
        files.more += more;
    }
    Ok(files)
}

/// Stores what is new, given newest first.
pub(super) async fn append(
    connection: &mut SqliteConnection,
    fingerprint: &str,
    commits: &[Commit],
) -> Result<(), DatabaseError> {
    let last: Option<i64> =
        sqlx::query_scalar("SELECT MAX(position) FROM modifications WHERE fingerprint = $1")
            .bind(fingerprint)
            .fetch_one(&mut *connection)
            .await?;
    let first = last.unwrap_or(0) + 1;
    for (position, commit) in (first..).zip(commits.iter().rev()) {
        sqlx::query(
            "INSERT INTO modifications (fingerprint, position, revision, user_name, email, \
             comment, modified_at, files, more_files) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(fingerprint)
        .bind(position)
        .bind(&commit.revision)
        .bind(&commit.author)
        .bind(&commit.email)
        .bind(&commit.message)
        .bind(commit.seconds.saturating_mul(1000))
        .bind(encode(&commit.files)?)
        .bind(commit.more_files)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// From where a page goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// The newest.
    Start,
    /// Older than this position.
    After(i64),
    /// Newer than this position.
    Before(i64),
}

/// A part of a list, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub items: Vec<Modification>,
    /// Whether there are newer ones.
    pub newer: bool,
    /// Whether there are older ones.
    pub older: bool,
}

/// What was seen of a git material, a page of it; none if the fingerprint is that of nothing that
/// was ever seen.
pub async fn modifications(
    connection: &mut SqliteConnection,
    fingerprint: &str,
    cursor: Cursor,
    limit: i64,
) -> Result<Option<Page>, DatabaseError> {
    let ends: (Option<i64>, Option<i64>) = sqlx::query_as(
        "SELECT MIN(position), MAX(position) FROM modifications WHERE fingerprint = $1",
    )
    .bind(fingerprint)
    .fetch_one(&mut *connection)
    .await?;
    let (Some(oldest), Some(newest)) = ends else {
        return Ok(None);
    };
    let (after, to) = match cursor {
        Cursor::Start => (None, newest),
        Cursor::After(position) => (None, position.saturating_sub(1)),
        // Positions have no gaps.
        Cursor::Before(position) => (Some(position), position.saturating_add(limit)),
    };
    let items = between(connection, fingerprint, after, to, limit).await?;
    let reaches = |end: i64| items.iter().any(|one| one.position == end);
    Ok(Some(Page {
        newer: !items.is_empty() && !reaches(newest),
        older: !items.is_empty() && !reaches(oldest),
        items,
    }))
}
