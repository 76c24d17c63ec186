//! Asking to be registered, until the server says yes.

use std::time::Duration;

use jiff::Timestamp;
use journeyman_host::{
    autoregister::{self, AutoRegister, AutoRegisterError},
    certificate::{self, CertificateError},
    connection::{Connection, ConnectionError},
    durable::FileError,
};
use journeyman_protocol::{
    extension,
    launcher::Contact,
    registration::{Certificate, REGISTRATION_PATH, TOKEN_PATH},
};
use reqwest::{Response, StatusCode};
use thiserror::Error;
use tokio::time::sleep;

use super::{
    form,
    token::{self, TokenError},
};
use crate::{
    lifecycle::{Event, Lifecycle, State},
    remoting::{Session, refusal},
    settings::{BackOff, Pauses, Settings},
};

/// A registration call may take this long.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest body that is read, in bytes: a certificate with its chain and a trust store.
const MAX_BODY: usize = 1024 * 1024;
/// After this many failures in a row to reach the secure address the configured one is asked.
const FAILURES_BEFORE_CONFIGURED: u32 = 2;

/// Longest pause between the attempts of an elastic agent that is refused.
const LONGEST_REFUSED: Duration = Duration::from_secs(300);

/// What the server made of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Registered,
    Pending,
}

/// An attempt to register that did not work; another one follows.
#[derive(Debug, Error)]
pub enum RegistrationError {
    #[error(transparent)]
    Token(#[from] token::TokenError),
    #[error("{0}")]
    Unreachable(String),
    #[error("{url} calls this agent's token wrong (403){message}; getting a new one")]
    WrongToken { url: String, message: String },
    #[error("{url} refuses this agent's certificate{message}; going on without it")]
    WrongCertificate { url: String, message: String },
    #[error("{url} refuses the registration (422): {message}")]
    Refused { url: String, message: String },
    #[error("{url} did not register this agent: status {status}{message}")]
    Status {
        url: String,
        status: StatusCode,
        message: String,
    },
    #[error(transparent)]
    AutoRegister(#[from] AutoRegisterError),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Connection(#[from] ConnectionError),
}

/// Registers this agent, however long it takes, and tells the lifecycle: pending each time the
/// server says so, registered at the end.
pub async fn register(session: &Session, lifecycle: &Lifecycle, settings: &Settings) {
    let mut back_off = BackOff::new(settings.work_pauses);
    let mut refused = BackOff::new(Pauses {
        first: settings.registration_retry,
        longest: LONGEST_REFUSED,
        factor: 2.0,
    });
    let mut unreachable = 0;
    let mut complaint = String::new();
    loop {
        let connection = match connection_to_ask(session, unreachable).await {
            Ok(connection) => connection,
            Err(error) => {
                if error.is_unreachable() {
                    session.say(Contact::Away);
                }
                unreachable += 1;
                complain(&mut complaint, &error.to_string());
                sleep(back_off.pause()).await;
                continue;
            }
        };
        match attempt(session, &connection).await {
            Ok(Answer::Registered) => {
                tracing::info!(server = connection.base_url(), "Registered");
                lifecycle.apply(Event::Registered);
                return;
            }
            Ok(Answer::Pending) => {
                complain(
                    &mut complaint,
                    &format!(
                        "Waiting for an administrator of {} to enable this agent ({})",
                        connection.configured_url(),
                        session.uuid()
                    ),
                );
                session.say(Contact::Pending);
                lifecycle.apply(Event::ApprovalPending);
                (unreachable, back_off) = (0, BackOff::new(settings.work_pauses));
                sleep(settings.registration_retry).await;
            }
            // The key of an elastic agent counts once: the server may have used it up for a
            // registration whose answer was lost.
            Err(RegistrationError::Refused { url, message })
                if session.template().elastic.is_some() =>
            {
                if is_known(session).await {
                    tracing::info!(server = connection.base_url(), "Registered before");
                    lifecycle.apply(Event::Registered);
                    return;
                }
                complain(
                    &mut complaint,
                    &format!(
                        "{url} refuses the registration of this elastic agent (422): {message}. If \
                         its key was used before, nothing will let it in again: its plugin on the \
                         server starts another agent"
                    ),
                );
                sleep(refused.pause()).await;
            }
            Err(error) => {
                complain(&mut complaint, &error.to_string());
                if let Some(contact) = error.contact() {
                    session.say(contact);
                }
                if error.is_unreachable() {
                    unreachable += 1;
                    sleep(back_off.pause()).await;
                } else {
                    (unreachable, back_off) = (0, BackOff::new(settings.work_pauses));
                    sleep(settings.registration_retry).await;
                }
            }
        }
    }
}

/// Whether the server has registered this agent: it gives only those a cookie.
async fn is_known(session: &Session) -> bool {
    let Some(token) = session.token() else {
        return false;
    };
    let info = session.runtime_info(&State::Registered);
    let given = session.remoting().get_cookie(&token, info).await;
    match given.map(|cookie| session.keep_cookie(cookie)) {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::error!(%error, "Cannot keep the cookie");
            false
        }
        Err(_) => false,
    }
}

/// One attempt over `connection`: a token if there is none, then the form. When our own server
/// has answered, with a certificate request; the session then goes on over the secure connection.
pub(super) async fn attempt(
    session: &Session,
    connection: &Connection,
) -> Result<Answer, RegistrationError> {
    let kept = session.token();
    let token_is_new = kept.is_none();
    let (token, mut is_journeyman) = match kept {
        Some(token) => (
            token,
            connection.is_secure() || session.remoting().is_journeyman(),
        ),
        None => match token::fetch(session, connection).await {
            Ok(fetched) => (fetched.token, fetched.is_journeyman),
            // A certificate of this GUID is given its token whenever it asks.
            Err(error @ TokenError::Known { .. } | error @ TokenError::Status { .. })
                if connection.is_secure() =>
            {
                certificate::discard(&session.workdir)?;
                return Err(RegistrationError::WrongCertificate {
                    url: connection.url(TOKEN_PATH),
                    message: format!(": {error}"),
                });
            }
            Err(error) => return Err(error.into()),
        },
    };
    loop {
        let auto = AutoRegister::load(&session.workdir)?;
        let with_request = is_journeyman;
        let request = with_request
            .then(|| certificate::request(&session.workdir, session.uuid()))
            .transpose()?;
        let form = form::fill(session, auto, token.clone(), request);
        let url = connection.url(REGISTRATION_PATH);
        let answer = connection
            .client()
            .post(&url)
            .form(&form)
            .timeout(CALL_TIMEOUT)
            .send()
            .await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let reason = connection.explain(&error).await;
                return Err(RegistrationError::Unreachable(reason));
            }
        };
        is_journeyman = answer.headers().contains_key(extension::JOURNEYMAN_SERVER);
        let status = answer.status();
        let body = short_body(answer).await;
        match status {
            // Only now is it known that this server can give a certificate.
            StatusCode::OK if is_journeyman && !with_request => {}
            StatusCode::OK => {
                if with_request && !body.trim().is_empty() {
                    take_certificate(session, &body).await?;
                }
                autoregister::scrub(&session.workdir)?;
                return Ok(Answer::Registered);
            }
            StatusCode::ACCEPTED => return Ok(Answer::Pending),
            status => {
                // Either may be wrong, the token or the certificate: a token that was just given
                // out to this certificate is not.
                let certificate_is_wrong = connection.is_secure() && token_is_new;
                return Err(refusal(session, certificate_is_wrong, url, status, &body));
            }
        }
    }
}

