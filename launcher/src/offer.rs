//! Asking the server what should run on this machine.

use std::time::Duration;

use journeyman_host::{
    connection::Connection,
    properties::{EXTRA_PROPERTIES_HEADER, Properties},
};
use journeyman_protocol::{
    extension::JOURNEYMAN_SERVER,
    registration::AGENT_ARCHIVE_PATH,
    release::{Answer, MANIFEST_FORMAT, MachineReport, RELEASE_PATH, Release},
};
use reqwest::{StatusCode, header::HeaderMap};
use thiserror::Error;
use tracing::warn;

/// The platform this launcher was compiled for, as manifests name it.
pub(crate) const OWN_PLATFORM: &str = if cfg!(target_arch = "aarch64") {
    "linux-aarch64"
} else {
    "linux-x86_64"
};
/// The answer is small and ready; a server that takes longer counts as out of reach, so that an
/// installed agent is not kept waiting.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a server says.
#[derive(Debug)]
pub(crate) enum Offer {
    /// These are the launcher and the agent to run.
    Release(Box<Release>),
    /// It is a GoCD server, whose agent is a Java program: run what is installed.
    OtherServer,
    /// Our server, with no release for this platform.
    Nothing,
}

/// The server did not say.
#[derive(Debug, Error)]
pub(crate) enum OfferError {
    /// It could not be reached; says why.
    #[error("{0}")]
    Unreachable(String),
    /// It does not know the agent by that token.
    #[error("the server does not know this agent")]
    Unknown,
    /// It answered with something else than an offer.
    #[error("{url} answered {status}, which is no offer of a release")]
    Status {
        /// What was asked.
        url: String,
        /// The answer.
        status: StatusCode,
    },
    /// The answer makes no sense.
    #[error("{url} answered with an offer that cannot be used: {reason}")]
    Unusable {
        /// What was asked.
        url: String,
        /// Why not.
        reason: String,
    },
}

/// Asks the server for the release of this platform.
pub(crate) async fn ask(
    connection: &Connection,
    identity: HeaderMap,
    report: &MachineReport,
) -> Result<Offer, OfferError> {
    let url = connection.url(RELEASE_PATH);
    let is_identified = !identity.is_empty();
    let request = connection
        .client()
        .post(&url)
        .headers(identity)
        .json(report)
        .timeout(PATIENCE);
    let answer = match request.send().await {
        Ok(answer) => answer,
        Err(error) => return Err(OfferError::Unreachable(connection.explain(&error).await)),
    };
    let ours = answer.headers().contains_key(JOURNEYMAN_SERVER);
    match answer.status() {
        StatusCode::OK if ours => {}
        StatusCode::FORBIDDEN if ours && is_identified => return Err(OfferError::Unknown),
        // Anything a GoCD server says to a path it does not have: a page, or a login.
        status if !ours && !status.is_server_error() => return Ok(Offer::OtherServer),
        status => return Err(OfferError::Status { url, status }),
    }
    let unusable = |reason: String| OfferError::Unusable {
        url: url.clone(),
        reason,
    };
    let answer: Answer = answer
        .json()
        .await
        .map_err(|error| unusable(error.to_string()))?;
    let Some(release) = answer.release else {
        return Ok(Offer::Nothing);
    };
    for manifest in [&release.launcher.manifest, &release.agent.manifest] {
        if manifest.format != MANIFEST_FORMAT {
            return Err(unusable(format!(
                "the manifest of the {} has format {}, and this launcher knows only {MANIFEST_FORMAT}",
                manifest.component.as_str(),
                manifest.format
            )));
        }
    }
    Ok(Offer::Release(Box::new(release)))
}

/// The properties that a GoCD server has for its agents. GoCD: they come with the agent's jar, and
/// the launcher hands them to the agent's JVM.
pub(crate) async fn extra_properties(connection: &Connection) -> Properties {
    let url = connection.url(AGENT_ARCHIVE_PATH);
    let answer = connection
        .client()
        .head(&url)
        .timeout(PATIENCE)
        .send()
        .await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            let reason = connection.explain(&error).await;
            warn!(%reason, "cannot ask for the server's agent properties");
            return Properties::default();
        }
    };
    let Some(value) = answer.headers().get(EXTRA_PROPERTIES_HEADER) else {
        return Properties::default();
    };
    let read = Properties::from_extra_header(&String::from_utf8_lossy(value.as_bytes()));
    read.unwrap_or_else(|error| {
        warn!(%error, "ignoring the server's agent properties");
        Properties::default()
    })
}
