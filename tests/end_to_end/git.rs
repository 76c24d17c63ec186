//! Checkouts as jobs of a real agent: what is left of them when they are cancelled.

use std::{
    fs,
    io::Read,
    net::TcpListener,
    os::unix::fs::symlink,
    path::Path,
    process::{Child, Stdio},
};

use journeyman_tests::{
    binaries::binary,
    fake_server::{FakeServer, build_work, shell},
    patience::{wait_for, wait_until},
    processes,
    scene::Scene,
    server::wait_for_end,
};
use serde_json::{Value, json};

/// A job with one task and a git material.
fn work(url: &str, revision: &str) -> Value {
    let mut work = build_work("job", 1, &json!([shell("echo line 1")]));
    work["assignment"]["materialRevisions"]["revisions"] = json!([{
        "material": { "type": "GitMaterial", "url": { "url": url }, "refSpecOrBranch": "main" },
        "modifications": [{ "revision": revision, "modifiedTime": "2026-01-02T03:04:05Z" }],
        "changed": true,
    }]);
    work
}

/// The agent by itself, without launcher and bootstrapper.
fn run_agent(scene: &Scene, folder: &Path, url: &str, path: Option<&Path>) -> Child {
    let mut command = scene.command(&binary("journeyman-agent"));
    if let Some(path) = path {
        command.env("PATH", path);
    }
    command
        .args(["run", "-serverUrl", url])
        .env(
            "AGENT_STARTUP_ARGS",
            "-Dagent.get.work.delay=50 -Dagent.get.work.interval=200 \
             -Dagent.ping.delay=50 -Dagent.ping.interval=200",
        )
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Cancels a job whose clone waits for a server that never answers.
fn cancel_a_clone(scene: &Scene, path: Option<&Path>, is_cloning: impl Fn(&[String]) -> bool) {
    let server = FakeServer::start();
    let folder = scene.folder("agent");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/app.git", silent.local_addr().unwrap());
    server.give_work(work(&url, "1234567890123456789012345678901234567890"));
    let mut agent = run_agent(scene, &folder, &server.url, path);
    let (mut connection, _) = silent.accept().unwrap();
    let mut request = [0; 4];
    connection.read_exact(&mut request).unwrap();
    assert_eq!(&request, b"GET ");
    let cloning = || {
        scene
            .processes()
            .into_iter()
            .any(|process| is_cloning(&process.arguments))
    };
    assert!(cloning());

    {
        let mut told = server.told();
        told.ignores_cancelled = true;
        told.instruction = Some("CANCEL");
    }
    wait_until("no git is left", || !cloning());
    wait_until("the job is reported", || {
        let told = server.told();
        let mut calls = told.calls.iter();
        calls.any(|(_, body)| body["jobState"] == "Completed")
    });
    let console = server.console();
    assert!(!console.contains("line 1"), "{console}");
    assert!(!console.contains("Failed to run git clone"), "{console}");
    assert!(console.contains("[go] Job is cancelled"), "{console}");
    // GoCD prepares on: the variables are listed.
    assert!(console.contains("'GO_SERVER_URL'"), "{console}");
    drop(connection);
    processes::terminate(agent.id() as i32);
    wait_for_end(&mut agent);
}

#[test]
fn cancel_ends_a_running_clone() {
    let scene = Scene::new("cancel-clone");
    cancel_a_clone(&scene, None, |words| {
        words.iter().any(|word| word == "clone")
    });
}

#[test]
fn cancel_ends_a_running_clone_of_the_git_built_in() {
    let scene = Scene::new("cancel-built-in");
    let path = scene.folder("bin");
    symlink("/bin/sh", path.join("sh")).unwrap();
    cancel_a_clone(&scene, Some(&path), |words| {
        words.get(1).is_some_and(|word| word == "git")
    });
    let log = wait_for("the log", || {
        fs::read_to_string(scene.path().join("agent/logs/go-agent-job.log")).ok()
    });
    assert_eq!(log.matches("There is no git in PATH").count(), 1, "{log}");
}
