//! Whether a request comes from the agent it names.

use http::{HeaderMap, StatusCode};
use journeyman_protocol::remoting::{AUTHORIZATION, X_AGENT_GUID};

use crate::{
    App,
    agents::{self, ConfigState},
    answer::Refusal,
    database::DatabaseError,
    listening::Peer,
};

/// The uuid of the agent that sends this request.
///
/// GoCD's filter: both headers there, the uuid registered (a disabled agent passes), the token that
/// of the uuid. Ours besides: a client certificate, if there is one, is that agent's too.
///
/// # Errors
///
/// 403 with an empty body.
pub async fn authenticate(app: &App, peer: &Peer, headers: &HeaderMap) -> Result<String, Refusal> {
    let header = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .trim()
    };
    let uuid = header(X_AGENT_GUID);
    let refused = |why: &str| {
        tracing::warn!(agent = ?uuid, peer = %peer.address, why, "refused an agent's request");
        Err(Refusal::Empty(StatusCode::FORBIDDEN))
    };
    let token = header(AUTHORIZATION);
    if uuid.is_empty() || token.is_empty() {
        return refused("no uuid or no token");
    }
    if !peer.may_speak_for(uuid) {
        return refused("the client certificate is another agent's");
    }
    if !app.keys.is_token(uuid, token) {
        return refused("the token is not that of the uuid");
    }
    let mut connection = app
        .database
        .readers()
        .acquire()
        .await
        .map_err(DatabaseError::from)?;
    match agents::find(&mut connection, uuid).await? {
        Some(agent) if agent.config_state != ConfigState::Pending => Ok(agent.uuid),
        _ => refused("the agent is not registered"),
    }
}
