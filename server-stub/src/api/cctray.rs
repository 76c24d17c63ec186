//! `/cctray.xml`, for build monitors. Any `Accept`.

use std::sync::Arc;

use axum::Router;
use axum::response::Response;
use axum::routing::get;
use jiff::Timestamp;

use super::call::AnyCall;
use super::xml::{Element, element};
use crate::App;
use crate::answer::Refusal;
use crate::cctray::{self, Project};
use crate::users::Actor;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route("/cctray.xml", get(show))
}

async fn show(call: AnyCall, actor: Actor) -> Result<Response, Refusal> {
    let projects = cctray::of(&call.app, &actor).await?;
    let projects = projects.iter().map(|one| project(&call, one));
    let document = element("Projects").children(projects);
    Ok(call.tagged(&document.write()?, document.answer()?))
}

fn project(call: &AnyCall, project: &Project) -> Element {
    let Project {
        pipeline, stage, ..
    } = project;
    let locator = format!(
        "{pipeline}/{}/{stage}/{}",
        project.counter, project.stage_counter
    );
    let (name, page) = match &project.job {
        None => (
            format!("{pipeline} :: {stage}"),
            format!("/pipelines/{locator}"),
        ),
        Some(job) => (
            format!("{pipeline} :: {stage} :: {job}"),
            format!("/tab/build/detail/{locator}/{job}"),
        ),
    };
    let last = project.last.as_ref();
    let label = last.map_or("1".to_owned(), |last| match last.stage_counter {
        1 => last.label.clone(),
        counter => format!("{} :: {counter}", last.label),
    });
    let time = last.map_or(project.scheduled_at, |last| last.ended_at);
    let shown = element("Project")
        .with("name", name)
        .with(
            "activity",
            match project.is_building {
                true => "Building",
                false => "Sleeping",
            },
        )
        // GoCD's word as well for what has not ended yet for the first time, as is the label. Its
        // time is then that of the server's start; here it is that of the run.
        .with(
            "lastBuildStatus",
            match last {
                Some(last) if !last.passed => "Failure",
                _ => "Success",
            },
        )
        .with("lastBuildLabel", label)
        .with("lastBuildTime", moment(time))
        .with("webUrl", call.url(&page));
    if project.breakers.is_empty() {
        return shown;
    }
    let message = element("message")
        .with("text", project.breakers.join(", "))
        .with("kind", "Breakers");
    shown.child(element("messages").child(message))
}

/// `2031-05-06T07:09:00Z`.
pub(super) fn moment(milliseconds: i64) -> String {
    let seconds = Timestamp::from_second(milliseconds.div_euclid(1000));
    seconds.map(|time| time.to_string()).unwrap_or_default()
}
