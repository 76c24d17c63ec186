//! What the server says about itself to GoCD's clients.

use std::sync::Arc;

use axum::{Extension, Json, Router, response::IntoResponse, routing::get};
use http::{HeaderMap, header};
use serde_json::json;

use crate::{App, listening::Peer};

/// The GoCD release whose API this is: clients choose by it how to speak. What the server really
/// is says the header `Journeyman-Server`.
const API_VERSION: &str = "26.2.0";

/// Routes under `/go`.
pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/api/version", get(version))
        .route("/api/v1/health", get(health))
}

async fn version(Extension(peer): Extension<Peer>, headers: HeaderMap) -> impl IntoResponse {
    let own = env!("CARGO_PKG_VERSION");
    let content_type = [(
        header::CONTENT_TYPE,
        "application/vnd.go.cd.v1+json; charset=utf-8",
    )];
    let document = json!({
        "_links": {
            "self": { "href": format!("{}/api/version", peer.base_url(&headers)) },
            "doc": { "href": format!("https://api.gocd.org/{API_VERSION}/#version") },
        },
        "version": API_VERSION,
        "build_number": "0",
        "git_sha": format!("journeyman-{own}"),
        "full_version": format!("{API_VERSION} (0-journeyman-{own})"),
        "commit_url": "",
    });
    (content_type, Json(document).into_response().into_body())
}

async fn health() -> impl IntoResponse {
    Json(json!({ "health": "OK" }))
}
