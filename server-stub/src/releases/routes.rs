//! `POST /admin/journeyman/release` and the packages it points to.

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State},
    response::Response,
    routing::{get, post},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use journeyman_protocol::{
    release::Answer,
    remoting::{AUTHORIZATION, X_AGENT_GUID},
};

use super::{answer, folder, report};
use crate::{App, answer::Refusal, body_limit::hear_out, download, listening::Peer, remoting};

/// Bytes of a report at most.
const LARGEST_REPORT: usize = 256 * 1024;

/// Routes under `/go`. Like GoCD's downloads of the agent the packages need no authentication.
pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/admin/journeyman/release", post(release))
        .route("/admin/journeyman/packages/{sha256}", get(package))
        .layer(DefaultBodyLimit::max(LARGEST_REPORT))
        .layer(axum::middleware::from_fn(hear_out))
}

async fn release(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Answer>, Refusal> {
    // Who says who it is must be it; who says nothing hears what everybody may hear.
    let named = headers.contains_key(X_AGENT_GUID) || headers.contains_key(AUTHORIZATION);
    let agent = if named {
        remoting::identify(&app, &peer, &headers).await?
    } else {
        None
    };
    let (report, bad) = report::parse(&body).map_err(|error| {
        Refusal::error(
            StatusCode::BAD_REQUEST,
            format!("the report of a machine is a JSON object: {error}"),
        )
    })?;
    let uuid = agent.as_ref().map_or("", |agent| agent.uuid.as_str());
    for bad in bad {
        let (field, cause) = (bad.field, bad.cause);
        tracing::warn!(agent = ?uuid, peer = %peer.address, field, cause, "a part of a machine's report cannot be read");
    }
    folder::refresh(&app).await?;
    Ok(Json(answer::answer(&app, agent.as_ref(), &report).await?))
}

async fn package(
    State(app): State<Arc<App>>,
    Path(sha256): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let gone = || {
        Refusal::message(
            StatusCode::NOT_FOUND,
            "this package is no longer offered: ask for the release again",
        )
    };
    if sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(gone());
    }
    let path = app.paths.package(&sha256.to_ascii_lowercase());
    let mut response = download::send(&path, "application/zstd", &headers)
        .await
        .map_err(|_| gone())?;
    if let Ok(tag) = HeaderValue::try_from(format!("\"{sha256}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}
