//! `/api/admin/config_repos`, version 4.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{get, post};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::reply;
use crate::App;
use crate::answer::Refusal;
use crate::database::DatabaseError;
use crate::pipelines::repositories::{self, ConfigRepo, RepositoryError};
use crate::pipelines::{location, store};

const VERSION: u32 = 4;

/// The only plugin whose files are read.
const PLUGIN: &str = "yaml.config.plugin";

/// How long `trigger_update` waits for the outcome before it answers; it goes on after that.
const GLANCE: Duration = Duration::from_secs(20);

pub(super) fn router() -> Router<Arc<App>> {
    let root = "/api/admin/config_repos";
    Router::new()
        .route(root, get(list).post(create))
        .route(&format!("{root}/{{id}}"), get(one).delete(delete))
        .route(&format!("{root}/{{id}}/status"), get(status))
        .route(&format!("{root}/{{id}}/definitions"), get(definitions))
        .route(&format!("{root}/{{id}}/trigger_update"), post(update))
}

async fn list(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Refusal> {
    let version = reply::version(&headers, VERSION)?;
    let base = reply::base(&app, &headers);
    let mut connection = app
        .database
        .readers()
        .acquire()
        .await
        .map_err(DatabaseError::from)?;
    let repos = repositories::list(&mut connection).await?;
    let shown: Vec<Value> = repos.iter().map(|repo| show(repo, &base)).collect();
    let own = format!("{base}/api/admin/config_repos");
    let body = json!({
        "_links": reply::links(&own, "config-repos", Some(&format!("{own}/:id"))),
        "_embedded": { "config_repos": shown },
    });
    Ok(reply::document(StatusCode::OK, version, &body))
}

async fn find(app: &App, id: &str) -> Result<ConfigRepo, Refusal> {
    let mut connection = app
        .database
        .readers()
        .acquire()
        .await
        .map_err(DatabaseError::from)?;
    let repo = repositories::find(&mut connection, id).await?;
    repo.ok_or_else(|| reply::not_found("Config repo", "id", id))
}

async fn one(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let version = reply::version(&headers, VERSION)?;
    let repo = find(&app, &id).await?;
    let body = show(&repo, &reply::base(&app, &headers));
    Ok(reply::document(StatusCode::OK, version, &body))
}

async fn create(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let version = reply::version(&headers, VERSION)?;
    let body = reply::body(&headers, &body)?.unwrap_or_default();
    let invalid = |text: &str| Refusal::message(StatusCode::UNPROCESSABLE_ENTITY, text);
    let text = |value: &Value, name: &str| {
        let found = value.get(name).and_then(Value::as_str);
        found.filter(|text| !text.is_empty()).map(ToOwned::to_owned)
    };
    let id =
        text(&body, "id").ok_or_else(|| invalid("The configuration repository needs an 'id'."))?;
    if body.get("plugin_id").is_some_and(|plugin| plugin != PLUGIN) {
        return Err(invalid("Only 'yaml.config.plugin' is supported."));
    }
    let configured = body.get("configuration").and_then(Value::as_array);
    if configured.is_some_and(|items| !items.is_empty()) {
        return Err(invalid(
            "A 'configuration' of the plugin is not supported yet.",
        ));
    }
    let material = body.get("material").cloned().unwrap_or_default();
    if material.get("type").is_some_and(|kind| kind != "git") {
        return Err(invalid("Only materials of type 'git' are supported."));
    }
    let attributes = material.get("attributes").cloned().unwrap_or_default();
    let url = text(&attributes, "url").ok_or_else(|| invalid("The material needs a 'url'."))?;
    let branch = text(&attributes, "branch").unwrap_or_else(|| "master".to_owned());
    if text(&attributes, "encrypted_password").is_some() {
        return Err(invalid(
            "An 'encrypted_password' is not supported yet; send 'password'.",
        ));
    }
    let password = text(&attributes, "password");
    let url = match text(&attributes, "username") {
        Some(user) => location::with_credentials(&url, &user, password.as_deref())
            .ok_or_else(|| invalid("The 'url' cannot take a user name."))?,
        None => url,
    };
    repositories::add(&app, &id, &url, &branch)
        .await
        .map_err(refusal)?;
    look(&app, &id).await?;
    let repo = find(&app, &id).await?;
    let body = show(&repo, &reply::base(&app, &headers));
    Ok(reply::document(StatusCode::OK, version, &body))
}

async fn delete(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let version = reply::version(&headers, VERSION)?;
    repositories::remove(&app, &id).await.map_err(refusal)?;
    let text = format!("The config repo '{id}' was deleted successfully.");
    Ok(reply::message(StatusCode::OK, version, text))
}

async fn status(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let version = reply::version(&headers, VERSION)?;
    let busy = match repositories::take_turn(&app, &id).await {
        Ok(_) => false,
        Err(RepositoryError::Busy { .. }) => true,
        Err(error) => return Err(refusal(error)),
    };
    let body = json!({ "in_progress": busy });
    Ok(reply::document(StatusCode::OK, version, &body))
}

async fn definitions(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let version = reply::version(&headers, VERSION)?;
    find(&app, &id).await?;
    let mut connection = app
        .database
        .readers()
        .acquire()
        .await
        .map_err(DatabaseError::from)?;
    let mut groups: Vec<Value> = Vec::new();
    for stored in store::pipelines(&mut connection).await? {
        if stored.repository != id {
            continue;
        }
        let pipeline = json!({ "name": stored.pipeline.name });
        let name = json!(stored.pipeline.group);
        match groups.iter_mut().find(|group| group["name"] == name) {
            Some(group) => {
                if let Some(list) = group["pipelines"].as_array_mut() {
                    list.push(pipeline);
                }
            }
            None => groups.push(json!({ "name": name, "pipelines": [pipeline] })),
        }
    }
    let names: Vec<String> =
        sqlx::query_scalar("SELECT name FROM environments WHERE repo_id = $1 ORDER BY name")
            .bind(&id)
            .fetch_all(&mut *connection)
            .await
            .map_err(DatabaseError::from)?;
    let environments: Vec<Value> = names.iter().map(|name| json!({ "name": name })).collect();
    let body = json!({ "environments": environments, "groups": groups });
    Ok(reply::document(StatusCode::OK, version, &body))
}

async fn update(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let version = reply::version(&headers, VERSION)?;
    reply::body(&headers, &body)?;
    look(&app, &id).await?;
    Ok(reply::message(StatusCode::CREATED, version, "OK"))
}

/// Looks at a repository, in a task that goes on when the caller goes away or when it takes long.
async fn look(app: &Arc<App>, id: &str) -> Result<(), Refusal> {
    let turn = repositories::take_turn(app, id).await.map_err(refusal)?;
    let looking = {
        let app = Arc::clone(app);
        app.tasks
            .clone()
            .spawn(async move { repositories::look(&app, turn).await })
    };
    match tokio::time::timeout(GLANCE, looking).await {
        Ok(Ok(outcome)) => outcome.map(drop).map_err(Refusal::from),
        // Its turn ends with it; what comes of it is in the repository's status.
        Ok(Err(_)) | Err(_) => Ok(()),
    }
}

fn show(repo: &ConfigRepo, base: &str) -> Value {
    let root = format!("{base}/api/admin/config_repos");
    let own = format!("{root}/{}", repo.id);
    let user = location::credentials(&repo.url).map(|(user, _)| user);
    json!({
        "_links": reply::links(&own, "config-repos", Some(&format!("{root}/:id"))),
        "id": repo.id,
        "plugin_id": PLUGIN,
        "material": {
            "type": "git",
            "attributes": {
                "name": null,
                "auto_update": true,
                "url": location::without_credentials(&repo.url),
                "username": user,
                "branch": repo.branch,
            },
        },
        "configuration": [],
        "rules": [{ "directive": "allow", "action": "refer", "type": "*", "resource": "*" }],
        "material_update_in_progress": false,
        "parse_info": {
            "error": repo.error,
            "latest_parsed_modification": repo.seen_revision.as_ref().map(|one| json!({ "revision": one })),
            "good_modification": repo.good_revision.as_ref().map(|one| json!({ "revision": one })),
            "checked_at": repo.checked_at,
        },
    })
}

fn refusal(error: RepositoryError) -> Refusal {
    let status = match &error {
        RepositoryError::Database(_) | RepositoryError::Folder { .. } => {
            return Refusal::internal("use a configuration repository", &error);
        }
        RepositoryError::Unknown { id } => return reply::not_found("Config repo", "id", id),
        RepositoryError::Duplicate { .. }
        | RepositoryError::Same { .. }
        | RepositoryError::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
        RepositoryError::Busy { .. } => StatusCode::CONFLICT,
    };
    Refusal::message(status, error.to_string())
}
