//! What pipelines are defined as: `/api/admin/pipelines`, version 11, the groups they are in, and
//! their definition as a file.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::Body;
use super::call::{Call, invalid, not_found};
use super::config_repos::PLUGIN;
use super::{definitions, export};
use crate::App;
use crate::answer::Refusal;
use crate::pipelines::definition::{Material, Pipeline};
use crate::pipelines::location;
use crate::pipelines::store::{self, StoredPipeline};
use crate::scheduling::trigger;
use crate::users::known::{self, KnownUser};
use crate::users::{Actor, Role};

const PIPELINES: &str = "/api/admin/pipelines";
const GROUPS: &str = "/api/admin/pipeline_groups";

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route(PIPELINES, post(create))
        .route(
            &format!("{PIPELINES}/{{pipeline}}"),
            get(one).put(change).delete(delete),
        )
        .route(GROUPS, get(groups))
        .route(&format!("{GROUPS}/{{group}}"), get(group))
        .route("/api/config/pipeline_groups", get(groups_of_old))
        .route("/api/admin/export/pipelines/{pipeline}", get(exported))
}

async fn find<const VERSION: u32>(
    call: &Call<VERSION>,
    name: &str,
) -> Result<StoredPipeline, Refusal> {
    let mut connection = call.reader().await?;
    let all = store::pipelines(&mut connection).await?;
    let mut all = all.into_iter();
    let found = all.find(|one| one.pipeline.name.eq_ignore_ascii_case(name));
    found.ok_or_else(|| not_found("Pipeline", "name", name))
}

async fn one(call: Call<11>, Path(name): Path<String>) -> Result<Response, Refusal> {
    let StoredPipeline {
        repository,
        pipeline,
    } = find(&call, &name).await?;
    let mut shown = definitions::pipeline(&call.app.cipher, &pipeline)?;
    let own = format!("{PIPELINES}/{}", pipeline.name);
    let find = format!("{PIPELINES}/:pipeline_name");
    shown["_links"] = call.links(&own, "pipeline-config", Some(&find));
    shown["origin"] = json!({
        "_links": call.links(
            &format!("/api/admin/config_repos/{repository}"),
            "config-repos",
            Some("/api/admin/config_repos/:id"),
        ),
        "type": "config_repo",
        "id": repository,
    });
    Ok(call.tagged(&pipeline, call.answer(&shown)))
}

async fn create(_: Call<11>, body: Body) -> Result<Response, Refusal> {
    let pipeline = body.object("pipeline")?;
    Err(elsewhere(pipeline.required("name")?))
}

async fn change(call: Call<11>, Path(name): Path<String>, _: Body) -> Result<Response, Refusal> {
    let stored = find(&call, &name).await?;
    call.must_match(&format!("the pipeline '{name}'"), &stored.pipeline)?;
    Err(elsewhere(&name))
}

async fn delete(call: Call<11>, Path(name): Path<String>) -> Result<Response, Refusal> {
    find(&call, &name).await?;
    Err(elsewhere(&name))
}

fn elsewhere(name: &str) -> Refusal {
    invalid(format!(
        "The pipeline '{name}' cannot be changed here: pipelines are defined in the files of \
         configuration repositories."
    ))
}

/// Groups with their pipelines, both in the order of the pages.
fn by_group(pipelines: Vec<StoredPipeline>) -> Vec<(String, Vec<StoredPipeline>)> {
    let mut groups: Vec<(String, Vec<StoredPipeline>)> = Vec::new();
    for one in pipelines {
        let name = &one.pipeline.group;
        match groups.last_mut() {
            Some((group, members)) if group.eq_ignore_ascii_case(name) => members.push(one),
            _ => groups.push((name.clone(), vec![one])),
        }
    }
    groups
}

async fn groups(call: Call<1>) -> Result<Response, Refusal> {
    let mut connection = call.reader().await?;
    let groups = by_group(store::pipelines(&mut connection).await?);
    let users = known::all(&call.app).await?;
    let shown = groups
        .iter()
        .map(|(name, members)| show_group(&call, &users, name, members));
    let shown: Vec<Value> = shown.collect();
    Ok(call.answer_tagged(&json!({
        "_links": call.links(GROUPS, "pipeline-group-config", None),
        "_embedded": { "groups": shown },
    })))
}

