//! The login page, and the session that it opens and closes.

use std::sync::Arc;

use askama::Template;
use axum::{
    Extension, Form, Router,
    extract::{DefaultBodyLimit, Query, State},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::SecretString;
use serde::Deserialize;

use super::{
    audit,
    authentication::{self, Unknown, cookie},
    guard, oidc, secret,
    sessions::{self, COOKIE},
};
use crate::{App, answer::Refusal, database::DatabaseError, listening::Peer, pages};

/// Bytes of a name, a password and an address, encoded.
const MAX_BODY: usize = 8 * 1024;
const HOME: &str = "/go/pipelines";

/// Routes under `/go`.
pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/auth/login", get(page))
        .route("/auth/security_check", axum::routing::post(log_in))
        .route("/auth/sign_in", get(oidc::begin))
        .route("/auth/signed_in", get(oidc::back))
        .route("/auth/logout", get(log_out).post(log_out))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(axum::middleware::from_fn(pages::guard))
}

#[derive(Template)]
#[template(path = "login.html")]
struct Page {
    notice: Option<String>,
    name: String,
    to: String,
    provider: Option<Offer>,
}

/// The way to a provider.
struct Offer {
    name: String,
    path: String,
}

#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    pub(super) to: String,
}

#[derive(Deserialize)]
struct Given {
    #[serde(default)]
    j_username: String,
    #[serde(default)]
    j_password: String,
    #[serde(default)]
    to: String,
}

async fn page(State(app): State<Arc<App>>, Query(asked): Query<Asked>) -> Response {
    if !app.users.login {
        return Redirect::to(HOME).into_response();
    }
    shown(&app, StatusCode::OK, None, "", &asked.to)
}

/// The login page, with what went wrong before.
pub(super) fn shown(
    app: &App,
    status: StatusCode,
    notice: Option<String>,
    name: &str,
    to: &str,
) -> Response {
    let provider = app.provider.as_ref().map(|known| Offer {
        name: known.name().to_owned(),
        path: format!(
            "/go/auth/sign_in?to={}",
            utf8_percent_encode(to, NON_ALPHANUMERIC)
        ),
    });
    let page = Page {
        notice,
        name: name.to_owned(),
        to: to.to_owned(),
        provider,
    };
    pages::render(status, &page)
}

async fn log_in(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    Form(given): Form<Given>,
) -> Result<Response, Refusal> {
    if !app.users.login {
        return Ok(Redirect::to(HOME).into_response());
    }
    let address = peer.address.ip();
    let again = |status: StatusCode, notice: &str| {
        let notice = Some(notice.to_owned());
        shown(&app, status, notice, &given.j_username, &given.to)
    };
    let password = SecretString::from(given.j_password);
    let known = authentication::with_password(&app, &given.j_username, &password, address).await;
    let known = match known {
        Ok(known) => known,
        Err(Unknown::Failed(refusal)) => return Err(refusal),
        Err(Unknown::TooMany(seconds)) => return Ok(guard::too_many(seconds, again)),
        Err(Unknown::Password | Unknown::Token) => {
            let notice = "The name or the password is wrong.";
            return Ok(again(StatusCode::UNAUTHORIZED, notice));
        }
    };
    let id = secret::new().map_err(|error| Refusal::internal("open a session", &error))?;
    let mut write = app.database.write().await?;
    if let Some(earlier) = cookie(&headers) {
        sessions::close(&mut write, earlier).await?;
    }
    let now = app.now_ms();
    sessions::open(&mut write, &id, &known.name, &known.password_hash, now).await?;
    let entry = audit::New {
        at: now,
        actor: known.name.clone(),
        address,
        action: "log in".to_owned(),
    };
    audit::record_in(&mut write, &entry, 303, "").await?;
    write.commit().await.map_err(DatabaseError::from)?;
    let mut response = Redirect::to(own_page(&given.to)).into_response();
    set_cookie(&mut response, &format!("{COOKIE}={id}"), peer.secure);
    Ok(response)
}

/// Reached with a session only; the form that leads here has its token checked.
async fn log_out(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if text("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        let text = "Another site has led here; nobody is logged out.\n";
        return Err(Refusal::text(StatusCode::FORBIDDEN, text));
    }
    if let Some(id) = cookie(&headers) {
        let mut write = app.database.write().await?;
        sessions::close(&mut write, id).await?;
        write.commit().await.map_err(DatabaseError::from)?;
    }
    let mut response = Redirect::to("/go/auth/login").into_response();
    set_cookie(&mut response, &format!("{COOKIE}=; Max-Age=0"), peer.secure);
    Ok(response)
}

/// Where to go after the login: to a page here, never to another site.
pub(super) fn own_page(to: &str) -> &str {
    let plain = to
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if plain && to.starts_with("/go/") {
        to
    } else {
        HOME
    }
}

pub(super) fn set_cookie(response: &mut Response, pair: &str, secure: bool) {
    let secure = if secure { "; Secure" } else { "" };
    let cookie = format!("{pair}; Path=/go; HttpOnly; SameSite=Lax{secure}");
    if let Ok(value) = HeaderValue::from_str(&cookie) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_leads_to_own_pages_only() {
        assert_eq!(own_page("/go/agents?x=1"), "/go/agents?x=1");
        for foreign in [
            "",
            "https://evil",
            "//evil",
            "/go",
            "/\\evil",
            "/go/\r\nx",
            "/other",
        ] {
            assert_eq!(own_page(foreign), HOME, "{foreign}");
        }
    }
}
