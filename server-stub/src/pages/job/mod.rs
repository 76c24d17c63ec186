//! The page of one job: its states, console, tests, artifacts and materials.

mod ansi;
mod artifacts;
mod console;
mod results;
mod times;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use askama::Template;
use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::response::{Html, IntoResponse, Redirect, Response};
use http::{HeaderValue, StatusCode};
use journeyman_protocol::files::encode_path;
use serde::Deserialize;
use sqlx::SqliteConnection;

use super::changes::{self, Change, Tracker};
use super::stage::job_state;
use super::{not_found, render};
use crate::App;
use crate::answer::Refusal;
use crate::cli::duration;
use crate::database::DatabaseError;
use crate::pages::stage::not_cancelled;
use crate::scheduling::run::{self, JobRow, Run, StageRow, Transition};
use crate::scheduling::view;
use crate::scheduling::{self, Rerun, RerunError};
use crate::users::Actor;

/// Earlier runs of the job that its page leads to.
const SHOWN_RUNS: i64 = 25;
/// The longest that a call for more of the console is held.
const MAX_WAIT: u64 = 20;

/// The colours of consoles.
pub(super) static STYLE: LazyLock<String> = LazyLock::new(ansi::style_sheet);

pub(super) type Locator = (String, i64, String, i64, String);

#[derive(Template)]
#[template(path = "job.html")]
struct Page {
    head: Head,
    tab: String,
    body: Body,
    notice: Option<String>,
}

impl Page {
    fn here(&self) -> &'static str {
        "pipelines"
    }
}

/// What all tabs have above them.
struct Head {
    pipeline: String,
    counter: i64,
    label: String,
    stage: String,
    /// `pipeline/counter/stage/counter`.
    stage_locator: String,
    job: String,
    /// Whether the one who looks may run it again, and cancel its stage.
    may_run: bool,
    state: String,
    over: bool,
    agent: Option<(String, String)>,
    cause: String,
    times: times::Times,
    /// The tabs of the job's own: what addresses call them, and what people do.
    custom: Vec<(String, String)>,
    runs: Vec<EarlierRun>,
    raw: String,
}

/// A run of the same job.
struct EarlierRun {
    label: String,
    page: String,
    state: String,
    took: String,
    current: bool,
}

/// The tab that is shown.
enum Body {
    /// Only the head: what a page asks for that keeps it up to date.
    Nothing,
    Console(Box<console::View>),
    Tests(Box<results::View>),
    Artifacts(artifacts::View),
    Materials(Vec<Change>),
    Frame {
        name: String,
        url: String,
    },
}

#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    tab: String,
    line: Option<u64>,
    #[serde(default)]
    q: String,
}

struct Found {
    run: Run,
    stage: StageRow,
    row: JobRow,
    transitions: Vec<Transition>,
}

async fn find(
    connection: &mut SqliteConnection,
    (pipeline, counter, stage, stage_counter, job): &Locator,
) -> Result<Found, Refusal> {
    let run = run::find_run(connection, pipeline, *counter).await?;
    let run = run.ok_or_else(|| not_found("such run"))?;
    let stage = run::find_stage(connection, run.id, stage, *stage_counter).await?;
    let stage = stage.ok_or_else(|| not_found("such stage"))?;
    let rows = run::jobs_of(connection, stage.id).await?;
    let mut rows = rows.into_iter();
    let row = rows.find(|one| one.name.eq_ignore_ascii_case(job));
    let row = row.ok_or_else(|| not_found("such job"))?;
    let transitions = run::transitions_of(connection, row.id).await?;
    Ok(Found {
        run,
        stage,
        row,
        transitions,
    })
}

pub(super) async fn page(
    State(app): State<Arc<App>>,
    Path(locator): Path<Locator>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    show(&app, &locator, &asked, StatusCode::OK, None).await
}

