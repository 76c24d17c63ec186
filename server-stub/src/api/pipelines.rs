//! `/api/pipelines`, version 1: what can be done with a pipeline. Its runs are in
//! [`instances`](super::instances).

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::{get, post};
use http::StatusCode;
use serde_json::{Value, json};

use super::body::{Body, BodyOrForm};
use super::call::{self, Call, invalid};
use super::material;
use crate::App;
use crate::answer::{Chain, Refusal};
use crate::pipelines::definition::{Pipeline, Variable};
use crate::pipelines::store;
use crate::scheduling::state::{self, StateError};
use crate::scheduling::trigger::{self, Options, TriggerError};
use crate::scheduling::{self, CommentError, Refused, wire};
use crate::users::{Actor, audit};

pub(super) fn router() -> Router<Arc<App>> {
    let pipeline = "/api/pipelines/{pipeline}";
    Router::new()
        .route(&format!("{pipeline}/status"), get(status))
        .route(&format!("{pipeline}/pause"), post(pause))
        .route(&format!("{pipeline}/unpause"), post(unpause))
        .route(&format!("{pipeline}/unlock"), post(unlock))
        .route(&format!("{pipeline}/schedule"), post(schedule))
        .route(&format!("{pipeline}/trigger_options"), get(trigger_options))
        .route(&format!("{pipeline}/{{counter}}/comment"), post(comment))
        // Of old releases.
        .route(&format!("{pipeline}/releaseLock"), post(unlock))
}

/// What an operation answers when it has failed: what was tried, and in braces why not.
pub(super) fn operation(status: StatusCode, tried: &str, why: impl std::fmt::Display) -> Refusal {
    Refusal::message(status, format!("{tried} {{ {why} }}"))
}

async fn defined(call: &Call<1>, name: &str) -> Result<Pipeline, Refusal> {
    let pipeline = store::pipeline(&mut *call.reader().await?, name).await?;
    pipeline.ok_or_else(|| call::not_found("Pipeline", "name", name))
}

async fn status(call: Call<1>, Path(name): Path<String>) -> Result<Response, Refusal> {
    let pipeline = defined(&call, &name).await?;
    let mut connection = call.reader().await?;
    let state = state::state_of(&mut connection, &pipeline.name).await?;
    let pause = state.pause.as_ref();
    Ok(call.answer(&json!({
        "paused": pause.is_some(),
        "paused_cause": pause.map_or("", |pause| &pause.cause),
        "paused_by": pause.map_or("", |pause| &pause.by),
        "locked": state.locked_by.is_some(),
        "schedulable": state::schedulable(&mut connection, &pipeline).await?,
    })))
}

async fn pause(
    call: Call<1>,
    actor: Actor,
    Path(name): Path<String>,
    BodyOrForm(body): BodyOrForm,
) -> Result<Response, Refusal> {
    // The second is the form of old releases.
    let cause = body.text("pause_cause")?.or(body.text("pauseCause")?);
    let cause = cause.unwrap_or_default().trim();
    state::pause(&call.app, &name, &actor.name, cause)
        .await
        .map_err(|error| {
            refused(
                &format!("Failed to pause pipeline '{name}'."),
                &name,
                &error,
            )
        })?;
    audit::detail(cause.to_owned());
    Ok(call.message(format!("Pipeline '{name}' paused successfully.")))
}

async fn unpause(
    call: Call<1>,
    Path(name): Path<String>,
    _: BodyOrForm,
) -> Result<Response, Refusal> {
    state::unpause(&call.app, &name).await.map_err(|error| {
        refused(
            &format!("Failed to unpause pipeline '{name}'."),
            &name,
            &error,
        )
    })?;
    Ok(call.message(format!("Pipeline '{name}' unpaused successfully.")))
}

async fn unlock(
    call: Call<1>,
    Path(name): Path<String>,
    _: BodyOrForm,
) -> Result<Response, Refusal> {
    state::unlock(&call.app, &name).await.map_err(|error| {
        refused(
            &format!("Failed to unlock pipeline '{name}'."),
            &name,
            &error,
        )
    })?;
    Ok(call.message(format!("Pipeline lock released for '{name}'.")))
}

