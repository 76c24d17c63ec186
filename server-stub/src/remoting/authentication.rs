//! Whether a request comes from the agent it names.

use http::{HeaderMap, StatusCode};
use journeyman_protocol::remoting::{AUTHORIZATION, X_AGENT_GUID};

use crate::{
    App,
    agents::{self, Agent, ConfigState},
    answer::Refusal,
    database::DatabaseError,
    listening::Peer,
};

/// The agent that sends this request.
///
/// GoCD's filter: both headers there, the uuid registered (a disabled agent passes), the token that
/// of the uuid. Ours besides: a client certificate, if there is one, is that agent's too.
///
/// # Errors
///
/// 403 with an empty body.
pub async fn authenticate(app: &App, peer: &Peer, headers: &HeaderMap) -> Result<Agent, Refusal> {
    match identify(app, peer, headers).await? {
        Some(agent) if agent.config_state != ConfigState::Pending => Ok(agent),
        _ => Err(refuse(peer, headers, "the agent is not registered")),
    }
}

/// The agent that sends this request: like [`authenticate`], and an agent that is pending, or that
/// holds a token and is not known, passes too.
///
/// # Errors
///
/// 403 with an empty body.
pub async fn identify(
    app: &App,
    peer: &Peer,
    headers: &HeaderMap,
) -> Result<Option<Agent>, Refusal> {
    let uuid = header(headers, X_AGENT_GUID);
    let token = header(headers, AUTHORIZATION);
    let why = if uuid.is_empty() || token.is_empty() {
        "no uuid or no token"
    } else if !peer.may_speak_for(uuid) {
        "the client certificate is another agent's"
    } else if !app.keys.is_token(uuid, token) {
        "the token is not that of the uuid"
    } else {
        let mut connection = app
            .database
            .readers()
            .acquire()
            .await
            .map_err(DatabaseError::from)?;
        return Ok(agents::find(&mut connection, uuid).await?);
    };
    Err(refuse(peer, headers, why))
}

fn refuse(peer: &Peer, headers: &HeaderMap, why: &str) -> Refusal {
    let uuid = header(headers, X_AGENT_GUID);
    tracing::warn!(agent = ?uuid, peer = %peer.address, why, "refused an agent's request");
    Refusal::Empty(StatusCode::FORBIDDEN)
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .trim()
}
