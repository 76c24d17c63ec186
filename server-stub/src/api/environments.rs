//! `/api/admin/environments`, version 3.
//!
//! Environments come from the files of configuration repositories, and are changed there.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};

use super::body::Body;
use super::call::{Call as Versioned, invalid, not_found};
use super::definitions;
use crate::App;
use crate::agents::{self, Agent};
use crate::answer::Refusal;
use crate::pipelines::definition::Environment;
use crate::pipelines::store;

type Call = Versioned<3>;

const ROOT: &str = "/api/admin/environments";
const FIND: &str = "/api/admin/environments/:name";

pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route(ROOT, get(list).post(create)).route(
        &format!("{ROOT}/{{name}}"),
        get(one).put(change).patch(change).delete(delete),
    )
}

async fn list(call: Call) -> Result<Response, Refusal> {
    let mut connection = call.reader().await?;
    let environments = store::environments(&mut connection).await?;
    let agents = agents::list(&mut connection).await?;
    let mut shown = Vec::new();
    for environment in &environments {
        shown.push(show(&call, environment, &agents)?);
    }
    let answer = call.answer(&json!({
        "_links": call.links(ROOT, "environment-config", None),
        "_embedded": { "environments": shown },
    }));
    Ok(call.tagged(&environments, answer))
}

async fn one(call: Call, Path(name): Path<String>) -> Result<Response, Refusal> {
    let environment = find(&call, &name).await?;
    let mut connection = call.reader().await?;
    let agents = agents::list(&mut connection).await?;
    let answer = call.answer(&show(&call, &environment, &agents)?);
    Ok(call.tagged(&environment, answer))
}

async fn find(call: &Call, name: &str) -> Result<Environment, Refusal> {
    let mut connection = call.reader().await?;
    let environments = store::environments(&mut connection).await?;
    let found = environments
        .into_iter()
        .find(|one| one.name.eq_ignore_ascii_case(name));
    found.ok_or_else(|| not_found("Environment", "name", name))
}

async fn create(_: Call, body: Body) -> Result<Response, Refusal> {
    let name = body.required("name")?;
    Err(elsewhere(name))
}

async fn change(call: Call, Path(name): Path<String>, _: Body) -> Result<Response, Refusal> {
    find(&call, &name).await?;
    Err(elsewhere(&name))
}

async fn delete(call: Call, Path(name): Path<String>) -> Result<Response, Refusal> {
    find(&call, &name).await?;
    Err(elsewhere(&name))
}

fn elsewhere(name: &str) -> Refusal {
    invalid(format!(
        "The environment '{name}' cannot be changed here: environments are defined in the files of \
         configuration repositories. Agents are put into them by PATCH /api/agents."
    ))
}

fn show(call: &Call, environment: &Environment, agents: &[Agent]) -> Result<Value, Refusal> {
    let name = &environment.name;
    let pipelines = environment.pipelines.iter().map(|pipeline| {
        let own = call.url(&format!("/api/pipelines/{pipeline}/history"));
        json!({ "_links": { "self": { "href": own } }, "name": pipeline })
    });
    let mut shown = json!({
        "_links": call.links(&format!("{ROOT}/{name}"), "environment-config", Some(FIND)),
        "name": name,
        "pipelines": pipelines.collect::<Vec<_>>(),
        "environment_variables": definitions::variables(&call.app.cipher, &environment.variables)?,
    });
    if call.version() < 3 {
        let members = agents.iter().filter(|agent| {
            let mut put = agent.environments.iter();
            put.any(|one| one.eq_ignore_ascii_case(name))
                || environment.agents.contains(&agent.uuid)
        });
        let members = members.map(|agent| {
            let own = call.url(&format!("/api/agents/{}", agent.uuid));
            json!({ "_links": { "self": { "href": own } }, "uuid": agent.uuid })
        });
        shown["agents"] = members.collect();
    }
    Ok(shown)
}
