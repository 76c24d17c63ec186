//! Artifacts of jobs: received, unpacked, listed and handed out.
//!
//! A job's artifacts are files below a folder of its own. Nothing in it is a symbolic link, and no
//! name leads out of it: both are refused on the way in.

mod download_routes;
mod listing;
mod receive;
mod store;
mod unpack;
mod upload_routes;
mod zip_stream;

use std::sync::Arc;

use axum::{Router, extract::DefaultBodyLimit, routing::get};

pub use store::{StoredArtifact, stored};

use crate::{App, body_limit::hear_out};

/// Routes under `/go`: for agents below `/remoting/files`, for people below `/files`. Bodies are
/// limited by free space, not by a number.
pub fn router() -> Router<Arc<App>> {
    let agents = get(download_routes::for_agents)
        .post(upload_routes::post_by_agent)
        .put(upload_routes::put_by_agent);
    let people = get(download_routes::for_people)
        .post(upload_routes::post)
        .put(upload_routes::put);
    Router::new()
        .route("/remoting/files/{*path}", agents)
        .route("/files/{*path}", people)
        .layer(DefaultBodyLimit::disable())
        .layer(axum::middleware::from_fn(hear_out))
}
