//! The token, which proves to the server that an agent is the one it first saw.

use journeyman_host::{connection::Connection, durable::FileError};
use journeyman_protocol::{extension, registration::TOKEN_PATH, secret::Secret};
use reqwest::StatusCode;
use thiserror::Error;

use super::request::CALL_TIMEOUT;
use crate::remoting::Session;

/// A token could not be got.
#[derive(Debug, Error)]
pub enum TokenError {
    #[error("{0}")]
    Unreachable(String),
    /// GoCD: the server gives a token only to a GUID it has never seen.
    #[error(
        "{url} gives no token to the GUID {uuid} because it knows an agent with that GUID, whose \
         token this agent has not (409: {message}). Delete that agent on the server, or put its \
         config/token into this working directory, or stop this agent and delete config/guid.txt \
         to let it become a new one"
    )]
    Known {
        url: String,
        uuid: String,
        message: String,
    },
    #[error("{url} gives no token: status {status}{message}")]
    Status {
        url: String,
        status: StatusCode,
        message: String,
    },
    #[error("the token of {url} cannot be used: it is empty or no text of one line")]
    Unusable { url: String },
    #[error("the token cannot be kept: {0}")]
    Keep(#[from] FileError),
}

/// A token that was just given out, and whether the server is our own.
pub(super) struct Fetched {
    pub(super) token: Secret,
    pub(super) is_journeyman: bool,
}

/// Gets a new token and keeps it.
pub(super) async fn fetch(
    session: &Session,
    connection: &Connection,
) -> Result<Fetched, TokenError> {
    let url = connection.url(TOKEN_PATH);
    let answer = connection
        .client()
        .get(&url)
        .query(&[("uuid", session.uuid())])
        .timeout(CALL_TIMEOUT)
        .send()
        .await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return Err(TokenError::Unreachable(connection.explain(&error).await)),
    };
    let status = answer.status();
    let is_journeyman = answer.headers().contains_key(extension::JOURNEYMAN_SERVER);
    let text = super::request::short_body(answer).await;
    match status {
        StatusCode::OK => {
            let text = text.trim();
            if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(TokenError::Unusable { url });
            }
            let token = Secret::from(text);
            session.keep_token(token.clone())?;
            Ok(Fetched {
                token,
                is_journeyman,
            })
        }
        StatusCode::CONFLICT => Err(TokenError::Known {
            url,
            uuid: session.uuid().to_owned(),
            message: super::request::one_line(&text),
        }),
        status => Err(TokenError::Status {
            url,
            status,
            message: super::request::suffix(&text),
        }),
    }
}
