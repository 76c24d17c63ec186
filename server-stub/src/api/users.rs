//! `/api/current_user` and `/api/users` as GoCD's (versions 1 and 3), and `/api/journeyman/users`,
//! by which admins make users and say what they may do.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::{get, post, put};
use http::StatusCode;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};

use super::access_tokens;
use super::body::Body;
use super::call::{Call, invalid, not_found};
use crate::App;
use crate::answer::{Chain, Refusal};
use crate::database::DatabaseError;
use crate::users::details::{self, Details};
use crate::users::identities::{self, Identity};
use crate::users::known::{By, KnownUser};
use crate::users::{Actor, Grant, Password, PasswordError, audit, known, store};

const GOCD: &str = "/api/users";
/// Bytes of an address of mail.
const LONGEST_EMAIL: usize = 254;

const FIND: &str = "/api/users/:login_name";

pub(super) fn router() -> Router<Arc<App>> {
    let own = "/api/journeyman/users";
    Router::new()
        .route("/api/current_user", get(current).patch(change_current))
        .route("/api/users", get(gocd_list))
        .route("/api/users/{login}", get(gocd_one))
        .route(own, get(list))
        .route(&format!("{own}/{{name}}"), put(set).delete(remove))
        .route(&format!("{own}/{{name}}/access_tokens"), post(token))
}

async fn current(call: Call<1>, actor: Actor) -> Result<Response, Refusal> {
    must_be_user(&actor)?;
    let mut connection = call.reader().await?;
    let details = details::of(&mut connection, &actor.name).await?;
    Ok(call.answer(&describe_current(&call, &actor, &details)))
}

/// Changes what the caller says about themselves; what is left out stays.
async fn change_current(call: Call<1>, actor: Actor, body: Body) -> Result<Response, Refusal> {
    must_be_user(&actor)?;
    audit::detail(body.to_string());
    let mut write = call.app.database.write().await?;
    let mut details = details::of(&mut write, &actor.name).await?;
    if let Some(email) = body.text("email")? {
        let email = email.trim();
        let usable = email.contains('@') && email.len() <= LONGEST_EMAIL;
        if !(usable || email.is_empty()) {
            return Err(invalid(format!("'{email}' is no address of mail.")));
        }
        details.email = Some(email.to_owned()).filter(|email| !email.is_empty());
    }
    if let Some(email_me) = body.flag("email_me")? {
        details.email_me = email_me;
    }
    if let Some(aliases) = body.texts("checkin_aliases")? {
        details.checkin_aliases = aliases;
    }
    details::set(&mut write, &actor.name, &details).await?;
    write.commit().await.map_err(DatabaseError::from)?;
    Ok(call.answer(&describe_current(&call, &actor, &details)))
}

fn must_be_user(actor: &Actor) -> Result<(), Refusal> {
    if actor.is_user() {
        return Ok(());
    }
    let text = "You are not logged in as a user.";
    Err(Refusal::message(StatusCode::FORBIDDEN, text))
}

fn describe_current(call: &Call<1>, actor: &Actor, details: &Details) -> Value {
    json!({
        "_links": call.links("/api/current_user", "current-user", Some(FIND)),
        "login_name": actor.name,
        "display_name": actor.name,
        "enabled": true,
        "email": details.email,
        "email_me": details.email_me,
        "checkin_aliases": details.checkin_aliases,
    })
}

fn describe(call: &Call<3>, user: &KnownUser) -> Value {
    let name = &user.name;
    json!({
        "_links": call.links(&format!("{GOCD}/{name}"), "users", Some(FIND)),
        "login_name": name,
        "display_name": name,
        "enabled": true,
        "email": user.details.email,
        "email_me": user.details.email_me,
        "checkin_aliases": user.details.checkin_aliases,
        "is_admin": user.rights.is_admin(),
        "roles": [],
    })
}

async fn gocd_list(call: Call<3>) -> Result<Response, Refusal> {
    let users = known::all(&call.app).await?;
    let users: Vec<Value> = users.iter().map(|user| describe(&call, user)).collect();
    Ok(call.answer(&json!({
        "_links": call.links(GOCD, "users", None),
        "_embedded": { "users": users },
    })))
}

async fn gocd_one(call: Call<3>, Path(login): Path<String>) -> Result<Response, Refusal> {
    let users = known::all(&call.app).await?;
    let user = users
        .iter()
        .find(|user| user.name.eq_ignore_ascii_case(&login));
    let user = user.ok_or_else(|| not_found("User", "name", &login))?;
    Ok(call.answer(&describe(&call, user)))
}

// --- what only this server has

