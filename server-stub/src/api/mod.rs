//! The REST API for people and their tools, as GoCD's.

use std::sync::Arc;

use axum::Router;

use crate::App;

/// Routes under `/go`.
pub fn router() -> Router<Arc<App>> {
    Router::new()
}
