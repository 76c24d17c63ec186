//! What a refusal of a GoCD server means.

use journeyman_protocol::launcher::Contact;
use reqwest::StatusCode;
use serde::Deserialize;

/// GoCD: remoting answers 403 when it does not know the agent (pending, deleted) or the token is
/// not the agent's. Both are cured by registering again. 401 is what a proxy may make of it.
pub(crate) fn is_unregistered(status: StatusCode) -> bool {
    matches!(status, StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED)
}

/// GoCD: a ping or report with no cookie, or with another than the last one given out for this
/// GUID, is answered with 500 and a text that speaks of the cookie.
pub(crate) fn is_cookie_rejected(status: StatusCode, message: &str) -> bool {
    status == StatusCode::INTERNAL_SERVER_ERROR && message.to_ascii_lowercase().contains("cookie")
}

/// A proxy answers, or a server that is busy with itself (GoCD: 503 during a backup): nobody has
/// looked at the call, and it may be repeated for as long as it takes.
pub(crate) fn is_outage(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}

/// What the launcher is told of this status: that it is not this agent's fault. A proxy that does not
/// reach the server counts as the network.
pub(crate) fn contact(status: StatusCode) -> Option<Contact> {
    match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Some(Contact::Busy),
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => Some(Contact::Away),
        _ => None,
    }
}

/// The text of an error answer: GoCD wraps it as `{"error":..}` or `{"message":..}`; a proxy may
/// send a page.
pub(crate) fn message_of(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Body {
        error: Option<String>,
        message: Option<String>,
    }
    let text = match serde_json::from_slice(body) {
        Ok(Body {
            error: Some(text), ..
        })
        | Ok(Body {
            message: Some(text),
            ..
        }) => text,
        _ => String::from_utf8_lossy(body).into_owned(),
    };
    let line: Vec<&str> = text.split_whitespace().collect();
    line.join(" ").chars().take(300).collect()
}
