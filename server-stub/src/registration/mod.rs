//! How an agent becomes known: its token, its registration, its certificate.

mod form;
mod keys;
mod register;

use std::sync::Arc;

use axum::{
    Router,
    routing::{get, post},
};

pub use form::FormError;
pub use keys::Keys;

use crate::App;

/// Routes under `/go`.
pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/admin/agent/token", get(register::token))
        .route(
            "/admin/agent",
            post(register::register).get(register::no_archive),
        )
        .route("/admin/agent-launcher.jar", get(register::no_archive))
        .route("/admin/agent-plugins.zip", get(register::no_archive))
        .route("/admin/tfs-impl.jar", get(register::no_archive))
        .route("/admin/latest-agent.status", get(register::no_archive))
}
