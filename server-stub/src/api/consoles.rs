//! A job's console from a byte on, as it grows: for the live page and the command line.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use journeyman_protocol::extension::JOURNEYMAN_CONSOLE_LENGTH;
use serde::Deserialize;

use crate::App;
use crate::answer::Refusal;
use crate::database::DatabaseError;
use crate::scheduling::run;

/// Bytes in one answer, about.
const MAX_ANSWER: usize = 1024 * 1024;

/// The longest that a call may be held.
const MAX_WAIT: u64 = 20;

#[derive(Deserialize)]
struct Part {
    /// Bytes that the caller has.
    #[serde(default)]
    offset: u64,
    /// Seconds to wait when there is nothing more and the job is not over.
    #[serde(default)]
    wait: u64,
}

pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route("/api/journeyman/consoles/{id}", get(part))
}

/// Answers the bytes from `offset` on, and in a header where the next call goes on. The header
/// `Journeyman-Job-State` says what the job's state was before its console was read: once that is
/// Completed and nothing comes, nothing will.
async fn part(
    State(app): State<Arc<App>>,
    Path(id): Path<i64>,
    Query(part): Query<Part>,
) -> Result<Response, Refusal> {
    // Of a copied job: that of the original, which is over.
    let original = {
        let connection = app.database.readers().acquire().await;
        let mut connection = connection.map_err(DatabaseError::from)?;
        run::job_by_id(&mut connection, id).await?
    };
    let files = original.map_or(id, |job| job.files_id());
    let mut follower = app.consoles.follow(files, part.offset);
    let deadline = tokio::time::sleep(Duration::from_secs(part.wait.min(MAX_WAIT)));
    tokio::pin!(deadline);
    let mut changed = app.state_changed.subscribe();
    loop {
        let state = {
            let mut connection = app
                .database
                .readers()
                .acquire()
                .await
                .map_err(DatabaseError::from)?;
            let job = run::job_by_id(&mut connection, id).await?;
            let job = job.ok_or_else(|| {
                Refusal::message(
                    StatusCode::NOT_FOUND,
                    format!("There is no job with the id {id}."),
                )
            })?;
            job.state
        };
        let mut text = Vec::new();
        while text.len() < MAX_ANSWER {
            let chunk = follower.read().await;
            let chunk = chunk.map_err(|error| Refusal::internal("read a console", &error))?;
            if chunk.is_empty() {
                break;
            }
            text.extend_from_slice(&chunk);
        }
        let over = state == "Completed" || state == "Rescheduled";
        if !text.is_empty() || over || part.wait == 0 || deadline.is_elapsed() {
            return Ok((
                [
                    (
                        header::CONTENT_TYPE.as_str(),
                        "text/plain; charset=utf-8".to_owned(),
                    ),
                    ("x-content-type-options", "nosniff".to_owned()),
                    (header::CACHE_CONTROL.as_str(), "no-store".to_owned()),
                    (JOURNEYMAN_CONSOLE_LENGTH, follower.offset().to_string()),
                    ("journeyman-job-state", state),
                ],
                text,
            )
                .into_response());
        }
        tokio::select! {
            () = follower.grown() => {}
            () = changed.raised() => {}
            () = app.stopping.cancelled() => deadline.as_mut().reset(tokio::time::Instant::now()),
            () = &mut deadline => {}
        }
    }
}
