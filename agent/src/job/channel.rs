//! What agent and job runner say to each other.
//!
//! At the start: one JSON document, [`RunnerInput`], on the runner's standard input, then end of
//! file. It holds the job's secrets and must never touch the disk or a command line.
//!
//! While the runner lives: its Unix socket, one JSON object per line. The runner writes its
//! [`RunnerStatus`] when a connection is made and at each change; the agent writes an
//! [`Instruction`] whenever the server gave one for this job. Any number of connections may come
//! and go; repeated instructions do no harm.

use journeyman_host::properties::Properties;
use journeyman_protocol::{
    agent::{AgentRuntimeInfo, RuntimeStatus},
    job::{JobIdentifier, JobResult},
    remoting::AgentInstruction,
    work::BuildWork,
};
use serde::{Deserialize, Serialize};

/// All a runner needs to run a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunnerInput {
    /// The job.
    pub work: BuildWork,
    /// What the agent tells about itself with every call. The runner sets the status, the
    /// building info, the free space and the cookie itself.
    pub runtime_info: AgentRuntimeInfo,
    /// How to reach the server.
    pub server: ServerConnection,
    /// Longest pause between two uploads of console lines, in milliseconds.
    pub console_interval_ms: u64,
    /// Properties that the server has set in the agent; the runner has its others from its
    /// environment, as the agent has.
    #[serde(default)]
    pub properties: Properties,
}

/// How the runner reaches the server. Holds no secret: the token is read from `config/token` and the
/// cookie from the job's folder before each call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerConnection {
    /// Where to call, up to and with `/go`, without a slash at the end.
    pub base_url: String,
    /// The URL the operator configured; jobs see it as `GO_SERVER_URL`.
    pub configured_url: String,
    /// Whether the server is Journeyman's own and takes its console offsets.
    pub is_journeyman: bool,
    /// The agent's connection arguments as it was given them (files and modes of TLS).
    pub arguments: Vec<String>,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Working directory, materials, environment.
    Preparing,
    /// Tasks.
    Building,
    /// Artifacts.
    Completing,
    /// All is done but the last report.
    Reporting,
    /// The last report is made, or refused for good; the runner ends.
    Done,
}

/// What a runner says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerStatus {
    pub phase: Phase,
    /// Building, or Cancelled once a cancel has begun; what the agent's pings have to say.
    pub runtime_status: RuntimeStatus,
    pub job_identifier: JobIdentifier,
    /// The job's result, once it is final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<JobResult>,
}

/// What the agent passes on from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instruction {
    pub instruction: AgentInstruction,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_look_as_agreed() {
        let status = RunnerStatus {
            phase: Phase::Preparing,
            runtime_status: RuntimeStatus::Building,
            job_identifier: JobIdentifier::default(),
            result: None,
        };
        let json = serde_json::to_string(&status).unwrap();
        assert!(
            json.starts_with(
                r#"{"phase":"preparing","runtime_status":"Building","job_identifier":{"#
            ),
            "{json}"
        );
        assert_eq!(serde_json::from_str::<RunnerStatus>(&json).unwrap(), status);
        let cancel = Instruction {
            instruction: AgentInstruction::Cancel,
        };
        assert_eq!(
            serde_json::to_string(&cancel).unwrap(),
            r#"{"instruction":"CANCEL"}"#
        );
    }
}
