//! A server for tests: real HTTP on a real socket, answers by script, remembers every call.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use base64::Engine as _;
use journeyman_host::{
    arguments::ConnectionArguments, connection::Connection, identity, workdir::WorkDir,
};
use journeyman_protocol::agent::{AgentIdentifier, AgentRuntimeInfo};
use tokio::{net::TcpListener, task::JoinHandle, time::Instant};

use crate::{
    remoting::Session,
    settings::{Pauses, Settings},
    state::Place,
};

pub(crate) const UUID: &str = "6f1c6a52-7a3b-4f8e-9b6e-3d1a2c4b5e6f";

/// One call that came in.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    pub(crate) at: Instant,
}

#[derive(Default)]
struct Script {
    /// By the last segment of the path; the last answer repeats.
    answers: HashMap<&'static str, VecDeque<(u16, String)>>,
    calls: Vec<Call>,
    is_journeyman: bool,
    hold: Duration,
    extra_properties: Option<String>,
}

pub(crate) struct FakeServer {
    pub(crate) url: String,
    script: Arc<Mutex<Script>>,
    task: JoinHandle<()>,
}

impl FakeServer {
    pub(crate) async fn start() -> Self {
        Self::start_on(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(crate) fn start_on(listener: TcpListener) -> Self {
        let url = format!("http://{}/go", listener.local_addr().unwrap());
        let script = Arc::new(Mutex::new(Script::default()));
        let router = Router::new().fallback(answer).with_state(script.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, script, task }
    }

    /// Answers calls to `action` with these, in turn; the last one repeats.
    pub(crate) fn answers(&self, action: &'static str, answers: &[(u16, &str)]) {
        let answers = answers
            .iter()
            .map(|(status, body)| (*status, (*body).to_owned()))
            .collect();
        self.script.lock().unwrap().answers.insert(action, answers);
    }

    /// Names itself as a Journeyman server, and holds `get_work` this long if asked to.
    pub(crate) fn be_journeyman(&self, hold: Duration) {
        let mut script = self.script.lock().unwrap();
        (script.is_journeyman, script.hold) = (true, hold);
    }

    /// Sends this as the properties it has for its agents.
    pub(crate) fn sets_properties(&self, text: &str) {
        let value = base64::engine::general_purpose::STANDARD.encode(text);
        self.script.lock().unwrap().extra_properties = Some(value);
    }

    pub(crate) fn calls(&self, action: &str) -> Vec<Call> {
        let script = self.script.lock().unwrap();
        let wanted = |call: &&Call| call.path.rsplit('/').next() == Some(action);
        script.calls.iter().filter(wanted).cloned().collect()
    }

    pub(crate) async fn wait_for_calls(&self, action: &str, count: usize) -> Vec<Call> {
        eventually(|| Some(self.calls(action)).filter(|calls| calls.len() >= count)).await
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(script): State<Arc<Mutex<Script>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body: Bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let path = parts.uri.path().to_owned();
    let action = path.rsplit('/').next().unwrap_or_default().to_owned();
    let held = parts.headers.contains_key("Prefer");
    let (status, text, is_journeyman, hold, extra_properties) = {
        let mut script = script.lock().unwrap();
        script.calls.push(Call {
            path,
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
            at: Instant::now(),
        });
        let (is_journeyman, hold) = (script.is_journeyman, script.hold);
        let queue = script
            .answers
            .iter_mut()
            .find(|(name, _)| **name == action)
            .map(|(_, queue)| queue);
        let (status, text) = match queue {
            Some(queue) if queue.len() > 1 => queue.pop_front().unwrap(),
            Some(queue) => queue.front().cloned().unwrap(),
            None => match action.as_str() {
                "ping" => (200, "\"NONE\"".to_owned()),
                "get_work" => (200, r#"{"type":"NoWork"}"#.to_owned()),
                "get_cookie" => (200, "cookie-1".to_owned()),
                "token" => (200, "token-1".to_owned()),
                _ => (200, String::new()),
            },
        };
        let extra_properties = script.extra_properties.clone();
        (status, text, is_journeyman, hold, extra_properties)
    };
    if held {
        tokio::time::sleep(hold).await;
    }
    let mut answer = (StatusCode::from_u16(status).unwrap(), text).into_response();
    if is_journeyman {
        answer
            .headers_mut()
            .insert("Journeyman-Server", "0.1.0".parse().unwrap());
    }
    if let Some(value) = extra_properties {
        answer
            .headers_mut()
            .insert("GoCD-Agent-Extra-Properties", value.parse().unwrap());
    }
    answer
}

/// Waits until `look` finds something.
pub(crate) async fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "it did not happen"
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A session with `url` in a working directory of its own.
pub(crate) async fn session(url: &str) -> (tempfile::TempDir, Session) {
    let folder = tempfile::tempdir().unwrap();
    let workdir = WorkDir::new(folder.path());
    workdir.prepare().unwrap();
    let settings = ConnectionArguments {
        server_url: Some(url.to_owned()),
        ..ConnectionArguments::default()
    }
    .validate()
    .unwrap();
    let connection = Connection::open(&workdir, &settings).await.unwrap();
    let template = AgentRuntimeInfo {
        identifier: AgentIdentifier {
            host_name: "build-07".into(),
            ip_address: "127.0.0.1".into(),
            uuid: UUID.into(),
        },
        location: folder.path().display().to_string(),
        operating_system_name: "Debian GNU/Linux 12 (bookworm)".into(),
        ..AgentRuntimeInfo::default()
    };
    let place = Place::of(&workdir, None);
    let session = Session::new(workdir, settings, template, connection, place).unwrap();
    (folder, session)
}

/// A session that has a token and a cookie already.
pub(crate) async fn registered_session(url: &str) -> (tempfile::TempDir, Session) {
    let (folder, session) = session(url).await;
    session.keep_token("token-0".into()).unwrap();
    session.keep_cookie("cookie-0".into()).unwrap();
    assert_eq!(
        identity::token(&session.workdir).unwrap().unwrap().expose(),
        "token-0"
    );
    (folder, session)
}

/// Timings that do not keep a test waiting.
pub(crate) fn quick() -> Settings {
    let ms = Duration::from_millis;
    Settings {
        ping_delay: ms(1),
        ping_interval: ms(10),
        instruction_delay: ms(1),
        instruction_interval: ms(10_000),
        work_pauses: Pauses {
            first: ms(60),
            longest: ms(200),
            factor: 1.5,
        },
        collect_after: ms(20),
        registration_retry: ms(10),
        ..Settings::default()
    }
}
