//! The page of users and their roles, and the audit log.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Extension, Form};
use http::StatusCode;
use secrecy::SecretString;
use serde::Deserialize;

use super::{not_found, render, when};
use crate::App;
use crate::answer::{Chain, Refusal};
use crate::database::DatabaseError;
use crate::users::identities::{self, Identity};
use crate::users::known::By;
use crate::users::{Actor, Grant, Password, PasswordError, audit, known, store};

const PAGE: &str = "/go/admin/users";
/// Entries of the audit log on one page.
const SHOWN: i64 = 100;

#[derive(Template)]
#[template(path = "users.html")]
struct Page {
    users: Vec<Row>,
    groups: Vec<String>,
    /// Whether there is a login at all.
    login: bool,
    /// What the OpenID provider is called.
    provider: Option<String>,
    notice: Option<String>,
    typed_name: String,
    typed_roles: String,
}

impl Page {
    fn here(&self) -> &'static str {
        "users"
    }
}

struct Row {
    name: String,
    roles: String,
    in_file: bool,
    has_password: bool,
    /// Whether the OpenID provider vouches for the user.
    signs_in: bool,
    /// Nobody removes themselves by mistake.
    is_self: bool,
}

#[derive(Deserialize)]
pub(super) struct Typed {
    #[serde(default)]
    name: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    roles: String,
}

pub(super) async fn page(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
) -> Result<Response, Refusal> {
    show(&app, &actor, StatusCode::OK, None, ("", "")).await
}

async fn show(
    app: &App,
    actor: &Actor,
    status: StatusCode,
    notice: Option<String>,
    (name, roles): (&str, &str),
) -> Result<Response, Refusal> {
    let users = known::all(app).await?.into_iter().map(|user| Row {
        roles: written(user.rights.grants()),
        in_file: user.login == By::File,
        has_password: user.login != By::Nothing,
        signs_in: user.identity != Identity::None,
        is_self: user.name == actor.name,
        name: user.name,
    });
    let mut connection = app
        .database
        .readers()
        .acquire()
        .await
        .map_err(DatabaseError::from)?;
    let groups: Vec<String> =
        sqlx::query_scalar("SELECT DISTINCT group_name FROM pipelines ORDER BY group_name")
            .fetch_all(&mut *connection)
            .await
            .map_err(DatabaseError::from)?;
    let page = Page {
        users: users.collect(),
        groups,
        login: app.users.login,
        provider: app.provider.as_ref().map(|known| known.name().to_owned()),
        notice,
        typed_name: name.to_owned(),
        typed_roles: roles.to_owned(),
    };
    Ok(render(status, &page))
}

fn written(grants: &[Grant]) -> String {
    let grants: Vec<String> = grants.iter().map(ToString::to_string).collect();
    grants.join(", ")
}

/// `view, operate:shop`.
fn read_roles(text: &str) -> Result<Vec<Grant>, String> {
    let words = text.split([',', ' ', '\n']).map(str::trim);
    let words = words.filter(|word| !word.is_empty());
    words
        .map(|word| word.parse::<Grant>().map_err(|error| format!("{error}")))
        .collect()
}

async fn hash(password: &str) -> Result<Result<String, String>, Refusal> {
    let password = SecretString::from(password.to_owned());
    let hashed = async { Password::new(password)?.hash().await };
    match hashed.await {
        Ok(hash) => Ok(Ok(hash)),
        Err(error @ (PasswordError::Short | PasswordError::Long | PasswordError::Control)) => {
            Ok(Err(format!("the password cannot be used: {error}")))
        }
        Err(error) => Err(Refusal::internal("set a password", &error)),
    }
}

