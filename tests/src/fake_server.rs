//! A server that speaks GoCD's remoting API over real HTTP to one agent, hands out the work a test
//! gives it and remembers what it was told. It can be told to misbehave; the real server cannot.
//!
//! It is as strict as GoCD's: it knows an agent by GUID and token, rejects every cookie but the
//! last it gave out, gives work only to the second `get_work` of an idle agent, and takes a job
//! whose agent asks for work meanwhile for lost.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    runtime::{self, Runtime},
};

/// A fake GoCD server on a port of its own. Gone with its value.
pub struct FakeServer {
    /// Base URL to give to an agent.
    pub url: String,
    state: Arc<Mutex<Told>>,
    runtime: Option<Runtime>,
}

/// The token of every agent.
pub const TOKEN: &str = "dG9rZW4=";

/// Where anybody may PUT anything.
const SINK: &str = "/go/sink";

/// What the server was told, and what it is to say.
#[derive(Default)]
pub struct Told {
    /// Answers of `get_work`, in order; `NoWork` when there is none left.
    pub work: VecDeque<Value>,
    /// The first `get_work` of an idle agent is given work as well: there always is some.
    pub work_at_once: bool,
    /// Bodies of the remoting calls, with the name of the action.
    pub calls: Vec<(String, Value)>,
    /// When the first `get_work` came.
    pub first_get_work: Option<Instant>,
    /// Console so far by path.
    pub consoles: BTreeMap<String, String>,
    /// Paths of uploaded artifacts.
    pub uploads: Vec<String>,
    /// Statuses to answer instead of doing it, for the calls whose path ends in the key.
    pub refuse: BTreeMap<String, VecDeque<u16>>,
    /// What the next pings answer instead of `NONE`, until the agent is idle.
    pub instruction: Option<&'static str>,
    /// Uploads are never answered.
    pub holds_uploads: bool,
    /// Jobs that were told to cancel count as ignored from then on, as with GoCD.
    pub ignores_cancelled: bool,
    /// The next ping that names a job is answered only when a console has this text, and then
    /// with a cancel: which is late.
    pub late_cancel_after: Option<&'static str>,
    /// How many late cancels were answered.
    pub late_cancels: usize,
    /// Bodies of the registrations.
    pub registrations: Vec<BTreeMap<String, String>>,
    /// Keys by which an elastic agent may register, each once.
    pub one_time_keys: Vec<String>,
    /// Value of `GoCD-Agent-Extra-Properties`.
    pub extra_properties: Option<String>,
    /// How many cookies were given out.
    pub cookies: usize,
    /// Jobs that were lost: their agent asked for work before it had reported their end.
    pub lost: Vec<u64>,
    registered: bool,
    elastic: bool,
    cookie: Option<String>,
    looked_for_work: bool,
    running: Option<u64>,
    told_to_cancel: bool,
}

impl FakeServer {
    pub fn start() -> Self {
        let state = Arc::new(Mutex::new(Told::default()));
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .expect("a port");
        let address = listener.local_addr().expect("its address");
        let router = Router::new().fallback(answer).with_state(state.clone());
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self {
            url: format!("http://{address}/go"),
            state,
            runtime: Some(runtime),
        }
    }