fn refusal(
    session: &Session,
    certificate_is_wrong: bool,
    url: String,
    status: StatusCode,
    body: &str,
) -> RegistrationError {
    let message = suffix(body);
    match status {
        StatusCode::FORBIDDEN if certificate_is_wrong => {
            match certificate::discard(&session.workdir) {
                Ok(()) => RegistrationError::WrongCertificate { url, message },
                Err(error) => error.into(),
            }
        }
        StatusCode::FORBIDDEN => match session.forget_token() {
            Ok(()) => RegistrationError::WrongToken { url, message },
            Err(error) => error.into(),
        },
        StatusCode::UNPROCESSABLE_ENTITY => RegistrationError::Refused {
            url,
            message: one_line(body),
        },
        status => RegistrationError::Status {
            url,
            status,
            message,
        },
    }
}

/// Keeps the certificate and goes over to the secure connection.
async fn take_certificate(session: &Session, body: &str) -> Result<(), RegistrationError> {
    let answer: Certificate = serde_json::from_str(body)
        .map_err(|error| CertificateError::Unusable(format!("it cannot be read: {error}")))?;
    let saved = certificate::save(&session.workdir, &answer, session.settings.base_url());
    if let Err(error @ CertificateError::Unusable(_)) = saved {
        // The registration itself is good: go on with the token over the configured connection.
        tracing::warn!(%error, "No secure connection");
        return Ok(());
    }
    saved?;
    let connection = Connection::open(&session.workdir, &session.settings).await?;
    if connection.is_secure() {
        tracing::info!(
            server = connection.base_url(),
            not_after = %answer.not_after,
            "Going on over mutual TLS"
        );
    }
    session.reconnect(connection);
    Ok(())
}

/// The connection of the session; the configured one instead while there is no certificate any
/// more, and every other time when nobody answers at the secure address.
async fn connection_to_ask(
    session: &Session,
    unreachable: u32,
) -> Result<Connection, ConnectionError> {
    let current = session.connection();
    if !current.is_secure() {
        return Ok(current);
    }
    let kept = certificate::load(
        &session.workdir,
        session.settings.base_url(),
        Timestamp::now(),
    )?;
    let fall_back = unreachable >= FAILURES_BEFORE_CONFIGURED && unreachable.is_multiple_of(2);
    if kept.is_some() && !fall_back {
        return Ok(current);
    }
    let configured = Connection::configured(&session.workdir, &session.settings).await?;
    if kept.is_none() {
        session.reconnect(configured.clone());
    }
    Ok(configured)
}

/// Says a thing once, not at every attempt.
fn complain(last: &mut String, text: &str) {
    if last != text {
        tracing::warn!("{text}");
        text.clone_into(last);
    }
}

/// The body as text, as far as it is of any use.
pub(super) async fn short_body(mut answer: Response) -> String {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        if body.len() + chunk.len() > MAX_BODY {
            break;
        }
        body.extend_from_slice(&chunk);
    }
    String::from_utf8_lossy(&body).into_owned()
}

pub(super) fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(300).collect()
}

pub(super) fn suffix(text: &str) -> String {
    match one_line(text) {
        line if line.is_empty() => line,
        line => format!(": {line}"),
    }
}

// === impl RegistrationError ===

impl RegistrationError {
    pub(super) fn is_unreachable(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Token(token::TokenError::Unreachable(_)) => true,
            Self::Connection(error) => error.is_unreachable(),
            _ => false,
        }
    }

    /// What the launcher is told of it: that it is not this agent's fault.
    fn contact(&self) -> Option<Contact> {
        match self {
            Self::Status { status, .. } | Self::Token(TokenError::Status { status, .. }) => {
                refusal::contact(*status)
            }
            error => error.is_unreachable().then_some(Contact::Away),
        }
    }
}
