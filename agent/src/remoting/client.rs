//! The client for remoting calls.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use journeyman_protocol::{
    agent::AgentRuntimeInfo,
    extension, gson,
    job::JobIdentifier,
    remoting::{self, Action, AgentInstruction, GetCookieRequest, GetWorkRequest, PingRequest},
    secret::Secret,
    work::{self, Work},
};
use reqwest::{Response, header::HeaderValue};
use serde::Serialize;

use super::{error::CallError, refusal::message_of};

/// An answer may take this long before it counts as lost. The Java agent waits without end and
/// can hang for ever on a connection that died silently.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest answers, in bytes: a word or a reason, and a work document.
const MAX_WORD: usize = 64 * 1024;
const MAX_WORK: usize = 64 * 1024 * 1024;

/// Makes remoting calls in GoCD's form. The HTTP client below it keeps the server's session
/// cookie (GoCD makes a session for every call of a client that does not).
#[derive(Debug)]
pub struct RemotingClient {
    http: reqwest::Client,
    base_url: String,
    uuid: String,
    is_journeyman: AtomicBool,
}

/// What `get_work` brought.
#[derive(Debug)]
pub enum WorkAnswer {
    Work(Work),
    /// A document that cannot be read although it names its job: the job must be failed, since
    /// this answer was its only copy.
    UnreadableJob {
        job: Box<JobIdentifier>,
        reason: String,
    },
}

// === impl RemotingClient ===

impl RemotingClient {
    /// A client for the server at `base_url` (up to and with `/go`), for the agent `uuid`.
    /// `is_journeyman` is what is known about the server so far; each answer tells again.
    pub fn new(
        http: reqwest::Client,
        base_url: impl Into<String>,
        uuid: impl Into<String>,
        is_journeyman: bool,
    ) -> Self {
        Self {
            http,
            base_url: base_url.into(),
            uuid: uuid.into(),
            is_journeyman: AtomicBool::new(is_journeyman),
        }
    }

    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Whether the server is Journeyman's own, as far as is known.
    pub fn is_journeyman(&self) -> bool {
        self.is_journeyman.load(Ordering::Relaxed)
    }