async fn show(
    app: &Arc<App>,
    locator: &Locator,
    asked: &Asked,
    status: StatusCode,
    notice: Option<String>,
) -> Result<Response, Refusal> {
    let mut connection = app
        .database
        .readers()
        .acquire()
        .await
        .map_err(DatabaseError::from)?;
    let found = find(&mut connection, locator).await?;
    let head = head(app, &mut connection, &found).await?;
    let files = head.files();
    let tab = if asked.tab.is_empty() {
        "console"
    } else {
        asked.tab.as_str()
    };
    let id = found.row.files_id();
    let body = match tab {
        "head" => Body::Nothing,
        "console" => {
            let wish = console::Wish {
                line: asked.line,
                search: asked.q.clone(),
            };
            drop(connection);
            let view = console::view(&app.consoles.of(id), head.over, &wish).await;
            Body::Console(Box::new(view.map_err(|error| cannot_read(&error))?))
        }
        "tests" => {
            let stored = view::artifacts_of(&mut connection, id).await?;
            drop(connection);
            let definition = found.run.definition.job(&found.stage.name, &found.row.name);
            let root = app.paths.artifacts(id);
            let view = results::view(root, definition, stored, &files).await?;
            Body::Tests(Box::new(view))
        }
        "artifacts" => {
            let stored = view::artifacts_of(&mut connection, id).await?;
            let console = app.consoles.of(id).length().await;
            let console = console.map_err(|error| cannot_read(&error))?;
            Body::Artifacts(artifacts::view(&stored, console, &files))
        }
        "materials" => {
            let tool = found.run.definition.pipeline.tracking_tool.as_ref();
            let tracker = Tracker::new(tool);
            let revisions = &found.run.revisions;
            Body::Materials(changes::of_run(revisions, &tracker, app.now_ms()))
        }
        other => frame(&found, other, &files).ok_or_else(|| not_found("such tab"))?,
    };
    let page = Page {
        head,
        tab: tab.to_owned(),
        body,
        notice,
    };
    Ok(render(status, &page))
}

fn cannot_read(error: &std::io::Error) -> Refusal {
    Refusal::internal("read a console", error)
}

async fn head(
    app: &App,
    connection: &mut SqliteConnection,
    found: &Found,
) -> Result<Head, Refusal> {
    let Found {
        run,
        stage,
        row,
        transitions,
    } = found;
    let agent = match &row.agent_uuid {
        Some(uuid) => {
            let agent = crate::agents::find(connection, uuid).await?;
            let name = agent.map_or_else(|| uuid.clone(), |agent| agent.hostname);
            Some((name, uuid.clone()))
        }
        None => None,
    };
    let runs = earlier(connection, found).await?;
    // Half of those that passed took no longer.
    let mut passed: Vec<i64> = runs
        .iter()
        .filter(|one| one.result == "Passed" && one.id != row.id)
        .filter_map(|one| one.ended_at.map(|end| end - one.scheduled_at))
        .collect();
    passed.sort_unstable();
    let usual = passed.get(passed.len() / 2).copied();
    let over = !row.is_active();
    let stage_locator = format!(
        "{}/{}/{}/{}",
        run.pipeline, run.counter, stage.name, stage.counter
    );
    let definition = run.definition.job(&stage.name, &row.name);
    Ok(Head {
        may_run: super::may::run_stage(run, &stage.name, &super::group_of(connection, run).await?),
        pipeline: run.pipeline.clone(),
        counter: run.counter,
        label: run.label.clone(),
        stage: stage.name.clone(),
        job: row.name.clone(),
        state: job_state(row).to_owned(),
        over,
        agent,
        cause: run.trigger_message.clone(),
        times: times::times(transitions, over, app.now_ms(), usual),
        custom: definition.map_or_else(Vec::new, |job| {
            let names = job.tabs.iter().map(|tab| tab.name.clone());
            let keys = (1..).map(|number| format!("custom-{number}"));
            keys.zip(names).collect()
        }),
        runs: runs.into_iter().map(|one| one.shown(row.id)).collect(),
        raw: format!(
            "/go/files/{}/cruise-output/console.log",
            encode_path(&format!("{stage_locator}/{}", row.name))
        ),
        stage_locator,
    })
}