fn refused(tried: &str, name: &str, error: &StateError) -> Refusal {
    match error {
        StateError::Database(_) => Refusal::internal("change the state of a pipeline", error),
        StateError::Unknown(_) => call::not_found("Pipeline", "name", name),
        StateError::Paused { .. }
        | StateError::NotPaused(_)
        | StateError::NotLockable(_)
        | StateError::NotLocked(_)
        | StateError::Active { .. } => operation(StatusCode::CONFLICT, tried, error),
    }
}

async fn schedule(
    call: Call<1>,
    actor: Actor,
    Path(name): Path<String>,
    BodyOrForm(body): BodyOrForm,
) -> Result<Response, Refusal> {
    let mut options = Options::by(&actor);
    read_options(&body, &mut options)?;
    let pipeline = defined(&call, &name).await?;
    read_old_options(&body, &pipeline, &mut options)?;
    let counter = trigger::trigger(&call.app, &name, &options)
        .await
        .map_err(|error| refusal(&name, error))?;
    audit::detail(format!("run {counter}"));
    let body = json!({
        "message": format!("Request to schedule pipeline {name} accepted"),
        // GoCD's answer does not say; a client that knows need not guess.
        "counter": counter,
    });
    Ok(call.answer_with(StatusCode::ACCEPTED, &body))
}

async fn trigger_options(call: Call<1>, Path(name): Path<String>) -> Result<Response, Refusal> {
    let choices = trigger::options_of(&call.app, &name).await;
    let choices = choices.map_err(|error| refusal(&name, error))?;
    let variables = choices.variables.iter().map(|one| match one.secure {
        true => json!({ "name": one.name, "secure": true }),
        false => json!({ "name": one.name, "secure": false, "value": one.value }),
    });
    let materials = choices.materials.iter().map(|one| {
        let newest = one.newest.as_ref();
        let mut shown = material::brief(&wire::on_wire(&one.material));
        shown["fingerprint"] = json!(one.fingerprint);
        shown["folder"] = json!(one.material.git().and_then(|git| git.destination.as_ref()));
        shown["revision"] = json!({
            "date": newest.and_then(|newest| newest.modified_time),
            "user": newest.and_then(material::committer),
            "comment": newest.and_then(|newest| newest.comment.as_ref()),
            "revision": newest.map(|newest| &newest.revision),
            "last_run_revision": one.last_run.as_ref().map(|last| &last.revision),
        });
        shown
    });
    let path = |what: &str| format!("/api/pipelines/{name}/{what}");
    let mut links = call.links(&path("trigger_options"), "pipeline-trigger-options", None);
    links["schedule"] = json!({ "href": call.url(&path("schedule")) });
    Ok(call.answer(&json!({
        "_links": links,
        "variables": variables.collect::<Vec<_>>(),
        "materials": materials.collect::<Vec<_>>(),
    })))
}

fn read_options(body: &Body, options: &mut Options) -> Result<(), Refusal> {
    for item in objects(body, "environment_variables")? {
        let secure = item.flag("secure")?.unwrap_or(false);
        let (plain, encrypted) = (item.text("value")?, item.text("encrypted_value")?);
        let value = match (plain, encrypted) {
            (Some(_), Some(_)) => {
                return Err(invalid(
                    "One of 'environment_variables' has both a 'value' and an 'encrypted_value': send one of them.",
                ));
            }
            (Some(value), None) | (None, Some(value)) => value,
            (None, None) => {
                return Err(invalid(
                    "Each of 'environment_variables' needs a 'name' and a 'value'.",
                ));
            }
        };
        options.overrides.push(Variable {
            name: item.required("name")?.to_owned(),
            value: value.to_owned(),
            secure: secure || encrypted.is_some(),
        });
    }
    // Old releases have an object of that name, from names to revisions.
    if !matches!(body.get("materials"), Some(Value::Object(_))) {
        for item in objects(body, "materials")? {
            let fingerprint = item.required("fingerprint")?.to_owned();
            let revision = item.required("revision")?.to_owned();
            options.materials.push((fingerprint, revision));
        }
    }
    if let Some(update) = body.get("update_materials_before_scheduling") {
        // A form has only texts.
        options.update_materials = match update {
            Value::String(text) => !text.eq_ignore_ascii_case("false"),
            _ => body
                .flag("update_materials_before_scheduling")?
                .unwrap_or(true),
        };
    }
    Ok(())
}