    /// Asks for a cookie; every earlier one of this GUID is invalid from then on.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn get_cookie(
        &self,
        token: &Secret,
        info: AgentRuntimeInfo,
    ) -> Result<Secret, CallError> {
        let action = Action::GetCookie;
        let request = GetCookieRequest {
            agent_runtime_info: info,
        };
        let answer = self.call_for_text(action, token, &request, None).await?;
        remoting::read_cookie(&answer)
            .ok_or_else(|| self.unreadable(action, "it is empty".to_owned()))
    }

    /// Tells the server that the agent lives; the answer is about the job it runs. With `wait`, our
    /// own server may hold the call that long until there is something to tell.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn ping(
        &self,
        token: &Secret,
        info: AgentRuntimeInfo,
        wait: Option<Duration>,
    ) -> Result<AgentInstruction, CallError> {
        let request = PingRequest {
            agent_runtime_info: info,
        };
        let answer = self
            .call_for_text(Action::Ping, token, &request, wait)
            .await?;
        Ok(AgentInstruction::read(&answer))
    }

    /// Asks for work. With `wait`, our own server may hold the call that long until there is
    /// some; a GoCD server must not be given one.
    ///
    /// # Errors
    /// See [`CallError`]. An answer that names a job is never an error.
    pub async fn get_work(
        &self,
        token: &Secret,
        info: AgentRuntimeInfo,
        wait: Option<Duration>,
    ) -> Result<WorkAnswer, CallError> {
        let action = Action::GetWork;
        let request = GetWorkRequest {
            agent_runtime_info: info,
        };
        let answer = self.call(action, token, &request, wait).await?;
        let body = self.read_body(action, answer, MAX_WORK).await?;
        match gson::from_slice(&body) {
            Ok(work) => Ok(WorkAnswer::Work(work)),
            Err(error) => match work::find_job(&body) {
                Some(job) => Ok(WorkAnswer::UnreadableJob {
                    job: Box::new(job),
                    reason: without_value(&error.to_string()),
                }),
                None => Err(self.unreadable(action, without_value(&error.to_string()))),
            },
        }
    }

    async fn call_for_text<R: Serialize>(
        &self,
        action: Action,
        token: &Secret,
        body: &R,
        wait: Option<Duration>,
    ) -> Result<String, CallError> {
        let answer = self.call(action, token, body, wait).await?;
        let body = self.read_body(action, answer, MAX_WORD).await?;
        String::from_utf8(body).map_err(|error| self.unreadable(action, error.to_string()))
    }

    /// Sends a call, headers in the order of the Java agent.
    async fn call<R: Serialize>(
        &self,
        action: Action,
        token: &Secret,
        body: &R,
        wait: Option<Duration>,
    ) -> Result<Response, CallError> {
        let body = gson::to_vec(body).map_err(|error| CallError::Unreadable {
            action,
            url: self.base_url.clone(),
            reason: format!("the call could not be written: {error}"),
        })?;
        let mut request = self
            .http
            .post(format!("{}{}", self.base_url, action.path()))
            .timeout(ANSWER_TIMEOUT + wait.unwrap_or_default())
            .header("Accept", remoting::ACCEPT)
            .header(remoting::X_AGENT_GUID, self.uuid.as_str())
            .header(remoting::AUTHORIZATION, bare(token))
            .header("Content-Type", remoting::REQUEST_CONTENT_TYPE);
        if let Some(wait) = wait {
            let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX);
            request = request.header(extension::PREFER, extension::prefer_wait(seconds));
        }
        let answer = request
            .body(body)
            .send()
            .await
            .map_err(|source| self.network(action, source))?;
        let status = answer.status();
        let named = answer.headers().contains_key(extension::JOURNEYMAN_SERVER);
        // An error may come from a proxy, which says nothing about the server behind it.
        if named || status.is_success() {
            self.is_journeyman.store(named, Ordering::Relaxed);
        }
        if status.as_u16() < 300 {
            return Ok(answer);
        }
        let body = self
            .read_body(action, answer, MAX_WORD)
            .await
            .unwrap_or_default();
        Err(CallError::Status {
            action,
            url: self.base_url.clone(),
            status,
            message: message_of(&body),
        })
    }

    async fn read_body(
        &self,
        action: Action,
        mut answer: Response,
        limit: usize,
    ) -> Result<Vec<u8>, CallError> {
        let mut body = Vec::new();
        while let Some(chunk) = answer
            .chunk()
            .await
            .map_err(|source| self.network(action, source))?
        {
            if body.len() + chunk.len() > limit {
                return Err(self.unreadable(action, format!("it is longer than {limit} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn network(&self, action: Action, source: reqwest::Error) -> CallError {
        CallError::Network {
            action,
            url: self.base_url.clone(),
            source: source.without_url(),
        }
    }

    fn unreadable(&self, action: Action, reason: String) -> CallError {
        CallError::Unreadable {
            action,
            url: self.base_url.clone(),
            reason,
        }
    }
}

/// What is wrong with a document, without the value that is: work is full of secrets.
fn without_value(error: &str) -> String {
    let Some((what, _)) = error.split_once("invalid ") else {
        return error.to_owned();
    };
    // Serde's form: `invalid type: string "value", expected a boolean`.
    match error.rsplit_once(", expected ") {
        Some((_, expected)) => {
            format!("{what}a member has not the form that is expected: {expected}")
        }
        None => format!("{what}a member has not the form that is expected"),
    }
}

/// The token as a header value. One that no header can carry becomes an empty one, which the
/// server answers like a wrong token: the agent then registers anew.
fn bare(token: &Secret) -> HeaderValue {
    let mut value =
        HeaderValue::from_str(token.expose()).unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use journeyman_protocol::work::Work;

    use super::*;

    #[test]
    fn an_error_names_no_value() {
        let work = r#"{"type":"BuildWork","assignment":{"fetchMaterials":"hunter2, expected"}}"#;
        let error = gson::from_str::<Work>(work).unwrap_err().to_string();
        assert!(error.contains("hunter2"), "{error}");
        let shown = without_value(&error);
        assert_eq!(
            shown,
            "BuildWork: a member has not the form that is expected: a boolean"
        );
        assert_eq!(without_value("missing field `x`"), "missing field `x`");
    }
}
