//! A server that speaks GoCD's remoting API over real HTTP, hands out the work a test gives it and
//! remembers what it was told. It can be told to misbehave; the real server cannot.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};
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

/// What the server was told, and what it is to say.
#[derive(Default)]
pub struct Told {
    /// Answers of `get_work`, in order; `NoWork` when there is none left.
    pub work: VecDeque<Value>,
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

async fn answer(State(state): State<Arc<Mutex<Told>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let mut told = state.lock().expect("what the server was told");
    let refusal = told
        .refuse
        .iter_mut()
        .find(|(suffix, _)| path.ends_with(suffix.as_str()))
        .and_then(|(_, statuses)| statuses.pop_front());
    if let Some(status) = refusal.and_then(|status| StatusCode::from_u16(status).ok()) {
        return (status, "refused as the test asked").into_response();
    }
    match (&parts.method, path.as_str()) {
        (&Method::GET, "/go/admin/agent/token") => "dG9rZW4=".into_response(),
        (&Method::POST, "/go/admin/agent") => StatusCode::OK.into_response(),
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

impl Told {
    fn remoting(&mut self, action: &str, body: &[u8]) -> Response {
        let body = serde_json::from_slice(body).unwrap_or(Value::Null);
        self.calls.push((action.to_owned(), body));
        let text = match action {
            "get_cookie" => "6f7a7a0e-34c7-4a52-8d5c-5f0b2a9d9d11".to_owned(),
            "ping" => "\"NONE\"".to_owned(),
            "is_ignored" => "false".to_owned(),
            "get_work" => {
                self.first_get_work.get_or_insert_with(Instant::now);
                let work = self.work.pop_front();
                work.unwrap_or_else(|| json!({ "type": "NoWork" }))
                    .to_string()
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
}

/// GoCD answers what it does not know with a page.
fn not_found() -> Response {
    (
        StatusCode::NOT_FOUND,
        axum::response::Html("<html><body>not found</body></html>"),
    )
        .into_response()
}
