//! Pins over REST: `/api/journeyman/runs/{pipeline}/{counter}/pin`.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State},
    routing::{get, post},
};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::{PinError, pins};
use crate::{App, answer::Refusal, api::confirmed, database::DatabaseError, users::Actor};

/// The longest reason, in characters.
const LONGEST_REASON: usize = 1000;

/// Routes under `/go`.
pub fn router() -> Router<Arc<App>> {
    let run = "/api/journeyman/runs/{pipeline}/{counter}";
    Router::new()
        .route("/api/journeyman/pins", get(list))
        .route(&format!("{run}/pin"), post(pin))
        .route(&format!("{run}/unpin"), post(unpin))
}

/// All pinned runs, for those who may see everything.
async fn list(State(app): State<Arc<App>>) -> Result<Json<Value>, Refusal> {
    let acquired = app.database.readers().acquire().await;
    let mut connection = acquired.map_err(DatabaseError::from)?;
    let pins = pins::pinned(&mut connection).await?;
    Ok(Json(json!({ "pins": pins })))
}

async fn pin(
    State(app): State<Arc<App>>,
    actor: Actor,
    Path((pipeline, counter)): Path<(String, i64)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Refusal> {
    let reason = if body.is_empty() {
        confirmed(&headers)?;
        String::new()
    } else {
        reason(&headers, &body)?
    };
    pins::pin(&app, &pipeline, counter, &actor.name, &reason).await?;
    Ok(Json(
        json!({ "message": format!("{pipeline}/{counter} is pinned.") }),
    ))
}

fn reason(headers: &HeaderMap, body: &Bytes) -> Result<String, Refusal> {
    // No form of a foreign page can have this type.
    let json = headers
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let body: Option<Value> = serde_json::from_slice(body).ok().filter(|_| json);
    let refuse = |text: &str| Refusal::message(StatusCode::UNPROCESSABLE_ENTITY, text);
    let Some(Value::Object(fields)) = body else {
        return Err(refuse(
            "The body must be a JSON object: {\"reason\": TEXT}.",
        ));
    };
    if let Some(unknown) = fields.keys().find(|name| *name != "reason") {
        return Err(refuse(&format!("There is no field '{unknown}'.")));
    }
    match fields.get("reason") {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) if text.chars().count() <= LONGEST_REASON => Ok(text.clone()),
        Some(_) => Err(refuse(&format!(
            "'reason' must be a text of at most {LONGEST_REASON} characters."
        ))),
    }
}

async fn unpin(
    State(app): State<Arc<App>>,
    Path((pipeline, counter)): Path<(String, i64)>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    confirmed(&headers)?;
    pins::unpin(&app, &pipeline, counter).await?;
    Ok(Json(
        json!({ "message": format!("{pipeline}/{counter} is no longer pinned.") }),
    ))
}

impl From<PinError> for Refusal {
    fn from(error: PinError) -> Self {
        match error {
            PinError::Database(error) => error.into(),
            unknown => Self::message(StatusCode::NOT_FOUND, unknown.to_string()),
        }
    }
}
