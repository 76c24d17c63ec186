//! The whole of the server's routes.

use std::sync::Arc;

use axum::Router;
use http::{HeaderName, HeaderValue};

use crate::{App, api, pages};

/// Names the server to those who know it; nothing else tells it from a GoCD server.
pub const SERVER_HEADER: HeaderName = HeaderName::from_static("journeyman-server");

/// Every route, with the header that names the server on every answer.
pub fn router(app: Arc<App>) -> Router {
    let go = Router::new().merge(api::router()).merge(pages::router());
    Router::new()
        .nest("/go", go)
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
