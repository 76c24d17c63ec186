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
    server::{Server, answer, serve_to_the_end, until},
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
async fn a_server_that_stops_takes_what_was_begun_and_nothing_more() {
    let mut server = Server::start().await;
    let ready = answer(server.get("/api/v1/ready")).await;
    assert_eq!(
        (ready.status, ready.json()),
        (200, json!({ "health": "OK" }))
    );
    server.add_pipeline().await;
    let file = {
        let agent = Agent::registered(&server).await;
        server.trigger().await;
        let job = agent.job().await;
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel::<Vec<u8>>();
        let body = futures_util::stream::unfold(receiver, async |mut receiver| {
            let part = receiver.recv().await?;
            Some((Ok::<_, std::io::Error>(part), receiver))
        });
        let url = server.url(&format!(
            "/remoting/files/web/1/build/1/unit/cruise-output/console.log?buildId={}",
            job["buildId"]
        ));
        let upload = agent.signed(server.client.put(url));
        let upload = upload.body(reqwest::Body::wrap_stream(body)).send();
        let upload = tokio::spawn(upload);
        sender.send(b"begun\n".to_vec()).unwrap();
        let file = server
            .data()
            .join(format!("blobs/consoles/{}.log", job["buildId"]));
        until("the upload has begun", async || {
            std::fs::read(&file).ok().filter(|text| !text.is_empty())
        })
        .await;
        server.signal(Signal::SIGTERM);
        // Whoever comes now finds nobody.
        until("nobody is let in", async || {
            let fresh = crate::server::client().get(server.url("/api/v1/ready"));
            fresh.send().await.err()
        })
        .await;
        sender.send(b"ended\n".to_vec()).unwrap();
        drop(sender);
        assert_eq!(upload.await.unwrap().unwrap().status(), 200);
        file
    };
    assert!(server.ended().await.success());
    assert_eq!(std::fs::read(file).unwrap(), b"begun\nended\n");
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
