//! The whole of the server's routes.

use std::sync::Arc;

use axum::{Router, response::Redirect, routing::get};
use http::{HeaderName, HeaderValue};
use tower_http::compression::CompressionLayer;

use crate::{
    App, api, artifacts, body_limit::refuse_large_bodies, health, metrics, pages, registration,
    releases, remoting, retention, users, webhooks,
};

/// Names the server to those who know it; nothing else tells it from a GoCD server.
pub const SERVER_HEADER: HeaderName = HeaderName::from_static("journeyman-server");

/// Every route, with the header that names the server on every answer.
pub fn router(app: Arc<App>) -> Router {
    // Files are sent as they are: whoever asks for one wants to know its length.
    let texts = Router::new()
        .merge(remoting::router())
        .merge(api::router())
        .merge(pages::router())
        .merge(health::router())
        .merge(retention::router())
        .merge(users::login::router())
        .merge(webhooks::router())
        .layer(axum::middleware::from_fn(refuse_large_bodies))
        .layer(CompressionLayer::new());
    let go = texts
        .merge(registration::router())
        .merge(artifacts::router())
        .merge(api::uploads())
        .merge(releases::router())
        .fallback(api::nothing_there);
    Router::new()
        .route("/", get(|| async { Redirect::to("/go/pipelines") }))
        // Nesting serves `/go` only, and people type the slash as well.
        .route("/go/", get(|| async { Redirect::to("/go/pipelines") }))
        .nest("/go", go)
        .merge(metrics::router())
        .layer(axum::middleware::from_fn_with_state(
            Arc::clone(&app),
            users::guard,
        ))
        .layer(axum::middleware::from_fn_with_state(
            Arc::clone(&app),
            metrics::count,
        ))
        .with_state(app)
        .layer(axum::middleware::map_response(name_server))
}

async fn name_server(mut response: axum::response::Response) -> axum::response::Response {
    response.headers_mut().insert(
        SERVER_HEADER,
        HeaderValue::from_static(env!("CARGO_PKG_VERSION")),
    );
    response
}
