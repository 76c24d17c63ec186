//! Access tokens (version 1): of the current user, and of all for admins.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, RawQuery};
use axum::response::Response;
use axum::routing::{get, post};
use http::StatusCode;
use serde_json::{Value, json};

use super::body::Body;
use super::call::{Call as Versioned, invalid, links, not_found, time};
use crate::App;
use crate::answer::Refusal;
use crate::database::DatabaseError;
use crate::users::tokens::{self, AccessToken, Filter};
use crate::users::{Actor, Means, audit};

type Call = Versioned<1>;

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

async fn own_list(call: Call, actor: Actor, query: RawQuery) -> Result<Response, Refusal> {
    by_password(&actor)?;
    list(&call, Some(&actor.name), OWN, query).await
}

async fn all_list(call: Call, actor: Actor, query: RawQuery) -> Result<Response, Refusal> {
    not_by_token(&actor)?;
    list(&call, None, ALL, query).await
}

async fn own_one(call: Call, actor: Actor, Path(id): Path<String>) -> Result<Response, Refusal> {
    by_password(&actor)?;
    one(&call, Some(&actor.name), OWN, &id).await
}

async fn all_one(call: Call, actor: Actor, Path(id): Path<String>) -> Result<Response, Refusal> {
    not_by_token(&actor)?;
    one(&call, None, ALL, &id).await
}

async fn own_revoke(
    call: Call,
    actor: Actor,
    Path(id): Path<String>,
    body: Body,
) -> Result<Response, Refusal> {
    by_password(&actor)?;
    revoke(&call, &actor, Some(&actor.name), OWN, &id, &body).await
}

async fn all_revoke(
    call: Call,
    actor: Actor,
    Path(id): Path<String>,
    body: Body,
) -> Result<Response, Refusal> {
    not_by_token(&actor)?;
    revoke(&call, &actor, None, ALL, &id, &body).await
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
    call: &Call,
    user: Option<&str>,
    root: &str,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
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
    let mut connection = call.reader().await?;
    let tokens = tokens::list(&mut connection, user, filter).await?;
    let at = call.url(root);
    let tokens: Vec<Value> = tokens.iter().map(|token| show(&at, token)).collect();
    Ok(call.answer(&json!({
        "_links": call.links(root, "access-tokens", None),
        "_embedded": { "access_tokens": tokens },
    })))
}

async fn one(call: &Call, user: Option<&str>, root: &str, id: &str) -> Result<Response, Refusal> {
    let token = find(call, user, id).await?;
    Ok(call.answer(&show(&call.url(root), &token)))
}

async fn find(call: &Call, user: Option<&str>, id: &str) -> Result<AccessToken, Refusal> {
    let mut connection = call.reader().await?;
    let found = match id.parse() {
        Ok(number) => tokens::find(&mut connection, user, number).await?,
        Err(_) => None,
    };
    found.ok_or_else(|| not_found("Access Token", "id", id))
}

async fn create(call: Call, actor: Actor, body: Body) -> Result<Response, Refusal> {
    by_password(&actor)?;
    let shown = make(&call.app, &call.url(OWN), &actor.name, &body).await?;
    Ok(call.answer(&shown))
}

/// Makes a token; what is shown of it holds its text, this once.
pub(super) async fn make(app: &App, root: &str, user: &str, body: &Body) -> Result<Value, Refusal> {
    let description = short_text(body, "description")?;
    let mut write = app.database.write().await?;
    let made = tokens::create(&mut write, user, description, app.now_ms()).await;
    let (token, text) = made.map_err(|error| Refusal::internal("make an access token", &error))?;
    write.commit().await.map_err(DatabaseError::from)?;
    audit::detail(format!("token {}: {description}", token.id));
    let mut shown = show(root, &token);
    shown["token"] = json!(text);
    Ok(shown)
}

fn short_text<'a>(body: &'a Body, name: &str) -> Result<&'a str, Refusal> {
    let text = body.text(name)?.unwrap_or_default();
    if text.chars().count() > LONGEST {
        return Err(invalid(format!(
            "'{name}' has at most {LONGEST} characters."
        )));
    }
    Ok(text)
}

async fn revoke(
    call: &Call,
    actor: &Actor,
    user: Option<&str>,
    root: &str,
    id: &str,
    body: &Body,
) -> Result<Response, Refusal> {
    let cause = short_text(body, "revoke_cause")?;
    let token = find(call, user, id).await?;
    let app = &call.app;
    let mut write = app.database.write().await?;
    let done = tokens::revoke(&mut write, token.id, &actor.name, cause, app.now_ms()).await?;
    write.commit().await.map_err(DatabaseError::from)?;
    if !done {
        return Err(invalid("The access token has already been revoked."));
    }
    audit::detail(format!("token of {}: {cause}", token.user_name));
    one(call, user, root, id).await
}

/// A token in GoCD's form; never its text.
fn show(root: &str, token: &AccessToken) -> Value {
    json!({
        "_links": links(
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