/// Makes a user.
pub(super) async fn add(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    Form(typed): Form<Typed>,
) -> Result<Response, Refusal> {
    let checked = async {
        let name = match store::valid_name(typed.name.trim()) {
            Ok(name) => name,
            Err(error) => return Ok(Err(Chain(&error).to_string())),
        };
        let roles = match read_roles(&typed.roles) {
            Ok(roles) => roles,
            Err(error) => return Ok(Err(error)),
        };
        if known::find(&app, &name).await?.is_some() {
            return Ok(Err(format!("there is a user {name} already")));
        }
        Ok::<_, Refusal>(hash(&typed.password).await?.map(|hash| (name, roles, hash)))
    };
    match checked.await? {
        Err(error) => {
            let notice = Some(format!("The user was not added: {error}."));
            let typed = (typed.name.as_str(), typed.roles.as_str());
            show(
                &app,
                &actor,
                StatusCode::UNPROCESSABLE_ENTITY,
                notice,
                typed,
            )
            .await
        }
        Ok((name, roles, hash)) => {
            let mut write = app.database.write().await?;
            store::set_password(&mut write, &name, &hash, app.now_ms()).await?;
            store::set_rights(&mut write, &name, &roles).await?;
            write.commit().await.map_err(DatabaseError::from)?;
            audit::detail(format!("{name}: {}", written(&roles)));
            Ok(Redirect::to(PAGE).into_response())
        }
    }
}

/// Gives a user other roles or another password, or removes one.
pub(super) async fn act(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    Path((name, action)): Path<(String, String)>,
    Form(typed): Form<Typed>,
) -> Result<Response, Refusal> {
    let user = known::find(&app, &name.to_ascii_lowercase()).await?;
    let user = user.ok_or_else(|| not_found("such user"))?;
    let refuse = |notice: String| {
        show(
            &app,
            &actor,
            StatusCode::UNPROCESSABLE_ENTITY,
            Some(notice),
            ("", ""),
        )
    };
    let mut write;
    match action.as_str() {
        "roles" => {
            let roles = match read_roles(&typed.roles) {
                Ok(roles) => roles,
                Err(error) => return refuse(format!("Nothing was changed: {error}.")).await,
            };
            write = app.database.write().await?;
            store::set_rights(&mut write, &user.name, &roles).await?;
            audit::detail(written(&roles));
        }
        "password" if user.login == By::File => {
            return refuse("This password is in the password file: change it there.".to_owned())
                .await;
        }
        "password" => {
            let hash = match hash(&typed.password).await? {
                Ok(hash) => hash,
                Err(error) => return refuse(format!("Nothing was changed: {error}.")).await,
            };
            write = app.database.write().await?;
            store::set_password(&mut write, &user.name, &hash, app.now_ms()).await?;
            audit::detail("a new password");
        }
        "sign-in" => {
            write = app.database.write().await?;
            identities::allow(&mut write, &user.name).await?;
            audit::detail("the OpenID provider vouches for the user");
        }
        "no-sign-in" => {
            write = app.database.write().await?;
            identities::forbid(&mut write, &user.name).await?;
            audit::detail("no sign-in with the OpenID provider");
        }
        "remove" if user.name == actor.name => {
            return refuse("Nobody can remove themselves: another admin does it.".to_owned()).await;
        }
        "remove" => {
            write = app.database.write().await?;
            store::remove(&mut write, &user.name, &actor.name, app.now_ms()).await?;
        }
        _ => return Err(not_found("such action")),
    }
    write.commit().await.map_err(DatabaseError::from)?;
    Ok(Redirect::to(PAGE).into_response())
}

// --- the audit log

#[derive(Template)]
#[template(path = "audit.html")]
struct Log {
    entries: Vec<Entry>,
    /// The id from which the next page goes on.
    older: Option<i64>,
}

impl Log {
    fn here(&self) -> &'static str {
        "users"
    }
}

struct Entry {
    at: String,
    actor: String,
    address: String,
    action: String,
    status: i64,
    detail: String,
}

#[derive(Deserialize)]
pub(super) struct Asked {
    before: Option<i64>,
}

pub(super) async fn log(
    State(app): State<Arc<App>>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    let mut connection = app
        .database
        .readers()
        .acquire()
        .await
        .map_err(DatabaseError::from)?;
    let entries = audit::list(&mut connection, asked.before, SHOWN).await?;
    let is_full = i64::try_from(entries.len()).is_ok_and(|count| count == SHOWN);
    let page = Log {
        older: entries.last().filter(|_| is_full).map(|one| one.id),
        entries: entries
            .into_iter()
            .map(|one| Entry {
                at: when(one.at),
                actor: one.actor,
                address: one.address,
                action: one.action,
                status: one.status,
                detail: one.detail,
            })
            .collect(),
    };
    Ok(render(StatusCode::OK, &page))
}
