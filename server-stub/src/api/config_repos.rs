//! `/api/admin/config_repos`, version 4.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::{get, post};
use http::StatusCode;
use serde_json::{Value, json};

use super::body::Body;
use super::call::{Call as Versioned, invalid, not_found, time};
use super::definitions;
use crate::App;
use crate::answer::Refusal;
use crate::database::DatabaseError;
use crate::pipelines::repositories::{self, ConfigRepo, RepositoryError};
use crate::pipelines::{location, store};

type Call = Versioned<4>;

const ROOT: &str = "/api/admin/config_repos";
const FIND: &str = "/api/admin/config_repos/:id";

/// The only plugin whose files are read.
pub(super) const PLUGIN: &str = "yaml.config.plugin";

/// How long `trigger_update` waits for the outcome before it answers; it goes on after that.
const GLANCE: Duration = Duration::from_secs(20);

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route(ROOT, get(list).post(create))
        .route(
            &format!("{ROOT}/{{id}}"),
            get(one).put(change).delete(delete),
        )
        .route(&format!("{ROOT}/{{id}}/status"), get(status))
        .route(&format!("{ROOT}/{{id}}/definitions"), get(definitions))
        .route(&format!("{ROOT}/{{id}}/trigger_update"), post(update))
}

async fn list(call: Call) -> Result<Response, Refusal> {
    let mut connection = call.reader().await?;
    let repos = repositories::list(&mut connection).await?;
    let mut shown = Vec::new();
    for repo in &repos {
        shown.push(show(&call, repo).await?);
    }
    let answer = call.answer(&json!({
        "_links": call.links(ROOT, "config-repos", Some(FIND)),
        "_embedded": { "config_repos": shown },
    }));
    let tags: Vec<Value> = repos.iter().map(tag).collect();
    Ok(call.tagged(&tags, answer))
}

async fn find(call: &Call, id: &str) -> Result<ConfigRepo, Refusal> {
    let mut connection = call.reader().await?;
    let repo = repositories::find(&mut connection, id).await?;
    repo.ok_or_else(|| not_found("Config repo", "id", id))
}

/// What of a repository an admin sets: its tag is another one when that changes.
fn tag(repo: &ConfigRepo) -> Value {
    json!([repo.id, repo.url, repo.branch])
}

async fn answer(call: &Call, id: &str) -> Result<Response, Refusal> {
    let repo = find(call, id).await?;
    let answer = call.answer(&show(call, &repo).await?);
    Ok(call.tagged(&tag(&repo), answer))
}

async fn one(call: Call, Path(id): Path<String>) -> Result<Response, Refusal> {
    answer(&call, &id).await
}

async fn create(call: Call, body: Body) -> Result<Response, Refusal> {
    let id = body.required("id")?;
    let (url, branch) = material(&call.app, &body)?;
    repositories::add(&call.app, id, &url, &branch)
        .await
        .map_err(refusal)?;
    look(&call.app, id).await?;
    answer(&call, id).await
}

async fn change(call: Call, Path(id): Path<String>, body: Body) -> Result<Response, Refusal> {
    let repo = find(&call, &id).await?;
    call.must_match(&format!("the config repo '{id}'"), &tag(&repo))?;
    if body.text("id")?.is_some_and(|named| named != id) {
        return Err(invalid("A config repo cannot be given another id."));
    }
    let (url, branch) = material(&call.app, &body)?;
    repositories::change(&call.app, &id, &url, &branch)
        .await
        .map_err(refusal)?;
    look(&call.app, &id).await?;
    answer(&call, &id).await
}

