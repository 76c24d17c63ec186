//! The real `journeyman-server` in a process of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The auto-register key of every server of the tests.
pub(crate) const KEY: &str = "a-key-only-for-tests";
/// The password of the admin of every server of the tests.
const PASSWORD: &str = "a password only for tests";
/// Far more than anything takes, even on a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A running server, ended when dropped.
pub(crate) struct Server {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) http_url: String,
    pub(crate) https_url: String,
    pub(crate) client: Client,
    child: Child,
}

/// Status, media type and body of an answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) media_type: String,
    pub(crate) text: String,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    /// The same with a folder that is there.
    pub(crate) async fn start_in(folder: tempfile::TempDir) -> Self {
        let mut child = spawn(folder.path(), "0", "0");
        let (http_url, https_url) = endpoints(folder.path(), &mut child).await;
        Self {
            folder,
            http_url,
            https_url,
            client: client(),
            child,
        }
    }

    /// The data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.http_url)
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(self.url(path))
    }

    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(self.url(path))
    }

    /// What `GET` answers, which must be JSON.
    pub(crate) async fn json(&self, path: &str) -> Value {
        answer(self.get(path)).await.json()
    }

    /// A POST that has nothing to say but that it is meant.
    pub(crate) async fn confirm(&self, path: &str) -> Answer {
        answer(self.post(path).header("X-GoCD-Confirm", "true")).await
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Answer {
        answer(self.client.patch(self.url(path)).json(body)).await
    }

    /// The status of a request whose path is sent as it is: no client would leave it alone.
    pub(crate) async fn raw(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
        let address = address(&self.http_url);
        let mut socket = tokio::net::TcpStream::connect(&address).await.unwrap();
        let mut head = format!("{method} /go{path} HTTP/1.1\r\nHost: {address}\r\n");
        if !headers.iter().any(|(name, _)| *name == "Authorization") {
            head.push_str(&format!("Authorization: {}\r\n", admin()));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("Connection: close\r\nContent-Length: 0\r\n\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.unwrap();
        let text = String::from_utf8_lossy(&answer);
        text.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Ends the server as a power cut would, and starts it again on the same ports.
    pub(crate) async fn kill_nine_and_restart(&mut self) {
        self.signal(Signal::SIGKILL);
        self.child.wait().unwrap();
        fs::remove_file(self.data().join("endpoints.json")).unwrap();
        let port = |url: &str| address(url).rsplit_once(':').unwrap().1.to_owned();
        self.child = spawn(
            self.folder.path(),
            &port(&self.http_url),
            &port(&self.https_url),
        );
        endpoints(self.folder.path(), &mut self.child).await;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Waits until the server has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        until("the server ends", async || child.try_wait().unwrap()).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

/// A client that keeps to itself: no proxy, no redirects. It is the admin's, where requests do not
/// say otherwise.
pub(crate) fn client() -> Client {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, HeaderValue::from_str(&admin()).unwrap());
    Client::builder()
        .default_headers(headers)
        .no_proxy()
        .timeout(PATIENCE)
        .build()
        .unwrap()
}

/// How the admin says who they are.
fn admin() -> String {
    format!("Basic {}", STANDARD.encode(format!("admin:{PASSWORD}")))
}

pub(crate) async fn answer(request: RequestBuilder) -> Answer {
    read(request.send().await.unwrap()).await
}

pub(crate) async fn read(response: Response) -> Answer {
    let media_type = response.headers().get("content-type");
    Answer {
        status: response.status().as_u16(),
        media_type: media_type.map_or_else(String::new, |it| it.to_str().unwrap().to_owned()),
        text: response.text().await.unwrap(),
    }
}

/// Asks again and again until there is an answer.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Runs `serve` to its end; for starts that fail.
pub(crate) fn serve_to_the_end(data: &Path, http_port: &str) -> Output {
    command(data, http_port, "0").output().unwrap()
}

fn command(data: &Path, http_port: &str, https_port: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_journeyman-server"));
    command
        .env("JOURNEYMAN_ADMIN_PASSWORD", PASSWORD)
        .args(["serve", "--auto-register-key", KEY])
        .args(["--http-port", http_port, "--https-port", https_port])
        .arg("--data")
        .arg(data)
        .stdin(Stdio::null());
    command
}

fn spawn(folder: &Path, http_port: &str, https_port: &str) -> Child {
    let output = fs::File::create(folder.join("output")).unwrap();
    command(&folder.join("data"), http_port, https_port)
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn()
        .unwrap()
}

async fn endpoints(folder: &Path, child: &mut Child) -> (String, String) {
    let file = folder.join("data/endpoints.json");
    let text = until("the server listens", async || {
        if let Some(status) = child.try_wait().unwrap() {
            let output = fs::read_to_string(folder.join("output")).unwrap();
            panic!("the server ended with {status}: {output}");
        }
        fs::read_to_string(&file).ok()
    })
    .await;
    let endpoints: Value = serde_json::from_str(&text).unwrap();
    let url = |name: &str| endpoints[name].as_str().unwrap().to_owned();
    (url("http_url"), url("https_url"))
}

/// Host and port of a base URL.
pub(crate) fn address(url: &str) -> String {
    let rest = url.split_once("://").unwrap().1;
    rest.strip_suffix("/go").unwrap().to_owned()
}