/// The objects of a list.
fn objects(body: &Body, name: &str) -> Result<Vec<Body>, Refusal> {
    let items = body.list(name)?.iter().map(|item| match item {
        Value::Object(fields) => Ok(Body::of(fields.clone())),
        _ => Err(invalid(format!("Each of '{name}' must be an object."))),
    });
    items.collect()
}

/// What old releases understand: `variables[K]`, `secure_variables[K]` and `materials[name]`, as
/// fields of a form or of a JSON object, or as objects `variables`, `secure_variables`, `materials`.
fn read_old_options(
    body: &Body,
    pipeline: &Pipeline,
    options: &mut Options,
) -> Result<(), Refusal> {
    let mut pairs: Vec<(&str, &str, &Value)> = Vec::new();
    for (field, value) in body.fields() {
        for kind in [
            "variables",
            "secure_variables",
            "materials",
            "original_fingerprint",
        ] {
            let key = field.strip_prefix(kind);
            let key = key.and_then(|rest| rest.strip_prefix('[')?.strip_suffix(']'));
            if let Some(key) = key {
                pairs.push((kind, key, value));
            } else if let (true, Value::Object(all)) = (field == kind, value) {
                pairs.extend(all.iter().map(|(key, value)| (kind, key.as_str(), value)));
            }
        }
    }
    for (kind, key, value) in pairs {
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            _ => return Err(invalid(format!("'{kind}[{key}]' must be a text."))),
        };
        match kind {
            "variables" | "secure_variables" => options.overrides.push(Variable {
                name: key.to_owned(),
                value,
                secure: kind == "secure_variables",
            }),
            // Without a revision it is the newest.
            "materials" if !value.is_empty() => {
                let mut materials = pipeline.materials.iter();
                let named = materials.find(|one| one.name().eq_ignore_ascii_case(key));
                // A fingerprint is understood as well.
                let fingerprint = named.map_or(key.to_owned(), wire::fingerprint_of);
                options.materials.push((fingerprint, value));
            }
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn refusal(name: &str, error: TriggerError) -> Refusal {
    let status = match &error {
        TriggerError::Database(_) => return Refusal::internal("trigger a pipeline", &error),
        TriggerError::Unknown(name) => return call::not_found("Pipeline", "name", name),
        TriggerError::Refused {
            refused: Refused::NotAllowed { .. },
            ..
        } => StatusCode::FORBIDDEN,
        TriggerError::Active { .. }
        | TriggerError::Paused { .. }
        | TriggerError::Locked { .. }
        | TriggerError::BeingTriggered(_)
        | TriggerError::NothingNew(_)
        | TriggerError::Refused { .. }
        | TriggerError::Unsteady(_) => StatusCode::CONFLICT,
        TriggerError::Encrypt(_) => return Refusal::internal("trigger a pipeline", &error),
        TriggerError::UnknownVariable { .. }
        | TriggerError::Material { .. }
        | TriggerError::Value { .. }
        | TriggerError::NotSeen { .. }
        | TriggerError::UnknownMaterial { .. }
        | TriggerError::UnknownRevision { .. }
        | TriggerError::NoAgreement { .. }
        | TriggerError::Upstream { .. } => StatusCode::UNPROCESSABLE_ENTITY,
    };
    let tried = format!("Failed to trigger pipeline [{name}]");
    operation(status, &tried, Chain(&error))
}

async fn comment(
    call: Call<1>,
    Path((name, counter)): Path<(String, String)>,
    body: Body,
) -> Result<Response, Refusal> {
    let counter = call::counter(&counter)?;
    let text = body.text("comment")?;
    let text = text.ok_or_else(|| invalid("'comment' is missing."))?;
    scheduling::comment(&call.app, &name, counter, text)
        .await
        .map_err(|error| match error {
            CommentError::Database(error) => Refusal::from(error),
            CommentError::UnknownRun { .. } => {
                let text =
                    format!("Pipeline with name '{name}' and counter '{counter}' was not found!");
                Refusal::message(StatusCode::NOT_FOUND, text)
            }
        })?;
    Ok(call.message("Comment successfully updated."))
}
