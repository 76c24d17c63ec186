//! Artifacts of jobs: received, unpacked, listed and handed out.
//!
//! A job's artifacts are files below a folder of its own. Nothing in it is a symbolic link, and no
//! name leads out of it: both are refused on the way in.

mod download_routes;
mod listing;
mod receive;
mod reports;
mod store;
mod unpack;
mod upload_routes;
mod zip_stream;

use std::sync::Arc;

use axum::middleware::{from_fn, map_response};
use axum::response::Response;
use axum::{Router, extract::DefaultBodyLimit, routing::get};
use http::{HeaderValue, header};

pub use reports::Tickets;
pub use store::{StoredArtifact, stored};

use crate::{App, body_limit::hear_out};

/// What a page that a job has published may do: run, but as a site of its own, which sends no
/// cookie of ours and reads no page of ours.
const POLICY: &str = "sandbox allow-scripts allow-popups allow-downloads";

/// Routes under `/go`: for agents below `/remoting/files`, for people below `/files`, for published
/// pages and what belongs to them below `/reports`. Bodies are limited by free space, not by a number.
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
        .route("/reports/{ticket}/{*path}", get(reports::show))
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn(hear_out))
        .layer(map_response(apart))
}

async fn apart(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let policy = HeaderValue::from_static(POLICY);
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}
