//! The handlers of the seven calls.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use journeyman_protocol::{
    agent::AgentRuntimeInfo,
    extension::{PREFER, parse_prefer_wait},
    gson,
    remoting::{
        ANSWER_CONTENT_TYPE, AgentInstruction, GetCookieRequest, GetWorkRequest, IsIgnoredRequest,
        PingRequest, ReportCompleteStatusRequest, ReportCurrentStatusRequest,
    },
    work::Work,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use super::{authenticate, waiting::Polls};
use crate::{
    App,
    agents::{self, Agent, ConfigState, ContactError},
    answer::{Chain, Refusal},
    database::DatabaseError,
    listening::Peer,
    scheduling::{self, SchedulingError},
};

/// The largest body of a call: real ones are below 2 KiB.
const LARGEST_BODY: usize = 1024 * 1024;

pub(super) async fn get_cookie(call: Call) -> Result<Response, Refusal> {
    let app = call.app.clone();
    let (request, agent) = call
        .read::<GetCookieRequest>(|request| &request.agent_runtime_info)
        .await?;
    drop(request);
    let cookie = agents::new_cookie(&app, &agent.uuid).await?;
    Ok(answer(cookie.expose().to_owned()))
}

pub(super) async fn ping(call: Call) -> Result<Response, Refusal> {
    let app = call.app.clone();
    let deadline = Instant::now() + call.wait();
    // Whatever comes after it was looked for is heard of.
    let mut instructed = app.instructed.subscribe();
    let (_, uuid, mut instruction) = call
        .hear::<PingRequest>(|request| &request.agent_runtime_info)
        .await?;
    while instruction == AgentInstruction::None && Instant::now() < deadline {
        tokio::select! {
            () = instructed.raised() => instruction = agents::instruction(&app, &uuid).await?,
            () = tokio::time::sleep_until(deadline) => break,
            () = app.stopping.cancelled() => break,
        }
    }
    json(&instruction)
}

pub(super) async fn report_current_status(call: Call) -> Result<Response, Refusal> {
    let app = call.app.clone();
    let (request, uuid, _) = call
        .hear::<ReportCurrentStatusRequest>(|request| &request.agent_runtime_info)
        .await?;
    scheduling::report_status(&app, &uuid, &request.job_identifier, request.job_state)
        .await
        .map_err(scheduling)?;
    Ok(answer(String::new()))
}

pub(super) async fn report_completing(call: Call) -> Result<Response, Refusal> {
    let app = call.app.clone();
    let (request, uuid, _) = call
        .hear::<ReportCompleteStatusRequest>(|request| &request.agent_runtime_info)
        .await?;
    scheduling::report_completing(&app, &uuid, &request.job_identifier, request.job_result)
        .await
        .map_err(scheduling)?;
    Ok(answer(String::new()))
}

pub(super) async fn report_completed(call: Call) -> Result<Response, Refusal> {
    let app = call.app.clone();
    let (request, uuid, _) = call
        .hear::<ReportCompleteStatusRequest>(|request| &request.agent_runtime_info)
        .await?;
    scheduling::report_completed(&app, &uuid, &request.job_identifier, request.job_result)
        .await
        .map_err(scheduling)?;
    Ok(answer(String::new()))
}

pub(super) async fn is_ignored(call: Call) -> Result<Response, Refusal> {
    let app = call.app.clone();
    let (request, _) = call
        .read::<IsIgnoredRequest>(|request| &request.agent_runtime_info)
        .await?;
    let ignored = scheduling::is_ignored(&app, &request.job_identifier)
        .await
        .map_err(scheduling)?;
    // The Java agent does not trim.
    Ok(answer(ignored.to_string()))
}

pub(super) async fn get_work(call: Call) -> Result<Response, Refusal> {
    let app = call.app.clone();
    let wait = call.wait();
    let (request, agent) = call
        .read::<GetWorkRequest>(|request| &request.agent_runtime_info)
        .await?;
    drop(request);
    let work = find_work(&app, &agent, Instant::now() + wait).await?;
    if let Work::BuildWork(work) = &work {
        tracing::info!(agent = %agent.uuid, job = %work.assignment.job_identifier.locator(), "handed out a job");
    }
    json(&work)
}

