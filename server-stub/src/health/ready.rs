//! Whether the server can do its work just now.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::StatusCode;
use serde_json::json;

use crate::{App, space};

/// For how long a check waits for its turn to write.
const READY_TIMEOUT: Duration = Duration::from_secs(5);

/// Routes under `/go`.
pub fn router() -> Router<Arc<App>> {
    Router::new().route("/api/v1/ready", get(ready))
}

/// Whether the server can do its work, for whoever sends it requests: 503 with the reasons if not.
async fn ready(State(app): State<Arc<App>>) -> Response {
    let mut reasons = Vec::new();
    if app.stopping.is_cancelled() {
        reasons.push("the server is stopping".to_owned());
    } else {
        // It holds the lock that every write needs, and changes nothing.
        match tokio::time::timeout(READY_TIMEOUT, app.database.write()).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => reasons.push("the database cannot be written".to_owned()),
            Err(_) => reasons.push(format!(
                "the database could not be written for {} s",
                READY_TIMEOUT.as_secs()
            )),
        }
        if !matches!(space::available(&app), Ok(1..)) {
            reasons.push("there is no space for uploads".to_owned());
        }
    }
    if reasons.is_empty() {
        return Json(json!({ "health": "OK" })).into_response();
    }
    let message = reasons.join("; ");
    let body = json!({ "health": "ERROR", "reasons": reasons, "message": message });
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}
