//! The value stream of a run as a drawing: boxes in columns, and lines between them.

use std::collections::HashMap;
use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;

use super::times::length;
use super::{not_found, render};
use crate::App;
use crate::answer::Refusal;
use crate::api;
use crate::users::Actor;
use crate::value_stream::{self, Instance, InstanceStage, Node, NodeKind};

/// Measures of the drawing.
const WIDTH: usize = 250;
const GAP: usize = 70;
const SPACE: usize = 18;
const MARGIN: usize = 6;
const HEAD: usize = 34;
const ROW: usize = 26;
/// A place where a line passes through.
const LINE: usize = 24;

/// Runs and commits shown in one box.
const SHOWN: usize = 6;

#[derive(Template)]
#[template(path = "value_stream.html")]
struct Page {
    pipeline: String,
    counter: i64,
    label: String,
    width: usize,
    height: usize,
    lines: Vec<String>,
    boxes: Vec<Placed>,
}

impl Page {
    fn here(&self) -> &'static str {
        "pipelines"
    }
}

/// A box and where it is.
struct Placed {
    x: usize,
    y: usize,
    height: usize,
    content: Content,
    /// Whether it is of the pipeline that the page is about.
    current: bool,
}

enum Content {
    Pipeline {
        name: String,
        runs: Vec<RunRow>,
        more: usize,
        /// Of one that has not run.
        stages: Vec<String>,
    },
    Git {
        url: String,
        branch: String,
        commits: Vec<CommitRow>,
        more: usize,
    },
    Hidden,
    Other(String),
}

struct RunRow {
    counter: i64,
    label: String,
    current: bool,
    stages: Vec<StageBox>,
}

struct StageBox {
    state: String,
    title: String,
    page: Option<String>,
}

struct CommitRow {
    short: String,
    title: String,
    words: String,
}

pub(super) async fn page(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    Path((pipeline, counter)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    if let Some(counter) = counter.strip_suffix(".json") {
        return api::value_stream::document(&app, &actor, &pipeline, counter).await;
    }
    let counter = counter.parse().map_err(|_| not_found("such run"))?;
    let found = value_stream::of(&app, &pipeline, counter, &actor).await?;
    let found = found.ok_or_else(|| not_found("such run"))?;
    let about = (found.pipeline.as_str(), found.counter);
    let mut boxes = Vec::new();
    // Of each node by its id: where lines come in and go out, and at which height.
    let mut ports: HashMap<String, (usize, usize, usize)> = HashMap::new();
    let mut label = found.counter.to_string();
    let mut height = 0;
    for (column, level) in found.levels.iter().enumerate() {
        let x = MARGIN + column * (WIDTH + GAP);
        let mut y = MARGIN;
        for node in level {
            if let NodeKind::Pipeline(one) = &node.kind
                && one.name == found.pipeline
                && let Some(run) = one
                    .instances
                    .iter()
                    .find(|run| run.counter == found.counter)
            {
                label.clone_from(&run.label);
            }
            let content = content(&node.kind, about);
            let taken = content.as_ref().map_or(LINE, Content::height);
            ports.insert(node.id.clone(), (x, x + WIDTH, y + taken / 2));
            if let Some(content) = content {
                boxes.push(Placed {
                    current: node.id.eq_ignore_ascii_case(&found.pipeline),
                    height: taken,
                    content,
                    x,
                    y,
                });
            }
            y += taken + SPACE;
        }
        height = height.max(y);
    }
    let page = Page {
        width: 2 * MARGIN + (found.levels.len() * (WIDTH + GAP)).saturating_sub(GAP),
        height,
        lines: lines(&found.levels, &ports),
        counter: found.counter,
        pipeline: found.pipeline.clone(),
        label,
        boxes,
    };
    Ok(render(StatusCode::OK, &page))
}

/// The lines between nodes, and through those that only pass one on.
fn lines(levels: &[Vec<Node>], ports: &HashMap<String, (usize, usize, usize)>) -> Vec<String> {
    let mut lines = Vec::new();
    for node in levels.iter().flatten() {
        let Some((left, right, y)) = ports.get(&node.id) else {
            continue;
        };
        if matches!(node.kind, NodeKind::Line) {
            lines.push(format!("M{left} {y}H{right}"));
        }
        for child in &node.dependents {
            if let Some((to, _, end)) = ports.get(child) {
                let middle = (right + to) / 2;
                lines.push(format!(
                    "M{right} {y}C{middle} {y} {middle} {end} {to} {end}"
                ));
            }
        }
    }
    lines
}

/// What is in a node's box; nothing where a line passes through.
fn content(kind: &NodeKind, about: (&str, i64)) -> Option<Content> {
    Some(match kind {
        NodeKind::Line => return None,
        NodeKind::Hidden => Content::Hidden,
        NodeKind::Other(kind) => Content::Other(kind.clone()),
        NodeKind::Pipeline(one) => Content::Pipeline {
            runs: one
                .instances
                .iter()
                .take(SHOWN)
                .map(|run| run_row(&one.name, run, about))
                .collect(),
            more: one.instances.len().saturating_sub(SHOWN),
            stages: one.stages.clone(),
            name: one.name.clone(),
        },
        NodeKind::Git(git) => {
            let commits = git.revisions.iter().flatten();
            let row = |one: &journeyman_protocol::revision::Modification| {
                let author = one.user_name.as_deref().unwrap_or_default();
                let author = author.split(" <").next().unwrap_or_default();
                let comment = one.comment.as_deref().unwrap_or_default().trim();
                CommitRow {
                    short: one.revision.chars().take(7).collect(),
                    words: format!("{author}: {}", comment.lines().next().unwrap_or_default()),
                    title: format!("{} {author}: {comment}", one.revision),
                }
            };
            Content::Git {
                url: git.url.clone(),
                branch: git.branch.clone(),
                more: commits.clone().count().saturating_sub(SHOWN),
                commits: commits.take(SHOWN).map(row).collect(),
            }
        }
    })
}

fn run_row(pipeline: &str, run: &Instance, about: (&str, i64)) -> RunRow {
    let stage = |one: &InstanceStage| StageBox {
        title: match (one.counter, one.seconds) {
            (None, _) => format!("{} has not run", one.name),
            (_, Some(seconds)) => {
                format!("{}: {} in {}", one.name, one.state, length(seconds * 1000))
            }
            _ => format!("{}: {}", one.name, one.state),
        },
        page: one.counter.map(|counter| {
            format!(
                "/go/pipelines/{pipeline}/{}/{}/{counter}",
                run.counter, one.name
            )
        }),
        state: one
            .counter
            .map_or(String::new(), |_| one.state.to_lowercase()),
    };
    RunRow {
        counter: run.counter,
        label: run.label.clone(),
        current: (pipeline, run.counter) == about,
        stages: run.stages.iter().map(stage).collect(),
    }
}

impl Content {
    fn height(&self) -> usize {
        let rows = match self {
            Self::Pipeline { runs, more, .. } => runs.len().max(1) + usize::from(*more > 0),
            Self::Git { commits, more, .. } => 1 + commits.len() + usize::from(*more > 0),
            Self::Hidden | Self::Other(_) => 0,
        };
        HEAD + rows * ROW
    }
}
