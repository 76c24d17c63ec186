//! Who changed what: a row and a line of the log for each change that a person made.

use std::{
    future::Future,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use sqlx::SqliteConnection;

use crate::{App, answer::Chain, database::DatabaseError};

/// The longest detail that is kept, in characters.
const LONGEST: usize = 1000;

tokio::task_local! {
    /// The change that the current request makes.
    static CHANGE: Change;
}

/// Who changes what, and what the handler has to say about it.
struct Change {
    entry: Option<New>,
    said: Mutex<Said>,
}

/// What is known before a change is made.
#[derive(Clone, Debug)]
pub(super) struct New {
    /// Milliseconds since the epoch.
    pub(super) at: i64,
    pub(super) actor: String,
    pub(super) address: IpAddr,
    pub(super) action: String,
}

/// What came of a request.
#[derive(Debug, Default)]
pub(super) struct Said {
    detail: String,
    /// The row that was written with the change.
    row: Option<i64>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow, serde::Serialize)]
pub struct Entry {
    pub id: i64,
    /// Milliseconds since the Unix epoch.
    pub at: i64,
    pub actor: String,
    pub address: String,
    /// Method and path, or words.
    pub action: String,
    /// The status of the answer: a change that was refused for want of rights is here as well. 0 if the
    /// server ended before it answered.
    pub status: i64,
    pub detail: String,
}

/// Says more about the change that the current request makes than its path does. Never a secret.
pub fn detail(text: impl Into<String>) {
    // Without a request there is nobody to say it of.
    let _ = CHANGE.try_with(|change| change.said().detail = text.into());
}

impl Change {
    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a request. If it is one that changes something, its row is written with the first of its
/// changes to the database.
pub(super) async fn listening<T>(
    entry: Option<New>,
    request: impl Future<Output = T>,
) -> (T, Said) {
    let change = Change {
        entry,
        said: Mutex::default(),
    };
    let request = async {
        let done = request.await;
        (
            done,
            CHANGE.with(|change| std::mem::take(&mut *change.said())),
        )
    };
    CHANGE.scope(change, request).await
}

/// Writes the row of the current request into the transaction that is about to be committed, once.
/// Answers whether it did; if it did, [`undone`] has to hear of a commit that fails.
pub(crate) async fn accompany(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    let entry = CHANGE.try_with(|change| {
        let entry = change
            .entry
            .as_ref()
            .filter(|_| change.said().row.is_none());
        entry.cloned()
    });
    let Ok(Some(entry)) = entry else {
        return Ok(false);
    };
    let row = insert(connection, &entry, 0, "").await?;
    let _ = CHANGE.try_with(|change| change.said().row = Some(row));
    Ok(true)
}

/// The transaction that had the row of the current request was undone.
pub(crate) fn undone() {
    let _ = CHANGE.try_with(|change| change.said().row = None);
}

async fn insert(
    connection: &mut SqliteConnection,
    entry: &New,
    status: u16,
    detail: &str,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "INSERT INTO audit (at, actor, address, action, status, detail) VALUES ($1, $2, $3, $4, $5, $6) RETURNING id",
    )
    .bind(entry.at)
    .bind(&entry.actor)
    .bind(entry.address.to_string())
    .bind(&entry.action)
    .bind(i64::from(status))
    .bind(detail)
    .fetch_one(connection)
    .await
}

/// Records what a transaction changes, in it.
pub(super) async fn record_in(
    connection: &mut SqliteConnection,
    entry: &New,
    status: u16,
    detail: &str,
) -> Result<(), DatabaseError> {
    let detail = shortened(detail);
    insert(connection, entry, status, &detail).await?;
    log(entry, status, &detail);
    Ok(())
}

/// Records how a request has ended. A change that was made outside of the database, and one that was
/// refused, has its row from here only.
pub(super) async fn ended(app: &App, entry: &New, said: &Said, status: u16) {
    let detail = shortened(&said.detail);
    log(entry, status, &detail);
    let recorded = async {
        let mut write = app.database.write().await?;
        match said.row {
            Some(row) => {
                sqlx::query("UPDATE audit SET status = $2, detail = $3 WHERE id = $1")
                    .bind(row)
                    .bind(i64::from(status))
                    .bind(&detail)
                    .execute(&mut *write)
                    .await?;
            }
            None => {
                insert(&mut write, entry, status, &detail).await?;
            }
        }
        write.commit().await?;
        Ok::<_, DatabaseError>(())
    };
    if let Err(error) = recorded.await {
        tracing::error!(cause = %Chain(&error), "how a change has ended could not be recorded in the audit log");
    }
}

fn shortened(detail: &str) -> String {
    detail.chars().take(LONGEST).collect()
}

fn log(entry: &New, status: u16, detail: &str) {
    let New {
        actor,
        address,
        action,
        ..
    } = entry;
    tracing::info!(target: "journeyman_server::audit", actor = ?actor, %address, action = ?action, status, detail = ?detail, "changed");
}

impl Said {
    /// Whether something in the database was changed.
    pub(super) fn has_changed(&self) -> bool {
        self.row.is_some()
    }
}

/// The newest changes first, from before the one with this id if one is given.
pub async fn list(
    connection: &mut SqliteConnection,
    before: Option<i64>,
    most: i64,
) -> Result<Vec<Entry>, DatabaseError> {
    Ok(sqlx::query_as(
        "SELECT id, at, actor, address, action, status, detail FROM audit \
         WHERE $1 IS NULL OR id < $1 ORDER BY id DESC LIMIT $2",
    )
    .bind(before)
    .bind(most)
    .fetch_all(connection)
    .await?)
}
