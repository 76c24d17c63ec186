//! Cookie and token in the middle of a job: telling a refusal that is about them from one that is
//! about the call, and waiting for other ones.
//!
//! GoCD's agent takes every refusal for the end of its job. Here the runner asks the server in the
//! form of a ping whether it still knows this agent; if it does, the refusal stands. If it does
//! not, the agent is about to find out with its own ping and gets a new cookie or registers again,
//! and the runner, which reads both from the files that the agent writes, makes its call once more.

use std::time::Duration;

use journeyman_protocol::{
    agent::RuntimeStatus,
    gson,
    remoting::{self, Action, PingRequest},
    secret::Secret,
};
use reqwest::{Method, StatusCode};
use tokio::time::{Instant, sleep};

use super::server::{CALL_TIMEOUT, JobServer};
use crate::remoting::refusal;

/// How long to wait for other credentials. Longer than an agent's pauses between cookies that
/// another agent with its GUID takes from it, and long enough for an administrator's approval.
const PATIENCE: Duration = Duration::from_secs(600);
/// Between two looks whether they are there.
const PAUSE: Duration = Duration::from_millis(500);
/// Between two questions to the server meanwhile.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// Longest part of an error's body that is read, in bytes.
const LONGEST: usize = 64 * 1024;

/// What calls are made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    cookie: Option<Secret>,
    token: Secret,
}

/// What the server makes of this agent.
enum Standing {
    Known,
    /// Cookie or registration are lost.
    Unknown,
    /// Nobody answers.
    Away,
}

impl JobServer {
    /// What calls are made with now.
    pub(crate) fn credentials(&self) -> Credentials {
        Credentials {
            cookie: self.cookie(),
            token: self.token(),
        }
    }

    /// Whether to repeat a call that was made with `used` and refused with `status`: the server
    /// did not know this agent, and there are other credentials now. Waits for them as long as
    /// they take, up to a limit.
    pub(crate) async fn renewed(&self, used: &Credentials, status: StatusCode) -> bool {
        self.renewed_within(PATIENCE, used, status).await
    }

    async fn renewed_within(
        &self,
        patience: Duration,
        used: &Credentials,
        status: StatusCode,
    ) -> bool {
        // GoCD: 403 when the registration is lost, 500 for everything else, the cookie included.
        if !matches!(
            status,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::INTERNAL_SERVER_ERROR
        ) {
            return false;
        }
        let deadline = Instant::now() + patience;
        let mut said = false;
        loop {
            match self.standing().await {
                // The agent may have set it right just before.
                Standing::Known => return self.credentials() != *used,
                // The call finds out when somebody answers again.
                Standing::Away => return true,
                Standing::Unknown => {}
            }
            if !said {
                tracing::warn!(%status, "The server does not know this agent any more; waiting for the agent to set that right");
                said = true;
            }
            let ask_again = Instant::now() + ASK_AGAIN;
            while Instant::now() < ask_again {
                if self.credentials() != *used {
                    return true;
                }
                if Instant::now() >= deadline {
                    tracing::error!(%status, "The agent got no other cookie or registration");
                    return false;
                }
                sleep(PAUSE).await;
            }
        }
    }

    /// Asks as the agent does with its pings. Whatever instruction the answer brings is repeated
    /// to the agent.
    async fn standing(&self) -> Standing {
        let request = PingRequest {
            agent_runtime_info: self.runtime_info(RuntimeStatus::Building),
        };
        let Ok(body) = gson::to_vec(&request) else {
            return Standing::Known;
        };
        let url = self.url(Action::Ping.path());
        let answer = self
            .request(Method::POST, &url)
            .timeout(CALL_TIMEOUT)
            .header("Accept", remoting::ACCEPT)
            .header("Content-Type", remoting::REQUEST_CONTENT_TYPE)
            .body(body)
            .send()
            .await;
        let Ok(mut answer) = answer else {
            return Standing::Away;
        };
        let status = answer.status();
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = answer.chunk().await {
            if body.len() + chunk.len() > LONGEST {
                break;
            }
            body.extend_from_slice(&chunk);
        }
        if refusal::is_unregistered(status)
            || refusal::is_cookie_rejected(status, &refusal::message_of(&body))
        {
            Standing::Unknown
        } else if refusal::is_outage(status) {
            Standing::Away
        } else {
            Standing::Known
        }
    }
}