async fn list(call: Call<1>) -> Result<Response, Refusal> {
    let users = known::all(&call.app).await?;
    let users: Vec<Value> = users.iter().map(show).collect();
    Ok(call.answer(&json!({ "users": users })))
}

fn show(user: &known::KnownUser) -> Value {
    json!({
        "name": user.name,
        "roles": user.rights.grants(),
        "password": match user.login {
            By::Password => "here",
            By::File => "file",
            By::Nothing => "none",
        },
        "sign_in": user.identity != Identity::None,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    password: Option<String>,
    roles: Option<Vec<Grant>>,
    /// Whether the OpenID provider vouches for the user.
    sign_in: Option<bool>,
    /// Only make a user who is not there yet.
    #[serde(default)]
    new: bool,
}

/// Makes a user, or changes password or roles of one.
async fn set(
    call: Call<1>,
    actor: Actor,
    Path(name): Path<String>,
    body: Body,
) -> Result<Response, Refusal> {
    let app = &call.app;
    let name = valid(&name)?;
    // What was sent may hold a password: the message tells the field, never the value.
    let asked: Asked = serde_json::from_value(body.into_value()).map_err(|_| {
        invalid("A user is set with one or more of 'password' (text), 'roles' (a list of {role, group}) and 'sign_in' (true or false).")
    })?;
    let there = known::find(app, &name).await?;
    if asked.new && there.is_some() {
        return Err(invalid(format!("There is a user {name} already.")));
    }
    let created_to_sign_in = there.is_none() && asked.password.is_none();
    if created_to_sign_in && asked.sign_in != Some(true) {
        return Err(not_found("User", "name", &name));
    }
    let hash = match asked.password {
        Some(password) => Some(hash(password).await?),
        None => None,
    };
    let mut write = app.database.write().await?;
    if let Some(hash) = &hash {
        store::set_password(&mut write, &name, hash, app.now_ms()).await?;
    }
    if created_to_sign_in {
        let created = identities::create(&mut write, &name, app.now_ms()).await;
        created.map_err(|error| Refusal::internal("make a user", &error))?;
    }
    match asked.sign_in {
        Some(true) => identities::allow(&mut write, &name).await?,
        Some(false) => identities::forbid(&mut write, &name).await?,
        None => {}
    }
    if let Some(roles) = &asked.roles {
        store::set_rights(&mut write, &name, roles).await?;
    }
    write.commit().await.map_err(DatabaseError::from)?;
    let mut detail = Vec::new();
    if hash.is_some() {
        detail.push("a new password".to_owned());
    }
    match asked.sign_in {
        Some(true) => detail.push("the OpenID provider vouches for the user".to_owned()),
        Some(false) => detail.push("no sign-in with the OpenID provider".to_owned()),
        None => {}
    }
    if let Some(roles) = &asked.roles {
        let roles: Vec<String> = roles.iter().map(ToString::to_string).collect();
        detail.push(format!("roles: {}", roles.join(", ")));
    }
    audit::detail(detail.join("; "));
    tracing::debug!(user = name, by = actor.name, "set a user");
    let user = known::find(app, &name).await?;
    let user = user.ok_or_else(|| not_found("User", "name", &name))?;
    Ok(call.answer(&show(&user)))
}

async fn hash(password: String) -> Result<String, Refusal> {
    let hashed = async { Password::new(SecretString::from(password))?.hash().await };
    hashed.await.map_err(|error| match error {
        PasswordError::Short | PasswordError::Long | PasswordError::Control => {
            invalid(format!("The password cannot be used: {error}."))
        }
        error => Refusal::internal("set a password", &error),
    })
}

async fn remove(
    call: Call<1>,
    actor: Actor,
    Path(name): Path<String>,
) -> Result<Response, Refusal> {
    let app = &call.app;
    let name = valid(&name)?;
    let mut write = app.database.write().await?;
    let removed = store::remove(&mut write, &name, &actor.name, app.now_ms()).await?;
    write.commit().await.map_err(DatabaseError::from)?;
    if !removed {
        return Err(not_found("User", "name", &name));
    }
    Ok(call.message(format!("User '{name}' was removed.")))
}

/// Makes an access token for a user.
async fn token(call: Call<1>, Path(name): Path<String>, body: Body) -> Result<Response, Refusal> {
    let name = valid(&name)?;
    if known::find(&call.app, &name).await?.is_none() {
        return Err(not_found("User", "name", &name));
    }
    let root = call.url("/api/admin/access_tokens");
    let shown = access_tokens::make(&call.app, &root, &name, &body).await?;
    Ok(call.answer(&shown))
}

fn valid(name: &str) -> Result<String, Refusal> {
    store::valid_name(name).map_err(|error| invalid(format!("{}.", Chain(&error))))
}
