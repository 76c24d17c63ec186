use std::{net::SocketAddr, sync::Arc, sync::atomic::AtomicBool, sync::atomic::Ordering};

use pretty_assertions::assert_eq;
use tokio::net::TcpStream;

use super::*;
use crate::{
    fake_server::{eventually, quick, registered_session},
    remoting::Health,
};

struct Api {
    address: SocketAddr,
    connected: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Api {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connected = Arc::new(AtomicBool::new(true));
        let flag = connected.clone();
        let task = tokio::spawn(serve_on(listener, move || flag.load(Ordering::Relaxed)));
        Self {
            address,
            connected,
            task,
        }
    }

    async fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Status and body of the answer to this request line.
    async fn get(&self, line: &str) -> (u16, String) {
        let answer = self
            .ask(&format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n"))
            .await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn text(status: u16, body: &str) -> (u16, String) {
    (status, body.to_owned())
}

#[tokio::test]
async fn both_paths_tell_whether_the_server_is_there() {
    let api = Api::start().await;
    for path in PATHS_OF_GOCD {
        api.connected.store(true, Ordering::Relaxed);
        assert_eq!(api.get(&format!("GET {path}")).await, text(200, "OK!"));
        assert_eq!(api.get(&format!("HEAD {path}")).await, text(200, ""));
        api.connected.store(false, Ordering::Relaxed);
        assert_eq!(api.get(&format!("GET {path}")).await, text(503, "Bad!"));
        assert_eq!(api.get(&format!("HEAD {path}")).await, text(503, ""));
    }
}

const PATHS_OF_GOCD: [&str; 2] = [
    "/health/v1/isConnectedToServer",
    "/health/latest/isConnectedToServer",
];

#[tokio::test]
async fn paths_match_by_their_beginning_and_the_rest_is_not_found() {
    let api = Api::start().await;
    for path in [
        "/health/v1/isConnectedToServer/and/more?x=1",
        "/health/v1/isConnectedToServerX",
        "/health/latest/isConnectedToServer#x",
        "/health/v1/is%43onnectedToServer",
        "http://localhost:8152/health/v1/isConnectedToServer",
    ] {
        assert_eq!(api.get(&format!("GET {path}")).await.0, 200, "{path}");
    }
    for path in [
        "/",
        "/health",
        "/health/v2/isConnectedToServer",
        "/Health/v1/isConnectedToServer",
        "http://localhost:8152",
        "*",
    ] {
        let (status, body) = api.get(&format!("GET {path}")).await;
        assert_eq!(status, 404, "{path}");
        assert!(!body.is_empty());
        assert_eq!(api.get(&format!("HEAD {path}")).await, text(404, ""));
    }
}

#[tokio::test]
async fn other_methods_are_refused_whatever_the_path() {
    let api = Api::start().await;
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"] {
        for path in ["/health/v1/isConnectedToServer", "/nowhere"] {
            assert_eq!(api.get(&format!("{method} {path}")).await.0, 405);
        }
    }
    // Its sender gets the answer although nobody wants the body.
    let body = "x".repeat(60_000);
    let request = format!("POST / HTTP/1.1\r\nContent-Length: 60000\r\n\r\n{body}");
    assert!(api.ask(&request).await.starts_with("HTTP/1.1 405 "));
}

#[tokio::test]
async fn answers_are_plain_text_of_a_known_length() {
    let api = Api::start().await;
    let answer = api
        .ask("GET /health/v1/isConnectedToServer HTTP/1.0\r\n\r\n")
        .await;
    let head = answer.split_once("\r\n\r\n").unwrap().0;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(
        head.contains("\r\nContent-Type: text/plain; charset=utf-8\r\n"),
        "{head}"
    );
    assert!(head.contains("\r\nContent-Length: 3\r\n"), "{head}");
    assert!(head.contains(" GMT\r\n"), "{head}");
}

#[tokio::test]
async fn what_is_no_request_is_answered_or_dropped() {
    let api = Api::start().await;
    for request in [
        "\r\n\r\n".to_owned(),
        "GET\r\n\r\n".to_owned(),
        "GET / HTTP/2\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}\r\n\r\n".to_owned(),
        format!("GET /{} HTTP/1.1\r\n", "a".repeat(LONGEST_HEAD)),
    ] {
        assert!(api.ask(&request).await.starts_with("HTTP/1.1 400 "));
    }
}

#[tokio::test]
async fn silent_connections_hold_nobody_up() {
    let api = Api::start().await;
    let mut silent = Vec::new();
    for _ in 0..3 * MOST {
        let mut stream = TcpStream::connect(api.address).await.unwrap();
        stream.write_all(b"GET /health").await.unwrap();
        silent.push(stream);
        assert_eq!(api.get("GET /health/v1/isConnectedToServer").await.0, 200);
    }
    // The oldest was ended.
    let mut oldest = silent.remove(0);
    let mut nothing = [0; 1];
    assert!(!matches!(oldest.read(&mut nothing).await, Ok(read) if read > 0));
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_is_not_waited_for() {
    let (mut client, server) = tokio::io::duplex(64);
    let conversation = timeout(PATIENCE, converse(server, || true));
    let dribble = async {
        loop {
            if client.write_all(b"x").await.is_err() {
                return;
            }
            sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        ended = conversation => assert!(ended.is_err()),
        () = dribble => panic!("it was hung up on without a reason"),
    }
}

#[tokio::test(start_paused = true)]
async fn two_intervals_without_a_ping_are_too_many() {
    let health = Health::default();
    let interval = Duration::from_secs(5);
    assert!(!health.is_connected(Instant::now(), interval));
    health.pinged(Instant::now());
    assert!(health.is_connected(Instant::now(), interval));
    tokio::time::advance(Duration::from_millis(9_999)).await;
    assert!(health.is_connected(Instant::now(), interval));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(!health.is_connected(Instant::now(), interval));
}

#[tokio::test]
async fn an_agent_without_its_port_goes_on() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_folder, session) = registered_session("http://127.0.0.1:1/go").await;
    let at = |host: &str, port| Settings {
        status_api: Some(StatusApi {
            host: host.to_owned(),
            port,
        }),
        ..quick()
    };
    serve(
        &session,
        &at("localhost", taken.local_addr().unwrap().port()),
    )
    .await;
    serve(&session, &at("no.such.host.invalid", 1)).await;
    let off = Settings {
        status_api: None,
        ..quick()
    };
    serve(&session, &off).await;
    // With a port it serves.
    let port = taken.local_addr().unwrap().port();
    drop(taken);
    let session = Arc::new(session);
    let serving = tokio::spawn(async move { serve(&session, &at("127.0.0.1", port)).await });
    eventually(|| std::net::TcpStream::connect(("127.0.0.1", port)).ok()).await;
    serving.abort();
}