impl Head {
    fn files(&self) -> String {
        let locator = format!("{}/{}", self.stage_locator, self.job);
        format!("/go/files/{}", encode_path(&locator))
    }

    /// Where this page is, without what follows the `?`.
    fn page(&self) -> String {
        page_of(&self.stage_locator, &self.job)
    }
}

fn page_of(stage_locator: &str, job: &str) -> String {
    let locator = encode_path(&format!("{stage_locator}/{job}"));
    format!("/go/tab/build/detail/{locator}")
}

#[derive(sqlx::FromRow)]
struct EarlierRow {
    id: i64,
    counter: i64,
    label: String,
    stage: String,
    stage_counter: i64,
    job: String,
    pipeline: String,
    state: String,
    result: String,
    scheduled_at: i64,
    ended_at: Option<i64>,
}

/// The latest runs of the same job, newest first.
async fn earlier(
    connection: &mut SqliteConnection,
    found: &Found,
) -> Result<Vec<EarlierRow>, DatabaseError> {
    Ok(sqlx::query_as(
        "SELECT jobs.id, pipeline_runs.counter, pipeline_runs.label, stages.name AS stage, stages.counter AS stage_counter, \
         jobs.name AS job, pipeline_runs.pipeline, jobs.state, jobs.result, jobs.scheduled_at, \
         (SELECT max(at) FROM job_transitions WHERE job_id = jobs.id AND state = 'Completed') AS ended_at \
         FROM pipeline_runs JOIN stages ON stages.run_id = pipeline_runs.id JOIN jobs ON jobs.stage_id = stages.id \
         WHERE lower(pipeline_runs.pipeline) = lower($1) AND lower(stages.name) = lower($2) AND lower(jobs.name) = lower($3) \
         AND jobs.state <> 'Rescheduled' ORDER BY pipeline_runs.counter DESC, stages.counter DESC LIMIT $4",
    )
    .bind(&found.run.pipeline)
    .bind(&found.stage.name)
    .bind(&found.row.name)
    .bind(SHOWN_RUNS)
    .fetch_all(connection)
    .await?)
}

impl EarlierRow {
    fn shown(self, current: i64) -> EarlierRun {
        let stage = format!(
            "{}/{}/{}/{}",
            self.pipeline, self.counter, self.stage, self.stage_counter
        );
        let again = if self.stage_counter > 1 {
            format!(" ({})", self.stage_counter)
        } else {
            String::new()
        };
        EarlierRun {
            page: page_of(&stage, &self.job),
            label: format!("{}{again}", self.label),
            state: if self.state == "Completed" {
                self.result
            } else {
                self.state
            },
            took: self
                .ended_at
                .map_or(String::new(), |end| duration(end - self.scheduled_at)),
            current: self.id == current,
        }
    }
}

/// A tab of the job's own: what it has published at a path, shown as a stranger's page.
fn frame(found: &Found, tab: &str, files: &str) -> Option<Body> {
    let number: usize = tab.strip_prefix("custom-")?.parse().ok()?;
    let definition = found
        .run
        .definition
        .job(&found.stage.name, &found.row.name)?;
    let tab = definition.tabs.get(number.checked_sub(1)?)?;
    Some(Body::Frame {
        name: tab.name.clone(),
        url: format!("{files}/{}", encode_path(&tab.path)),
    })
}

// --- more of the console

#[derive(Deserialize)]
pub(super) struct Part {
    /// Lines from here on, counted from 0.
    from: Option<u64>,
    #[serde(default)]
    count: u64,
    /// Or what is new after so many lines, on a page whose part begins at `base`.
    #[serde(default)]
    since: u64,
    #[serde(default)]
    base: u64,
    /// Seconds to wait when there is nothing new and the job is not over.
    #[serde(default)]
    wait: u64,
}

#[derive(Template)]
#[template(path = "job_rows.html")]
struct Rows {
    rows: Vec<console::Row>,
}

#[derive(Template)]
#[template(path = "job_items.html")]
struct Items {
    items: Vec<console::Item>,
}

