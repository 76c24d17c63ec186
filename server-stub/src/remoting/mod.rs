//! The seven calls of an agent, GoCD's remoting API.

mod authentication;
mod calls;
mod waiting;

use std::sync::Arc;

use axum::{Router, routing::post};

pub use authentication::{authenticate, identify};
pub use waiting::{Polls, wake};

use crate::App;

/// Routes under `/go`.
pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/remoting/api/agent/get_cookie", post(calls::get_cookie))
        .route("/remoting/api/agent/ping", post(calls::ping))
        .route("/remoting/api/agent/get_work", post(calls::get_work))
        .route(
            "/remoting/api/agent/report_current_status",
            post(calls::report_current_status),
        )
        .route(
            "/remoting/api/agent/report_completing",
            post(calls::report_completing),
        )
        .route(
            "/remoting/api/agent/report_completed",
            post(calls::report_completed),
        )
        .route("/remoting/api/agent/is_ignored", post(calls::is_ignored))
}
