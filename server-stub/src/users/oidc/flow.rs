//! The way to the provider and back.

use std::{net::IpAddr, sync::Arc};

use axum::{
    Extension,
    extract::{Query, State},
    response::{IntoResponse, Redirect, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, header};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use ring::digest::{SHA256, digest};
use serde::Deserialize;

use super::{conversation::Conversation, failure::Failure, person};
use crate::{
    App,
    answer::{Chain, Refusal},
    database::DatabaseError,
    listening::Peer,
    users::{
        attempts::Wait,
        audit, authentication,
        login::{self, Asked},
        secret, sessions,
    },
};

/// Holds the secret of a sign-in under way, and where it leads to.
const COOKIE: &str = "JOURNEYMAN_SIGN_IN";
/// Seconds that a sign-in may take.
const LONGEST: u32 = 600;
/// Where the provider sends people back to, under `/go`.
const BACK: &str = "/auth/signed_in";
/// Who tries to sign in, for the count of what has failed. No user has this name.
const SOMEBODY: &str = "?";

/// What follows from the secret in the cookie.
struct Pass {
    state: String,
    nonce: String,
    verifier: String,
}

impl Pass {
    fn of(secret: &str) -> Self {
        Self {
            state: secret::derived(secret, "sign-in state"),
            nonce: secret::derived(secret, "sign-in nonce"),
            verifier: secret::derived(secret, "sign-in verifier"),
        }
    }
}

/// Sends a person to the provider.
pub(in crate::users) async fn begin(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    let Some(conversation) = &app.provider else {
        return Ok(Redirect::to("/go/auth/login").into_response());
    };
    let description = match conversation.description(app.now_ms()).await {
        Ok(description) => description,
        Err(failure) => return Ok(failed(&app, conversation, &failure, &peer, &asked.to)),
    };
    let cookie = secret::new().map_err(|error| Refusal::internal("begin a sign-in", &error))?;
    let pass = Pass::of(&cookie);
    let provider = &conversation.provider;
    let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, pass.verifier.as_bytes()));
    let mut scopes = vec!["openid"];
    scopes.extend(
        provider
            .scopes
            .iter()
            .map(String::as_str)
            .filter(|one| *one != "openid"),
    );
    let mut to = description.authorization_endpoint.clone();
    to.query_pairs_mut()
        .append_pair("response_type", "code")
        .append_pair("client_id", &provider.client_id)
        .append_pair("redirect_uri", &back_to(&app, &headers, &peer))
        .append_pair("scope", &scopes.join(" "))
        .append_pair("state", &pass.state)
        .append_pair("nonce", &pass.nonce)
        .append_pair("code_challenge", &challenge)
        .append_pair("code_challenge_method", "S256");
    let mut response = Redirect::to(to.as_str()).into_response();
    let leads_to = utf8_percent_encode(login::own_page(&asked.to), NON_ALPHANUMERIC);
    let pair = format!("{COOKIE}={cookie}.{leads_to}; Max-Age={LONGEST}");
    login::set_cookie(&mut response, &pair, peer.secure);
    Ok(response)
}

/// What the provider sends back with a person.
#[derive(Deserialize)]
pub(in crate::users) struct Returned {
    state: Option<String>,
    code: Option<String>,
    error: Option<String>,
    iss: Option<String>,
}

/// Opens a session for the person whom the provider sends back.
pub(in crate::users) async fn back(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    Query(returned): Query<Returned>,
) -> Response {
    let Some(conversation) = &app.provider else {
        return Redirect::to("/go/auth/login").into_response();
    };
    let under_way = authentication::cookie_called(&headers, COOKIE)
        .and_then(|value| value.split_once('.'))
        .map(|(secret, to)| (secret, percent_decode_str(to).decode_utf8_lossy()));
    let to = under_way.as_ref().map_or("", |(_, to)| to.as_ref());
    let secret = under_way.as_ref().map(|(secret, _)| *secret);
    let address = peer.address.ip();
    let mut response = match sign_in(&app, conversation, &headers, &peer, secret, returned).await {
        Ok(id) => {
            let mut response = Redirect::to(login::own_page(to)).into_response();
            let pair = format!("{}={id}", sessions::COOKIE);
            login::set_cookie(&mut response, &pair, peer.secure);
            response
        }
        Err(failure) => {
            if failure.counts() {
                app.users.attempts.failed(SOMEBODY, address, app.now_ms());
            }
            failed(&app, conversation, &failure, &peer, to)
        }
    };
    // Each sign-in ends once.
    login::set_cookie(&mut response, &format!("{COOKIE}=; Max-Age=0"), peer.secure);
    response
}

/// The id of a new session.
async fn sign_in(
    app: &App,
    conversation: &Conversation,
    headers: &HeaderMap,
    peer: &Peer,
    secret: Option<&str>,
    returned: Returned,
) -> Result<String, Failure> {
    let now = app.now_ms();
    let address: IpAddr = peer.address.ip();
    let admitted = app.users.attempts.admit(SOMEBODY, address, now);
    admitted.map_err(|Wait(seconds)| Failure::TooMany(seconds))?;
    let pass = Pass::of(secret.ok_or(Failure::Foreign)?);
    let state = returned.state.ok_or(Failure::Foreign)?;
    if !secret::same(&state, &pass.state) {
        return Err(Failure::Foreign);
    }
    let issuer = conversation.provider.issuer.trim_end_matches('/');
    // RFC 9207: another provider's answer is not taken for this one's.
    if returned
        .iss
        .is_some_and(|iss| iss.trim_end_matches('/') != issuer)
    {
        return Err(Failure::Foreign);
    }
    if let Some(error) = returned.error {
        return Err(Failure::Refused(error.chars().take(100).collect()));
    }
    let code = returned.code.ok_or(Failure::Foreign)?;
    let redirect = back_to(app, headers, peer);
    let claims = conversation
        .claims(&code, &pass.verifier, &redirect, &pass.nonce, now)
        .await?;
    let id = secret::new()
        .map_err(|error| Failure::Ours(Refusal::internal("open a session", &error)))?;
    let mut write = app.database.write().await?;
    let (name, hash, changed) =
        person::user(app, &mut write, &conversation.provider, &claims).await?;
    if let Some(earlier) = authentication::cookie(headers) {
        sessions::close(&mut write, earlier).await?;
    }
    sessions::open(&mut write, &id, &name, &hash, now).await?;
    let entry = audit::New {
        at: now,
        actor: name,
        address,
        action: "log in".to_owned(),
    };
    audit::record_in(&mut write, &entry, 303, &changed).await?;
    write.commit().await.map_err(DatabaseError::from)?;
    app.users.attempts.succeeded(SOMEBODY, address);
    Ok(id)
}

/// Where the provider sends people back to: it has to know it, so that nobody is sent elsewhere.
fn back_to(app: &App, headers: &HeaderMap, peer: &Peer) -> String {
    format!("{}{BACK}", app.base_url(headers, Some(peer)))
}

/// The login page with what has happened, which is logged as well.
fn failed(
    app: &App,
    conversation: &Conversation,
    failure: &Failure,
    peer: &Peer,
    to: &str,
) -> Response {
    tracing::warn!(peer = %peer.address.ip(), cause = %Chain(failure), "a sign-in failed");
    let (status, notice) = failure.told(&conversation.provider);
    let mut response = login::shown(app, status, Some(notice), "", to);
    if let Failure::TooMany(seconds) = failure {
        let after = http::HeaderValue::from(*seconds);
        response.headers_mut().insert(header::RETRY_AFTER, after);
    }
    response
}
