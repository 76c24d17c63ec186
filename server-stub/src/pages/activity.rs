//! The runs of one pipeline, newest first, with what went into each.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use sqlx::SqliteConnection;

use super::bars::{self, Bar};
use super::changes::{self, Change, Tracker};
use super::fields::Fields;
use super::outcome::refused;
use super::times::{Moment, length};
use super::{may, not_found, pins, render};
use crate::App;
use crate::answer::Refusal;
use crate::database::DatabaseError;
use crate::pipelines::store;
use crate::retention;
use crate::scheduling::run::{self, StageRow};
use crate::scheduling::state::{self, PipelineState};
use crate::scheduling::view::{self, RunView};
use crate::scheduling::{self, CommentError};

/// Runs on a page.
const SIZE: usize = 10;

/// Characters of the longest comment.
const LONGEST_COMMENT: usize = 4000;

#[derive(Template)]
#[template(path = "activity.html")]
struct Page {
    pipeline: String,
    q: String,
    /// The address of this very page.
    page: String,
    paused: Option<String>,
    locked_by: Option<i64>,
    may_operate: bool,
    /// Whether the pipeline is defined, and not only remembered.
    defined: bool,
    runs: Vec<RunRow>,
    newest: Option<String>,
    older: Option<String>,
}

impl Page {
    fn here(&self) -> &'static str {
        "pipelines"
    }
}

struct RunRow {
    counter: i64,
    label: String,
    state: String,
    cause: String,
    at: Moment,
    took: Option<String>,
    waits_for: Option<String>,
    comment: String,
    /// Who keeps its files, and why.
    pinned: Option<String>,
    bars: Vec<Bar>,
    /// The stage that can be cancelled, and where.
    cancel: Option<(String, String)>,
    /// Stages that can be run out of turn or once more, and where.
    reruns: Vec<(String, String)>,
    changes: Vec<Change>,
    /// Commits and upstream runs that are new.
    new: usize,
}

#[derive(Default, Deserialize)]
pub(super) struct Asked {
    /// A part of a label, a cause, a comment, a commit's author, message or revision.
    #[serde(default)]
    q: String,
    /// Runs with a smaller counter.
    before: Option<i64>,
}

pub(super) async fn page(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    let connection = app.database.readers().acquire().await;
    let mut connection = connection.map_err(DatabaseError::from)?;
    let defined = store::pipeline(&mut connection, &name).await?;
    let mut ids = find(&mut connection, &name, &asked).await?;
    let more = ids.len() > SIZE;
    ids.truncate(SIZE);
    let latest = run::runs_of(&mut connection, &name, None, 1).await?.pop();
    let known = defined
        .as_ref()
        .map(|one| (one.name.clone(), one.group.clone()));
    let known = known.or_else(|| {
        let run = latest?;
        Some((run.pipeline, run.definition.pipeline.group))
    });
    let (pipeline, group) = known.ok_or_else(|| not_found("such pipeline"))?;
    let state = state::state_of(&mut connection, &pipeline).await?;
    let mut runs = view::runs_by_id(&mut connection, &ids).await?;
    runs.sort_by_key(|run| std::cmp::Reverse(run.counter));
    let views = view::of_runs(&mut connection, runs).await?;
    let kept = retention::pins_of(&mut connection, &ids).await?;
    let now = app.now_ms();
    let rows: Vec<RunRow> = views
        .iter()
        .map(|view| {
            let mut row = row(view, &state, &group, now);
            row.pinned = kept.get(&view.run.id).map(pins::told);
            row
        })
        .collect();
    let address = |before| address(&pipeline, &asked.q, before);
    let page = Page {
        older: rows
            .last()
            .filter(|_| more)
            .map(|last| address(Some(last.counter))),
        newest: asked.before.map(|_| address(None)),
        page: address(asked.before),
        q: asked.q.clone(),
        paused: state
            .pause
            .as_ref()
            .map(|pause| match pause.cause.as_str() {
                "" => pause.by.clone(),
                cause => format!("{}: {cause}", pause.by),
            }),
        locked_by: state.locked_by,
        may_operate: may::operate(&group),
        defined: defined.is_some(),
        runs: rows,
        pipeline,
    };
    Ok(render(StatusCode::OK, &page))
}

fn address(pipeline: &str, q: &str, before: Option<i64>) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    if !q.is_empty() {
        query.append_pair("q", q);
    }
    if let Some(before) = before {
        query.append_pair("before", &before.to_string());
    }
    let query = query.finish();
    let mark = if query.is_empty() { "" } else { "?" };
    format!("/go/pipeline/activity/{pipeline}{mark}{query}")
}

