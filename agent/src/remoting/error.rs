//! What can go wrong with a call.

use journeyman_protocol::{launcher::Contact, remoting::Action};
use reqwest::StatusCode;
use thiserror::Error;

use super::refusal;

/// A call that did not work. The three kinds want three answers: wait for the network, look at
/// the status, or report a server that speaks another language.
#[derive(Debug, Error)]
pub enum CallError {
    /// No answer came, or it broke off.
    #[error("{} got no answer from {url}", name(*action))]
    Network {
        action: Action,
        url: String,
        #[source]
        source: reqwest::Error,
    },
    /// The server answered, but not with success.
    #[error(
        "{} was refused by {url} with status {} ({}){}",
        name(*action),
        status.as_u16(),
        status.canonical_reason().unwrap_or("no reason given"),
        prefixed(message)
    )]
    Status {
        action: Action,
        url: String,
        status: StatusCode,
        /// What the server said about it, cut to a line; may be empty.
        message: String,
    },
    /// The answer makes no sense.
    #[error("the answer of {url} to {} cannot be read: {reason}", name(*action))]
    Unreadable {
        action: Action,
        url: String,
        reason: String,
    },
}

/// The call's name on the wire.
fn name(action: Action) -> &'static str {
    action.path().rsplit('/').next().unwrap_or_default()
}

fn prefixed(message: &str) -> String {
    if message.is_empty() {
        String::new()
    } else {
        format!(": {message}")
    }
}

// === impl CallError ===

impl CallError {
    /// Whether registering again is the cure.
    pub fn is_unregistered(&self) -> bool {
        matches!(self, Self::Status { status, .. } if refusal::is_unregistered(*status))
    }

    /// Whether a new cookie is the cure.
    pub fn is_cookie_rejected(&self) -> bool {
        matches!(
            self,
            Self::Status { status, message, .. } if refusal::is_cookie_rejected(*status, message)
        )
    }

    /// Whether nobody answered at all.
    pub fn is_network(&self) -> bool {
        matches!(self, Self::Network { .. })
    }

    /// What the launcher is told of it: that it is not this agent's fault.
    pub fn contact(&self) -> Option<Contact> {
        match self {
            Self::Network { .. } => Some(Contact::Away),
            Self::Status { status, .. } => refusal::contact(*status),
            Self::Unreadable { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: StatusCode, body: &str) -> CallError {
        CallError::Status {
            action: Action::Ping,
            url: "http://127.0.0.1/go".into(),
            status,
            message: refusal::message_of(body.as_bytes()),
        }
    }

    #[test]
    fn a_rejected_cookie_is_told_from_other_errors() {
        let cookie = r#"{"error":"Agent [build-07] has invalid cookie"}"#;
        assert!(status(StatusCode::INTERNAL_SERVER_ERROR, cookie).is_cookie_rejected());
        assert!(!status(StatusCode::BAD_REQUEST, cookie).is_cookie_rejected());
        let database = status(
            StatusCode::INTERNAL_SERVER_ERROR,
            r#"{"error":"disk full"}"#,
        );
        assert!(!database.is_cookie_rejected() && !database.is_unregistered());
        assert!(status(StatusCode::FORBIDDEN, "").is_unregistered());
    }

    #[test]
    fn the_message_is_one_line_whatever_the_body() {
        assert_eq!(refusal::message_of(br#"{"message":"a\n b"}"#), "a b");
        assert_eq!(
            refusal::message_of(b"<html>\n <p>no</p>"),
            "<html> <p>no</p>"
        );
        assert_eq!(refusal::message_of(&[b'x'; 5000]).len(), 300);
        assert_eq!(
            status(StatusCode::FORBIDDEN, "").to_string(),
            "ping was refused by http://127.0.0.1/go with status 403 (Forbidden)"
        );
    }
}
