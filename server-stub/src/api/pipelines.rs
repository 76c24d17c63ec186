//! `/api/pipelines`, version 1.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router};
use http::{HeaderMap, StatusCode};
use journeyman_protocol::material::Material;
use journeyman_protocol::revision::MaterialRevision;
use serde_json::{Value, json};

use super::reply;
use crate::App;
use crate::answer::{Chain, Refusal};
use crate::database::DatabaseError;
use crate::pipelines::definition::{Pipeline, Variable};
use crate::pipelines::{location, store};
use crate::scheduling::run::{self, Run};
use crate::scheduling::trigger::{self, Options, TriggerError};
use crate::scheduling::view::{self, JobView, RunView, StageView};
use crate::users::{Actor, audit};

const VERSION: u32 = 1;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/api/pipelines/{pipeline}/status", get(status))
        .route("/api/pipelines/{pipeline}/schedule", post(schedule))
        .route("/api/pipelines/{pipeline}/history", get(history))
        .route("/api/pipelines/{pipeline}/{counter}", get(instance))
}

async fn defined(app: &App, name: &str) -> Result<Pipeline, Refusal> {
    let mut connection = app
        .database
        .readers()
        .acquire()
        .await
        .map_err(DatabaseError::from)?;
    let pipeline = store::pipeline(&mut connection, name).await?;
    pipeline.ok_or_else(|| reply::not_found("Pipeline", "name", name))
}

async fn status(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let version = reply::version(&headers, VERSION)?;
    let pipeline = defined(&app, &name).await?;
    let mut connection = app
        .database
        .readers()
        .acquire()
        .await
        .map_err(DatabaseError::from)?;
    let newest = run::runs_of(&mut connection, &pipeline.name, None, 1).await?;
    let mut schedulable = true;
    if let Some(newest) = newest.into_iter().next() {
        let view = view::of_run(&mut connection, newest).await?;
        let first = view.stages.first().and_then(|stage| stage.row.as_ref());
        schedulable = !first.is_some_and(run::StageRow::is_active);
    }
    let body = json!({
        "paused": false, "paused_cause": "", "paused_by": "", "locked": false,
        "schedulable": schedulable,
    });
    Ok(reply::document(StatusCode::OK, version, &body))
}

async fn schedule(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let version = reply::version(&headers, VERSION)?;
    let mut options = Options::by(&actor.name);
    if let Some(body) = reply::body(&headers, &body)? {
        read_options(&body, &mut options)?;
    }
    let counter = trigger::trigger(&app, &name, &options)
        .await
        .map_err(refusal)?;
    audit::detail(format!("run {counter}"));
    let body = json!({
        "message": format!("Request to schedule pipeline {name} accepted"),
        // GoCD's answer does not say; a client that knows need not guess.
        "counter": counter,
    });
    Ok(reply::document(StatusCode::ACCEPTED, version, &body))
}

fn read_options(body: &Value, options: &mut Options) -> Result<(), Refusal> {
    let invalid = |text: &str| Refusal::message(StatusCode::UNPROCESSABLE_ENTITY, text);
    let list = |name: &str| match body.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => Ok(items.clone()),
        Some(_) => Err(invalid(&format!("'{name}' must be a list."))),
    };
    if !list("materials")?.is_empty() {
        return Err(invalid(
            "Choosing revisions of materials is not supported yet.",
        ));
    }
    for item in list("environment_variables")? {
        if item.get("encrypted_value").is_some() {
            return Err(invalid(
                "Encrypted values are not supported yet; send 'value'.",
            ));
        }
        let name = item.get("name").and_then(Value::as_str);
        let value = item.get("value").and_then(Value::as_str);
        let (Some(name), Some(value)) = (name, value) else {
            return Err(invalid(
                "Each of 'environment_variables' needs a 'name' and a 'value'.",
            ));
        };
        options.overrides.push(Variable {
            name: name.to_owned(),
            value: value.to_owned(),
            secure: item.get("secure").and_then(Value::as_bool).unwrap_or(false),
        });
    }
    if let Some(update) = body.get("update_materials_before_scheduling") {
        options.update_materials = update.as_bool().unwrap_or(true);
    }
    Ok(())
}

pub(super) fn refusal(error: TriggerError) -> Refusal {
    let status = match &error {
        TriggerError::Database(_) => return Refusal::internal("trigger a pipeline", &error),
        TriggerError::Unknown(name) => return reply::not_found("Pipeline", "name", name),
        TriggerError::Active { .. }
        | TriggerError::Paused { .. }
        | TriggerError::Locked { .. }
        | TriggerError::Unsteady(_) => StatusCode::CONFLICT,
        TriggerError::UnknownVariable { .. }
        | TriggerError::Material { .. }
        | TriggerError::Password { .. }
        | TriggerError::Upstream { .. } => StatusCode::UNPROCESSABLE_ENTITY,
    };
    Refusal::message(status, Chain(&error).to_string())
}