#[cfg(test)]
mod tests {
    use journeyman_protocol::job::{JobIdentifier, JobState};
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::{
        fake_server::{FakeServer, registered_session},
        job::{
            folder::JobFolder,
            server::{CallError, CookieSource},
        },
        remoting::Session,
    };

    const WRONG_COOKIE: &str = r#"{"error":"Agent [build-07, 127.0.0.1] has invalid cookie"}"#;

    async fn job_server(server: &FakeServer) -> (tempfile::TempDir, Session, JobServer) {
        let (folder, session) = registered_session(&server.url).await;
        let job_folder = JobFolder::new(session.workdir.jobs().join("7-00000000"));
        std::fs::create_dir(job_folder.path()).unwrap();
        job_folder.give_cookie(&session.cookie().unwrap());
        let job = JobServer::new(
            session.connection().client().clone(),
            session.server_connection(),
            session.template().clone(),
            JobIdentifier::default(),
            session.workdir.root(),
            CookieSource::Job(job_folder),
        );
        (folder, session, job)
    }

    /// Makes a call that is refused, and says whether to repeat it.
    async fn refused(job: &JobServer) -> bool {
        let used = job.credentials();
        let refused = job
            .report_status(RuntimeStatus::Building, JobState::Preparing)
            .await;
        let Err(CallError::Refused { status }) = refused else {
            panic!("{refused:?}");
        };
        job.renewed(&used, status).await
    }

    #[tokio::test]
    async fn a_call_with_a_lost_cookie_is_repeated_with_the_next() {
        let server = FakeServer::start().await;
        server.answers("report_current_status", &[(500, WRONG_COOKIE), (200, "")]);
        server.answers("ping", &[(500, WRONG_COOKIE)]);
        let (_folder, session, job) = job_server(&server).await;
        let (renewed, ()) = tokio::join!(refused(&job), async {
            // What the agent does, once it has found out as well.
            server.wait_for_calls("ping", 1).await;
            session.keep_cookie("cookie-new".into()).unwrap();
        });
        assert!(renewed);
        job.report_status(RuntimeStatus::Building, JobState::Preparing)
            .await
            .unwrap();
        let calls = server.calls("report_current_status");
        assert!(calls[0].body.contains(r#""cookie":"cookie-0""#));
        assert!(calls[1].body.contains(r#""cookie":"cookie-new""#));
    }

    #[tokio::test]
    async fn a_call_with_a_lost_registration_is_repeated_with_the_next() {
        let server = FakeServer::start().await;
        server.answers("report_current_status", &[(403, "")]);
        server.answers("ping", &[(403, "")]);
        let (_folder, session, job) = job_server(&server).await;
        let (renewed, ()) = tokio::join!(refused(&job), async {
            server.wait_for_calls("ping", 1).await;
            session.keep_token("token-new".into()).unwrap();
        });
        assert!(renewed);
    }

    #[tokio::test]
    async fn a_refusal_by_a_server_that_knows_the_agent_stands() {
        for refusal in [
            (500, r#"{"error":"AgentUUID has changed"}"#),
            // Whatever it says: the ping decides.
            (500, WRONG_COOKIE),
            (403, ""),
        ] {
            let server = FakeServer::start().await;
            server.answers("report_current_status", &[refusal]);
            let (_folder, _session, job) = job_server(&server).await;
            assert!(!refused(&job).await);
            assert_eq!(server.calls("ping").len(), 1);
        }
    }

    #[tokio::test]
    async fn a_refusal_for_other_reasons_needs_no_question() {
        let server = FakeServer::start().await;
        server.answers("report_current_status", &[(404, "")]);
        let (_folder, _session, job) = job_server(&server).await;
        assert!(!refused(&job).await);
        assert!(server.calls("ping").is_empty());
    }

    #[tokio::test]
    async fn an_agent_that_gets_no_other_credentials_is_not_waited_for_for_ever() {
        let server = FakeServer::start().await;
        server.answers("ping", &[(500, WRONG_COOKIE)]);
        let (_folder, _session, job) = job_server(&server).await;
        let used = job.credentials();
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        assert!(!job.renewed_within(Duration::ZERO, &used, status).await);
    }
}
