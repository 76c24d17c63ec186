//! The page of all pipelines with their latest runs.

use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::StatusCode;

use super::{Bar, bars, render, when};
use crate::App;
use crate::answer::{Chain, Refusal};
use crate::database::DatabaseError;
use crate::pipelines::{location, repositories, store};
use crate::scheduling::trigger::{self, Options, TriggerError};
use crate::scheduling::{run, view};
use crate::users::Actor;

/// Runs shown of each pipeline.
const SHOWN_RUNS: i64 = 3;

#[derive(Template)]
#[template(path = "pipelines.html")]
struct Page {
    groups: Vec<Group>,
    refused: Vec<Refused>,
    notice: Option<String>,
}

impl Page {
    fn here(&self) -> &'static str {
        "pipelines"
    }
}

struct Group {
    name: String,
    pipelines: Vec<Card>,
}

struct Card {
    name: String,
    busy: bool,
    runs: Vec<RunRow>,
}

struct RunRow {
    label: String,
    when: String,
    cause: String,
    stages: Vec<Bar>,
}

struct Refused {
    id: String,
    url: String,
    error: String,
}

pub(super) async fn page(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
) -> Result<Response, Refusal> {
    show(&app, &actor, StatusCode::OK, None).await
}

async fn show(
    app: &App,
    actor: &Actor,
    status: StatusCode,
    notice: Option<String>,
) -> Result<Response, Refusal> {
    let mut connection = app
        .database
        .readers()
        .acquire()
        .await
        .map_err(DatabaseError::from)?;
    let mut groups: Vec<Group> = Vec::new();
    for stored in store::pipelines(&mut connection).await? {
        let pipeline = stored.pipeline;
        if !actor.sees(&pipeline.group) {
            continue;
        }
        let mut busy = false;
        let mut runs = Vec::new();
        for run in run::runs_of(&mut connection, &pipeline.name, None, SHOWN_RUNS).await? {
            let view = view::of_run(&mut connection, run).await?;
            let first = view.stages.first().and_then(|stage| stage.row.as_ref());
            busy |= first.is_some_and(run::StageRow::is_active);
            runs.push(RunRow {
                label: view.run.label.clone(),
                when: when(view.run.scheduled_at),
                cause: view.run.trigger_message.clone(),
                stages: bars(&view),
            });
        }
        let card = Card {
            name: pipeline.name,
            busy,
            runs,
        };
        match groups.last_mut() {
            Some(group) if group.name.eq_ignore_ascii_case(&pipeline.group) => {
                group.pipelines.push(card)
            }
            _ => groups.push(Group {
                name: pipeline.group,
                pipelines: vec![card],
            }),
        }
    }
    // What a repository is about says its address.
    let repos = if actor.rights.is_admin() {
        repositories::list(&mut connection).await?
    } else {
        Vec::new()
    };
    let refused = repos
        .into_iter()
        .filter_map(|repo| {
            Some(Refused {
                url: location::without_credentials(&repo.url),
                error: repo.error?,
                id: repo.id,
            })
        })
        .collect();
    let page = Page {
        groups,
        refused,
        notice,
    };
    Ok(render(status, &page))
}

pub(super) async fn trigger(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    Path(pipeline): Path<String>,
) -> Result<Response, Refusal> {
    let options = Options::by(&actor.name);
    match trigger::trigger(&app, &pipeline, &options).await {
        Ok(_) => Ok(Redirect::to("/go/pipelines").into_response()),
        Err(TriggerError::Database(error)) => Err(error.into()),
        Err(error) => {
            let notice = Chain(&error).to_string();
            show(&app, &actor, StatusCode::CONFLICT, Some(notice)).await
        }
    }
}