/// Looks for work until there is some or the time is up.
async fn find_work(app: &App, agent: &Agent, deadline: Instant) -> Result<Work, Refusal> {
    let uuid = agent.uuid.clone();
    let ticket = Polls::begin(app, agent);
    // An agent that asks for work runs no job, whatever the server thought.
    let jobs = scheduling::reschedule_jobs_of(app, &uuid)
        .await
        .map_err(scheduling)?;
    if jobs > 0 {
        tracing::warn!(agent = %uuid, jobs, "an agent asks for work and left its job: it is scheduled again");
    }
    loop {
        let (agent, home) = {
            let mut connection = app
                .database
                .readers()
                .acquire()
                .await
                .map_err(DatabaseError::from)?;
            // Whatever changes after the call has its ticket wakes it.
            let agent = agents::find(&mut connection, &uuid).await?;
            let Some(agent) = agent.filter(|agent| agent.config_state != ConfigState::Pending)
            else {
                return Ok(Work::UnregisteredAgentWork {
                    message: "the agent was deleted while it asked for work".to_owned(),
                    uuid,
                });
            };
            let home = scheduling::environments(&mut connection, &agent).await?;
            (agent, home)
        };
        if agent.config_state == ConfigState::Disabled {
            return Ok(Work::DeniedAgentWork { uuid });
        }
        if ticket.superseded().is_cancelled() || app.stopping.is_cancelled() {
            return Ok(Work::NoWork);
        }
        ticket.looks(&agent, home);
        if let Some(work) = scheduling::assign(app, &agent).await.map_err(scheduling)? {
            return Ok(Work::BuildWork(Box::new(work)));
        }
        tokio::select! {
            () = ticket.woken() => {}
            () = tokio::time::sleep_until(deadline) => return Ok(Work::NoWork),
            () = ticket.superseded().cancelled() => return Ok(Work::NoWork),
            () = app.stopping.cancelled() => return Ok(Work::NoWork),
        }
    }
}

/// A call that was not looked at yet.
#[derive(axum::extract::FromRequest)]
pub(super) struct Call {
    #[from_request(via(State))]
    app: Arc<App>,
    #[from_request(via(Extension))]
    peer: Peer,
    headers: HeaderMap,
    body: Body,
}

impl Call {
    /// How long the agent wants its call to be held until there is something for it.
    fn wait(&self) -> Duration {
        let asked = self.headers.get(PREFER);
        asked
            .and_then(|value| parse_prefer_wait(value.to_str().ok()?))
            .map_or(Duration::ZERO, |seconds| {
                Duration::from_secs(u64::from(seconds)).min(self.app.configuration.longest_wait)
            })
    }

    /// Reads a call that also tells how the agent is, and takes note of that. What comes back is
    /// the request, who made it, and what the agent should be told.
    async fn hear<T: DeserializeOwned>(
        self,
        runtime_info: impl Fn(&T) -> &AgentRuntimeInfo,
    ) -> Result<(T, String, AgentInstruction), Refusal> {
        let app = self.app.clone();
        let (request, agent) = self.read(&runtime_info).await?;
        let uuid = agent.uuid.clone();
        let instruction = agents::heard(&app, agent, runtime_info(&request))
            .await
            .map_err(contact)?;
        Ok((request, uuid, instruction))
    }

    /// Checks who calls, then reads what is said: the order of GoCD's filters.
    async fn read<T: DeserializeOwned>(
        self,
        runtime_info: impl Fn(&T) -> &AgentRuntimeInfo,
    ) -> Result<(T, Agent), Refusal> {
        let agent = authenticate(&self.app, &self.peer, &self.headers).await?;
        let content_type = self
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/json") {
            return Err(Refusal::message(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                format!("the content type must be application/json, not `{content_type}`"),
            ));
        }
        let body = axum::body::to_bytes(self.body, LARGEST_BODY)
            .await
            .map_err(|_| {
                Refusal::message(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    format!("the body is larger than {LARGEST_BODY} bytes, or broke off"),
                )
            })?;
        let request: T = gson::from_slice(&body).map_err(|error| {
            Refusal::error(
                StatusCode::BAD_REQUEST,
                format!("the body cannot be read as this call's request: {error}"),
            )
        })?;
        let spoken_for = &runtime_info(&request).identifier.uuid;
        if *spoken_for != agent.uuid {
            let uuid = &agent.uuid;
            return Err(Refusal::message(
                StatusCode::FORBIDDEN,
                format!("the agent that calls is {uuid}, but the request speaks for {spoken_for}"),
            ));
        }
        Ok((request, agent))
    }
}

fn contact(error: ContactError) -> Refusal {
    match error {
        ContactError::Database(error) => error.into(),
        ContactError::Unregistered { .. } => Refusal::Empty(StatusCode::FORBIDDEN),
        refused => {
            tracing::warn!(error = %refused, "refused an agent's report");
            Refusal::error(StatusCode::INTERNAL_SERVER_ERROR, refused.to_string())
        }
    }
}

fn scheduling(error: SchedulingError) -> Refusal {
    match error {
        SchedulingError::Database(error) => error.into(),
        refused => {
            tracing::warn!(error = %Chain(&refused), "refused an agent's report");
            Refusal::error(StatusCode::INTERNAL_SERVER_ERROR, refused.to_string())
        }
    }
}

fn json<T: Serialize>(value: &T) -> Result<Response, Refusal> {
    gson::to_string(value)
        .map(answer)
        .map_err(|error| Refusal::internal("write an answer", &error))
}

fn answer(body: String) -> Response {
    ([(header::CONTENT_TYPE, ANSWER_CONTENT_TYPE)], body).into_response()
}
