//! The REST API for people and their tools, as GoCD's.

mod access_tokens;
mod agent_history;
mod agents;
mod audit;
mod backups;
mod body;
mod call;
mod cctray;
mod compare;
mod config_repos;
#[cfg(test)]
mod config_tests;
mod consoles;
mod dashboard;
mod definitions;
mod encrypt;
mod environments;
mod export;
mod feeds;
mod instances;
mod jobs;
mod maintenance;
mod material;
mod materials;
mod notify;
mod old_paths;
mod openapi;
mod paging;
mod pipeline_config;
mod pipelines;
mod preflight;
mod release_packages;
#[cfg(test)]
mod release_tests;
mod releases;
mod runs;
mod server;
mod stages;
#[cfg(test)]
mod tests;
mod unknown;
mod users;
pub(crate) mod value_stream;
mod xml;

pub(crate) use server::API_VERSION;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;

pub(crate) use body::{Body, confirmed};
pub use runs::{ArtifactSummary, JobSummary, PipelineSummary, RunSummary, StateChange};

pub use unknown::nothing_there;

use crate::App;

/// Routes under `/go` whose bodies are files.
pub fn uploads() -> Router<Arc<App>> {
    release_packages::router()
}

/// Bytes in the body of a call.
const MAX_BODY: usize = 1024 * 1024;

/// Routes under `/go`.
pub fn router() -> Router<Arc<App>> {
    Router::new()
        .merge(access_tokens::router())
        .merge(agents::router())
        .merge(audit::router())
        .merge(backups::router())
        .merge(cctray::router())
        .merge(compare::router())
        .merge(config_repos::router())
        .merge(consoles::router())
        .merge(encrypt::router())
        .merge(environments::router())
        .merge(notify::router())
        .merge(old_paths::router())
        .merge(openapi::router())
        .merge(pipeline_config::router())
        .merge(dashboard::router())
        .merge(feeds::router())
        .merge(instances::router())
        .merge(jobs::router())
        .merge(maintenance::router())
        .merge(materials::router())
        .merge(pipelines::router())
        .merge(preflight::router())
        .merge(releases::router())
        .merge(runs::router())
        .merge(server::router())
        .merge(stages::router())
        .merge(users::router())
        .layer(DefaultBodyLimit::max(MAX_BODY))
}
