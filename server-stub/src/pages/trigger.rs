//! Triggering a pipeline, by a button or by a form with variables and revisions.

use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use sqlx::SqliteConnection;

use super::fields::Fields;
use super::outcome::{done, origin, refused};
use super::times::full;
use super::{changes, may, not_found, render};
use crate::App;
use crate::answer::{Chain, Refusal};
use crate::database::DatabaseError;
use crate::pipelines::definition::{Material, Pipeline, Variable};
use crate::pipelines::store;
use crate::scheduling::Refused;
use crate::scheduling::trigger::{self, Options, TriggerError};
use crate::users::Actor;

const HOME: &str = "/go/pipelines";

/// Revisions that are offered of each material.
const OFFERED: i64 = 25;

#[derive(Template)]
#[template(path = "trigger.html")]
struct Page {
    pipeline: String,
    variables: Vec<VariableField>,
    materials: Vec<MaterialField>,
    update: bool,
    notice: Option<String>,
    /// Whether a secret was typed, which is not shown again.
    forgot: bool,
}

impl Page {
    fn here(&self) -> &'static str {
        "pipelines"
    }
}

struct VariableField {
    name: String,
    /// Of a secure one nothing.
    value: String,
    secure: bool,
    origin: &'static str,
}

struct MaterialField {
    fingerprint: String,
    kind: &'static str,
    name: String,
    /// What was typed.
    value: String,
    known: Vec<Known>,
}

/// A revision that can be chosen.
struct Known {
    revision: String,
    words: String,
}

/// The form.
pub(super) async fn page(
    State(app): State<Arc<App>>,
    Path(pipeline): Path<String>,
) -> Result<Response, Refusal> {
    show(&app, &pipeline, StatusCode::OK, None, None).await
}

