//! Starting and stopping.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::{
    agent::Agent,
    server::{Server, answer, serve_to_the_end},
};

/// What a start that failed said; one line and no more.
fn complaint(output: &std::process::Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() == 1 && output.stdout.is_empty(), "{output:?}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

#[tokio::test]
async fn a_port_that_is_taken_is_said_in_one_line() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port().to_string();
    let folder = tempfile::tempdir().unwrap();
    let said = complaint(&serve_to_the_end(&folder.path().join("data"), &port));
    assert!(
        said.contains(&port) && said.contains("--http-port"),
        "{said}"
    );
    assert!(!folder.path().join("data/endpoints.json").exists());
}

#[tokio::test]
async fn a_data_folder_has_one_server() {
    let server = Server::start().await;
    let said = complaint(&serve_to_the_end(&server.data(), "0"));
    assert!(said.contains("in use by another server"), "{said}");
    assert!(said.contains("--data"), "{said}");
    let endpoints = std::fs::read_to_string(server.data().join("endpoints.json")).unwrap();
    let endpoints: Value = serde_json::from_str(&endpoints).unwrap();
    assert!(said.contains(&endpoints["pid"].to_string()), "{said}");
    // The first one has not noticed.
    assert_eq!(endpoints["http_url"], server.http_url);
    Agent::registered(&server).await;
}

#[tokio::test]
async fn a_server_that_is_asked_to_stop_answers_those_who_wait() {
    let mut server = Server::start().await;
    let (waiting, early) = {
        let agent = Agent::registered(&server).await;
        let body = agent.body("get_work", json!({}));
        let request = agent.request("get_work").header("Prefer", "wait=20");
        let mut waiting = Box::pin(answer(request.body(body)));
        let early = tokio::time::timeout(Duration::from_millis(300), &mut waiting).await;
        (waiting, early)
    };
    assert!(early.is_err(), "answered at once");
    let asked = Instant::now();
    server.signal(Signal::SIGTERM);
    let answered = waiting.await;
    assert_eq!(
        (answered.status, answered.json()),
        (200, json!({ "type": "NoWork" }))
    );
    assert!(server.ended().await.success());
    // The wait was for 20 s, and what is left at the end is cut off after 10 s.
    assert!(asked.elapsed() < Duration::from_secs(8), "{asked:?}");
    assert!(!server.data().join("endpoints.json").exists());
}
