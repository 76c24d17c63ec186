//! What the server says about itself.

use std::sync::Arc;

use axum::Router;
use axum::extract::RawQuery;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use http::header;
use serde_json::{Map, Value, json};

use super::body::Body;
use super::call::{Call, invalid, time};
use crate::App;
use crate::answer::Refusal;
use crate::health;
use crate::pipelines::{repositories, store};
use crate::scheduling::timeouts;
use crate::users::{Actor, audit};

/// The GoCD release whose API this is: clients choose by it how to speak. What the server really
/// is says the header `Journeyman-Server`.
pub(crate) const API_VERSION: &str = "26.2.0";

const JOB_TIMEOUT: &str = "/api/admin/config/server/default_job_timeout";

/// The kinds of things that rights are told of. GoCD has plugins for the last two.
const KINDS: [&str; 4] = [
    "environment",
    "config_repo",
    "cluster_profile",
    "elastic_agent_profile",
];

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/about", get(about))
        .route("/api/version", get(version))
        .route("/api/v1/health", get(healthy))
        .route("/api/server_health_messages", get(messages))
        .route("/api/auth/permissions", get(permissions))
        .route(
            JOB_TIMEOUT,
            get(job_timeout).post(set_job_timeout).put(set_job_timeout),
        )
}

/// Minutes of silence after which a job is cancelled that does not say; 0 is never.
async fn job_timeout(call: Call<1>) -> Result<Response, Refusal> {
    let mut connection = call.reader().await?;
    let minutes = timeouts::default_minutes(&call.app, &mut connection).await?;
    Ok(call.answer(&json!({
        "_links": call.links(JOB_TIMEOUT, "default-job-timeout", None),
        "default_job_timeout": minutes.to_string(),
    })))
}

async fn set_job_timeout(call: Call<1>, body: Body) -> Result<Response, Refusal> {
    let given = match body.get("default_job_timeout") {
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(given) => given.as_u64(),
        None => {
            return Err(invalid(
                "'default_job_timeout' is missing: a number of minutes.",
            ));
        }
    };
    let minutes: u64 = given.ok_or_else(|| {
        invalid("'default_job_timeout' is not a whole number of minutes; 0 is never.")
    })?;
    timeouts::set_default_minutes(&call.app, minutes).await?;
    audit::detail(format!("{minutes} minutes"));
    job_timeout(call).await
}

fn full_version() -> String {
    format!("{API_VERSION} (0-journeyman-{})", env!("CARGO_PKG_VERSION"))
}

async fn version(call: Call<1>) -> Response {
    call.answer(&json!({
        "_links": call.links("/api/version", "version", None),
        "version": API_VERSION,
        "build_number": "0",
        "git_sha": format!("journeyman-{}", env!("CARGO_PKG_VERSION")),
        "full_version": full_version(),
        "commit_url": "",
    }))
}

/// Old clients look up the version in a table of this page before they do anything.
async fn about() -> Html<String> {
    Html(format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><title>About</title></head>\n<body>\n<table>\n\
         <tr><td>Go Server Version:</td><td>{}</td></tr>\n\
         <tr><td>Journeyman:</td><td>{}</td></tr>\n\
         </table>\n</body>\n</html>\n",
        full_version(),
        env!("CARGO_PKG_VERSION")
    ))
}

/// Whether the server answers; any version, and no login.
async fn healthy() -> Response {
    let media_type = [(header::CONTENT_TYPE, "application/json;charset=utf-8")];
    (media_type, "{\n  \"health\": \"OK\"\n}").into_response()
}

async fn messages(call: Call<1>) -> Response {
    let messages = health::list(&call.app);
    let messages: Vec<Value> = messages
        .iter()
        .map(|one| {
            json!({
                "message": one.message,
                "detail": one.detail,
                "level": one.level.wire_name(),
                "time": time(one.since),
            })
        })
        .collect();
    call.answer_tagged(&messages)
}

/// What the caller may see and change, by kind and name.
async fn permissions(
    call: Call<1>,
    actor: Actor,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let query = query.unwrap_or_default();
    let asked = url::form_urlencoded::parse(query.as_bytes())
        .find_map(|(name, value)| (name == "type").then(|| value.into_owned()));
    let kinds: Vec<&str> = match &asked {
        Some(asked) => asked.split(',').map(str::trim).collect(),
        None => KINDS.to_vec(),
    };
    let mut connection = call.reader().await?;
    let mut permissions = Map::new();
    for kind in kinds {
        let names: Vec<String> = match kind {
            _ if !KINDS.contains(&kind) => {
                return Err(invalid(format!(
                    "'{kind}' is no type; {} are.",
                    KINDS.join(", ")
                )));
            }
            // What these are is told to admins only.
            _ if !actor.rights.is_admin() => Vec::new(),
            "environment" => {
                let all = store::environments(&mut connection).await?;
                all.into_iter().map(|one| one.name).collect()
            }
            "config_repo" => {
                let all = repositories::list(&mut connection).await?;
                all.into_iter().map(|one| one.id).collect()
            }
            _ => Vec::new(),
        };
        // Environments are changed in repositories, which admins add and remove.
        permissions.insert(
            kind.to_owned(),
            json!({ "view": names, "administer": names }),
        );
    }
    Ok(call.answer(&json!({ "permissions": permissions })))
}
