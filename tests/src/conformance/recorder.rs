//! A server that hands out the work of a case, answers as the case says and keeps what it is told.

use std::{
    fs,
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{DefaultBodyLimit, FromRequest, Multipart, Request, State},
    http::{HeaderMap, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use tokio::{
    net::TcpListener,
    runtime::{self, Runtime},
    sync::Notify,
    time::{sleep, timeout},
};

use super::{
    case::{Job, Places, ServedFile, map_strings},
    recording::Upload,
    upload,
};

/// What `get_cookie` answers.
pub(super) const COOKIE: &str = "7d3e9c51-42ab-4f0e-9b1c-d05a7e1f6b24";
/// How long a ping of a building agent is held while the text it waits for is not on the console.
///
/// The recording client pinged every 0.2 s; an agent with GoCD's timings does so every 5 s, which
/// is too late for tasks that end by themselves within 3 s. A ping that waits brings the
/// instruction as soon as the recorded one did, whatever the agent's timings are.
const HELD: Duration = Duration::from_secs(20);
/// From the text to the answer of a ping that was held: the recording client's own delay.
const AFTER_TEXT: Duration = Duration::from_millis(200);
/// An instruction that comes later than this after its text may come after a task's own end.
const IN_TIME: Duration = Duration::from_secs(2);

/// The server of one run of one case, on a port of its own. Gone with its value.
pub(super) struct Recorder {
    pub(super) places: Places,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

struct Shared {
    job: Job,
    repositories: PathBuf,
    told: Mutex<Told>,
    /// Console lines have come.
    console_grew: Notify,
}

/// Everything the server was told.
#[derive(Clone, Default)]
pub(super) struct Told {
    pub(super) requests: Vec<ToldRequest>,
    pub(super) console: String,
    pub(super) console_put: Option<ToldRequest>,
    /// The agent got the work.
    work_given: bool,
    /// The agent asked for work again.
    pub(super) job_is_over: bool,
    /// A ping was answered with an instruction.
    instructed: bool,
    /// When the texts came that the instructions wait for.
    texts: Vec<Option<Instant>>,
    /// An instruction came too late: on a busy machine the first ping may come before the job.
    pub(super) too_late: bool,
    ignored_asked: usize,
    forced: Vec<usize>,
    served: Vec<usize>,
}

/// A request as it came.
#[derive(Clone)]
pub(super) struct ToldRequest {
    pub(super) method: String,
    /// After the server's URL.
    pub(super) path: String,
    pub(super) query: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) upload: Option<Upload>,
    pub(super) answered: u16,
    /// Lines of console that were there when it came.
    pub(super) console_lines: usize,
}

impl Recorder {
    /// Starts the server of a case whose sandbox is this folder.
    ///
    /// # Errors
    /// No port, or no threads.
    pub(super) fn start(job: &Job, sandbox: &Path) -> std::io::Result<Self> {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let places = Places {
            sandbox: sandbox.to_string_lossy().into_owned(),
            hostport: listener.local_addr()?.to_string(),
        };
        let shared = Arc::new(Shared {
            job: filled(job, &places),
            repositories: sandbox.join("repos"),
            told: Mutex::new(Told {
                forced: vec![0; job.server.responses.len()],
                served: vec![0; job.server.files.len()],
                texts: vec![None; job.instructions.len()],
                ..Told::default()
            }),
            console_grew: Notify::new(),
        });
        let router = Router::new()
            .fallback(answer)
            .layer(DefaultBodyLimit::disable())
            .with_state(shared.clone());
        runtime.spawn(async move { axum::serve(listener, router).await });
        Ok(Self {
            places,
            shared,
            runtime: Some(runtime),
        })
    }

    /// The job of the case, placeholders replaced.
    pub(super) fn job(&self) -> &Job {
        &self.shared.job
    }

    /// What the server was told so far.
    pub(super) fn told(&self) -> MutexGuard<'_, Told> {
        self.shared.told()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The job with its placeholders replaced.
fn filled(job: &Job, places: &Places) -> Job {
    let mut job = job.clone();
    let fill = |text: &mut String| *text = places.fill(text);
    map_strings(&mut job.work, &|text| places.fill(text));
    job.agent_environment.values_mut().for_each(fill);
    for file in &mut job.server.files {
        file.text.iter_mut().for_each(fill);
    }
    for response in &mut job.server.responses {
        fill(&mut response.body);
    }
    for instruction in &mut job.instructions {
        fill(&mut instruction.when_console_contains);
    }
    job
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let path = parts.uri.path().to_owned();
    if let Some(file) = path.strip_prefix("/git/") {
        return shared.git(file, &parts.headers);
    }
    let Some(path) = path.strip_prefix("/go") else {
        return not_found();
    };
    if path == "/remoting/api/agent/ping" {
        return shared.ping(&body).await;
    }
    let upload = read_upload(&parts, &body).await;
    let is_console = parts.method == Method::PUT && path.ends_with("/cruise-output/console.log");
    let mut told = shared.told();
    let mut request = ToldRequest {
        method: parts.method.to_string(),
        path: path.to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers,
        body,
        upload,
        answered: 0,
        console_lines: told.console.matches('\n').count(),
    };
    let forced = shared.forced(&mut told, &request);
    let response = match forced {
        Some(response) => response,
        None if is_console => {
            told.console += &decode(&request);
            shared.note_texts(&mut told);
            shared.console_grew.notify_waiters();
            StatusCode::OK.into_response()
        }
        None => shared.usual(&mut told, &request),
    };
    request.answered = response.status().as_u16();
    if is_console {
        told.console_put.get_or_insert(request);
    } else {
        told.requests.push(request);
    }
    response
}

impl Shared {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().expect("what the server was told")
    }

    /// The instruction whose text is there, after some waiting for the first one.
    async fn ping(&self, body: &[u8]) -> Response {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let is_building = body["agentRuntimeInfo"]["runtimeStatus"] == "Building";
        if is_building && !self.job.instructions.is_empty() && self.instruction().is_none() {
            let text = timeout(HELD, async {
                loop {
                    let grew = self.console_grew.notified();
                    if self.instruction().is_some() {
                        break;
                    }
                    grew.await;
                }
            });
            if text.await.is_ok() {
                sleep(AFTER_TEXT).await;
            }
        }
        let instruction = self.instruction();
        if let Some(index) = instruction {
            let mut told = self.told();
            let since = told.texts[index].map(|since| since.elapsed());
            told.too_late |= !told.instructed && since > Some(IN_TIME);
            told.instructed = true;
        }
        let instruction = instruction.map(|index| &*self.job.instructions[index].instruction);
        remoting(json!(instruction.unwrap_or("NONE")).to_string())
    }

    /// The last instruction whose text is on the console.
    fn instruction(&self) -> Option<usize> {
        self.told().texts.iter().rposition(Option::is_some)
    }

    /// Takes down which texts have come.
    fn note_texts(&self, told: &mut Told) {
        for (instruction, since) in self.job.instructions.iter().zip(&mut told.texts) {
            if told.console.contains(&instruction.when_console_contains) {
                since.get_or_insert_with(Instant::now);
            }
        }
    }

    fn forced(&self, told: &mut Told, request: &ToldRequest) -> Option<Response> {
        let responses = self.job.server.responses.iter().zip(&mut told.forced);
        for (response, times) in responses {
            if response.method == request.method
                && request.path.contains(&response.path_contains)
                && response.times.is_none_or(|most| *times < most)
            {
                *times += 1;
                let status = StatusCode::from_u16(response.status).unwrap_or_default();
                return Some((status, response.body.clone()).into_response());
            }
        }
        None
    }

    fn usual(&self, told: &mut Told, request: &ToldRequest) -> Response {
        if let Some(action) = request.path.strip_prefix("/remoting/api/agent/") {
            return self.remoting(told, action);
        }
        match request.method.as_str() {
            "POST" if request.path.starts_with("/remoting/files/") => {
                StatusCode::CREATED.into_response()
            }
            // The agent registers before it asks for work.
            "POST" if request.path == "/admin/agent" => StatusCode::OK.into_response(),
            "GET" => self.file(told, request),
            _ => not_found(),
        }
    }

    fn remoting(&self, told: &mut Told, action: &str) -> Response {
        remoting(match action {
            "get_cookie" => COOKIE.to_owned(),
            "get_work" if told.work_given => {
                told.job_is_over = true;
                json!({ "type": "NoWork" }).to_string()
            }
            "get_work" => {
                told.work_given = true;
                self.job.work.to_string()
            }
            "is_ignored" => {
                let answers = &self.job.server.is_ignored;
                let answer = answers.get(told.ignored_asked).or(answers.last());
                told.ignored_asked += 1;
                answer.copied().unwrap_or(told.instructed).to_string()
            }
            _ => String::new(),
        })
    }

    fn file(&self, told: &mut Told, request: &ToldRequest) -> Response {
        let path = percent_decode_str(&request.path).decode_utf8_lossy();
        let files = &self.job.server.files;
        let Some(index) = files
            .iter()
            .position(|file| file.path == request.path || file.path == path)
        else {
            return not_found();
        };
        let file = &files[index];
        let statuses = &file.statuses;
        let status = statuses.get(told.served[index]).or(statuses.last());
        told.served[index] += 1;
        let status = status.and_then(|status| StatusCode::from_u16(*status).ok());
        match status.unwrap_or(StatusCode::OK) {
            StatusCode::OK => match file.content() {
                Ok(content) if asks_for_other_than(request, &content) => content.into_response(),
                Ok(_) => StatusCode::NOT_MODIFIED.into_response(),
                Err(error) => (StatusCode::BAD_REQUEST, error).into_response(),
            },
            status => status.into_response(),
        }
    }

    /// Repositories as plain files, for git's simple HTTP protocol.
    fn git(&self, file: &str, headers: &HeaderMap) -> Response {
        let Some(wanted) = &self.job.server.git_auth else {
            return not_found();
        };
        let wanted = format!("Basic {}", STANDARD.encode(wanted));
        if headers
            .get(header::AUTHORIZATION)
            .is_none_or(|value| value.as_bytes() != wanted.as_bytes())
        {
            let ask = [(header::WWW_AUTHENTICATE, "Basic realm=\"git\"")];
            return (StatusCode::UNAUTHORIZED, ask).into_response();
        }
        let file = percent_decode_str(file).decode_utf8_lossy().into_owned();
        let file = Path::new(&file);
        let is_inside = file
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        match is_inside.then(|| fs::read(self.repositories.join(file))) {
            Some(Ok(content)) => content.into_response(),
            _ => not_found(),
        }
    }
}

impl ServedFile {
    fn content(&self) -> Result<Vec<u8>, String> {
        match (&self.text, &self.base64) {
            (Some(text), _) => Ok(text.clone().into_bytes()),
            (None, Some(encoded)) => STANDARD
                .decode(encoded)
                .map_err(|error| format!("the case's file {}: {error}", self.path)),
            (None, None) => Ok(Vec::new()),
        }
    }
}

/// Whether the query does not say that the client has this content.
fn asks_for_other_than(request: &ToldRequest, content: &[u8]) -> bool {
    let digest = STANDARD.encode(Sha1::digest(content));
    let known = request
        .query
        .split('&')
        .find_map(|pair| pair.strip_prefix("sha1="));
    known.is_none_or(|known| percent_decode_str(known).decode_utf8_lossy() != digest)
}

async fn read_upload(parts: &Parts, body: &Bytes) -> Option<Upload> {
    let mut request = Request::new(Body::from(body.clone()));
    *request.headers_mut() = parts.headers.clone();
    // The limit of bodies is among them.
    *request.extensions_mut() = parts.extensions.clone();
    let content_type = parts.headers.get(header::CONTENT_TYPE)?;
    if !content_type.as_bytes().starts_with(b"multipart/") {
        return None;
    }
    let multipart = Multipart::from_request(request, &()).await.ok()?;
    Some(upload::read(multipart).await)
}

/// The text of an upload of console lines, in the charset it names.
fn decode(request: &ToldRequest) -> String {
    let content_type = request.headers.get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let charset = content_type.and_then(|value| value.split_once("charset="));
    let charset = charset.map_or("UTF-8", |(_, name)| name.trim().trim_matches('"'));
    if charset.eq_ignore_ascii_case("ISO-8859-1") {
        // What the web calls so is windows-1252.
        return request.body.iter().map(|byte| char::from(*byte)).collect();
    }
    let encoding = encoding_rs::Encoding::for_label(charset.as_bytes());
    let encoding = encoding.unwrap_or(encoding_rs::UTF_8);
    let (text, _) = encoding.decode_without_bom_handling(&request.body);
    text.into_owned()
}

fn remoting(text: String) -> Response {
    let kind = "application/vnd.go.cd.v1+json;charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "not found").into_response()
}

/// Waits until the agent asks for work after it got some.
pub(super) fn wait_for_end(
    recorder: &Recorder,
    longest: Duration,
    mut still_there: impl FnMut() -> Result<(), String>,
) -> Result<(), String> {
    let begun = Instant::now();
    while !recorder.told().job_is_over {
        still_there()?;
        if begun.elapsed() > longest {
            return Err(format!(
                "the job was not over after {} s",
                longest.as_secs()
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
