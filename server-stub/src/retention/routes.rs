//! Pins over REST: `/api/journeyman/runs/{pipeline}/{counter}/pin`.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::{get, post},
};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::{LONGEST_REASON, PinError, pins};
use crate::api::{Body, confirmed};
use crate::{App, answer::Refusal, database::DatabaseError, users::Actor};

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
    body: Body,
) -> Result<Json<Value>, Refusal> {
    let refuse = |text: String| Refusal::message(StatusCode::UNPROCESSABLE_ENTITY, text);
    if let Some(unknown) = body.fields().keys().find(|name| *name != "reason") {
        return Err(refuse(format!("There is no field '{unknown}'.")));
    }
    let reason = body.text("reason")?.unwrap_or_default();
    if reason.chars().count() > LONGEST_REASON {
        let text = format!("'reason' must be a text of at most {LONGEST_REASON} characters.");
        return Err(refuse(text));
    }
    pins::pin(&app, &pipeline, counter, &actor.name, reason).await?;
    Ok(Json(
        json!({ "message": format!("{pipeline}/{counter} is pinned.") }),
    ))
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
