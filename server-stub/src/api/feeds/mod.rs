//! The feeds that tools poll: XML of runs and what is in them, Atom of what has ended. Any
//! `Accept`. They stand under `/api/feed`, and where old releases have them.

mod documents;
mod scheduled;
mod stages;

use std::sync::Arc;

use axum::Router;
use axum::response::Response;
use axum::routing::get;

use super::call::{self, AnyCall};
use super::xml::{Element, element};
use crate::App;
use crate::answer::Refusal;
use crate::pipelines::outline;
use crate::users::Actor;

pub(super) use documents::run;

/// Where the feeds are.
const FEED: &str = "/api/feed/pipelines";

/// What a feed names things by.
const URN: &str = "urn:x-go.studios.thoughtworks.com";

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/api/feed/pipelines.xml", get(pipelines))
        .route(
            &format!("{FEED}/{{pipeline}}/stages.xml"),
            get(stages::feed),
        )
        .route(
            &format!("{FEED}/{{pipeline}}/{{run}}"),
            get(documents::run_at),
        )
        .route(
            &format!("{FEED}/{{pipeline}}/{{counter}}/{{stage}}/{{stage_run}}"),
            get(documents::stage),
        )
        .route(
            &format!("{FEED}/{{pipeline}}/{{counter}}/{{stage}}/{{stage_counter}}/{{job}}"),
            get(documents::job),
        )
        .route(
            "/api/feed/materials/{pipeline}/{counter}/{fingerprint}",
            get(documents::material),
        )
        .route("/api/feed/jobs/scheduled.xml", get(scheduled::feed))
        // Of old releases.
        .route("/api/pipelines.xml", get(pipelines))
        .route("/api/pipelines/{pipeline}/stages.xml", get(stages::feed))
        .route("/api/jobs/scheduled.xml", get(scheduled::feed))
}

async fn pipelines(call: AnyCall, actor: Actor) -> Result<Response, Refusal> {
    let mut outlines = outline::all(&mut *call.reader().await?).await?;
    outlines.retain(|one| actor.sees(&one.group));
    let entries = outlines.iter().map(|one| {
        let url = call.url(&format!("{FEED}/{}/stages.xml", one.name));
        element("pipeline").with("href", url)
    });
    element("pipelines")
        .child(link_to_self(call.url("/api/feed/pipelines.xml")))
        .children(entries)
        .answer()
}

fn link_to_self(url: String) -> Element {
    element("link").with("rel", "self").with("href", url)
}

/// The last part of a path, without `.xml`.
fn document_name(text: &str) -> Result<&str, Refusal> {
    let name = text.strip_suffix(".xml");
    name.ok_or_else(|| call::not_found("Feed", "name", text))
}