/// A chunk of lines, or what has been added: pieces of the page.
pub(super) async fn part(
    State(app): State<Arc<App>>,
    Path(locator): Path<Locator>,
    Query(part): Query<Part>,
) -> Result<Response, Refusal> {
    let found = {
        let mut connection = app
            .database
            .readers()
            .acquire()
            .await
            .map_err(DatabaseError::from)?;
        find(&mut connection, &locator).await?
    };
    let id = found.row.files_id();
    let console = app.consoles.of(id);
    if let Some(from) = part.from {
        let rows = console::rows(&console, from, part.count).await;
        let rows = rows.map_err(|error| cannot_read(&error))?;
        return fragment(&Rows { rows });
    }
    let mut follower = app.consoles.follow(id, 0);
    let mut changed = app.state_changed.subscribe();
    let deadline = tokio::time::sleep(Duration::from_secs(part.wait.min(MAX_WAIT)));
    tokio::pin!(deadline);
    loop {
        // Looked at before the console is read: nothing comes after it is over.
        let over = {
            let mut connection = app
                .database
                .readers()
                .acquire()
                .await
                .map_err(DatabaseError::from)?;
            let row = run::job_by_id(&mut connection, found.row.id).await?;
            row.is_none_or(|row| !row.is_active())
        };
        let outline = Arc::clone(&console).outline().await;
        let outline = outline.map_err(|error| cannot_read(&error))?;
        let lines = console::shown_lines(&outline, over);
        if lines > part.since || over || part.wait == 0 || deadline.is_elapsed() {
            let items = console::growth(&console, &outline, over, part.base, part.since).await;
            let items = items.map_err(|error| cannot_read(&error))?;
            let mut response = fragment(&Items { items })?;
            let headers = response.headers_mut();
            headers.insert("journeyman-console-lines", HeaderValue::from(lines));
            let over = HeaderValue::from_static(if over { "true" } else { "false" });
            headers.insert("journeyman-job-over", over);
            return Ok(response);
        }
        tokio::select! {
            () = follower.grown() => {}
            () = changed.raised() => {}
            () = app.stopping.cancelled() => deadline.as_mut().reset(tokio::time::Instant::now()),
            () = &mut deadline => {}
        }
    }
}

fn fragment(template: &impl Template) -> Result<Response, Refusal> {
    match template.render() {
        Ok(text) => Ok(Html(text).into_response()),
        Err(error) => Err(Refusal::internal("render a part of a page", &error)),
    }
}

// --- buttons

/// Cancels the job's stage.
pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    Path(locator): Path<Locator>,
) -> Result<Response, Refusal> {
    let (pipeline, counter, stage, stage_counter, job) = &locator;
    match scheduling::cancel_stage(&app, pipeline, *counter, stage, *stage_counter, &actor).await {
        Ok(_) => {
            let stage = format!("{pipeline}/{counter}/{stage}/{stage_counter}");
            Ok(Redirect::to(&page_of(&stage, job)).into_response())
        }
        Err(error) => {
            let stage = format!("{pipeline}/{counter}/{stage}/{stage_counter}");
            not_cancelled(error, page_of(&stage, job))
        }
    }
}

/// Runs the job once more; its new page follows.
pub(super) async fn rerun(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    Path(locator): Path<Locator>,
) -> Result<Response, Refusal> {
    let (pipeline, counter, stage, stage_counter, job) = &locator;
    let which = Rerun::Selected(vec![job.clone()]);
    match scheduling::rerun_jobs(
        &app,
        pipeline,
        *counter,
        stage,
        *stage_counter,
        &which,
        &actor,
    )
    .await
    {
        Ok(new) => {
            let stage = format!("{pipeline}/{counter}/{stage}/{new}");
            Ok(Redirect::to(&page_of(&stage, job)).into_response())
        }
        Err(RerunError::Database(error)) => Err(error.into()),
        Err(error) => {
            let asked = Asked {
                tab: String::new(),
                line: None,
                q: String::new(),
            };
            let notice = Some(format!("{error}."));
            show(&app, &locator, &asked, StatusCode::CONFLICT, notice).await
        }
    }
}
