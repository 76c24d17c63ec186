//! Who sends a request.

use std::net::IpAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, header};
use secrecy::SecretString;
use sqlx::SqliteConnection;

use super::{
    Actor, Means, password_file, secret,
    sessions::{self, COOKIE},
    store, tokens,
};
use crate::{
    App,
    answer::{Chain, Refusal},
    database::DatabaseError,
};

/// Why a request is from nobody who is known.
#[derive(Debug)]
pub(super) enum Unknown {
    /// A password is missing or wrong.
    Password,
    /// A token is wrong or revoked.
    Token,
    /// Too many wrong passwords: for so many seconds none is heard.
    TooMany(i64),
    Failed(Refusal),
}

impl<E: Into<DatabaseError>> From<E> for Unknown {
    fn from(error: E) -> Self {
        Self::Failed(error.into().into())
    }
}

/// Finds out who sends a request. Tokens count where programs call, not on pages.
pub(super) async fn authenticate(
    app: &App,
    headers: &HeaderMap,
    address: IpAddr,
    tokens_count: bool,
) -> Result<Actor, Unknown> {
    if !app.users.login {
        return Ok(Actor::nobody());
    }
    let authorization = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.trim().split_once(' '));
    match authorization {
        Some((scheme, given)) if scheme.eq_ignore_ascii_case("basic") => {
            let (name, password) = basic(given).ok_or(Unknown::Password)?;
            let user = with_password(app, &name, &password, address).await?;
            actor(app, user.name, Means::Password).await
        }
        Some((scheme, given)) if scheme.eq_ignore_ascii_case("bearer") && tokens_count => {
            with_token(app, given.trim()).await
        }
        _ => match cookie(headers) {
            Some(id) => with_session(app, id).await,
            None => Err(Unknown::Password),
        },
    }
}

/// A user who has said the right password.
pub(super) struct Known {
    pub(super) name: String,
    pub(super) password_hash: String,
}

/// Checks a password, unless too many were wrong.
pub(super) async fn with_password(
    app: &App,
    name: &str,
    password: &SecretString,
    address: IpAddr,
) -> Result<Known, Unknown> {
    let users = &app.users;
    // What cannot be a name is counted as one, so that it takes the same way.
    let name = store::valid_name(name).unwrap_or_else(|_| "?".to_owned());
    let now = app.now_ms();
    let admit = || {
        let admitted = users.attempts.admit(&name, address, app.now_ms());
        admitted.map_err(|wait| Unknown::TooMany(wait.0))
    };
    admit()?;
    // Who has no password is like somebody who is not there.
    let hash = password_hash(app, &name).await?;
    let hash = hash.filter(|hash| !hash.starts_with(store::NO_PASSWORD));
    let known = |hash: String| Known {
        name: name.clone(),
        password_hash: hash,
    };
    let is_known = || {
        let hash = hash.as_deref();
        hash.is_some_and(|hash| users.passwords.is_known(&name, hash, password, now))
    };
    if let (Some(hash), true) = (&hash, is_known()) {
        return Ok(known(hash.clone()));
    }
    // While this one waited for its turn, others may have been found right or wrong.
    let _turn = users.passwords.turn().await;
    admit()?;
    if let (Some(hash), true) = (&hash, is_known()) {
        return Ok(known(hash.clone()));
    }
    let checked = users
        .passwords
        .is_right(&name, hash.as_deref(), password, now)
        .await;
    match (checked, hash) {
        (Ok(true), Some(hash)) => {
            users.attempts.succeeded(&name, address);
            return Ok(known(hash));
        }
        (Ok(_), _) => {}
        (Err(error), _) => {
            tracing::warn!(user = name, error = %Chain(&error), "a stored password cannot be compared")
        }
    }
    let last = users.attempts.failed(&name, address, app.now_ms());
    tracing::warn!(user = ?name, peer = %address, last, "a login failed");
    Err(Unknown::Password)
}

async fn with_token(app: &App, text: &str) -> Result<Actor, Unknown> {
    if secret::same(&secret::digest_of(text), &app.users.local) {
        return Ok(Actor::local());
    }
    let now = app.now_ms();
    let mut connection = app.database.readers().acquire().await?;
    let token = tokens::with_text(&mut connection, text).await?;
    drop(connection);
    let token = token.ok_or(Unknown::Token)?;
    // A user of the password file can be gone without a word.
    if password_hash(app, &token.user_name).await?.is_none() {
        return Err(Unknown::Token);
    }
    if tokens::is_use_worth_noting(&token, now) {
        let mut write = app.database.write().await?;
        tokens::note_use(&mut write, token.id, now).await?;
        write.commit().await?;
    }
    actor(app, token.user_name, Means::AccessToken).await
}

async fn with_session(app: &App, id: &str) -> Result<Actor, Unknown> {
    let now = app.now_ms();
    let mut connection = app.database.readers().acquire().await?;
    let session = sessions::find(&mut connection, id, now).await?;
    drop(connection);
    let session = session.ok_or(Unknown::Password)?;
    let hash = password_hash(app, &session.user_name).await?;
    let same = |hash: &String| secret::same(&sessions::credential(hash), &session.credential);
    if !hash.as_ref().is_some_and(same) {
        return Err(Unknown::Password);
    }
    if session.worth_noting {
        let mut write = app.database.write().await?;
        sessions::note_use(&mut write, id, now).await?;
        write.commit().await?;
    }
    let form_token = sessions::form_token(id);
    actor(app, session.user_name, Means::Session { form_token }).await
}

async fn actor(app: &App, name: String, means: Means) -> Result<Actor, Unknown> {
    let mut connection = app.database.readers().acquire().await?;
    let rights = store::rights(&mut connection, &name).await?;
    Ok(Actor {
        name,
        rights,
        means,
    })
}

/// The stored hash of a user's password: the server's own users come before those of the file.
async fn password_hash(app: &App, name: &str) -> Result<Option<String>, Unknown> {
    let mut connection = app.database.readers().acquire().await?;
    password_hash_in(app, &mut connection, name).await
}

/// The same as a transaction sees it.
pub(super) async fn password_hash_in(
    app: &App,
    connection: &mut SqliteConnection,
    name: &str,
) -> Result<Option<String>, Unknown> {
    if let Some(user) = store::find(connection, name).await? {
        return Ok(Some(user.password_hash));
    }
    let Some(path) = &app.users.password_file else {
        return Ok(None);
    };
    let found = password_file::find(path, name).await;
    found.map_err(|error| Unknown::Failed(Refusal::internal("look up a user", &error)))
}

fn basic(given: &str) -> Option<(String, SecretString)> {
    let text = String::from_utf8(STANDARD.decode(given.trim()).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), SecretString::from(password)))
}

/// The id of the session that the browser sends.
pub(super) fn cookie(headers: &HeaderMap) -> Option<&str> {
    cookie_called(headers, COOKIE)
}

/// A cookie by its name.
pub(super) fn cookie_called<'a>(headers: &'a HeaderMap, wanted: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(name, value)| (name == wanted).then_some(value))
}
