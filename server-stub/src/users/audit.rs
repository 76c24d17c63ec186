//! Who changed what: a row and a line of the log for each change that a person made.

use std::{
    future::Future,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use sqlx::SqliteConnection;

use crate::{App, answer::Chain, database::DatabaseError};

/// The longest detail that is kept, in characters.
const LONGEST: usize = 1000;

tokio::task_local! {
    /// What the handler of the request has to say about its change.
    static DETAIL: Mutex<String>;
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
    /// The status of the answer: a change that was refused for want of rights is here as well.
    pub status: i64,
    pub detail: String,
}

/// Says more about the change that the current request makes than its path does. Never a secret.
pub fn detail(text: impl Into<String>) {
    // Without a request there is nobody to say it of.
    let _ = DETAIL.try_with(|detail| {
        *detail.lock().unwrap_or_else(PoisonError::into_inner) = text.into();
    });
}

/// Runs a request and returns what was said with [`detail`] meanwhile.
pub(super) async fn listening<T>(request: impl Future<Output = T>) -> (T, String) {
    DETAIL
        .scope(Mutex::default(), async {
            let done = request.await;
            let detail = DETAIL.with(|detail| {
                std::mem::take(&mut *detail.lock().unwrap_or_else(PoisonError::into_inner))
            });
            (done, detail)
        })
        .await
}

/// Records a change. That it cannot be recorded is logged; the change is made by then.
pub(super) async fn record(
    app: &App,
    actor: &str,
    address: IpAddr,
    action: &str,
    status: u16,
    detail: &str,
) {
    let detail: String = detail.chars().take(LONGEST).collect();
    tracing::info!(target: "journeyman_server::audit", actor = ?actor, %address, action = ?action, status, detail = ?detail, "changed");
    let recorded = async {
        let mut write = app.database.write().await?;
        sqlx::query("INSERT INTO audit (at, actor, address, action, status, detail) VALUES ($1, $2, $3, $4, $5, $6)")
            .bind(app.now_ms())
            .bind(actor)
            .bind(address.to_string())
            .bind(action)
            .bind(i64::from(status))
            .bind(detail)
            .execute(&mut *write)
            .await?;
        write.commit().await?;
        Ok::<_, DatabaseError>(())
    };
    if let Err(error) = recorded.await {
        tracing::error!(cause = %Chain(&error), "a change could not be recorded in the audit log");
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
