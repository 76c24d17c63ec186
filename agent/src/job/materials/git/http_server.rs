//! For tests: repositories over HTTP with a password, by git's own server program.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use tokio::{net::TcpListener, runtime::Runtime};

/// Base64 of `bot:p@ss wörd`.
const AUTHORIZATION: &str = "Basic Ym90OnBAc3Mgd8O2cmQ=";
/// The password in clear text, and as URLs have it.
pub(super) const PASSWORD: &str = "p@ss wörd";
pub(super) const USER_INFO: &str = "bot:p%40ss%20w%C3%B6rd";

/// Serves all repositories below a folder until dropped.
pub(super) struct HttpServer {
    /// `127.0.0.1:<port>`
    pub(super) host: String,
    calls: Arc<Mutex<Vec<String>>>,
    _runtime: Runtime,
}

type Hook = Arc<dyn Fn() + Send + Sync>;

#[derive(Clone)]
struct Serving {
    root: PathBuf,
    hook: Hook,
    calls: Arc<Mutex<Vec<String>>>,
}

impl HttpServer {
    /// `hook` is called while a request waits for its answer.
    pub(super) fn start(root: &Path, hook: impl Fn() + Send + Sync + 'static) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let calls = Arc::default();
        let serving = Serving {
            root: root.to_owned(),
            hook: Arc::new(hook),
            calls: Arc::clone(&calls),
        };
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let router = Router::new().fallback(serve).with_state(serving);
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self {
            host,
            calls,
            _runtime: runtime,
        }
    }

    /// Method and path of each request that had the password.
    pub(super) fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

async fn serve(State(serving): State<Serving>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let authorized = parts
        .headers
        .get("authorization")
        .is_some_and(|value| value == AUTHORIZATION);
    let (method, path) = (parts.method.to_string(), parts.uri.path().to_owned());
    let query = parts.uri.query().unwrap_or_default().to_owned();
    tokio::task::spawn_blocking(move || {
        (serving.hook)();
        if !authorized {
            let challenge = [("WWW-Authenticate", "Basic realm=\"git\"")];
            return (StatusCode::UNAUTHORIZED, challenge).into_response();
        }
        serving
            .calls
            .lock()
            .unwrap()
            .push(format!("{method} {path}"));
        backend(&serving.root, &method, &path, &query, &parts.headers, &body)
    })
    .await
    .unwrap()
}

/// Runs `git http-backend`, a CGI program.
fn backend(
    root: &Path,
    method: &str,
    path: &str,
    query: &str,
    headers: &HeaderMap,
    body: &Bytes,
) -> Response {
    let header = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let mut child = Command::new("git")
        .args(["-c", "http.receivepack=true", "http-backend"])
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = body.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap().stdout;
    let _ = writer.join();
    let end = output
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let mut status = StatusCode::OK;
    let mut answered = HeaderMap::new();
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        let (name, value) = line.split_once(": ").unwrap();
        if name == "Status" {
            status = StatusCode::from_bytes(&value.as_bytes()[..3]).unwrap();
        } else {
            let name = axum::http::HeaderName::from_bytes(name.as_bytes()).unwrap();
            answered.insert(name, value.parse().unwrap());
        }
    }
    (status, answered, output[end + 4..].to_vec()).into_response()
}
