//! The calls that a job makes to its server: status reports, console, files.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use journeyman_protocol::{
    agent::{AgentRuntimeInfo, BuildingInfo, RuntimeStatus},
    extension, files, gson,
    job::{JobIdentifier, JobResult, JobState},
    remoting::{
        self, Action, IsIgnoredRequest, ReportCompleteStatusRequest, ReportCurrentStatusRequest,
    },
    secret::Secret,
};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use thiserror::Error;

use tokio::sync::watch;

use super::{channel::ServerConnection, folder::JobFolder};
use crate::remoting::refusal;

/// A report or question may take this long before it counts as a network failure.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(120);
/// The same for a part of the console: a GoCD server that did take it would get it twice.
const CONSOLE_TIMEOUT: Duration = Duration::from_secs(300);

/// The registration token, relative to the agent's working directory. Never moved.
const TOKEN: &str = "config/token";

/// A call that did not work.
#[derive(Debug, Error)]
pub enum CallError {
    /// No answer came; the call may be repeated.
    #[error("cannot reach the server at {url}")]
    Network {
        url: String,
        #[source]
        source: reqwest::Error,
    },
    /// The server answered, but not with success. The text is what GoCD's agent prints.
    #[error("{}", in_gocds_words(*.status))]
    Refused { status: StatusCode },
    /// The call could not even be written.
    #[error("cannot write the call to the server")]
    Write(#[source] serde_json::Error),
}

/// What a console upload came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsoleAnswer {
    /// Stored; with our own server, how much it has now.
    Stored { length: Option<u64> },
    /// Our own server has only this much.
    Behind { length: u64 },
}

/// Where calls have their cookie from, which the agent may renew while the job runs.
#[derive(Clone, Debug)]
pub enum CookieSource {
    /// The job's folder: a runner knows nothing of the state of the agent that looks after it.
    Job(JobFolder),
    /// The agent itself.
    Agent(watch::Receiver<Option<Secret>>),
}

/// The server as one job sees it.
#[derive(Clone)]
pub struct JobServer {
    client: reqwest::Client,
    connection: ServerConnection,
    runtime_info: AgentRuntimeInfo,
    job: JobIdentifier,
    /// The agent's working directory.
    root: PathBuf,
    cookies: CookieSource,
}

// === impl CallError ===

impl CallError {
    /// Whether to try again for as long as it takes: nobody answered, or a proxy or a server that
    /// is busy with itself did.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Network { .. } => true,
            Self::Refused { status } => refusal::is_outage(*status),
            Self::Write(_) => false,
        }
    }

    /// The status that the call was refused with.
    pub(crate) fn refused_with(&self) -> Option<StatusCode> {
        match self {
            Self::Refused { status } => Some(*status),
            Self::Network { .. } | Self::Write(_) => None,
        }
    }
}

/// What GoCD's agent prints about an answer that is no success.
fn in_gocds_words(status: StatusCode) -> String {
    let code = status.as_u16();
    let reason = status.canonical_reason().unwrap_or("Unknown");
    match code {
        500.. => format!(
            "org.apache.http.client.ClientProtocolException: The server returned an error with \
             status code {code} ({reason}); please check the server logs for the corresponding \
             error."
        ),
        400.. => format!(
            "org.apache.http.client.ClientProtocolException: The server returned status code \
             {code}. Possible reasons include:\n   - This agent has been deleted from the \
             configuration\n   - This agent is pending approval"
        ),
        _ => format!(
            "org.apache.http.NoHttpResponseException: Did not receive successful HTTP response: \
             status code = {code}, status message = [{reason}]"
        ),
    }
}

// === impl JobServer ===

impl JobServer {
    /// `root` is the agent's working directory, where the token is read at each call: the agent may
    /// renew it while the job runs.
    pub fn new(
        client: reqwest::Client,
        connection: ServerConnection,
        runtime_info: AgentRuntimeInfo,
        job: JobIdentifier,
        root: impl Into<PathBuf>,
        cookies: CookieSource,
    ) -> Self {
        Self {
            client,
            connection,
            runtime_info,
            job,
            root: root.into(),
            cookies,
        }
    }

    pub fn job(&self) -> &JobIdentifier {
        &self.job
    }

    /// Whether the server is Journeyman's own.
    pub fn is_journeyman(&self) -> bool {
        self.connection.is_journeyman
    }