/// Address and branch out of a document.
fn material(app: &App, body: &Body) -> Result<(String, String), Refusal> {
    if body.text("plugin_id")?.is_some_and(|one| one != PLUGIN) {
        return Err(invalid(format!("Only '{PLUGIN}' is supported.")));
    }
    if !body.list("configuration")?.is_empty() {
        return Err(invalid(
            "A 'configuration' of the plugin is not supported: files are found by GoCD's default \
             patterns.",
        ));
    }
    let material = body.object("material")?;
    if material.text("type")?.is_some_and(|kind| kind != "git") {
        return Err(invalid("Only materials of type 'git' are supported."));
    }
    let attributes = material.object("attributes")?;
    let url = attributes.required("url")?.to_owned();
    let branch = attributes.text("branch")?.filter(|text| !text.is_empty());
    let branch = branch.unwrap_or("master").to_owned();
    let encrypted = attributes.text("encrypted_password")?;
    let password = match attributes.text("password")? {
        Some(_) if encrypted.is_some() => {
            return Err(invalid(
                "Only one of 'password' and 'encrypted_password' may be there.",
            ));
        }
        Some(password) => Some(password.to_owned()),
        None => {
            let decrypted = encrypted.map(|text| app.cipher.decrypt(text)).transpose();
            decrypted.map_err(|error| invalid(format!("'encrypted_password': {error}.")))?
        }
    };
    let user = attributes.text("username")?.filter(|text| !text.is_empty());
    let url = match user {
        Some(user) => location::with_credentials(&url, user, password.as_deref())
            .ok_or_else(|| invalid("The 'url' cannot take a user name."))?,
        None => url,
    };
    Ok((url, branch))
}

async fn delete(call: Call, Path(id): Path<String>) -> Result<Response, Refusal> {
    repositories::remove(&call.app, &id)
        .await
        .map_err(refusal)?;
    Ok(call.message(format!("The config repo '{id}' was deleted successfully.")))
}

async fn is_busy(app: &App, id: &str) -> Result<bool, Refusal> {
    match repositories::take_turn(app, id).await {
        Ok(_) => Ok(false),
        Err(RepositoryError::Busy { .. }) => Ok(true),
        Err(error) => Err(refusal(error)),
    }
}

async fn status(call: Call, Path(id): Path<String>) -> Result<Response, Refusal> {
    let busy = is_busy(&call.app, &id).await?;
    Ok(call.answer(&json!({ "in_progress": busy })))
}

async fn definitions(call: Call, Path(id): Path<String>) -> Result<Response, Refusal> {
    find(&call, &id).await?;
    let mut connection = call.reader().await?;
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
    Ok(call.answer(&json!({ "environments": environments, "groups": groups })))
}

async fn update(call: Call, Path(id): Path<String>, _: Body) -> Result<Response, Refusal> {
    look(&call.app, &id).await?;
    Ok(call.message_with(StatusCode::CREATED, "OK"))
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

async fn show(call: &Call, repo: &ConfigRepo) -> Result<Value, Refusal> {
    let own = format!("{ROOT}/{}", repo.id);
    let (user, password) = location::credentials(&repo.url).unzip();
    let mut attributes = json!({
        "name": null,
        "auto_update": true,
        "url": location::without_credentials(&repo.url),
        "username": user,
        "branch": repo.branch,
    });
    if let Some(password) = password.flatten() {
        attributes["encrypted_password"] =
            json!(definitions::encrypted(&call.app.cipher, &password)?);
    }
    let revision =
        |revision: &Option<String>| revision.as_ref().map(|one| json!({ "revision": one }));
    Ok(json!({
        "_links": call.links(&own, "config-repos", Some(FIND)),
        "id": repo.id,
        "plugin_id": PLUGIN,
        "material": { "type": "git", "attributes": attributes },
        "configuration": [],
        "rules": [{ "directive": "allow", "action": "refer", "type": "*", "resource": "*" }],
        "material_update_in_progress": is_busy(&call.app, &repo.id).await?,
        "parse_info": {
            "error": repo.error,
            "latest_parsed_modification": revision(&repo.seen_revision),
            "good_modification": revision(&repo.good_revision),
            "checked_at": repo.checked_at.map(time),
        },
    }))
}

fn refusal(error: RepositoryError) -> Refusal {
    let status = match &error {
        RepositoryError::Database(_) | RepositoryError::Folder { .. } => {
            return Refusal::internal("use a configuration repository", &error);
        }
        RepositoryError::Unknown { id } => return not_found("Config repo", "id", id),
        RepositoryError::Duplicate { .. }
        | RepositoryError::Same { .. }
        | RepositoryError::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
        RepositoryError::Busy { .. } => StatusCode::CONFLICT,
    };
    Refusal::message(status, error.to_string())
}
