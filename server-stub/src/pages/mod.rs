//! The web pages, rendered on the server. They work without JavaScript, which only keeps them up
//! to date, and load nothing from anywhere else.

mod access_tokens;
mod activity;
mod agent_history;
mod agents;
pub(crate) mod assets;
mod bars;
mod changes;
mod compare;
mod dashboard;
mod fields;
mod guard;
mod job;
pub(crate) mod layout;
mod machine;
pub(crate) mod may;
mod operate;
mod outcome;
mod people;
mod pins;
mod release;
#[cfg(test)]
mod release_tests;
mod releases;
mod repositories;
#[cfg(test)]
mod run_tests;
mod server;
mod stage;
#[cfg(test)]
mod tests;
mod times;
mod trigger;
mod value_stream;

pub(crate) use guard::{guard, is_from_artifact};
pub(crate) use layout::with_health;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use http::{StatusCode, header};
use sqlx::SqliteConnection;

use crate::App;
use crate::answer::Refusal;
use crate::database::DatabaseError;
use crate::pipelines::store;
use crate::scheduling::run::Run;
use crate::users::forms;

/// The longest form names agents, some hundred of them.
const MAX_BODY: usize = 64 * 1024;

/// Routes under `/go`.
pub fn router() -> Router<Arc<App>> {
    let home = || async { Redirect::to("/go/pipelines") };
    let stage = "/pipelines/{pipeline}/{counter}/{stage}/{stage_counter}";
    let job = "/tab/build/detail/{pipeline}/{counter}/{stage}/{stage_counter}/{job}";
    Router::new()
        .route("/", get(home))
        .route("/home", get(home))
        .route("/dashboard", get(home))
        .route("/assets/{name}", get(assets::serve))
        .route("/agents", get(agents::page).post(agents::change))
        .route("/agents/{uuid}/{action}", post(agents::act))
        .route("/agents/{uuid}/job_run_history", get(agent_history::page))
        .route("/pipelines", get(dashboard::page))
        .route(
            "/pipelines/{pipeline}/trigger",
            get(trigger::page).post(trigger::trigger),
        )
        .route("/pipelines/{pipeline}/pause", post(operate::pause))
        .route("/pipelines/{pipeline}/unpause", post(operate::unpause))
        .route("/pipelines/{pipeline}/unlock", post(operate::unlock))
        .route(
            "/pipelines/{pipeline}/{counter}/comment",
            post(activity::comment),
        )
        .route("/pipelines/{pipeline}/{counter}/pin", post(pins::pin))
        .route("/pipelines/{pipeline}/{counter}/unpin", post(pins::unpin))
        .route("/pipeline/activity/{pipeline}", get(activity::page))
        .route(
            "/pipelines/value_stream_map/{pipeline}/{counter}",
            get(value_stream::page),
        )
        .route("/compare/{pipeline}/{from}/with/{to}", get(compare::page))
        .route(
            "/pipelines/{pipeline}/{counter}/{stage}/run",
            post(stage::run),
        )
        .route(stage, get(stage::page))
        .route(&format!("{stage}/cancel"), post(stage::cancel))
        .route(&format!("{stage}/rerun"), post(stage::rerun))
        .route(&format!("{stage}/{{tab}}"), get(stage::tab))
        .route(job, get(job::page))
        .route(&format!("{job}/console"), get(job::part))
        .route(&format!("{job}/cancel"), post(job::cancel))
        .route(&format!("{job}/rerun"), post(job::rerun))
        .route("/releases", get(releases::page))
        .route("/releases/{id}", get(release::page))
        .route("/releases/{id}/offer", post(release::offer))
        .route("/releases/{id}/withdraw", post(release::withdraw))
        .route("/releases/{id}/delete", post(release::delete))
        .route(
            "/admin/config_repos",
            get(repositories::page).post(repositories::add),
        )
        .route("/admin/config_repos/{id}/{action}", post(repositories::act))
        .route("/health", get(server::page))
        .route("/admin/maintenance/{switch}", post(server::maintenance))
        .route("/admin/backups", post(server::back_up))
        .route("/admin/users", get(people::page).post(people::add))
        .route("/admin/users/{name}/{action}", post(people::act))
        .route("/admin/audit", get(people::log))
        .route(
            "/access_tokens",
            get(access_tokens::page).post(access_tokens::add),
        )
        .route("/access_tokens/{id}/revoke", post(access_tokens::revoke))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(axum::middleware::from_fn(guard))
}

/// A page. Each of its forms gets the field that shows that it is ours; its tag lets [`guard`] say
/// that it is still the same.
pub(crate) fn render(status: StatusCode, template: &impl Template) -> Response {
    let page = match template.render() {
        Ok(page) => forms::with_token(page),
        Err(error) => return Refusal::internal("render a page", &error).into_response(),
    };
    let mut hasher = DefaultHasher::new();
    page.hash(&mut hasher);
    let tag = format!("W/\"{:016x}\"", hasher.finish());
    (status, [(header::ETAG, tag)], Html(page)).into_response()
}

/// The group that decides who may operate a run: that of its pipeline, or what it was if that is gone.
async fn group_of(connection: &mut SqliteConnection, run: &Run) -> Result<String, DatabaseError> {
    let pipeline = store::pipeline(connection, &run.pipeline).await?;
    Ok(pipeline.map_or_else(|| run.definition.pipeline.group.clone(), |one| one.group))
}

fn not_found(what: &str) -> Refusal {
    Refusal::text(StatusCode::NOT_FOUND, format!("There is no {what}.\n"))
}

/// A time as people here read it.
fn when(milliseconds: i64) -> String {
    times::full(milliseconds)
}