async fn instance(
    State(app): State<Arc<App>>,
    Path((name, counter)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let version = reply::version(&headers, VERSION)?;
    let counter = reply::counter(&counter)?;
    let mut connection = app
        .database
        .readers()
        .acquire()
        .await
        .map_err(DatabaseError::from)?;
    let run = run::find_run(&mut connection, &name, counter).await?;
    let run = run.ok_or_else(|| {
        let text = format!("Pipeline with name '{name}' and counter '{counter}' was not found!");
        Refusal::message(StatusCode::NOT_FOUND, text)
    })?;
    let view = view::of_run(&mut connection, run).await?;
    Ok(reply::document(StatusCode::OK, version, &show(&view)))
}

async fn history(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let version = reply::version(&headers, VERSION)?;
    let (size, after) = paging(query.as_deref().unwrap_or_default())?;
    let pipeline = defined(&app, &name).await?;
    let mut connection = app
        .database
        .readers()
        .acquire()
        .await
        .map_err(DatabaseError::from)?;
    let runs: Vec<Run> = run::runs_of(&mut connection, &pipeline.name, after, size + 1).await?;
    let more = i64::try_from(runs.len()).unwrap_or(i64::MAX) > size;
    let mut shown = Vec::new();
    let mut last = None;
    for run in runs.into_iter().take(usize::try_from(size).unwrap_or(10)) {
        last = Some(run.counter);
        shown.push(show(&view::of_run(&mut connection, run).await?));
    }
    let mut body = json!({ "pipelines": shown });
    if let (true, Some(last)) = (more, last) {
        let base = reply::base(&app, &headers);
        let next = format!(
            "{base}/api/pipelines/{}/history?after={last}",
            pipeline.name
        );
        body["_links"] = json!({ "next": { "href": next } });
    }
    Ok(reply::document(StatusCode::OK, version, &body))
}

pub(super) fn paging(query: &str) -> Result<(i64, Option<i64>), Refusal> {
    let wrong = |name: &str| {
        Refusal::message(
            StatusCode::BAD_REQUEST,
            format!("The query parameter '{name}' is wrong."),
        )
    };
    let (mut size, mut after) = (10, None);
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let number: Option<i64> = value.parse().ok().filter(|number| *number > 0);
        match name.as_ref() {
            "page_size" => {
                let allowed = number.filter(|number| (10..=100).contains(number));
                size = allowed.ok_or_else(|| wrong("page_size"))?;
            }
            "after" => after = Some(number.ok_or_else(|| wrong("after"))?),
            "before" => return Err(wrong("before")),
            _ => {}
        }
    }
    Ok((size, after))
}

/// A run in GoCD's form.
pub(super) fn show(view: &RunView) -> Value {
    let run = &view.run;
    let revisions: Vec<Value> = run.revisions.revisions.iter().map(show_material).collect();
    let stages: Vec<Value> = view.stages.iter().map(show_stage).collect();
    json!({
        "name": run.pipeline,
        "counter": run.counter,
        "label": run.label,
        "natural_order": f64::from(u32::try_from(run.counter).unwrap_or(u32::MAX)),
        "can_run": !view.is_active(),
        "preparing_to_schedule": false,
        "comment": run.comment,
        "scheduled_date": run.scheduled_at,
        "build_cause": {
            "trigger_message": run.trigger_message,
            "trigger_forced": run.forced,
            "approver": run.approver,
            "material_revisions": revisions,
        },
        "stages": stages,
    })
}

fn show_material(revision: &MaterialRevision) -> Value {
    let (kind, name, description) = match &revision.material {
        Material::GitMaterial(git) => {
            let url = location::without_credentials(&git.url.url);
            let name = git.scm.attributes.name.as_ref().map(ToString::to_string);
            let description = format!("URL: {url}, Branch: {}", git.ref_spec_or_branch);
            ("Git", name, description)
        }
        Material::DependencyMaterial(one) => {
            let name = one.attributes.name.as_ref().map(ToString::to_string);
            ("Pipeline", name, one.pipeline_name.to_string())
        }
        other => (other.kind(), None, other.kind().to_owned()),
    };
    let modifications: Vec<Value> = revision
        .modifications
        .iter()
        .map(|one| {
            json!({
                "revision": one.revision,
                "modified_time": one.modified_time.map(jiff::Timestamp::as_millisecond),
                "user_name": one.user_name,
                "comment": one.comment,
                "email_address": one.email_address,
            })
        })
        .collect();
    json!({
        "changed": revision.changed,
        "material": {
            "name": name,
            "fingerprint": trigger::fingerprint(&revision.material),
            "type": kind,
            "description": description,
        },
        "modifications": modifications,
    })
}

fn show_stage(stage: &StageView) -> Value {
    let row = stage.row.as_ref();
    let jobs: Vec<Value> = stage.jobs.iter().map(show_job).collect();
    let mut shown = json!({
        "name": stage.name,
        "counter": row.map_or(1, |row| row.counter).to_string(),
        "result": row.map_or("Unknown", run::StageRow::result),
        "status": row.map_or("Unknown", |row| &row.state),
        "rerun_of_counter": row.and_then(|row| row.rerun_of_counter),
        "scheduled": row.is_some(),
        "approval_type": stage.approval.wire_name(),
        "approved_by": row.map(|row| &row.approved_by),
        "operate_permission": true,
        "can_run": stage.can_run,
        "jobs": jobs,
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
