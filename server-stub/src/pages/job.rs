//! The page of one job: states with their times, artifacts, and its console as it grows.

use std::io;
use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use jiff::Timestamp;
use journeyman_protocol::files::encode_path;

use super::lines::{Line, line};
use super::stage::job_state;
use super::{not_found, render, when};
use crate::App;
use crate::answer::Refusal;
use crate::cli::{duration, size};
use crate::database::DatabaseError;
use crate::scheduling::run::{self, Transition};
use crate::scheduling::view;

/// Bytes of the console's end that are part of the page itself.
const SHOWN_CONSOLE: u64 = 256 * 1024;

#[derive(Template)]
#[template(path = "job.html")]
struct Page {
    group: String,
    id: i64,
    pipeline: String,
    label: String,
    stage: String,
    stage_locator: String,
    job: String,
    state: String,
    over: bool,
    agent: Option<String>,
    cause: String,
    transitions: Vec<Step>,
    artifacts: Vec<Artifact>,
    console_url: String,
    /// Bytes of the console before what is shown.
    skipped: u64,
    /// Where the live console goes on.
    offset: u64,
    lines: Vec<Line>,
    notice: Option<String>,
}

impl Page {
    fn here(&self) -> &'static str {
        "pipelines"
    }
}

struct Step {
    state: String,
    at: String,
    iso: String,
    since: String,
}

struct Artifact {
    path: String,
    size: String,
    sha256: String,
    url: String,
}

pub(super) async fn page(
    State(app): State<Arc<App>>,
    Path((pipeline, counter, stage, stage_counter, job)): Path<(String, i64, String, i64, String)>,
) -> Result<Response, Refusal> {
    let mut connection = app
        .database
        .readers()
        .acquire()
        .await
        .map_err(DatabaseError::from)?;
    let run = run::find_run(&mut connection, &pipeline, counter).await?;
    let run = run.ok_or_else(|| not_found("such run"))?;
    let row = run::find_stage(&mut connection, run.id, &stage, stage_counter).await?;
    let row = row.ok_or_else(|| not_found("such stage"))?;
    let group = super::group_of(&mut connection, &run).await?;
    let jobs = view::jobs_of_stage(&mut connection, row.id).await?;
    let found = jobs
        .into_iter()
        .find(|one| one.row.name.eq_ignore_ascii_case(&job));
    let found = found.ok_or_else(|| not_found("such job"))?;
    let artifacts = view::artifacts_of(&mut connection, found.row.id).await?;
    let agent = match &found.row.agent_uuid {
        Some(uuid) => {
            let agent = crate::agents::find(&mut connection, uuid).await?;
            Some(agent.map_or_else(|| uuid.clone(), |agent| agent.hostname))
        }
        None => None,
    };
    drop(connection);
    let stage_locator = format!(
        "{}/{}/{}/{}",
        run.pipeline, run.counter, row.name, row.counter
    );
    let files = format!("/go/files/{stage_locator}/{}", found.row.name);
    let console = read_console(&app, found.row.files_id()).await;
    let console = console.map_err(|error| Refusal::internal("read a console", &error))?;
    let page = Page {
        group,
        id: found.row.id,
        label: run.label,
        stage: row.name,
        state: job_state(&found.row).to_owned(),
        over: !found.row.is_active(),
        agent,
        cause: run.trigger_message,
        transitions: steps(&found.transitions),
        artifacts: artifacts
            .into_iter()
            .map(|one| Artifact {
                url: format!("{files}/{}", encode_path(&one.path)),
                path: one.path,
                size: size(one.size),
                sha256: one.sha256,
            })
            .collect(),
        console_url: format!("{files}/cruise-output/console.log"),
        skipped: console.skipped,
        offset: console.offset,
        lines: console.lines,
        pipeline: run.pipeline,
        job: found.row.name,
        stage_locator,
        notice: None,
    };
    Ok(render(StatusCode::OK, &page))
}

fn steps(transitions: &[Transition]) -> Vec<Step> {
    let mut before = None;
    transitions
        .iter()
        .map(|one| {
            let since = before.map(|before: i64| format!("+{}", duration(one.at - before)));
            before = Some(one.at);
            let time = Timestamp::from_millisecond(one.at).unwrap_or(Timestamp::UNIX_EPOCH);
            Step {
                state: one.state.clone(),
                at: when(one.at),
                iso: time.to_string(),
                since: since.unwrap_or_default(),
            }
        })
        .collect()
}

struct Console {
    skipped: u64,
    offset: u64,
    lines: Vec<Line>,
}

/// The end of a console in whole lines.
async fn read_console(app: &App, id: i64) -> io::Result<Console> {
    let length = app.consoles.of(id).length().await?.unwrap_or(0);
    let start = length.saturating_sub(SHOWN_CONSOLE);
    let mut follower = app.consoles.follow(id, start);
    let mut text = Vec::new();
    // It may grow faster than it is read: what was there at first is enough.
    while follower.offset() < length {
        let chunk = follower.read().await?;
        if chunk.is_empty() {
            break;
        }
        text.extend_from_slice(&chunk);
    }
    // The first line was cut in two, the last one may not be whole yet.
    let first = match start {
        0 => 0,
        _ => text
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(text.len(), |at| at + 1),
    };
    let end = text
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(first, |at| at + 1);
    let end = end.max(first);
    let shown = String::from_utf8_lossy(&text[first..end]);
    Ok(Console {
        skipped: start + first as u64,
        offset: start + end as u64,
        lines: shown.lines().map(line).collect(),
    })
}
