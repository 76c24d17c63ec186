//! `/api/current_user` and `/api/users` as GoCD's (versions 1 and 3), and `/api/journeyman/users`,
//! by which admins make users and say what they may do.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{get, post, put};
use axum::{Extension, Router};
use http::{HeaderMap, StatusCode};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{access_tokens, reply};
use crate::App;
use crate::answer::{Chain, Refusal};
use crate::database::DatabaseError;
use crate::users::{Actor, Grant, Password, PasswordError, Rights, audit, known, store, tokens};

const CURRENT_VERSION: u32 = 1;
const USERS_VERSION: u32 = 3;

pub(super) fn router() -> Router<Arc<App>> {
    let own = "/api/journeyman/users";
    Router::new()
        .route("/api/current_user", get(current))
        .route("/api/users", get(gocd_list))
        .route("/api/users/{login}", get(gocd_one))
        .route(own, get(list))
        .route(&format!("{own}/{{name}}"), put(set).delete(remove))
        .route(&format!("{own}/{{name}}/access_tokens"), post(token))
}

async fn current(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let version = reply::version(&headers, CURRENT_VERSION)?;
    if !actor.is_user() {
        let text = "You are not logged in as a user.";
        return Err(Refusal::message(StatusCode::FORBIDDEN, text));
    }
    let base = reply::base(&app, &headers);
    let mut body = describe(&base, &actor.name, &actor.rights);
    body["_links"] = reply::links(
        &format!("{base}/api/current_user"),
        "current-user",
        Some(&format!("{base}/api/users/:login_name")),
    );
    if let Some(body) = body.as_object_mut() {
        body.remove("is_admin");
        body.remove("roles");
    }
    Ok(reply::document(StatusCode::OK, version, &body))
}

fn describe(base: &str, name: &str, rights: &Rights) -> Value {
    json!({
        "_links": reply::links(
            &format!("{base}/api/users/{name}"),
            "users",
            Some(&format!("{base}/api/users/:login_name")),
        ),
        "login_name": name,
        "display_name": name,
        "enabled": true,
        "email": null,
        "email_me": false,
        "checkin_aliases": [],
        "is_admin": rights.is_admin(),
        "roles": [],
    })
}

