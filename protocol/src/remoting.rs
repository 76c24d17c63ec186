//! The seven calls of an agent: `POST {base}/remoting/api/agent/<action>`.
//!
//! Each body names its kind in `type`, but a server goes by the URL and does not look at it.

use serde::{Deserialize, Serialize};

use crate::{
    agent::AgentRuntimeInfo,
    job::{JobIdentifier, JobResult, JobState},
    secret::Secret,
};

/// Header with the agent's UUID, on every call.
pub const X_AGENT_GUID: &str = "X-Agent-GUID";
/// Header with the agent's token, bare: no scheme word before it.
pub const AUTHORIZATION: &str = "Authorization";
/// `Accept` of every call; another value does not reach the handler.
pub const ACCEPT: &str = "application/vnd.go.cd+json";
/// `Accept` that servers take as well as [`ACCEPT`].
pub const ACCEPT_V1: &str = "application/vnd.go.cd.v1+json";
/// `Content-Type` of every call; 415 for another media type.
pub const REQUEST_CONTENT_TYPE: &str = "application/json; charset=UTF-8";
/// `Content-Type` of every answer.
pub const ANSWER_CONTENT_TYPE: &str = "application/vnd.go.cd.v1+json;charset=utf-8";

/// What an agent can call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// [`GetCookieRequest`]; the answer is for [`read_cookie`].
    GetCookie,
    /// [`PingRequest`]; the answer is for [`AgentInstruction::read`].
    Ping,
    /// [`GetWorkRequest`]; the answer is a [`Work`](crate::work::Work).
    GetWork,
    /// [`ReportCurrentStatusRequest`]; the answer is empty.
    ReportCurrentStatus,
    /// [`ReportCompleteStatusRequest`] before artifacts are uploaded; the answer is empty.
    ReportCompleting,
    /// [`ReportCompleteStatusRequest`] at the very end; the answer is empty.
    ReportCompleted,
    /// [`IsIgnoredRequest`]; the answer is for [`read_is_ignored`].
    IsIgnored,
}

/// What the server tells an agent in the answer to a ping. It carries no job: it is about the
/// one the agent works on. A word that is not known is read as `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AgentInstruction {
    /// Break off the job, with its cancel task. Repeated until the agent reports Idle.
    Cancel,
    /// Instead of Cancel, when a user wants an agent to kill what it is still cancelling.
    KillRunningTasks,
    /// Go on.
    #[default]
    #[serde(other)]
    None,
}

/// Asks for a cookie, which makes any earlier one invalid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub struct GetCookieRequest {
    /// Who asks; needs no cookie yet.
    pub agent_runtime_info: AgentRuntimeInfo,
}

/// Says that the agent lives and what it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub struct PingRequest {
    /// Who lives, with the cookie.
    pub agent_runtime_info: AgentRuntimeInfo,
}

/// Asks for a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub struct GetWorkRequest {
    /// Who asks.
    pub agent_runtime_info: AgentRuntimeInfo,
}

/// Says how far a job is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub struct ReportCurrentStatusRequest {
    /// Who reports, with the cookie.
    pub agent_runtime_info: AgentRuntimeInfo,
    /// On which job.
    pub job_identifier: JobIdentifier,
    /// How far it is.
    #[serde(default)]
    pub job_state: JobState,
}

/// Says how a job ended, both for `report_completing` and `report_completed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub struct ReportCompleteStatusRequest {
    /// Who reports, with the cookie.
    pub agent_runtime_info: AgentRuntimeInfo,
    /// On which job.
    pub job_identifier: JobIdentifier,
    /// How it ended.
    #[serde(default)]
    pub job_result: JobResult,
}

/// Asks whether a job was cancelled or rescheduled, so that there is no point in going on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub struct IsIgnoredRequest {
    /// Who asks.
    pub agent_runtime_info: AgentRuntimeInfo,
    /// About which job.
    pub job_identifier: JobIdentifier,
}

/// Reads the answer to `get_cookie`, which GoCD writes as bare text and other servers may quote.
/// An empty answer is no cookie.
pub fn read_cookie(body: &str) -> Option<Secret> {
    let cookie = unquote(body);
    (!cookie.is_empty()).then(|| Secret::from(cookie))
}

/// Reads the answer to `is_ignored`; `None` if it is neither `true` nor `false`. A server must
/// write exactly these letters, since the Java agent does not trim.
pub fn read_is_ignored(body: &str) -> Option<bool> {
    body.trim().parse().ok()
}

fn unquote(body: &str) -> &str {
    let body = body.trim();
    body.strip_prefix('"')
        .and_then(|body| body.strip_suffix('"'))
        .unwrap_or(body)
}

// === impl Action ===

impl Action {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::GetCookie,
        Self::Ping,
        Self::GetWork,
        Self::ReportCurrentStatus,
        Self::ReportCompleting,
        Self::ReportCompleted,
        Self::IsIgnored,
    ];

    /// Path of the call, relative to the server's base URL.
    pub const fn path(self) -> &'static str {
        match self {
            Self::GetCookie => "/remoting/api/agent/get_cookie",
            Self::Ping => "/remoting/api/agent/ping",
            Self::GetWork => "/remoting/api/agent/get_work",
            Self::ReportCurrentStatus => "/remoting/api/agent/report_current_status",
            Self::ReportCompleting => "/remoting/api/agent/report_completing",
            Self::ReportCompleted => "/remoting/api/agent/report_completed",
            Self::IsIgnored => "/remoting/api/agent/is_ignored",
        }
    }
}

// === impl AgentInstruction ===

impl AgentInstruction {
    /// Reads the answer to a ping, quoted or not, as GoCD's lenient reader does.
    pub fn read(body: &str) -> Self {
        match unquote(body) {
            "CANCEL" => Self::Cancel,
            "KILL_RUNNING_TASKS" => Self::KillRunningTasks,
            _ => Self::None,
        }
    }
}
