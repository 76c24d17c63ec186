//! `/api/backups`, version 2: backups that the server makes while it runs.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{StatusCode, header};
use serde_json::{Value, json};

use super::body::Body;
use super::call::{Call, not_found, time};
use crate::App;
use crate::answer::Refusal;
use crate::backup::asked::{self, Asked};
use crate::users::Actor;

const ROOT: &str = "/api/backups";
/// Seconds after which to ask again.
const RETRY_AFTER: &str = "5";

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route(ROOT, post(ask))
        .route(&format!("{ROOT}/{{id}}"), get(show))
}

async fn ask(call: Call<2>, actor: Actor, _: Body) -> Result<Response, Refusal> {
    let Some(id) = asked::ask(&call.app, &actor.name).await? else {
        let text = "Failed to schedule backup: another backup is already in progress.";
        return Err(Refusal::message(StatusCode::CONFLICT, text));
    };
    let headers = [
        (header::LOCATION, format!("/go{ROOT}/{id}")),
        (header::RETRY_AFTER, RETRY_AFTER.to_owned()),
    ];
    Ok((StatusCode::ACCEPTED, headers).into_response())
}

/// One by its number, or the one that is `running`.
async fn show(call: Call<2>, Path(id): Path<String>) -> Result<Response, Refusal> {
    let mut connection = call.reader().await?;
    let found = if id == "running" {
        asked::running(&mut connection).await?
    } else {
        let number: i64 = id.parse().map_err(|_| {
            let text = "The `id` parameter should be a number, or the keyword `running`";
            Refusal::message(StatusCode::BAD_REQUEST, text)
        })?;
        asked::find(&mut connection, number).await?
    };
    let found = found.ok_or_else(|| not_found("Backup", "id", &id))?;
    Ok(call.answer(&describe(&call, &found)))
}

fn describe(call: &Call<2>, backup: &Asked) -> Value {
    let user = format!("/api/users/{}", backup.started_by);
    let mut document = json!({
        "_links": call.links(&format!("{ROOT}/{}", backup.id), "backups", None),
        "time": time(backup.started_at),
        "path": backup.path,
        "status": backup.status,
        "message": backup.message,
        "user": {
            "_links": call.links(&user, "users", Some("/api/users/:login_name")),
            "login_name": backup.started_by,
        },
    });
    if backup.status == "IN_PROGRESS" {
        document["progress_status"] = json!("BACKUP_DATABASE");
    }
    document
}
