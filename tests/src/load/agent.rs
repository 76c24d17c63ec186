//! One simulated agent.

use std::sync::{Mutex, PoisonError};

use http::StatusCode;
use jiff::civil::Time;
use journeyman_protocol::{
    agent::{AgentIdentifier, AgentRuntimeInfo, BuildingInfo, RuntimeStatus},
    console::{Tag, format_line},
    extension::{JOURNEYMAN_CONSOLE_LENGTH, JOURNEYMAN_CONSOLE_OFFSET, PREFER, prefer_wait},
    files::{self, BUILD_ID},
    gson,
    job::{JobIdentifier, JobResult, JobState},
    registration::{REGISTRATION_PATH, RegistrationForm, STATUS_PATH, TOKEN_PATH},
    remoting::{
        ACCEPT, AUTHORIZATION, Action, GetCookieRequest, GetWorkRequest, IsIgnoredRequest,
        PingRequest, REQUEST_CONTENT_TYPE, ReportCompleteStatusRequest, ReportCurrentStatusRequest,
        X_AGENT_GUID, read_cookie, read_is_ignored,
    },
    secret::Secret,
    work::{BuildWork, Work},
};
use serde::Serialize;

use super::{Answer, Body, Connection, Target, bytes};

/// An agent that is registered. Its calls go over whatever connection they are given, as a real
/// one pings beside its work.
pub struct Agent {
    uuid: String,
    token: String,
    info: Mutex<AgentRuntimeInfo>,
}

impl Agent {
    /// Registers the agent with this number, and asks for its cookie.
    pub async fn register(target: &Target, number: usize, key: &str) -> Self {
        let mut connection = Connection::new(target);
        let uuid = format!("10ad0000-0000-4000-8000-{number:012x}");
        let request = connection.request("GET", &format!("{TOKEN_PATH}?uuid={uuid}"));
        let answer = ask(&mut connection, request, bytes("")).await;
        let token = String::from_utf8_lossy(&answer.body).into_owned();
        let form = RegistrationForm {
            hostname: format!("load-{number}"),
            uuid: uuid.clone(),
            location: "/srv/agent".to_owned(),
            usable_space: 50 << 30,
            operating_system: "Debian GNU/Linux 12 (bookworm)".to_owned(),
            agent_auto_register_key: Secret::from(key),
            token: Secret::from(token.as_str()),
            ..RegistrationForm::default()
        };
        let request = connection
            .request("POST", REGISTRATION_PATH)
            .header("Content-Type", "application/x-www-form-urlencoded");
        let answer = ask(&mut connection, request, bytes(encode(&form))).await;
        assert_eq!(answer.status, StatusCode::OK, "registration: {answer:?}");
        let agent = Self {
            uuid: uuid.clone(),
            token,
            info: Mutex::new(AgentRuntimeInfo {
                identifier: AgentIdentifier {
                    host_name: form.hostname,
                    ip_address: "127.0.0.1".to_owned(),
                    uuid,
                },
                runtime_status: RuntimeStatus::Idle,
                location: form.location,
                usable_space: form.usable_space,
                operating_system_name: form.operating_system,
                agent_bootstrapper_version: "26.2.0-22000".to_owned(),
                agent_version: "26.2.0-22000".to_owned(),
                ..AgentRuntimeInfo::default()
            }),
        };
        let agent_runtime_info = agent.info();
        let request = GetCookieRequest { agent_runtime_info };
        let answer = agent
            .call(&mut connection, Action::GetCookie, &request)
            .await;
        let cookie = read_cookie(&String::from_utf8_lossy(&answer.body));
        agent.change(|info| info.cookie = cookie);
        agent
    }

    /// What GoCD's agent asks at the start of every round: whether there is a newer agent.
    pub async fn ask_for_release(&self, connection: &mut Connection) {
        let request = connection.request("GET", STATUS_PATH);
        ask(connection, request, bytes("")).await;
    }

    /// Pings; the free space is another each time, as on a real machine.
    pub async fn ping(&self, connection: &mut Connection) {
        self.change(|info| info.usable_space -= 4096);
        let agent_runtime_info = self.info();
        let request = PingRequest { agent_runtime_info };
        let answer = self.call(connection, Action::Ping, &request).await;
        assert_eq!(answer.status, StatusCode::OK, "ping: {answer:?}");
    }

    /// Asks for work, and lets the server hold the call for so many seconds.
    pub async fn get_work(&self, connection: &mut Connection, wait: u32) -> Option<Box<BuildWork>> {
        let agent_runtime_info = self.info();
        let body = document(&GetWorkRequest { agent_runtime_info });
        let mut request = self.signed(connection, Action::GetWork);
        if wait > 0 {
            request = request.header(PREFER, prefer_wait(wait));
        }
        let answer = ask(connection, request, body).await;
        match gson::from_slice(&answer.body) {
            Ok(Work::BuildWork(work)) => Some(work),
            Ok(Work::NoWork) => None,
            other => panic!("get_work: {other:?} from {answer:?}"),
        }
    }

    /// Does what a job of no tasks does: the reports and questions of GoCD's agent in its order,
    /// and its console in two parts.
    pub async fn run(&self, connection: &mut Connection, work: &BuildWork) {
        let job = &work.assignment.job_identifier;
        self.begin(connection, work).await;
        let mut console = 0;
        let name = job.display_locator();
        let first = [
            line(Tag::Notice, "[go] Job Started: 2026-08-01 10:11:12 UTC"),
            line(Tag::Prep, &format!("[go] Start to prepare {name}")),
            line(Tag::Notice, &format!("[go] Start to build {name}")),
            line(Tag::TaskStart, "[go] Task: true"),
            line(Tag::TaskPass, "[go] Task status: passed (1 ms)"),
        ];
        console = self
            .write(connection, job, console, bytes(first.concat()))
            .await;
        self.complete(connection, Action::ReportCompleting, job)
            .await;
        assert!(!self.is_ignored(connection, job).await, "{name} is ignored");
        self.report(connection, job, JobState::Completing).await;
        let last = [
            line(Tag::JobPass, "[go] Current job status: passed"),
            line(Tag::Publish, &format!("[go] Start to upload {name}")),
            line(Tag::Completed, "[go] Job completed"),
        ];
        self.write(connection, job, console, bytes(last.concat()))
            .await;
        self.end(connection, job).await;
    }