/// What the button and the form ask for.
pub(super) async fn trigger(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    Path(pipeline): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let fields = Fields::of(&body);
    let by_form = fields.get("form") == Some("options");
    let mut options = Options::by(&actor);
    if by_form {
        let (variables, materials) = known(&app, &pipeline).await?;
        options.overrides = variables
            .into_iter()
            .filter_map(|(known, _)| changed(known, &fields))
            .collect();
        let chosen = materials.into_iter().filter_map(|fingerprint| {
            let revision = fields.get(&format!("material:{fingerprint}"))?.trim();
            (!revision.is_empty()).then(|| (fingerprint, revision.to_owned()))
        });
        options.materials = chosen.collect();
        options.update_materials = fields.get("update").is_some();
    }
    let error = match trigger::trigger(&app, &pipeline, &options).await {
        Ok(_) if by_form => return Ok(done(&HeaderMap::new(), &activity(&pipeline))),
        Ok(_) => return Ok(done(&headers, HOME)),
        Err(TriggerError::Database(error)) => return Err(error.into()),
        Err(error) => error,
    };
    let status = match &error {
        TriggerError::Unknown(_) => StatusCode::NOT_FOUND,
        TriggerError::UnknownVariable { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        TriggerError::Refused {
            refused: Refused::NotAllowed { .. },
            ..
        } => StatusCode::FORBIDDEN,
        _ => StatusCode::CONFLICT,
    };
    let message = Chain(&error).to_string();
    if by_form && status != StatusCode::NOT_FOUND {
        return show(&app, &pipeline, status, Some(message), Some(&fields)).await;
    }
    let title = format!("{pipeline} was not triggered");
    Ok(refused(status, title, message, origin(&headers, HOME)))
}

fn activity(pipeline: &str) -> String {
    format!("/go/pipeline/activity/{pipeline}")
}

/// What was typed in the place of a variable's value, if anything was.
fn changed(known: Variable, fields: &Fields) -> Option<Variable> {
    let value = fields.get(&format!("variable:{}", known.name))?;
    let same = match known.secure {
        true => value.is_empty(),
        false => value == known.value,
    };
    (!same).then(|| Variable {
        value: value.to_owned(),
        ..known
    })
}

/// The variables that can be overridden, and where they are from.
async fn variables(
    connection: &mut SqliteConnection,
    pipeline: &Pipeline,
) -> Result<Vec<(Variable, &'static str)>, DatabaseError> {
    let environment = store::environment_of(connection, &pipeline.name).await?;
    let environment = environment.map(|(_, list)| list).unwrap_or_default();
    let of_pipeline = |name: &str| pipeline.variables.iter().any(|one| one.name == name);
    let hidden = environment
        .into_iter()
        .filter(|one| !of_pipeline(&one.name));
    let own = pipeline
        .variables
        .iter()
        .cloned()
        .map(|one| (one, "pipeline"));
    Ok(own.chain(hidden.map(|one| (one, "environment"))).collect())
}

type KnownFields = (Vec<(Variable, &'static str)>, Vec<String>);

/// The variables and the materials' fingerprints of a pipeline.
async fn known(app: &App, name: &str) -> Result<KnownFields, Refusal> {
    let connection = app.database.readers().acquire().await;
    let mut connection = connection.map_err(DatabaseError::from)?;
    let pipeline = store::pipeline(&mut connection, name).await?;
    let pipeline = pipeline.ok_or_else(|| not_found("such pipeline"))?;
    let fingerprints = pipeline.materials.iter().map(fingerprint);
    Ok((
        variables(&mut connection, &pipeline).await?,
        fingerprints.collect(),
    ))
}

fn fingerprint(material: &Material) -> String {
    trigger::fingerprint(&trigger::on_wire(material))
}

async fn show(
    app: &App,
    name: &str,
    status: StatusCode,
    notice: Option<String>,
    typed: Option<&Fields>,
) -> Result<Response, Refusal> {
    let connection = app.database.readers().acquire().await;
    let mut connection = connection.map_err(DatabaseError::from)?;
    let pipeline = store::pipeline(&mut connection, name).await?;
    let pipeline = pipeline.ok_or_else(|| not_found("such pipeline"))?;
    if !may::operate(&pipeline.group) {
        let text = "You are not authorized to trigger this pipeline.\n";
        return Err(Refusal::text(StatusCode::FORBIDDEN, text));
    }
    let typed_in = |name: String| typed.and_then(|fields| fields.get(&name));
    let mut forgot = false;
    let mut fields = Vec::new();
    for (variable, origin) in variables(&mut connection, &pipeline).await? {
        let typed = typed_in(format!("variable:{}", variable.name));
        forgot |= variable.secure && typed.is_some_and(|value| !value.is_empty());
        fields.push(VariableField {
            value: match (variable.secure, typed) {
                (true, _) => String::new(),
                (false, Some(typed)) => typed.to_owned(),
                (false, None) => variable.value,
            },
            name: variable.name,
            secure: variable.secure,
            origin,
        });
    }
    let mut materials = Vec::new();
    for material in &pipeline.materials {
        let fingerprint = fingerprint(material);
        let (kind, name) = changes::describe(&trigger::on_wire(material));
        let typed = typed_in(format!("material:{fingerprint}"));
        materials.push(MaterialField {
            known: revisions(&mut connection, material, &fingerprint).await?,
            value: typed.unwrap_or_default().to_owned(),
            fingerprint,
            kind,
            name,
        });
    }
    let page = Page {
        pipeline: pipeline.name,
        variables: fields,
        materials,
        update: typed.is_none_or(|fields| fields.get("update").is_some()),
        notice,
        forgot,
    };
    Ok(render(status, &page))
}

/// The newest revisions of a material, as far as they were seen.
async fn revisions(
    connection: &mut SqliteConnection,
    material: &Material,
    fingerprint: &str,
) -> Result<Vec<Known>, DatabaseError> {
    let rows: Vec<(String, String, String, i64)> = match material {
        Material::Git(_) => {
            let statement = "SELECT revision, user_name, comment, modified_at FROM modifications \
                             WHERE fingerprint = $1 ORDER BY position DESC LIMIT $2";
            sqlx::query_as(statement)
                .bind(fingerprint)
                .bind(OFFERED)
                .fetch_all(connection)
                .await?
        }
        Material::Dependency(one) => {
            let statement = "SELECT pipeline_runs.pipeline || '/' || pipeline_runs.counter || '/' \
                             || stages.name || '/' || stages.counter, pipeline_runs.label, '', \
                             stages.completed_at FROM stages \
                             JOIN pipeline_runs ON pipeline_runs.id = stages.run_id \
                             WHERE lower(pipeline_runs.pipeline) = lower($1) \
                             AND lower(stages.name) = lower($2) AND stages.state = 'Passed' \
                             AND stages.completed_at IS NOT NULL \
                             ORDER BY pipeline_runs.counter DESC, stages.counter DESC LIMIT $3";
            sqlx::query_as(statement)
                .bind(&one.pipeline)
                .bind(&one.stage)
                .bind(OFFERED)
                .fetch_all(connection)
                .await?
        }
    };
    let known = |(revision, who, comment, at): (String, String, String, i64)| {
        let first = comment.lines().next().unwrap_or_default();
        let first: String = first.chars().take(60).collect();
        let words = [who, first, full(at)]
            .into_iter()
            .filter(|word| !word.is_empty());
        Known {
            revision,
            words: words.collect::<Vec<_>>().join(" · "),
        }
    };
    Ok(rows.into_iter().map(known).collect())
}
