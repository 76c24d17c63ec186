//! Who an agent is and what it is doing, as it tells the server with every call.

use serde::{Deserialize, Serialize};

use crate::{job::JobIdentifier, secret::Secret};

/// What the Java agent sends as a version it does not know.
pub const UNKNOWN_VERSION: &str = "UNKNOWN";

/// The three names of an agent. They must not change while the process lives: the server looks
/// up pending work by all three (GoCD's `WorkAssignments`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AgentIdentifier {
    /// Local host name.
    pub host_name: String,
    /// Local address of a connection to the server.
    pub ip_address: String,
    /// Content of `config/guid.txt`; the same as the header [`X_AGENT_GUID`].
    ///
    /// [`X_AGENT_GUID`]: crate::remoting::X_AGENT_GUID
    pub uuid: String,
}

/// What an agent is doing, or what the server makes of its silence. A name that is not known is
/// read as [`Unknown`](Self::Unknown).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RuntimeStatus {
    /// Ready for work. Ends a cancellation at the server.
    Idle,
    /// Runs a job.
    Building,
    /// Not heard from for too long; only the server says so.
    LostContact,
    /// Never heard from since the server started; only the server says so.
    Missing,
    /// Breaks off its job.
    Cancelled,
    /// Nothing is known.
    #[default]
    #[serde(other)]
    Unknown,
}

/// The job an agent works on, both texts empty when it has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BuildingInfo {
    /// The job for people: [`JobIdentifier::display_locator`].
    pub building_info: String,
    /// The job for URLs: [`JobIdentifier::locator`].
    pub build_locator: String,
}

/// What makes an agent elastic: made by a plugin of the server for one job and thrown away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ElasticAgent {
    /// Name of the agent within its plugin.
    pub agent_id: String,
    /// Name of the plugin.
    pub plugin_id: String,
}

/// The state of an agent, part of every call. On the wire its `type` is
/// `ElasticAgentRuntimeInfo` if [`elastic`](Self::elastic) is given, else `AgentRuntimeInfo`;
/// a missing or other `type` is an error, which GoCD answers with 400.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "RuntimeInfoOnWire", into = "RuntimeInfoOnWire")]
pub struct AgentRuntimeInfo {
    /// Given if a plugin of the server made this agent.
    pub elastic: Option<ElasticAgent>,
    /// Who speaks.
    pub identifier: AgentIdentifier,
    /// What it does; an agent sends Idle, Building or Cancelled only.
    pub runtime_status: RuntimeStatus,
    /// Which job it works on.
    pub building_info: BuildingInfo,
    /// Working directory of the agent.
    pub location: String,
    /// Space left for jobs, in bytes.
    pub usable_space: i64,
    /// For example `Debian GNU/Linux 12 (bookworm)`.
    pub operating_system_name: String,
    /// [`UNKNOWN_VERSION`] if there is none.
    pub agent_bootstrapper_version: String,
    /// The server shows it and does not check it.
    pub agent_version: String,
    /// What `get_cookie` answered; absent before that. `Debug` does not show it.
    pub cookie: Option<Secret>,
}

// === impl BuildingInfo ===

impl BuildingInfo {
    /// What an agent shows while it works on `job`.
    pub fn of(job: &JobIdentifier) -> Self {
        Self {
            building_info: job.display_locator(),
            build_locator: job.locator(),
        }
    }
}

// === impl AgentRuntimeInfo ===

#[derive(Serialize, Deserialize)]
enum RuntimeInfoType {
    AgentRuntimeInfo,
    ElasticAgentRuntimeInfo,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuntimeInfoOnWire {
    r#type: RuntimeInfoType,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    elastic_agent_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    elastic_plugin_id: Option<String>,
    #[serde(default)]
    identifier: AgentIdentifier,
    #[serde(default)]
    runtime_status: RuntimeStatus,
    #[serde(default)]
    building_info: BuildingInfo,
    #[serde(default)]
    location: String,
    #[serde(default)]
    usable_space: i64,
    #[serde(default)]
    operating_system_name: String,
    #[serde(default)]
    agent_bootstrapper_version: String,
    #[serde(default)]
    agent_version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cookie: Option<Secret>,
}

impl From<RuntimeInfoOnWire> for AgentRuntimeInfo {
    fn from(wire: RuntimeInfoOnWire) -> Self {
        let elastic = match wire.r#type {
            RuntimeInfoType::AgentRuntimeInfo => None,
            RuntimeInfoType::ElasticAgentRuntimeInfo => Some(ElasticAgent {
                agent_id: wire.elastic_agent_id.unwrap_or_default(),
                plugin_id: wire.elastic_plugin_id.unwrap_or_default(),
            }),
        };
        Self {
            elastic,
            identifier: wire.identifier,
            runtime_status: wire.runtime_status,
            building_info: wire.building_info,
            location: wire.location,
            usable_space: wire.usable_space,
            operating_system_name: wire.operating_system_name,
            agent_bootstrapper_version: wire.agent_bootstrapper_version,
            agent_version: wire.agent_version,
            cookie: wire.cookie,
        }
    }
}

impl From<AgentRuntimeInfo> for RuntimeInfoOnWire {
    fn from(info: AgentRuntimeInfo) -> Self {
        let (r#type, elastic_agent_id, elastic_plugin_id) = match info.elastic {
            None => (RuntimeInfoType::AgentRuntimeInfo, None, None),
            Some(elastic) => (
                RuntimeInfoType::ElasticAgentRuntimeInfo,
                Some(elastic.agent_id),
                Some(elastic.plugin_id),
            ),
        };
        Self {
            r#type,
            elastic_agent_id,
            elastic_plugin_id,
            identifier: info.identifier,
            runtime_status: info.runtime_status,
            building_info: info.building_info,
            location: info.location,
            usable_space: info.usable_space,
            operating_system_name: info.operating_system_name,
            agent_bootstrapper_version: info.agent_bootstrapper_version,
            agent_version: info.agent_version,
            cookie: info.cookie,
        }
    }
}