    /// Asks whether the job was cancelled or rescheduled.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn is_ignored(&self, status: RuntimeStatus) -> Result<bool, CallError> {
        let request = IsIgnoredRequest {
            agent_runtime_info: self.runtime_info(status),
            job_identifier: self.job.clone(),
        };
        let answer = self.call(Action::IsIgnored, &request).await?;
        Ok(remoting::read_is_ignored(&answer).unwrap_or_else(|| {
            // GoCD: whatever is not `true` is no.
            let answer: String = answer.chars().take(200).collect();
            tracing::warn!(
                answer,
                "The answer to is_ignored is neither true nor false: taken for no"
            );
            false
        }))
    }

    /// Says how far the job is.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn report_status(
        &self,
        status: RuntimeStatus,
        state: JobState,
    ) -> Result<(), CallError> {
        let request = ReportCurrentStatusRequest {
            agent_runtime_info: self.runtime_info(status),
            job_identifier: self.job.clone(),
            job_state: state,
        };
        self.call(Action::ReportCurrentStatus, &request)
            .await
            .map(drop)
    }

    /// Says how the job has ended, before artifacts are published.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn report_completing(
        &self,
        status: RuntimeStatus,
        result: JobResult,
    ) -> Result<(), CallError> {
        self.report_result(Action::ReportCompleting, status, result)
            .await
    }

    /// Says how the job has ended, as the last of all.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn report_completed(
        &self,
        status: RuntimeStatus,
        result: JobResult,
    ) -> Result<(), CallError> {
        self.report_result(Action::ReportCompleted, status, result)
            .await
    }

    async fn report_result(
        &self,
        action: Action,
        status: RuntimeStatus,
        result: JobResult,
    ) -> Result<(), CallError> {
        let request = ReportCompleteStatusRequest {
            agent_runtime_info: self.runtime_info(status),
            job_identifier: self.job.clone(),
            job_result: result,
        };
        self.call(action, &request).await.map(drop)
    }

    /// Adds lines to the job's console at the server. `offset` is where they begin in the whole
    /// console, in bytes.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn put_console(
        &self,
        offset: u64,
        lines: Vec<u8>,
        charset: &str,
    ) -> Result<ConsoleAnswer, CallError> {
        let url = self.url(&format!(
            "{}?{}=1&{}={}",
            files::console_path(&self.job),
            files::ATTEMPT,
            files::BUILD_ID,
            self.job.build_id
        ));
        let mut request = self
            .request(Method::PUT, &url)
            .timeout(CONSOLE_TIMEOUT)
            .header("Content-Type", format!("text/plain; charset={charset}"))
            .header(files::X_GO_ARTIFACT_SIZE, lines.len());
        if self.connection.is_journeyman {
            request = request.header(extension::JOURNEYMAN_CONSOLE_OFFSET, offset);
        }
        let answer = self.send(request.body(lines), &url).await?;
        let length = answer
            .headers()
            .get(extension::JOURNEYMAN_CONSOLE_LENGTH)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.parse().ok());
        match (answer.status(), length) {
            (StatusCode::CONFLICT, Some(length)) => Ok(ConsoleAnswer::Behind { length }),
            (status, length) if status.is_success() => Ok(ConsoleAnswer::Stored { length }),
            (status, _) => Err(CallError::Refused { status }),
        }
    }

    /// A request for a file of a job; `path_and_query` begins after the server's base URL.
    pub(crate) fn file_request(&self, method: Method, path_and_query: &str) -> RequestBuilder {
        self.request(method, &self.url(path_and_query))
    }

    /// The URL of a path that begins after the server's base URL.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.connection.base_url)
    }

    pub(super) fn request(&self, method: Method, url: &str) -> RequestBuilder {
        self.client
            .request(method, url)
            .header(
                remoting::X_AGENT_GUID,
                self.runtime_info.identifier.uuid.as_str(),
            )
            .header(remoting::AUTHORIZATION, sensitive(&self.token()))
    }

    async fn send(&self, request: RequestBuilder, url: &str) -> Result<Response, CallError> {
        request.send().await.map_err(|source| CallError::Network {
            url: url.to_owned(),
            source: source.without_url(),
        })
    }

    async fn call<R: Serialize>(&self, action: Action, body: &R) -> Result<String, CallError> {
        let body = gson::to_vec(body).map_err(CallError::Write)?;
        let url = self.url(action.path());
        let request = self
            .request(Method::POST, &url)
            .timeout(CALL_TIMEOUT)
            .header("Accept", remoting::ACCEPT)
            .header("Content-Type", remoting::REQUEST_CONTENT_TYPE)
            .body(body);
        let answer = self.send(request, &url).await?;
        let status = answer.status();
        if status.as_u16() >= 300 {
            return Err(CallError::Refused { status });
        }
        answer.text().await.map_err(|source| CallError::Network {
            url,
            source: source.without_url(),
        })
    }

    pub(super) fn runtime_info(&self, status: RuntimeStatus) -> AgentRuntimeInfo {
        AgentRuntimeInfo {
            runtime_status: status,
            building_info: BuildingInfo::of(&self.job),
            usable_space: self.usable_space(),
            cookie: self.cookie().or_else(|| self.runtime_info.cookie.clone()),
            ..self.runtime_info.clone()
        }
    }

    pub(super) fn cookie(&self) -> Option<Secret> {
        match &self.cookies {
            CookieSource::Job(folder) => read_secret(&folder.cookie()),
            CookieSource::Agent(cookie) => cookie.borrow().clone(),
        }
    }

    pub(super) fn token(&self) -> Secret {
        read_secret(&self.root.join(TOKEN)).unwrap_or_default()
    }

    fn usable_space(&self) -> i64 {
        // The folder that GoCD looks at may not be there before the first job.
        let space = |path: PathBuf| {
            nix::sys::statvfs::statvfs(&path)
                .ok()
                .map(|fs| fs.blocks_available().saturating_mul(fs.fragment_size()))
        };
        space(self.root.join("pipelines"))
            .or_else(|| space(self.root.clone()))
            .and_then(|bytes| i64::try_from(bytes).ok())
            .unwrap_or(self.runtime_info.usable_space)
    }
}

fn read_secret(path: &Path) -> Option<Secret> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| Secret::from(text))
}

fn sensitive(token: &Secret) -> reqwest::header::HeaderValue {
    // A token that no header can carry is answered like a wrong one.
    let mut value = reqwest::header::HeaderValue::from_str(token.expose())
        .unwrap_or_else(|_| reqwest::header::HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_in_gocds_words() {
        let told = |code| {
            let status = StatusCode::from_u16(code).unwrap();
            CallError::Refused { status }.to_string()
        };
        assert!(told(500).contains("returned an error with status code 500 (Internal Server"));
        assert!(told(404).ends_with("status code 404. Possible reasons include:\n   - This agent has been deleted from the configuration\n   - This agent is pending approval"));
        assert!(told(301).starts_with("org.apache.http.NoHttpResponseException: Did not"));
        assert!(told(301).ends_with("status code = 301, status message = [Moved Permanently]"));
    }
}
