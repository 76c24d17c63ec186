//! `/api/pipelines/P/C` and `/api/pipelines/P/history`: runs of pipelines, version 1.

use std::collections::HashSet;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, RawQuery};
use axum::response::Response;
use axum::routing::get;
use http::StatusCode;
use serde_json::{Value, json};
use sqlx::SqliteConnection;

use super::call::{self, Call};
use super::{feeds, material, paging};
use crate::App;
use crate::answer::Refusal;
use crate::database::DatabaseError;
use crate::history::{self, Window};
use crate::scheduling::run::{self, StageRow};
use crate::scheduling::state::{self, PipelineState};
use crate::scheduling::view::{self, JobView, RunView, StageView};
use crate::users::{Actor, Role};

pub(super) fn router() -> Router<Arc<App>> {
    let pipeline = "/api/pipelines/{pipeline}";
    Router::new()
        .route(&format!("{pipeline}/{{counter}}"), get(instance))
        .route(&format!("{pipeline}/history"), get(recent))
        // Of old releases.
        .route(&format!("{pipeline}/instance/{{counter}}"), get(instance))
        .route(&format!("{pipeline}/history/{{offset}}"), get(by_offset))
}

/// What decides now whether somebody may run something of a pipeline.
pub(super) struct Standing<'a> {
    actor: &'a Actor,
    state: PipelineState,
    /// Stages that are active in whichever run, in lower case.
    active: HashSet<String>,
}

impl<'a> Standing<'a> {
    pub(super) async fn of(
        connection: &mut SqliteConnection,
        pipeline: &str,
        actor: &'a Actor,
    ) -> Result<Self, DatabaseError> {
        let active: Vec<String> = sqlx::query_scalar(
            // By what is active, which is little; the plus keeps from all that ever ran.
            "SELECT lower(name) FROM stages WHERE completed_at IS NULL AND +pipeline = lower($1)",
        )
        .bind(pipeline)
        .fetch_all(&mut *connection)
        .await?;
        Ok(Self {
            actor,
            state: state::state_of(connection, pipeline).await?,
            active: active.into_iter().collect(),
        })
    }

    fn is_active(&self, stage: &str) -> bool {
        self.active.contains(&stage.to_lowercase())
    }
}

async fn instance(
    call: Call<1>,
    actor: Actor,
    Path((name, counter)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    if let Some(counter) = counter.strip_suffix(".xml") {
        return feeds::run(&call.into_any(), &name, counter).await;
    }
    let counter = call::counter(&counter)?;
    let mut connection = call.reader().await?;
    let view = find(&mut connection, &name, counter).await?;
    let standing = Standing::of(&mut connection, &view.run.pipeline, &actor).await?;
    Ok(call.answer(&show(&view, &standing)))
}

/// A run that must be there.
pub(super) async fn find(
    connection: &mut SqliteConnection,
    name: &str,
    counter: i64,
) -> Result<RunView, Refusal> {
    let run = run::find_run(connection, name, counter).await?;
    let run = run.ok_or_else(|| {
        let text = format!("Pipeline with name '{name}' and counter '{counter}' was not found!");
        Refusal::message(StatusCode::NOT_FOUND, text)
    })?;
    Ok(view::of_run(connection, run).await?)
}

async fn recent(
    call: Call<1>,
    actor: Actor,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    list(&call, &actor, &name, paging::window(query.as_deref())?).await
}

async fn by_offset(
    call: Call<1>,
    actor: Actor,
    Path((name, offset)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    list(&call, &actor, &name, paging::offset(&offset)?).await
}

async fn list(
    call: &Call<1>,
    actor: &Actor,
    name: &str,
    window: Window,
) -> Result<Response, Refusal> {
    let mut connection = call.reader().await?;
    must_exist(&mut connection, name).await?;
    let page = history::runs(&mut connection, name, window).await?;
    let standing = Standing::of(&mut connection, name, actor).await?;
    let path = format!("/api/pipelines/{name}/history");
    let body = paging::document(call, &path, window, "pipelines", &page, |view| {
        show(view, &standing)
    });
    Ok(call.answer(&body))
}

/// 404 for a pipeline that is neither defined nor has ever run.
pub(super) async fn must_exist(
    connection: &mut SqliteConnection,
    pipeline: &str,
) -> Result<(), Refusal> {
    if history::knows(connection, pipeline).await? {
        return Ok(());
    }
    Err(call::not_found("Pipeline", "name", pipeline))
}

/// A run in GoCD's form.
fn show(view: &RunView, standing: &Standing) -> Value {
    let run = &view.run;
    let pipeline = &run.definition.pipeline;
    let operates = standing.actor.rights.in_group(&pipeline.group) >= Some(Role::Operate);
    let first = pipeline.stages.first();
    let is_free = standing.state == PipelineState::default()
        && !first.is_some_and(|stage| standing.is_active(&stage.name));
    let revisions = run.revisions.revisions.iter().map(material::revision);
    let definitions = pipeline.stages.iter();
    let stages = view.stages.iter().zip(definitions).map(|(stage, defined)| {
        let may = operates
            && crate::scheduling::may_run(&defined.operators, &pipeline.group, standing.actor);
        let is_free = standing.state.pause.is_none()
            && standing.state.locked_against(run.counter).is_none()
            && !standing.is_active(&stage.name);
        show_stage(stage, may, stage.can_run && is_free)
    });
    json!({
        "name": run.pipeline,
        "counter": run.counter,
        "label": run.label,
        "natural_order": run.natural_order,
        "can_run": operates && is_free,
        "preparing_to_schedule": false,
        "comment": run.comment,
        "scheduled_date": run.scheduled_at,
        "build_cause": {
            "trigger_message": run.trigger_message,
            "trigger_forced": run.forced,
            "approver": run.approver,
            "material_revisions": revisions.collect::<Vec<_>>(),
        },
        "stages": stages.collect::<Vec<_>>(),
    })
}

fn show_stage(stage: &StageView, may: bool, is_free: bool) -> Value {
    let row = stage.row.as_ref();
    let jobs = stage.jobs.iter().map(show_job);
    let mut shown = json!({
        "result": row.map_or("Unknown", StageRow::result),
        "status": row.map_or("Unknown", |row| &row.state),
        "rerun_of_counter": row.and_then(|row| row.rerun_of_counter),
        "name": stage.name,
        "counter": row.map_or(1, |row| row.counter).to_string(),
        "scheduled": row.is_some(),
        "approval_type": stage.approval.wire_name(),
        "approved_by": row.map(|row| &row.approved_by),
        "operate_permission": may,
        "can_run": may && is_free,
        "jobs": jobs.collect::<Vec<_>>(),
    });
    if let Some(user) = row.and_then(|row| row.cancelled_by.as_ref()) {
        shown["cancelled_by"] = json!(user);
    }
    shown
}

fn show_job(job: &JobView) -> Value {
    json!({
        "name": job.row.name,
        "scheduled_date": job.row.scheduled_at,
        "state": job.row.state,
        "result": job.row.result,
    })
}
