//! `POST /admin/journeyman/release` and the packages it points to.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    response::Response,
    routing::{get, post},
};
use http::{HeaderMap, StatusCode};
use journeyman_protocol::release::{Answer, Component, MachineReport, Release};

use crate::{App, answer::Refusal, download};

/// Routes under `/go`. Like GoCD's downloads of the agent they need no authentication.
pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/admin/journeyman/release", post(release))
        .route("/admin/journeyman/packages/{sha256}", get(package))
}

async fn release(
    State(app): State<Arc<App>>,
    Json(MachineReport { platform, .. }): Json<MachineReport>,
) -> Result<Json<Answer>, Refusal> {
    let find = move || {
        let launcher = app.releases.find(Component::Launcher, &platform)?;
        let agent = app.releases.find(Component::Agent, &platform)?;
        Ok::<_, super::PackageError>(launcher.zip(agent))
    };
    let found = tokio::task::spawn_blocking(find)
        .await
        .map_err(|error| Refusal::internal("read the releases", &error))?
        .map_err(|error| Refusal::internal("read the releases", &error))?;
    let release = found.map(|(launcher, agent)| Release {
        launcher,
        agent,
        bootstrapper: None,
        downgrade: false,
    });
    Ok(Json(Answer { release }))
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
    let path = app.releases.path_of(&sha256).ok_or_else(gone)?;
    download::send(&path, "application/zstd", &headers)
        .await
        .map_err(|_| gone())
}