    /// What the server was told so far; may be changed.
    pub fn told(&self) -> MutexGuard<'_, Told> {
        self.state.lock().expect("what the server was told")
    }

    /// Hands this out at the next `get_work`.
    pub fn give_work(&self, work: Value) {
        self.told().work.push_back(work);
    }

    /// All consoles in one text.
    pub fn console(&self) -> String {
        self.told().consoles.values().cloned().collect()
    }

    /// Takes what is PUT there, from anybody, and keeps nothing of it.
    pub fn sink(&self) -> String {
        format!("{}/sink", self.url)
    }

    /// Knows the agent from before, as if it had registered long ago.
    pub fn know_agent(&self) {
        let mut told = self.told();
        told.registered = true;
        told.cookie = Some("of-the-java-agent".to_owned());
    }

    /// Forgets the agent, as if it had been deleted.
    pub fn forget_agent(&self) {
        let mut told = self.told();
        told.registered = false;
        told.cookie = None;
    }

    /// Gives the agent's GUID another cookie, as if a second agent had asked for one.
    pub fn take_cookie_away(&self) {
        self.told().cookie = Some("of-another-agent".to_owned());
    }

    /// The bodies of all calls of this action.
    pub fn calls(&self, action: &str) -> Vec<Value> {
        let told = self.told();
        let calls = told.calls.iter().filter(|(name, _)| name == action);
        calls.map(|(_, body)| body.clone()).collect()
    }

    /// The results of all `report_completed` calls.
    pub fn results(&self) -> Vec<String> {
        self.told()
            .calls
            .iter()
            .filter(|(action, _)| action == "report_completed")
            .filter_map(|(_, body)| Some(body["jobResult"].as_str()?.to_owned()))
            .collect()
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A work document of one job `web/1/build/1/<name>` with these builders, no material and no
/// artifact.
pub fn build_work(name: &str, build_id: u64, builders: &Value) -> Value {
    json!({
        "type": "BuildWork",
        "consoleLogCharset": "UTF-8",
        "assignment": {
            "fetchMaterials": true,
            "cleanWorkingDirectory": false,
            "builders": builders,
            "artifactPlans": [],
            "artifactStores": [],
            "buildWorkingDirectory": { "path": "pipelines/web" },
            "jobIdentifier": {
                "pipelineName": "web", "pipelineCounter": 1, "pipelineLabel": "1",
                "stageName": "build", "buildName": name, "buildId": build_id, "stageCounter": "1"
            },
            "initialContext": { "properties": [] },
            "materialRevisions": { "revisions": [] },
            "approver": "changes"
        }
    })
}

/// An exec task that runs a shell script.
pub fn shell(script: &str) -> Value {
    let nothing =
        json!({ "type": "NullBuilder", "exitCode": -1, "conditions": [], "description": "NULL" });
    json!({
        "type": "CommandBuilderWithArgList",
        "command": "/bin/sh", "args": ["-c", script], "workingDir": { "path": "pipelines/web" },
        "errorString": "", "exitCode": -1, "conditions": [], "description": "/bin/sh",
        "cancelBuilder": {
            "type": "BuilderForKillAllChildTask", "currentProcess": {}, "cancelAttempted": false,
            "exitCode": -1, "conditions": [], "description": "Kills child processes",
            "cancelBuilder": nothing
        }
    })
}

/// Reads a body of any size, and keeps nothing of it.
async fn throw_away(body: Body) {
    let mut chunks = body.into_data_stream();
    while let Some(Ok(_)) = chunks.next().await {}
}

async fn answer(State(state): State<Arc<Mutex<Told>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let is_upload = parts.method == Method::POST && path.starts_with("/go/remoting/files/");
    let body = if is_upload || path == SINK {
        throw_away(body).await;
        Bytes::new()
    } else {
        to_bytes(body, usize::MAX).await.unwrap_or_default()
    };
    let holds_uploads = state.lock().expect("what to do").holds_uploads;
    if path.starts_with("/go/hang/") || (holds_uploads && is_upload) {
        if is_upload {
            state.lock().expect("the list").uploads.push(path);
        }
        return std::future::pending().await;
    }
    if path.ends_with("/agent/ping") && names_a_job(&body) {
        let text = state.lock().expect("the text").late_cancel_after.take();
        if let Some(text) = text {
            return late_cancel(&state, text).await;
        }
    }
    let mut told = state.lock().expect("what the server was told");
    let refusal = told
        .refuse
        .iter_mut()
        .find(|(suffix, _)| path.ends_with(suffix.as_str()))
        .and_then(|(_, statuses)| statuses.pop_front());
    if let Some(status) = refusal.and_then(|status| StatusCode::from_u16(status).ok()) {
        return (status, "refused as the test asked").into_response();
    }
    let header = |name: &str| {
        parts
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let knows = told.registered
        && header("Authorization") == Some(TOKEN)
        && header("X-Agent-GUID").is_some_and(|uuid| !uuid.is_empty());
    if path.starts_with("/go/remoting/") && !knows {
        return StatusCode::FORBIDDEN.into_response();
    }
    match (&parts.method, path.as_str()) {
        (&Method::GET, "/go/admin/agent/token") => TOKEN.into_response(),
        (&Method::POST, "/go/admin/agent") => told.register(&body),
        (&Method::HEAD, "/go/admin/agent") | (&Method::GET, "/go/admin/latest-agent.status") => {
            let mut answer = StatusCode::OK.into_response();
            if let Some(properties) = &told.extra_properties {
                let value = properties.parse().expect("a header value");
                answer
                    .headers_mut()
                    .insert("GoCD-Agent-Extra-Properties", value);
            }
            answer
        }
        (&Method::PUT, SINK) => StatusCode::OK.into_response(),
        (&Method::PUT, _) if path.ends_with("/cruise-output/console.log") => {
            let text = String::from_utf8_lossy(&body);
            told.consoles.entry(path).or_default().push_str(&text);
            StatusCode::OK.into_response()
        }
        (&Method::POST, _) if path.starts_with("/go/remoting/files/") => {
            told.uploads.push(path);
            StatusCode::CREATED.into_response()
        }
        (&Method::POST, _) => match path.strip_prefix("/go/remoting/api/agent/") {
            Some(action) => told.remoting(action, &body),
            None => not_found(),
        },
        _ => not_found(),
    }
}

fn names_a_job(ping: &[u8]) -> bool {
    let ping: Value = serde_json::from_slice(ping).unwrap_or(Value::Null);
    ping["agentRuntimeInfo"]["runtimeStatus"] == "Building"
}

async fn late_cancel(state: &Mutex<Told>, text: &str) -> Response {
    loop {
        {
            let mut told = state.lock().expect("the consoles");
            if told.consoles.values().any(|console| console.contains(text)) {
                told.late_cancels += 1;
                return "\"CANCEL\"".into_response();
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

impl Told {
    /// Lets every agent in; an elastic one only with a key that was not used before.
    fn register(&mut self, body: &[u8]) -> Response {
        let form: BTreeMap<String, String> =
            url::form_urlencoded::parse(body).into_owned().collect();
        let field = |name: &str| form.get(name).cloned().unwrap_or_default();
        let (key, is_elastic) = (
            field("agentAutoRegisterKey"),
            !field("elasticPluginId").is_empty(),
        );
        let token_is_right = field("token") == TOKEN;
        self.registrations.push(form);
        if !token_is_right {
            return StatusCode::FORBIDDEN.into_response();
        }
        if is_elastic {
            let Some(index) = self.one_time_keys.iter().position(|known| *known == key) else {
                let reason = "Elastic agent registration requires an auto-register agent key to be setup on the server.";
                return (StatusCode::UNPROCESSABLE_ENTITY, reason).into_response();
            };
            self.one_time_keys.remove(index);
        }
        self.registered = true;
        self.elastic = is_elastic;
        StatusCode::OK.into_response()
    }

    fn remoting(&mut self, action: &str, body: &[u8]) -> Response {
        let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let info = body["agentRuntimeInfo"].clone();
        self.calls.push((action.to_owned(), body));
        if action == "ping" || action.starts_with("report_") {
            if self.cookie.is_none() || info["cookie"].as_str() != self.cookie.as_deref() {
                return error("Agent [build-07, 127.0.0.1] has invalid cookie");
            }
            if self.elastic && info["type"] != "ElasticAgentRuntimeInfo" {
                return error("class AgentRuntimeInfo cannot be cast to ElasticAgentRuntimeInfo");
            }
        }
        let text = match action {
            "get_cookie" => {
                self.cookies += 1;
                let cookie = format!("cookie-{}", self.cookies);
                self.cookie = Some(cookie.clone());
                cookie
            }
            "ping" if info["runtimeStatus"] == "Idle" => {
                self.instruction = None;
                "\"NONE\"".to_owned()
            }
            "ping" => {
                self.told_to_cancel |= self.instruction.is_some();
                format!("\"{}\"", self.instruction.unwrap_or("NONE"))
            }
            "is_ignored" => (self.ignores_cancelled && self.told_to_cancel).to_string(),
            "get_work" => self.find_work().to_string(),
            "report_completed" => {
                self.running = None;
                String::new()
            }
            _ => String::new(),
        };
        Response::builder()
            .header(
                "Content-Type",
                "application/vnd.go.cd.v1+json;charset=utf-8",
            )
            .body(Body::from(text))
            .expect("an answer")
    }

    fn find_work(&mut self) -> Value {
        self.first_get_work.get_or_insert_with(Instant::now);
        self.lost.extend(self.running.take());
        let looked = std::mem::replace(&mut self.looked_for_work, true);
        let work = if looked || self.work_at_once {
            self.work.pop_front()
        } else {
            None
        };
        let Some(work) = work else {
            return json!({ "type": "NoWork" });
        };
        self.looked_for_work = false;
        self.told_to_cancel = false;
        self.running = work["assignment"]["jobIdentifier"]["buildId"].as_u64();
        work
    }
}

fn error(text: &str) -> Response {
    let body = json!({ "error": text }).to_string();
    (StatusCode::INTERNAL_SERVER_ERROR, body).into_response()
}

/// GoCD answers what it does not know with a page.
fn not_found() -> Response {
    (
        StatusCode::NOT_FOUND,
        axum::response::Html("<html><body>not found</body></html>"),
    )
        .into_response()
}