async fn group(call: Call<1>, Path(name): Path<String>) -> Result<Response, Refusal> {
    let mut connection = call.reader().await?;
    let groups = by_group(store::pipelines(&mut connection).await?);
    let mut groups = groups.iter();
    let found = groups.find(|(group, _)| group.eq_ignore_ascii_case(&name));
    let (group, members) = found.ok_or_else(|| not_found("Pipeline group", "name", &name))?;
    let users = known::all(&call.app).await?;
    let shown = show_group(&call, &users, group, members);
    Ok(call.answer_tagged(&shown))
}

fn show_group(
    call: &Call<1>,
    users: &[KnownUser],
    name: &str,
    members: &[StoredPipeline],
) -> Value {
    let with = |role: Role| {
        let users = users
            .iter()
            .filter(|user| user.rights.in_group(name) == Some(role));
        let users: Vec<&str> = users.map(|user| user.name.as_str()).collect();
        json!({ "users": users, "roles": [] })
    };
    let pipelines = members.iter().map(|one| {
        let name = &one.pipeline.name;
        let own = format!("{PIPELINES}/{name}");
        let find = format!("{PIPELINES}/:pipeline_name");
        json!({ "_links": call.links(&own, "pipeline-config", Some(&find)), "name": name })
    });
    let own = format!("{GROUPS}/{name}");
    json!({
        "_links": call.links(&own, "pipeline-group-config", Some(&format!("{GROUPS}/:group_name"))),
        "name": name,
        "authorization": {
            "view": with(Role::View), "operate": with(Role::Operate), "admins": with(Role::Admin),
        },
        "pipelines": pipelines.collect::<Vec<_>>(),
    })
}

/// The call of releases before 19, which published clients make to learn of all pipelines.
async fn groups_of_old(call: Call<1>, actor: Actor) -> Result<Response, Refusal> {
    let mut connection = call.reader().await?;
    let groups = by_group(store::pipelines(&mut connection).await?);
    let groups = groups.iter().filter(|(name, _)| actor.sees(name));
    let groups = groups.map(|(name, members)| {
        let pipelines = members.iter().map(|one| show_of_old(&one.pipeline));
        json!({ "name": name, "pipelines": pipelines.collect::<Vec<_>>() })
    });
    Ok(call.answer(&groups.collect::<Vec<_>>()))
}

fn show_of_old(pipeline: &Pipeline) -> Value {
    let materials = pipeline.materials.iter().map(|material| {
        let wire = trigger::on_wire(material);
        let (kind, description) = match material {
            Material::Git(git) => {
                let url = location::without_credentials(&git.url);
                ("Git", format!("URL: {url}, Branch: {}", git.branch))
            }
            Material::Dependency(one) => {
                ("Pipeline", format!("{} [ {} ]", one.pipeline, one.stage))
            }
        };
        json!({
            "type": kind,
            "description": description,
            "fingerprint": trigger::fingerprint(&wire),
        })
    });
    let stages = pipeline.stages.iter();
    let stages = stages.map(|stage| json!({ "name": stage.name }));
    json!({
        "name": pipeline.name,
        "label": pipeline.label_template,
        "materials": materials.collect::<Vec<_>>(),
        "stages": stages.collect::<Vec<_>>(),
    })
}

#[derive(Deserialize)]
struct Wanted {
    plugin_id: Option<String>,
}

/// The pipeline as a file that could define it.
async fn exported(
    call: Call<1>,
    Path(name): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Refusal> {
    match wanted.plugin_id.as_deref() {
        Some(PLUGIN) => {}
        None => return Err(invalid("The query parameter 'plugin_id' is missing.")),
        Some(other) => {
            let text = format!("There is no plugin '{other}' to export with; '{PLUGIN}' is.");
            return Err(Refusal::message(StatusCode::UNPROCESSABLE_ENTITY, text));
        }
    }
    let pipeline = find(&call, &name).await?.pipeline;
    let text = export::file(&call.app.cipher, &pipeline)?;
    let mut response = (
        [(header::CONTENT_TYPE, "application/x-yaml; charset=utf-8")],
        text,
    )
        .into_response();
    // A name of a pipeline has no character that would need care in a header.
    let disposition = format!("attachment; filename=\"{}.gocd.yaml\"", pipeline.name);
    if let Ok(value) = HeaderValue::from_str(&disposition) {
        response
            .headers_mut()
            .insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(call.tagged(&pipeline, response))
}