    /// What comes before a job's tasks.
    pub async fn begin(&self, connection: &mut Connection, work: &BuildWork) {
        let job = &work.assignment.job_identifier;
        self.change(|info| {
            info.runtime_status = RuntimeStatus::Building;
            info.building_info = BuildingInfo::of(job);
        });
        for state in [JobState::Preparing, JobState::Building] {
            assert!(!self.is_ignored(connection, job).await, "{job:?}");
            self.report(connection, job, state).await;
        }
    }

    /// Reports that a job has passed.
    pub async fn end(&self, connection: &mut Connection, job: &JobIdentifier) {
        self.complete(connection, Action::ReportCompleted, job)
            .await;
        self.change(|info| {
            info.runtime_status = RuntimeStatus::Idle;
            info.building_info = BuildingInfo::default();
        });
    }

    /// Sends a part of a job's console; answers how long the console is then.
    pub async fn write(
        &self,
        connection: &mut Connection,
        job: &JobIdentifier,
        offset: u64,
        part: Body,
    ) -> u64 {
        let path = format!(
            "{}?attempt=1&{BUILD_ID}={}",
            files::console_path(job),
            job.build_id
        );
        let request = self
            .credentials(connection.request("PUT", &path))
            .header("Content-Type", files::CONSOLE_CONTENT_TYPE)
            .header(JOURNEYMAN_CONSOLE_OFFSET, offset);
        let answer = ask(connection, request, part).await;
        assert_eq!(answer.status, StatusCode::OK, "console: {answer:?}");
        let length = answer.headers[JOURNEYMAN_CONSOLE_LENGTH].to_str();
        length.expect("a number").parse().expect("a number")
    }

    /// A request to a job's files.
    pub fn file_request(
        &self,
        connection: &Connection,
        method: &str,
        job: &JobIdentifier,
        path: &str,
    ) -> http::request::Builder {
        let path = format!(
            "{}?attempt=1&{BUILD_ID}={}",
            files::file_path(job, path),
            job.build_id
        );
        self.credentials(connection.request(method, &path))
            .header(files::X_GOCD_CONFIRM, "true")
    }

    async fn is_ignored(&self, connection: &mut Connection, job: &JobIdentifier) -> bool {
        let request = IsIgnoredRequest {
            agent_runtime_info: self.info(),
            job_identifier: job.clone(),
        };
        let answer = self.call(connection, Action::IsIgnored, &request).await;
        let text = String::from_utf8_lossy(&answer.body);
        read_is_ignored(&text).unwrap_or_else(|| panic!("is_ignored: {answer:?}"))
    }

    async fn report(&self, connection: &mut Connection, job: &JobIdentifier, state: JobState) {
        let request = ReportCurrentStatusRequest {
            agent_runtime_info: self.info(),
            job_identifier: job.clone(),
            job_state: state,
        };
        let answer = self
            .call(connection, Action::ReportCurrentStatus, &request)
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{state}: {answer:?}");
    }

    async fn complete(&self, connection: &mut Connection, action: Action, job: &JobIdentifier) {
        let request = ReportCompleteStatusRequest {
            agent_runtime_info: self.info(),
            job_identifier: job.clone(),
            job_result: JobResult::Passed,
        };
        let answer = self.call(connection, action, &request).await;
        assert_eq!(answer.status, StatusCode::OK, "{action:?}: {answer:?}");
    }

    async fn call(
        &self,
        connection: &mut Connection,
        action: Action,
        document_of_call: &impl Serialize,
    ) -> Answer {
        let request = self.signed(connection, action);
        ask(connection, request, document(document_of_call)).await
    }

    fn signed(&self, connection: &Connection, action: Action) -> http::request::Builder {
        self.credentials(connection.request("POST", action.path()))
            .header("Accept", ACCEPT)
            .header("Content-Type", REQUEST_CONTENT_TYPE)
    }

    fn credentials(&self, request: http::request::Builder) -> http::request::Builder {
        request
            .header(X_AGENT_GUID, &self.uuid)
            .header(AUTHORIZATION, &self.token)
    }

    fn info(&self) -> AgentRuntimeInfo {
        self.info
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn change(&self, change: impl FnOnce(&mut AgentRuntimeInfo)) {
        change(&mut self.info.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A line of a console.
pub(super) fn line(tag: Tag, text: &str) -> String {
    let time = Time::constant(10, 11, 12, 131_000_000);
    format_line(tag, time, text)
}

/// Sends a request that must be answered.
async fn ask(connection: &mut Connection, request: http::request::Builder, body: Body) -> Answer {
    let request = request.body(body).expect("a request");
    let what = request.uri().to_string();
    let answer = connection.send(request).await;
    answer.unwrap_or_else(|error| panic!("{what}: {error}"))
}

fn document(document: &impl Serialize) -> Body {
    bytes(gson::to_vec(document).expect("a document"))
}

/// As a form.
fn encode(form: &impl Serialize) -> String {
    let fields = serde_json::to_value(form).expect("a form");
    let fields = fields.as_object().expect("a form has fields");
    let mut encoded = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in fields {
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        encoded.append_pair(name, &text);
    }
    encoded.finish()
}
