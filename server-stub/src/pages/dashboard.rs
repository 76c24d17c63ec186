//! The page of all pipelines with the runs that are active, and the latest.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, LazyLock};

use askama::Template;
use axum::Extension;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;

use super::bars::{self, Bar};
use super::render;
use super::times::Moment;
use crate::App;
use crate::answer::Refusal;
use crate::dashboard::{self, CardRun, Members};
use crate::database::DatabaseError;
use crate::pipelines::definition::Approval;
use crate::pipelines::{location, repositories};
use crate::users::{Actor, Role};

#[derive(Template)]
#[template(path = "dashboard.html")]
struct Page {
    asked: Asked,
    /// The address that shows the same.
    page: String,
    states: Vec<Choice>,
    groups: Vec<Group>,
    /// All pipelines that there are to see.
    total: usize,
    shown: usize,
    refused: Vec<Refused>,
}

impl Page {
    fn here(&self) -> &'static str {
        "pipelines"
    }
}

/// Which pipelines to show, and how.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    /// A part of the name of a pipeline or group; several, any of which will do.
    #[serde(default)]
    q: String,
    /// A [`Kind`] by its name.
    #[serde(default)]
    state: String,
    /// `environment`, else by group.
    #[serde(default)]
    by: String,
}

/// What a pipeline can be looked for by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Building,
    Failed,
    Passed,
    /// For a person to run a stage.
    Waiting,
    Paused,
    Locked,
    NeverRun,
}

const KINDS: [(Kind, &str, &str); 7] = [
    (Kind::Building, "building", "Building"),
    (Kind::Failed, "failed", "Failed"),
    (Kind::Passed, "passed", "Passed"),
    (Kind::Waiting, "waiting", "Waiting for a person"),
    (Kind::Paused, "paused", "Paused"),
    (Kind::Locked, "locked", "Locked"),
    (Kind::NeverRun, "new", "Never run"),
];

/// An entry of the list of kinds.
struct Choice {
    key: &'static str,
    name: &'static str,
    chosen: bool,
}

struct Group {
    name: String,
    pipelines: Vec<Card>,
}

struct Card {
    name: String,
    runs: Vec<Run>,
    paused: Option<Paused>,
    locked_by: Option<i64>,
    may_operate: bool,
    /// Why it cannot be triggered now.
    held: Option<String>,
    repository: String,
}

struct Paused {
    by: String,
    cause: String,
    at: Moment,
}

struct Run {
    counter: i64,
    label: String,
    cause: String,
    at: Moment,
    bars: Vec<Bar>,
}

struct Refused {
    id: String,
    url: String,
    error: String,
}

pub(super) async fn page(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let tag = tag(&app, &actor, &asked);
    let known = headers.get(header::IF_NONE_MATCH);
    let is_known = known.is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let tag = [(header::ETAG, tag)];
    if is_known {
        return Ok((StatusCode::NOT_MODIFIED, tag).into_response());
    }
    let dashboard = dashboard::of(&app, &actor).await?;
    let by_environment = asked.by == "environment";
    let members = match by_environment {
        true => with_the_rest(dashboard.environments, &dashboard.pipelines),
        false => dashboard.groups,
    };
    let total = dashboard.pipelines.len();
    let now = app.now_ms();
    let mut shown = 0;
    let mut cards: HashMap<String, Card> = dashboard
        .pipelines
        .into_iter()
        .filter(|card| asked.wants(card))
        .map(|one| (one.name.clone(), card(one, now)))
        .collect();
    let mut groups = Vec::new();
    for group in members {
        let names = group.pipelines.iter();
        let pipelines: Vec<Card> = names.filter_map(|name| cards.remove(name)).collect();
        shown += pipelines.len();
        if !pipelines.is_empty() {
            groups.push(Group {
                name: group.name,
                pipelines,
            });
        }
    }
    let page = Page {
        states: KINDS
            .iter()
            .map(|&(_, key, name)| Choice {
                key,
                name,
                chosen: key == asked.state,
            })
            .collect(),
        page: asked.address(),
        groups,
        total,
        shown,
        refused: refused(&app, &actor).await?,
        asked,
    };
    Ok((tag, render(StatusCode::OK, &page)).into_response())
}

/// Names what the page shows without looking: many people keep it open while little happens. It
/// shows ages in minutes, and what each may do.
fn tag(app: &App, actor: &Actor, asked: &Asked) -> String {
    // Another for each run of the server, whose signal begins anew.
    static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    let minute = app.now_ms() / 60_000;
    let generation = app.state_changed.generation();
    let who = format!("{actor:?}");
    let tag = HASHER.hash_one((generation, minute, who, asked.address()));
    format!("W/\"{tag:016x}\"")
}

