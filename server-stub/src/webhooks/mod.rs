//! Hosts of git repositories say that something was pushed, so that it need not wait for the next
//! look.
//!
//! A webhook is believed if it proves that it knows the server's secret. What it says is only
//! where to look: revisions come from the repository itself.

mod event;
mod secret;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};

use crate::App;
use crate::answer::Refusal;
use crate::database::DatabaseError;
use crate::pipelines::repositories::{self, ConfigRepo};
use crate::pipelines::{git, location, watch};
use crate::{materials, materials::InUse};

use event::{Event, Host};
pub use secret::{SecretError, WebhookSecret};

/// Routes under `/go`.
pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/api/webhooks/{host}/notify", post(notified))
        .route(
            "/api/webhooks/{host}/config_repos/{id}",
            post(config_repo_notified),
        )
}

async fn notified(
    State(app): State<Arc<App>>,
    Path(host): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let (addresses, references) = match hear(&app, &host, &headers, &body)? {
        Heard::Push(addresses, references) => (addresses, references),
        Heard::Nothing(answer) => return Ok(answer),
    };
    let found = pushed(&app, &addresses, Some(&references)).await?;
    Ok(accepted(match found {
        0 => "Nothing was pushed that a material or configuration repository is made of.",
        _ => LOOKED_FOR,
    }))
}

async fn config_repo_notified(
    State(app): State<Arc<App>>,
    Path((host, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let (addresses, references) = match hear(&app, &host, &headers, &body)? {
        Heard::Push(addresses, references) => (addresses, references),
        Heard::Nothing(answer) => return Ok(answer),
    };
    let connection = app.database.readers().acquire().await;
    let mut connection = connection.map_err(DatabaseError::from)?;
    let repo = repositories::find(&mut connection, &id).await?;
    let repo = repo.ok_or_else(|| {
        let text = format!("There is no configuration repository '{id}'.");
        Refusal::message(StatusCode::NOT_FOUND, text)
    })?;
    if !is_of(&repo, &addresses, Some(&references)) {
        return Ok(accepted(
            "What was pushed is not the branch of that configuration repository.",
        ));
    }
    watch::look_soon(&app, &repo.id);
    Ok(accepted(LOOKED_FOR))
}

const LOOKED_FOR: &str =
    "The material is now scheduled for an update. Please check relevant pipeline(s) for status.";

fn accepted(message: &str) -> Response {
    (StatusCode::ACCEPTED, Json(json!({ "message": message }))).into_response()
}

/// What a believed request says.
enum Heard {
    /// Addresses of a repository, and the references that have moved.
    Push(Vec<String>, Vec<String>),
    /// Something that is answered so.
    Nothing(Response),
}

fn hear(app: &App, host: &str, headers: &HeaderMap, body: &Bytes) -> Result<Heard, Refusal> {
    let host = Host::named(host).ok_or_else(|| {
        let text = format!("There are no webhooks for '{host}': github, gitlab, gitea, bitbucket.");
        Refusal::message(StatusCode::NOT_FOUND, text)
    })?;
    let refuse = |text: String| Refusal::message(StatusCode::BAD_REQUEST, text);
    if !host.is_proven(&app.webhook_secret, headers, body) {
        return Err(refuse(format!(
            "This is no webhook of ours: {} is missing, or is not made with this server's secret, \
             which 'journeyman-server webhook-secret' shows.",
            host.proof()
        )));
    }
    let body = document(headers, body).map_err(refuse)?;
    match host.event(headers, &body) {
        Ok(Event::Push {
            addresses,
            references,
        }) => Ok(Heard::Push(addresses, references)),
        Ok(Event::Ping) => Ok(Heard::Nothing(accepted("This server listens."))),
        Ok(Event::Other(name)) => Ok(Heard::Nothing(accepted(&format!(
            "Nothing is done for the event '{name}'."
        )))),
        Err(missing) => Err(refuse(format!("The body has no '{}'.", missing.0))),
    }
}

/// The document in a body: itself, or the field `payload` of a form.
fn document(headers: &HeaderMap, body: &[u8]) -> Result<Value, String> {
    let media_type = headers.get(header::CONTENT_TYPE);
    let media_type = media_type.and_then(|value| value.to_str().ok());
    let is_form = media_type.is_some_and(|it| it.starts_with("application/x-www-form-urlencoded"));
    let payload = url::form_urlencoded::parse(if is_form { body } else { b"" })
        .find_map(|(name, value)| (name == "payload").then(|| value.into_owned()));
    let text = payload.as_ref().map_or(body, |text| text.as_bytes());
    match serde_json::from_slice(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err("The body must be a JSON object.".to_owned()),
        Err(error) => Err(format!("The body is not JSON: {error}.")),
    }
}

/// Has everything looked at that is made of a repository with one of these addresses: materials and
/// configuration repositories, if `references` are given only those with one of them. Answers how
/// many they are.
///
/// # Errors
///
/// The database could not be read.
pub async fn pushed(
    app: &Arc<App>,
    addresses: &[String],
    references: Option<&[String]>,
) -> Result<usize, DatabaseError> {
    let mut connection = app.database.readers().acquire().await?;
    let all = materials::list(&mut connection).await?;
    let has_moved = |one: &&InUse| {
        let branch = one.git().map_or("", |git| &git.branch);
        references.is_none_or(|references| references.contains(&git::references(branch).0))
    };
    let found: Vec<String> = materials::by_address(&all, addresses)
        .into_iter()
        .filter(has_moved)
        .map(|one| one.fingerprint.clone())
        .collect();
    let repos = repositories::list(&mut connection).await?;
    let repos = repos
        .iter()
        .filter(|repo| is_of(repo, addresses, references));
    let mut count = found.len();
    for repo in repos {
        watch::look_soon(app, &repo.id);
        count += 1;
    }
    app.materials.ask(found);
    Ok(count)
}

fn is_of(repo: &ConfigRepo, addresses: &[String], references: Option<&[String]>) -> bool {
    let place = location::place(&repo.url);
    addresses
        .iter()
        .any(|address| location::place(address) == place)
        && references.is_none_or(|references| references.contains(&git::references(&repo.branch).0))
}
