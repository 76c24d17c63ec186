//! The properties that a GoCD server sets in its agents.

use std::time::Duration;

use journeyman_host::properties::{EXTRA_PROPERTIES_HEADER, Properties};
use journeyman_protocol::registration::STATUS_PATH;
use reqwest::{StatusCode, header::HeaderValue};

use crate::remoting::Session;

/// The answer is ready; a server that takes longer must not keep the call for work waiting.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks for the properties and sets them in this process. GoCD: before each call for work, with the
/// check for an upgrade; a property stays set when it is no longer sent.
pub(super) async fn refresh_properties(session: &Session) {
    let connection = session.connection();
    let request = connection.client().get(connection.url(STATUS_PATH));
    // Whatever is wrong, the call for work that follows says so.
    let Ok(answer) = request.timeout(PATIENCE).send().await else {
        return;
    };
    let value = answer.headers().get(EXTRA_PROPERTIES_HEADER);
    if answer.status() == StatusCode::OK
        && let Some(value) = value
    {
        set(value);
    }
}

fn set(value: &HeaderValue) {
    match Properties::from_extra_header(&String::from_utf8_lossy(value.as_bytes())) {
        Ok(properties) => properties.set_in_process(),
        Err(error) => tracing::warn!(%error, "Ignoring the server's agent properties"),
    }
}
