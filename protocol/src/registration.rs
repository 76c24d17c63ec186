//! Registration of an agent: token, form, and the settings an agent registers itself with.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::secret::Secret;

/// `GET`, with the query parameter `uuid`: the agent's token as plain text.
pub const TOKEN_PATH: &str = "/admin/agent/token";
/// `POST`, with a [`RegistrationForm`]: 200 registered, 202 pending, 403 wrong token, 422 refused.
pub const REGISTRATION_PATH: &str = "/admin/agent";
/// `GET` or `HEAD`: the Java agent's archive. Here only for its headers.
pub const AGENT_ARCHIVE_PATH: &str = REGISTRATION_PATH;
/// `GET`: what the server's agents should run, and the properties it sets in them, as headers.
pub const STATUS_PATH: &str = "/admin/latest-agent.status";

/// Keys of `config/autoregister.properties`.
pub mod autoregister {
    /// Secret that lets an agent in without an administrator. Scrubbed after registration.
    pub const KEY: &str = "agent.auto.register.key";
    /// Comma-separated resources. Scrubbed after registration.
    pub const RESOURCES: &str = "agent.auto.register.resources";
    /// Comma-separated environments. Scrubbed after registration.
    pub const ENVIRONMENTS: &str = "agent.auto.register.environments";
    /// Name to show instead of the host's. Scrubbed after registration.
    pub const HOSTNAME: &str = "agent.auto.register.hostname";
    /// Name of an elastic agent within its plugin. Stays.
    pub const ELASTIC_AGENT_ID: &str = "agent.auto.register.elasticAgent.agentId";
    /// Plugin of an elastic agent. Stays: if it is not blank the agent is elastic.
    pub const ELASTIC_PLUGIN_ID: &str = "agent.auto.register.elasticAgent.pluginId";

    /// What is commented out once the agent is registered.
    pub const SCRUBBED: [&str; 4] = [KEY, RESOURCES, ENVIRONMENTS, HOSTNAME];
}

/// The form of `POST /admin/agent`. GoCD requires its twelve fields, empty where there is nothing
/// to say; a form without one of them cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistrationForm {
    /// Local host name.
    pub hostname: String,
    /// Content of `config/guid.txt`.
    pub uuid: String,
    /// Working directory of the agent; refused if empty.
    pub location: String,
    /// Space left for jobs, in bytes.
    #[serde(rename = "usablespace")]
    pub usable_space: i64,
    /// For example `Debian GNU/Linux 12 (bookworm)`.
    pub operating_system: String,
    /// [`autoregister::KEY`].
    pub agent_auto_register_key: Secret,
    /// [`autoregister::RESOURCES`].
    pub agent_auto_register_resources: String,
    /// [`autoregister::ENVIRONMENTS`].
    pub agent_auto_register_environments: String,
    /// [`autoregister::HOSTNAME`].
    pub agent_auto_register_hostname: String,
    /// [`autoregister::ELASTIC_AGENT_ID`].
    pub elastic_agent_id: String,
    /// [`autoregister::ELASTIC_PLUGIN_ID`].
    pub elastic_plugin_id: String,
    /// What [`TOKEN_PATH`] answered.
    pub token: Secret,
    /// Asks our own server for a client certificate: a PKCS#10 request as PEM. GoCD does not
    /// know this field; leave it out there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_request: Option<String>,
}

/// Our own server's answer of 200 to a form with a certificate request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// The agent's certificate and what it is signed by, leaf first, as PEM.
    pub certificate: String,
    /// Certificates to trust the server by, as PEM.
    pub trust_store: String,
    /// Base URL to use from now on, for example `https://ci.example.com:8154/go`.
    pub secure_url: String,
    /// When the certificate ends; RFC 3339 text on the wire.
    pub not_after: Timestamp,
}
