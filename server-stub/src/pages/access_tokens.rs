//! The page of one's own access tokens.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Extension, Form};
use http::StatusCode;
use serde::Deserialize;

use super::{not_found, render, when};
use crate::App;
use crate::answer::Refusal;
use crate::database::DatabaseError;
use crate::users::tokens::{self, Filter};
use crate::users::{Actor, Means, audit};

const PAGE: &str = "/go/access_tokens";
/// The longest text about a token, in characters.
const LONGEST: usize = 1024;

#[derive(Template)]
#[template(path = "access_tokens.html")]
struct Page {
    tokens: Vec<Row>,
    /// The text of a token that was just made: shown once.
    made: Option<String>,
}

impl Page {
    fn here(&self) -> &'static str {
        "access_tokens"
    }
}

struct Row {
    id: i64,
    description: String,
    created: String,
    used: Option<String>,
    revoked: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Typed {
    #[serde(default)]
    description: String,
}

/// Whoever holds a token makes no others with it.
fn by_password(actor: &Actor) -> Result<(), Refusal> {
    if actor.is_user() && actor.means != Means::AccessToken {
        return Ok(());
    }
    let text = "Access tokens are for users, who log in with a password to make them.\n";
    Err(Refusal::text(StatusCode::FORBIDDEN, text))
}

pub(super) async fn page(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
) -> Result<Response, Refusal> {
    by_password(&actor)?;
    show(&app, &actor, None).await
}

async fn show(app: &App, actor: &Actor, made: Option<String>) -> Result<Response, Refusal> {
    let mut connection = app
        .database
        .readers()
        .acquire()
        .await
        .map_err(DatabaseError::from)?;
    let mut all = tokens::list(&mut connection, Some(&actor.name), Filter::All).await?;
    all.sort_by_key(|one| (one.revoked_at.is_some(), std::cmp::Reverse(one.id)));
    let tokens = all.into_iter().map(|one| Row {
        id: one.id,
        description: one.description,
        created: when(one.created_at),
        used: one.last_used_at.map(when),
        revoked: one.revoked_at.map(when),
    });
    let page = Page {
        tokens: tokens.collect(),
        made,
    };
    Ok(render(StatusCode::OK, &page))
}

pub(super) async fn add(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    Form(typed): Form<Typed>,
) -> Result<Response, Refusal> {
    by_password(&actor)?;
    let description: String = typed.description.trim().chars().take(LONGEST).collect();
    let mut write = app.database.write().await?;
    let made = tokens::create(&mut write, &actor.name, &description, app.now_ms()).await;
    let (token, text) = made.map_err(|error| Refusal::internal("make an access token", &error))?;
    write.commit().await.map_err(DatabaseError::from)?;
    audit::detail(format!("token {}: {description}", token.id));
    show(&app, &actor, Some(text)).await
}

pub(super) async fn revoke(
    State(app): State<Arc<App>>,
    Extension(actor): Extension<Actor>,
    Path(id): Path<i64>,
) -> Result<Response, Refusal> {
    by_password(&actor)?;
    let mut write = app.database.write().await?;
    let token = tokens::find(&mut write, Some(&actor.name), id).await?;
    let token = token.ok_or_else(|| not_found("such token"))?;
    tokens::revoke(&mut write, token.id, &actor.name, "", app.now_ms()).await?;
    write.commit().await.map_err(DatabaseError::from)?;
    audit::detail(format!("token {}: {}", token.id, token.description));
    Ok(Redirect::to(PAGE).into_response())
}
