//! The web pages, rendered on the server.

use std::sync::Arc;

use axum::Router;

use crate::App;

/// Routes under `/go`.
pub fn router() -> Router<Arc<App>> {
    Router::new()
}