/// The rows of the runs to show, and of one more. Of materials nothing is looked through but what
/// the page shows: they hold passwords.
async fn find(
    connection: &mut SqliteConnection,
    pipeline: &str,
    asked: &Asked,
) -> Result<Vec<i64>, DatabaseError> {
    let text = asked.q.trim().to_lowercase();
    let limit = i64::try_from(SIZE + 1).unwrap_or(i64::MAX);
    Ok(sqlx::query_scalar(
        "SELECT id FROM pipeline_runs WHERE lower(pipeline) = lower($1) \
         AND counter < COALESCE($2, 9223372036854775807) AND ($3 = '' \
         OR instr(lower(label), $3) OR instr(lower(trigger_message), $3) \
         OR instr(lower(COALESCE(comment, '')), $3) \
         OR EXISTS (SELECT 1 FROM json_each(material_revisions, '$.revisions') AS material, \
             json_each(material.value, '$.modifications') AS one \
             WHERE instr(lower(COALESCE(one.value ->> 'comment', '')), $3) \
             OR instr(lower(COALESCE(one.value ->> 'userName', '')), $3) \
             OR instr(lower(one.value ->> 'revision'), $3))) \
         ORDER BY counter DESC LIMIT $4",
    )
    .bind(pipeline)
    .bind(asked.before)
    .bind(text)
    .bind(limit)
    .fetch_all(connection)
    .await?)
}

fn row(view: &RunView, state: &PipelineState, group: &str, now: i64) -> RunRow {
    let run = &view.run;
    let operates = may::operate(group);
    let rows: Vec<&StageRow> = view
        .stages
        .iter()
        .filter_map(|one| one.row.as_ref())
        .collect();
    let base = format!("/go/pipelines/{}/{}", run.pipeline, run.counter);
    let active = rows.iter().find(|row| row.is_active());
    let may_run = |stage: &str| may::run_stage(run, stage, group);
    let cancel = active.filter(|row| may_run(&row.name)).map(|row| {
        let path = format!("{base}/{}/{}/cancel", row.name, row.counter);
        (row.name.clone(), path)
    });
    let free = operates && state.pause.is_none() && state.locked_against(run.counter).is_none();
    let reruns = view
        .stages
        .iter()
        .filter(|stage| free && stage.can_run && may_run(&stage.name));
    let end = rows.iter().filter_map(|row| row.completed_at).max();
    let tracker = Tracker::new(run.definition.pipeline.tracking_tool.as_ref());
    let changes = changes::of_run(&run.revisions, &tracker, now);
    let new = changes.iter().filter(|one| one.changed);
    RunRow {
        counter: run.counter,
        label: run.label.clone(),
        state: view.state().to_owned(),
        cause: run.trigger_message.clone(),
        at: Moment::ago(run.scheduled_at, now),
        took: end
            .filter(|_| active.is_none())
            .map(|end| length(end - run.scheduled_at)),
        waits_for: run.waiting_stage.clone(),
        comment: run.comment.clone().unwrap_or_default(),
        pinned: None,
        bars: bars::of_view(state, view, group),
        reruns: reruns
            .map(|stage| (stage.name.clone(), format!("{base}/{}/run", stage.name)))
            .collect(),
        new: new.map(|one| one.commits.len()).sum(),
        cancel,
        changes,
    }
}

/// The form of a comment that was not kept, with what was typed.
#[derive(Template)]
#[template(path = "comment.html")]
struct CommentPage {
    pipeline: String,
    counter: i64,
    text: String,
    notice: String,
}

impl CommentPage {
    fn here(&self) -> &'static str {
        "pipelines"
    }
}

pub(super) async fn comment(
    State(app): State<Arc<App>>,
    Path((pipeline, counter)): Path<(String, i64)>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let fields = Fields::of(&body);
    let text = fields.get("comment").unwrap_or_default().trim();
    let length = text.chars().count();
    if length > LONGEST_COMMENT {
        let page = CommentPage {
            pipeline,
            counter,
            text: text.to_owned(),
            notice: format!(
                "A comment has at most {LONGEST_COMMENT} characters; this has {length}."
            ),
        };
        return Ok(render(StatusCode::UNPROCESSABLE_ENTITY, &page));
    }
    let back = format!("/go/pipeline/activity/{pipeline}#run-{counter}");
    match scheduling::comment(&app, &pipeline, counter, text).await {
        Ok(()) => Ok(Redirect::to(&back).into_response()),
        Err(CommentError::Database(error)) => Err(error.into()),
        Err(error) => {
            let title = "The comment was not kept";
            Ok(refused(
                StatusCode::NOT_FOUND,
                title,
                error.to_string(),
                back,
            ))
        }
    }
}
