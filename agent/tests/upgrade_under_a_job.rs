//! An agent that is replaced by one of another release while its job runs, with real processes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{Shutdown, TcpListener},
    os::{fd::OwnedFd, unix::fs::symlink, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use axum::{Router, body::to_bytes, extract::Request};
use journeyman_protocol::launcher::Contact;
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_journeyman-agent");
const WORK: &str = include_str!("../../protocol/tests/vectors/BuildWork-no-tasks.json");
/// Generous: the machine may be busy with something else.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server with one job, in a thread: what it was sent, path and body.
struct Server {
    url: String,
    calls: Arc<Mutex<Vec<(String, String)>>>,
}

impl Server {
    /// The job's only task waits until `gate` exists.
    fn with_job(gate: &Path) -> Self {
        let mut work: Value = serde_json::from_str(WORK).unwrap();
        let script = format!(
            "echo begun; while [ ! -e {} ]; do sleep 0.05; done; echo ended",
            gate.display()
        );
        work["assignment"]["builders"] = json!([{
            "type": "CommandBuilderWithArgList",
            "args": ["-c", script],
            "command": "sh",
            "workingDir": {"path": ""},
            "errorString": "",
            "conditions": [{"status": "passed"}],
            "description": "wait",
        }]);
        let work = Arc::new(Mutex::new(Some(work.to_string())));
        let calls: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
        let seen = calls.clone();
        let answer = move |request: Request| {
            let (work, seen) = (work.clone(), seen.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = to_bytes(body, 1 << 20).await.unwrap();
                let path = parts.uri.path().to_owned();
                let body = String::from_utf8_lossy(&body).into_owned();
                let answer = match path.rsplit('/').next().unwrap() {
                    "get_work" => work.lock().unwrap().take(),
                    "ping" => Some("\"NONE\"".to_owned()),
                    "is_ignored" => Some("false".to_owned()),
                    _ => Some(String::new()),
                };
                seen.lock().unwrap().push((path, body));
                answer.unwrap_or_else(|| r#"{"type":"NoWork"}"#.to_owned())
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}/go", listener.local_addr().unwrap());
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                axum::serve(listener, Router::new().fallback(answer))
                    .await
                    .unwrap();
            });
        });
        Self { url, calls }
    }

    fn bodies(&self, action: &str) -> Vec<String> {
        let calls = self.calls.lock().unwrap();
        let wanted = calls.iter().filter(|(path, _)| path.ends_with(action));
        wanted.map(|(_, body)| body.clone()).collect()
    }
}

/// An agent with a launcher's end of its lifeline.
struct Agent {
    process: Child,
    launcher: UnixStream,
    words: mpsc::Receiver<Contact>,
    /// Ends when nobody holds the agent's end any more.
    listening: thread::JoinHandle<()>,
}

impl Agent {
    fn start(root: &Path, release: &str, server: &Server) -> Self {
        let (launcher, end) = UnixStream::pair().unwrap();
        let process = Command::new(root.join("releases").join(release).join("journeyman-agent"))
            .args(["run", "--lifeline", "--release", release])
            .args(["--server-url", &server.url])
            .env(
                "AGENT_STARTUP_ARGS",
                "-Dagent.ping.interval=50 -Dagent.ping.delay=1 -Dgo.agent.status.api.enabled=false",
            )
            .current_dir(root)
            .stdin(Stdio::from(OwnedFd::from(end)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (sender, words) = mpsc::channel();
        let lines = BufReader::new(launcher.try_clone().unwrap()).lines();
        let listening = thread::spawn(move || {
            for word in lines.map_while(Result::ok) {
                let _ = sender.send(Contact::parse(&word).expect("a word of the protocol"));
            }
        });
        Self {
            process,
            launcher,
            words,
            listening,
        }
    }

    fn wait_to_hear(&self, wanted: Contact) {
        while self.words.recv_timeout(PATIENCE).expect("another word") != wanted {}
    }

    /// What a launcher does to replace it.
    fn leave(mut self) {
        self.launcher.shutdown(Shutdown::Write).unwrap();
        assert!(self.process.wait().unwrap().success());
        // No job runner and no task has inherited the agent's end.
        wait_until("the line is closed", || self.listening.is_finished());
    }
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "not in time: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn install(root: &Path, release: &str) {
    let folder = root.join("releases").join(release);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("manifest.json"), "{}").unwrap();
    fs::hard_link(PROGRAM, folder.join("journeyman-agent")).unwrap();
}

fn jobs(root: &Path) -> Vec<PathBuf> {
    let jobs = fs::read_dir(root.join("jobs")).unwrap();
    jobs.map(|job| job.unwrap().path()).collect()
}

#[test]
fn the_job_of_one_release_is_ended_by_the_next() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let root = folder.path().canonicalize().unwrap();
    for name in ["config", "state/1-a"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    fs::write(root.join("config/token"), "token-0").unwrap();
    let state = r#"{"format":2,"cookie":"cookie-0"}"#;
    fs::write(root.join("state/1-a/state.json"), state).unwrap();
    install(&root, "1-a");
    install(&root, "2-b");
    symlink("releases/1-a", root.join("current")).unwrap();
    let gate = root.join("gate");
    let server = Server::with_job(&gate);

    let first = Agent::start(&root, "1-a", &server);
    for word in [Contact::Started, Contact::Registered, Contact::Asked] {
        first.wait_to_hear(word);
    }
    first.wait_to_hear(Contact::Working);
    wait_until("the task runs", || {
        server.bodies("console.log").concat().contains("begun")
    });
    let [job] = &jobs(&root)[..] else {
        panic!("{:?}", jobs(&root));
    };
    assert_eq!(fs::read_to_string(job.join("cookie")).unwrap(), "cookie-0");
    let runner = fs::read_to_string(job.join("runner.lock")).unwrap();
    let taken_over = Command::new(root.join("releases/2-b/journeyman-agent"))
        .args(["take-over", "2-b"])
        .current_dir(&root)
        .output()
        .unwrap();
    assert!(taken_over.status.success(), "{taken_over:?}");
    first.leave();

    let second = Agent::start(&root, "2-b", &server);
    second.wait_to_hear(Contact::Working);
    assert_eq!(fs::read_to_string(job.join("runner.lock")).unwrap(), runner);
    fs::write(&gate, "").unwrap();
    wait_until("the job's folder is gone", || jobs(&root).is_empty());
    // Asked for work again: this job is over.
    second.wait_to_hear(Contact::Asked);
    let reports = server.bodies("report_completed");
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert!(
        reports[0].contains(r#""jobResult":"Passed""#),
        "{}",
        reports[0]
    );
    assert!(
        reports[0].contains(r#""cookie":"cookie-0""#),
        "{}",
        reports[0]
    );
    let console = server.bodies("console.log").concat();
    let ends = console.lines().filter(|line| line.ends_with("ended"));
    assert_eq!(ends.count(), 1, "{console}");
    assert!(
        server.bodies("get_cookie").is_empty(),
        "the cookie was kept"
    );
    second.leave();
    assert_eq!(
        fs::read_to_string(root.join("state/1-a/state.json")).unwrap(),
        state
    );
}