async fn gocd_list(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Refusal> {
    let version = reply::version(&headers, USERS_VERSION)?;
    let base = reply::base(&app, &headers);
    let users = known::all(&app).await?;
    let users: Vec<Value> = users
        .iter()
        .map(|user| describe(&base, &user.name, &user.rights))
        .collect();
    let body = json!({
        "_links": reply::links(&format!("{base}/api/users"), "users", None),
        "_embedded": { "users": users },
    });
    Ok(reply::document(StatusCode::OK, version, &body))
}

async fn gocd_one(
    State(app): State<Arc<App>>,
    Path(login): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let version = reply::version(&headers, USERS_VERSION)?;
    let base = reply::base(&app, &headers);
    let users = known::all(&app).await?;
    let user = users
        .iter()
        .find(|user| user.name.eq_ignore_ascii_case(&login));
    let user = user.ok_or_else(|| reply::not_found("User", "name", &login))?;
    let body = describe(&base, &user.name, &user.rights);
    Ok(reply::document(StatusCode::OK, version, &body))
}

// --- what only this server has

async fn list(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    let users = known::all(&app).await?;
    let users: Vec<Value> = users.iter().map(show).collect();
    Ok(reply::document(
        StatusCode::OK,
        1,
        &json!({ "users": users }),
    ))
}

fn show(user: &known::KnownUser) -> Value {
    json!({
        "name": user.name,
        "roles": user.rights.grants(),
        "password": if user.in_file { "file" } else { "here" },
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    password: Option<String>,
    roles: Option<Vec<Grant>>,
    /// Only make a user who is not there yet.
    #[serde(default)]
    new: bool,
}

/// Makes a user, or changes password or roles of one.
async fn set(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let invalid = |text: String| Refusal::message(StatusCode::UNPROCESSABLE_ENTITY, text);
    let name = valid(&name)?;
    let body = reply::body(&headers, &body)?.unwrap_or_default();
    // What was sent may hold a password: the message tells the field, never the value.
    let asked: Asked = serde_json::from_value(body).map_err(|_| {
        invalid(
            "A user is set with 'password' (text), 'roles' (a list of {role, group}) or both."
                .to_owned(),
        )
    })?;
    let there = known::find(&app, &name).await?;
    if asked.new && there.is_some() {
        return Err(invalid(format!("There is a user {name} already.")));
    }
    if there.is_none() && asked.password.is_none() {
        return Err(reply::not_found("User", "name", &name));
    }
    let hash = match asked.password {
        Some(password) => Some(hash(password).await?),
        None => None,
    };
    let mut write = app.database.write().await?;
    if let Some(hash) = &hash {
        store::set_password(&mut write, &name, hash, app.now_ms()).await?;
    }
    if let Some(roles) = &asked.roles {
        store::set_rights(&mut write, &name, roles).await?;
    }
    write.commit().await.map_err(DatabaseError::from)?;
    let mut detail = Vec::new();
    if hash.is_some() {
        detail.push("a new password".to_owned());
    }
    if let Some(roles) = &asked.roles {
        let roles: Vec<String> = roles.iter().map(ToString::to_string).collect();
        detail.push(format!("roles: {}", roles.join(", ")));
    }
    audit::detail(detail.join("; "));
    tracing::debug!(user = name, by = actor.name, "set a user");
    let user = known::find(&app, &name).await?;
    let user = user.ok_or_else(|| reply::not_found("User", "name", &name))?;
    Ok(reply::document(StatusCode::OK, 1, &show(&user)))
}

async fn hash(password: String) -> Result<String, Refusal> {
    let hashed = async { Password::new(SecretString::from(password))?.hash().await };
    hashed.await.map_err(|error| match error {
        PasswordError::Short | PasswordError::Long | PasswordError::Control => {
            let text = format!("The password cannot be used: {error}.");
            Refusal::message(StatusCode::UNPROCESSABLE_ENTITY, text)
        }
        error => Refusal::internal("set a password", &error),
    })
}

async fn remove(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    Path(name): Path<String>,
) -> Result<Response, Refusal> {
    let name = valid(&name)?;
    let mut write = app.database.write().await?;
    let removed = store::remove(&mut write, &name, &actor.name, app.now_ms()).await?;
    write.commit().await.map_err(DatabaseError::from)?;
    if !removed {
        return Err(reply::not_found("User", "name", &name));
    }
    let text = format!("User '{name}' was removed.");
    Ok(reply::message(StatusCode::OK, 1, text))
}

/// Makes an access token for a user.
async fn token(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let name = valid(&name)?;
    if known::find(&app, &name).await?.is_none() {
        return Err(reply::not_found("User", "name", &name));
    }
    let description = access_tokens::description(&headers, &body)?;
    let mut write = app.database.write().await?;
    let made = tokens::create(&mut write, &name, &description, app.now_ms()).await;
    let (token, text) = made.map_err(|error| Refusal::internal("make an access token", &error))?;
    write.commit().await.map_err(DatabaseError::from)?;
    audit::detail(format!("token {}: {description}", token.id));
    let base = reply::base(&app, &headers);
    let mut body = access_tokens::show(&format!("{base}/api/admin/access_tokens"), &token);
    body["token"] = json!(text);
    Ok(reply::document(StatusCode::OK, 1, &body))
}

fn valid(name: &str) -> Result<String, Refusal> {
    store::valid_name(name).map_err(|error| {
        let text = format!("{}.", Chain(&error));
        Refusal::message(StatusCode::UNPROCESSABLE_ENTITY, text)
    })
}
