//! Access tokens (version 1): of the current user, and of all for admins.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::reply;
use crate::App;
use crate::answer::Refusal;
use crate::database::DatabaseError;
use crate::users::tokens::{self, AccessToken, Filter};
use crate::users::{Actor, Means, audit};

const VERSION: u32 = 1;
const OWN: &str = "/api/current_user/access_tokens";
const ALL: &str = "/api/admin/access_tokens";

/// The longest text about a token, in characters. GoCD: 1024.
const LONGEST: usize = 1024;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route(OWN, get(own_list).post(create))
        .route(&format!("{OWN}/{{id}}"), get(own_one))
        .route(&format!("{OWN}/{{id}}/revoke"), post(own_revoke))
        .route(ALL, get(all_list))
        .route(&format!("{ALL}/{{id}}"), get(all_one))
        .route(&format!("{ALL}/{{id}}/revoke"), post(all_revoke))
}

async fn own_list(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    by_password(&actor)?;
    list(&app, Some(&actor.name), OWN, query, &headers).await
}

async fn all_list(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    not_by_token(&actor)?;
    list(&app, None, ALL, query, &headers).await
}

async fn own_one(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    by_password(&actor)?;
    one(&app, Some(&actor.name), OWN, &id, &headers).await
}

async fn all_one(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    not_by_token(&actor)?;
    one(&app, None, ALL, &id, &headers).await
}

async fn own_revoke(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    by_password(&actor)?;
    revoke(&app, &actor, Some(&actor.name), OWN, &id, &headers, &body).await
}

async fn all_revoke(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    not_by_token(&actor)?;
    revoke(&app, &actor, None, ALL, &id, &headers, &body).await
}

/// GoCD: who holds a token cannot make others with it, or keep others from using theirs.
fn not_by_token(actor: &Actor) -> Result<(), Refusal> {
    if actor.means == Means::AccessToken {
        let text = "Access tokens are managed with a password, not with an access token.";
        return Err(Refusal::message(StatusCode::FORBIDDEN, text));
    }
    Ok(())
}

fn by_password(actor: &Actor) -> Result<(), Refusal> {
    not_by_token(actor)?;
    if !actor.is_user() {
        let text = "You are not logged in as a user.";
        return Err(Refusal::message(StatusCode::FORBIDDEN, text));
    }
    Ok(())
}

async fn list(
    app: &App,
    user: Option<&str>,
    root: &str,
    query: Option<String>,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let version = reply::version(headers, VERSION)?;
    let query = query.unwrap_or_default();
    let asked = url::form_urlencoded::parse(query.as_bytes())
        .find_map(|(name, value)| (name == "filter").then(|| value.into_owned()));
    let filter = match asked.as_deref() {
        None | Some("active") => Filter::Active,
        Some("revoked") => Filter::Revoked,
        Some("all") => Filter::All,
        Some(_) => {
            let text = "The query parameter 'filter' must be 'active', 'revoked' or 'all'.";
            return Err(Refusal::message(StatusCode::BAD_REQUEST, text));
        }
    };
    let mut connection = app
        .database
        .readers()
        .acquire()
        .await
        .map_err(DatabaseError::from)?;
    let tokens = tokens::list(&mut connection, user, filter).await?;
    let root = format!("{}{root}", reply::base(app, headers));
    let tokens: Vec<Value> = tokens.iter().map(|token| show(&root, token)).collect();
    let body = json!({
        "_links": reply::links(&root, "access-tokens", None),
        "_embedded": { "access_tokens": tokens },
    });
    Ok(reply::document(StatusCode::OK, version, &body))
}

async fn one(
    app: &App,
    user: Option<&str>,
    root: &str,
    id: &str,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let version = reply::version(headers, VERSION)?;
    let token = find(app, user, id).await?;
    let root = format!("{}{root}", reply::base(app, headers));
    Ok(reply::document(
        StatusCode::OK,
        version,
        &show(&root, &token),
    ))
}

async fn find(app: &App, user: Option<&str>, id: &str) -> Result<AccessToken, Refusal> {
    let mut connection = app
        .database
        .readers()
        .acquire()
        .await
        .map_err(DatabaseError::from)?;
    let found = match id.parse() {
        Ok(number) => tokens::find(&mut connection, user, number).await?,
        Err(_) => None,
    };
    found.ok_or_else(|| reply::not_found("Access Token", "id", id))
}

async fn create(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let version = reply::version(&headers, VERSION)?;
    by_password(&actor)?;
    let description = description(&headers, &body)?;
    let mut write = app.database.write().await?;
    let made = tokens::create(&mut write, &actor.name, &description, app.now_ms()).await;
    let (token, text) = made.map_err(|error| Refusal::internal("make an access token", &error))?;
    write.commit().await.map_err(DatabaseError::from)?;
    audit::detail(format!("token {}: {description}", token.id));
    let root = format!("{}{OWN}", reply::base(&app, &headers));
    let mut body = show(&root, &token);
    body["token"] = json!(text);
    Ok(reply::document(StatusCode::OK, version, &body))
}

/// What a new token is for.
pub(super) fn description(headers: &HeaderMap, body: &Bytes) -> Result<String, Refusal> {
    let body = reply::body(headers, body)?.unwrap_or_default();
    short_text(&body, "description")
}

fn short_text(body: &Value, name: &str) -> Result<String, Refusal> {
    let invalid = |text: String| Refusal::message(StatusCode::UNPROCESSABLE_ENTITY, text);
    match body.get(name) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) if text.chars().count() <= LONGEST => Ok(text.clone()),
        Some(Value::String(_)) => Err(invalid(format!(
            "'{name}' has at most {LONGEST} characters."
        ))),
        Some(_) => Err(invalid(format!("'{name}' must be text."))),
    }
}

async fn revoke(
    app: &App,
    actor: &Actor,
    user: Option<&str>,
    root: &str,
    id: &str,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response, Refusal> {
    let version = reply::version(headers, VERSION)?;
    let body = reply::body(headers, body)?.unwrap_or_default();
    let cause = short_text(&body, "revoke_cause")?;
    let token = find(app, user, id).await?;
    let mut write = app.database.write().await?;
    let done = tokens::revoke(&mut write, token.id, &actor.name, &cause, app.now_ms()).await?;
    write.commit().await.map_err(DatabaseError::from)?;
    if !done {
        let text = "The access token has already been revoked.";
        return Err(Refusal::message(StatusCode::UNPROCESSABLE_ENTITY, text));
    }
    audit::detail(format!("token of {}: {cause}", token.user_name));
    let token = find(app, user, id).await?;
    let root = format!("{}{root}", reply::base(app, headers));
    Ok(reply::document(
        StatusCode::OK,
        version,
        &show(&root, &token),
    ))
}

/// A token in GoCD's form; never its text.
pub(super) fn show(root: &str, token: &AccessToken) -> Value {
    json!({
        "_links": reply::links(
            &format!("{root}/{}", token.id),
            "access-tokens",
            Some(&format!("{root}/:id")),
        ),
        "id": token.id,
        "description": token.description,
        "username": token.user_name,
        "revoked": token.revoked_at.is_some(),
        "revoke_cause": token.revoke_cause,
        "revoked_by": token.revoked_by,
        "revoked_at": token.revoked_at.map(time),
        "created_at": time(token.created_at),
        "last_used_at": token.last_used_at.map(time),
        "revoked_because_user_deleted": token.user_removed,
    })
}

fn time(milliseconds: i64) -> String {
    let time = Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH);
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