/// Environments, and what is in none of them.
fn with_the_rest(mut environments: Vec<Members>, cards: &[dashboard::Card]) -> Vec<Members> {
    let is_in_one = |card: &&dashboard::Card| {
        let mut all = environments.iter().flat_map(|one| &one.pipelines);
        all.any(|name| *name == card.name)
    };
    let rest: Vec<String> = cards
        .iter()
        .filter(|card| !is_in_one(card))
        .map(|card| card.name.clone())
        .collect();
    environments.push(Members {
        name: "In no environment".to_owned(),
        pipelines: rest,
        can_administer: false,
    });
    environments
}

fn card(card: dashboard::Card, now: i64) -> Card {
    let first = card.runs.iter().find_map(|run| {
        let row = run.stages.first()?.row.as_ref()?;
        row.is_active()
            .then(|| format!("{} is active in run {}", row.name, run.label))
    });
    let paused = card.state.pause.as_ref().map(|_| "it is paused".to_owned());
    let locked = card.state.locked_by;
    let locked = locked.map(|run| format!("run {run} has locked it"));
    let runs = card.runs.iter().map(|run| Run {
        counter: run.counter,
        label: run.label.clone(),
        cause: run.trigger_message.clone(),
        at: Moment::ago(run.scheduled_at, now),
        bars: bars::of_card(&card.name, &card.state, run),
    });
    Card {
        runs: runs.collect(),
        held: paused.or(locked).or(first),
        may_operate: card.role >= Role::Operate,
        locked_by: card.state.locked_by,
        paused: card.state.pause.map(|pause| Paused {
            by: pause.by,
            cause: pause.cause,
            at: Moment::ago(pause.at, now),
        }),
        repository: card.repository,
        name: card.name,
    }
}

/// Repositories whose newest revision is not in force. What they are about says their address.
async fn refused(app: &App, actor: &Actor) -> Result<Vec<Refused>, DatabaseError> {
    if !actor.rights.is_admin() {
        return Ok(Vec::new());
    }
    let mut connection = app.database.readers().acquire().await?;
    let repos = repositories::list(&mut connection).await?;
    let refused = repos.into_iter().filter_map(|repo| {
        Some(Refused {
            url: location::without_credentials(&repo.url),
            error: repo.error?,
            id: repo.id,
        })
    });
    Ok(refused.collect())
}

// === impl Asked ===

impl Asked {
    fn is_filter(&self) -> bool {
        !self.q.trim().is_empty() || !self.state.is_empty()
    }

    /// The address that asks the same.
    fn address(&self) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in [("q", &self.q), ("state", &self.state), ("by", &self.by)] {
            if !value.is_empty() {
                query.append_pair(name, value);
            }
        }
        let query = query.finish();
        match query.as_str() {
            "" => "/go/pipelines".to_owned(),
            query => format!("/go/pipelines?{query}"),
        }
    }

    fn wants(&self, card: &dashboard::Card) -> bool {
        let kind = KINDS.iter().find(|(_, key, _)| *key == self.state);
        let texts = [card.name.to_lowercase(), card.group.to_lowercase()];
        let asked = self.q.to_lowercase();
        let mut words = asked.split_whitespace().peekable();
        let named = words.peek().is_none()
            || words.any(|word| texts.iter().any(|text| text.contains(word)));
        named && kind.is_none_or(|(kind, ..)| is(card, *kind))
    }
}

fn is(card: &dashboard::Card, kind: Kind) -> bool {
    let rows = |run: &CardRun| -> Vec<String> {
        let rows = run.stages.iter().filter_map(|stage| stage.row.as_ref());
        rows.map(|row| row.state.clone()).collect()
    };
    let active = |run: &CardRun| {
        let mut rows = run.stages.iter().filter_map(|stage| stage.row.as_ref());
        rows.any(|row| row.is_active())
    };
    let latest = card.runs.first();
    match kind {
        Kind::Building => card.runs.iter().any(active),
        Kind::Failed => latest.is_some_and(|run| {
            let states = rows(run);
            states
                .iter()
                .any(|state| state.starts_with("Fail") || state == "Cancelled")
        }),
        Kind::Passed => latest.is_some_and(|run| {
            !active(run) && rows(run).last().is_some_and(|state| state == "Passed")
        }),
        Kind::Waiting => latest.is_some_and(|run| {
            let next = run.stages.iter().find(|stage| stage.row.is_none());
            !active(run)
                && next.is_some_and(|stage| stage.approval != Approval::Success)
                && rows(run).last().is_some_and(|state| state == "Passed")
        }),
        Kind::Paused => card.state.pause.is_some(),
        Kind::Locked => card.state.locked_by.is_some(),
        Kind::NeverRun => card.runs.is_empty(),
    }
}
