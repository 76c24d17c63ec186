//! Bad input: each gets one clear message, and nothing is lost.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use journeyman_tests::{
    api::{FIRST_ADMIN, Job},
    binaries::binary,
    chain::Chain,
    console::assert_counts_to,
    fake_server::{FakeServer, build_work, shell},
    gate::Gate,
    patience::wait_until,
    processes::{self, Role},
    releases::Releases,
    repo::Repo,
    scene::Scene,
    server::{PASSWORD, Server, serve, wait_for_end},
};
use reqwest::{
    Method, RequestBuilder, StatusCode,
    multipart::{Form, Part},
};
use serde_json::json;

const QUICK: &str = "any:\n  tasks:\n    - exec: { command: \"true\" }\n";

// --- arguments

#[test]
fn an_unknown_argument_is_named_and_ends_the_chain() {
    let scene = Scene::new("argument");
    let mut chain = Chain::install(&scene, "agent", "http://127.0.0.1:1/go")
        .with_arguments(&["--no-such-thing"])
        .started();
    let status = chain.wait_for_end();
    assert_eq!(status.code(), Some(64), "{}", chain.said());
    assert!(chain.said().contains("--no-such-thing"), "{}", chain.said());
}

#[test]
fn a_url_that_is_none_is_named_and_ends_the_chain() {
    for url in [
        "localhost:8153",
        "ftp://127.0.0.1/go",
        "http://127.0.0.1:1/wrong",
    ] {
        let scene = Scene::new("url");
        let mut chain = Chain::install(&scene, "agent", url).started();
        let status = chain.wait_for_end();
        assert_eq!(status.code(), Some(64), "{url}: {}", chain.said());
        assert!(chain.said().contains(url), "{url}: {}", chain.said());
    }
}

#[test]
fn gocds_arguments_and_the_images_environment_are_understood() {
    let scene = Scene::new("gocd-arguments");
    let server = Server::start(&scene);
    let authority = server.data().join("trust/ca.crt");
    let chain = Chain::install(&scene, "agent", &server.https_url)
        .with_arguments(&[
            "-sslVerificationMode",
            "NO_VERIFY_HOST",
            "-rootCertFile",
            authority.to_str().unwrap(),
        ])
        .with_environment("AGENT_AUTO_REGISTER_KEY", journeyman_tests::server::KEY)
        .with_environment("AGENT_AUTO_REGISTER_RESOURCES", "one,two")
        .started();
    let uuid = chain.uuid();
    server.api().wait_for_agent(&uuid, "Enabled", "Idle");
    let agent = server.api().agent(&uuid).unwrap();
    assert_eq!(agent["resources"], json!(["one", "two"]));
}

// --- the server

#[test]
fn a_server_that_is_down_at_the_start_is_waited_for() {
    let scene = Scene::new("down");
    let mut server = Server::start(&scene);
    server.stop();
    let chain = Chain::install(&scene, "agent", &server.http_url)
        .with_key("")
        .started();
    let port = server.http_url.strip_suffix("/go").unwrap();
    chain.wait_until_said(port);
    server.start_again();
    server
        .api()
        .wait_for_agent(&chain.uuid(), "Enabled", "Idle");
}

#[test]
fn a_server_that_goes_down_half_way_loses_nothing() {
    let scene = Scene::new("halfway");
    let mut server = Server::start(&scene);
    let chain = Chain::install(&scene, "agent", &server.http_url)
        .with_key("")
        .started();
    let go = scene.path().join("go");
    let done = scene.path().join("done");
    let repo = Repo::with_pipeline(
        &scene,
        "half",
        &format!(
            "\
work:
  artifacts:
    - build: {{ source: made }}
  tasks:
    - exec: {{ command: sh, arguments: [-c, 'echo line 1; until [ -e {} ]; do sleep 0.02; done'] }}
    - exec: {{ command: sh, arguments: [-c, 'for i in $(seq 2 2000); do echo line $i; done; echo x > made; touch {}'] }}
",
            go.display(),
            done.display()
        ),
    );
    server.add_repo(&repo);
    let job = Job::new("half", server.api().trigger("half"), "work");
    server.api().wait_for_output(&job, "line 1");
    server.stop();
    // The whole rest of the job happens while nobody listens.
    fs::write(&go, "").unwrap();
    wait_until("the last task has ended", || done.exists());
    server.start_again();
    assert_eq!(server.api().wait_for_result(&job).result, "Passed");
    assert_counts_to(&server.api().console(&job), 2000);
    assert_eq!(server.api().artifacts(&job).len(), 1);
    assert!(chain.log("go-agent.log").contains(&chain.uuid()) || !chain.said().is_empty());
}

#[test]
fn an_altered_download_is_refused_kept_out_of_the_way_and_tried_again() {
    let scene = Scene::new("altered");
    let server = Server::start(&scene);
    let gate = Gate::before(&server.http_url);
    gate.spoil(|seen| seen.method == "GET" && seen.path.contains("/journeyman/packages/"));
    let chain = Chain::install(&scene, "agent", &gate.url)
        .with_key("")
        .started();
    wait_until("the spoiled package is kept for a look", || {
        fs::read_dir(chain.folder().join("data/refused"))
            .is_ok_and(|mut entries| entries.next().is_some())
    });
    server
        .api()
        .wait_for_agent(&chain.uuid(), "Enabled", "Idle");
    assert!(chain.said().contains("SHA-256"), "{}", chain.said());
}

#[test]
fn a_wrong_key_leaves_the_agent_pending_and_says_so() {
    let scene = Scene::new("key");
    let server = Server::start(&scene);
    let chain = Chain::install(&scene, "agent", &server.http_url)
        .with_properties("agent.auto.register.key=wrong\n")
        .started();
    let uuid = chain.uuid();
    wait_until("the agent is pending", || {
        server
            .api()
            .agent(&uuid)
            .is_some_and(|agent| agent["agent_config_state"] == "Pending")
    });
    chain.wait_until_said("Waiting for an administrator");
    assert!(!chain.said().contains("agent.auto.register.key=wrong"));
    // What was given is kept, for when somebody corrects the server's key.
    let properties =
        fs::read_to_string(chain.folder().join("config/autoregister.properties")).unwrap();
    assert!(properties.contains("wrong"), "{properties}");
}

#[test]
fn a_port_that_is_taken_is_named_when_it_was_asked_for() {
    let scene = Scene::new("port");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for flag in ["--http-port", "--https-port"] {
        let other = if flag == "--http-port" {
            "--https-port"
        } else {
            "--http-port"
        };
        let output = serve(&scene, &scene.folder("data"))
            .args([flag, &port, other, "0"])
            .output()
            .unwrap();
        assert!(!output.status.success());
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(&port) && text.contains(flag), "{text}");
    }
}

#[test]
fn two_servers_do_not_share_data() {
    let scene = Scene::new("shared");
    let server = Server::start(&scene);
    let output = serve(&scene, server.data())
        .args(["--http-port", "0", "--https-port", "0"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains(server.data().to_str().unwrap()), "{text}");
}

// --- the working directory

#[test]
fn a_second_agent_in_the_same_folder_is_refused() {
    let scene = Scene::new("second");
    let server = Server::start(&scene);
    let chain = Chain::install(&scene, "agent", &server.http_url)
        .with_key("")
        .started();
    server
        .api()
        .wait_for_agent(&chain.uuid(), "Enabled", "Idle");
    let launcher = chain.pid(Role::Launcher);
    let mut second = scene
        .command(&chain.folder().join("journeyman-bootstrapper"))
        .args(["-serverUrl", &server.http_url])
        .current_dir(chain.folder())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let status = wait_for_end(&mut second);
    assert_eq!(status.code(), Some(73), "{}", chain.said());
    let mut text = String::new();
    std::io::Read::read_to_string(&mut second.stderr.take().unwrap(), &mut text).unwrap();
    assert!(text.contains(&launcher.to_string()), "{text}");
    assert!(processes::alive(launcher), "the first one goes on");
    server
        .api()
        .wait_for_agent(&chain.uuid(), "Enabled", "Idle");
}

#[test]
fn a_read_only_working_directory_is_named_and_waited_for() {
    let scene = Scene::new("readonly");
    let server = Server::start(&scene);
    let Some(mount) = Mount::tmpfs(scene.folder("agent"), "size=1g") else {
        return;
    };
    let mut chain = Chain::install_in(&scene, mount.folder.clone(), &server.http_url).with_key("");
    mount.remount("ro");
    chain.start();
    chain.wait_until_said(mount.folder.to_str().unwrap());
    chain.wait_until_said("ead-only");
    mount.remount("rw");
    server
        .api()
        .wait_for_agent(&chain.uuid(), "Enabled", "Idle");
    chain.stop();
}

#[test]
fn a_full_working_directory_is_named_and_waited_for() {
    let scene = Scene::new("full");
    let server = Server::start(&scene);
    let bootstrapper = &Releases::of_this_run().bootstrapper;
    let size = fs::metadata(bootstrapper).unwrap().len();
    // The bootstrapper and its launcher fit, the agent does not.
    let Some(mount) = Mount::tmpfs(scene.folder("agent"), &format!("size={}", size * 3)) else {
        return;
    };
    let mut chain = Chain::install_in(&scene, mount.folder.clone(), &server.http_url).with_key("");
    chain.start();
    chain.wait_until_said("not enough room to");
    mount.remount("size=1g");
    server
        .api()
        .wait_for_agent(&chain.uuid(), "Enabled", "Idle");
    chain.stop();
}

#[test]
fn corrupt_identity_files_are_set_aside() {
    let scene = Scene::new("corrupt");
    let server = Server::start(&scene);
    let mut chain = Chain::install(&scene, "agent", &server.http_url)
        .with_key("")
        .started();
    let uuid = chain.uuid();
    server.api().wait_for_agent(&uuid, "Enabled", "Idle");
    wait_until("the agent has a cookie", || chain.state().exists());
    chain.stop();
    let config = chain.folder().join("config");

    // A token that is no token, and a cookie: the agent gets new ones and keeps its name.
    fs::write(config.join("token"), b"\xff\xfe\x00").unwrap();
    fs::write(chain.state(), b"\x00\x00").unwrap();
    chain.start();
    wait_until("the agent has a token again", || {
        fs::read(config.join("token")).is_ok_and(|token| token.len() == 44)
    });
    server.api().wait_for_agent(&uuid, "Enabled", "Idle");
    assert!(config.join("token.corrupt").exists());
    assert!(chain.state().with_extension("json.corrupt").exists());
    chain.stop();

    // One that looks right and is wrong: the server refuses it, the agent asks for another.
    fs::write(config.join("token"), "d3Jvbmc=").unwrap();
    chain.start();
    wait_until("the wrong token is replaced", || {
        fs::read(config.join("token")).is_ok_and(|token| token.len() == 44)
    });
    server.api().wait_for_agent(&uuid, "Enabled", "Idle");
    chain.stop();

    // Without its GUID it is another agent.
    fs::write(config.join("guid.txt"), b"\x00\x01garbage \n").unwrap();
    chain.start();
    chain.wait_until_said("guid.txt.corrupt");
    wait_until("a second agent is known", || {
        server.api().agents().len() == 2
    });
}

#[test]
fn a_corrupt_journal_or_spool_does_not_stop_the_agent() {
    let scene = Scene::new("journal");
    let server = Server::start(&scene);
    let mut chain = Chain::install(&scene, "agent", &server.http_url)
        .with_key("")
        .started();
    server.add_repo(&Repo::with_pipeline(
        &scene,
        "lost",
        "\
work:
  tasks:
    - exec: { command: sh, arguments: [-c, 'echo line 1; sleep 1000'] }
",
    ));
    let uuid = chain.uuid();
    let first = Job::new("lost", server.api().trigger("lost"), "work");
    server.api().wait_for_output(&first, "line 1");

    // Everything dies, as in a power cut, and the disk gives back something else.
    let folder = fs::read_dir(chain.folder().join("jobs"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    chain.kill_nine(Role::Bootstrapper);
    if let Some(runner) = chain.process(Role::Runner) {
        processes::kill_nine(runner.pid);
    }
    wait_until("the agent is gone", || {
        chain.process(Role::Agent).is_none() && chain.process(Role::Launcher).is_none()
    });
    fs::write(
        folder.join("journal"),
        b"{\"event\":\"sta\x00\xff garbage\n{}}\n",
    )
    .unwrap();
    fs::write(folder.join("console"), b"\xff\xff").unwrap();
    // A folder with nothing but a spool, and one with nothing at all.
    for name in ["77-0badcafe", "78-0badcafe"] {
        fs::create_dir_all(chain.folder().join("jobs").join(name)).unwrap();
    }
    fs::write(chain.folder().join("jobs/77-0badcafe/console"), b"\x00").unwrap();

    chain.start();
    chain.wait_until_said("journal");
    // What cannot be known is not made up: the server gives the job out again, and it runs.
    wait_until("the job is given out again", || {
        server.output().matches("handed out a job").count() == 2
    });
    wait_until(
        "the damaged folder is set aside, the empty ones are gone",
        || fs::read_dir(chain.folder().join("jobs")).is_ok_and(|entries| entries.count() == 1),
    );
    server.api().wait_for_output(&first, "line 1");
    server.api().cancel(&first);
    server.api().wait_for_agent(&uuid, "Enabled", "Idle");
    assert_eq!(server.api().job(&first).unwrap().result, "Cancelled");
}

// --- pipelines

#[test]
fn a_malformed_pipeline_is_refused_with_file_and_line() {
    let scene = Scene::new("yaml");
    let server = Server::start(&scene);
    let repo = Repo::with_pipeline(&scene, "good", QUICK);
    server.add_repo(&repo);
    server.api().wait_for_pipeline("good");

    let bad = Repo::new(
        &scene,
        "bad.repo",
        "format_version: 11\npipelines:\n  bad:\n    group: g\n    materials:\n      - not a map\n    stages: []\n",
    );
    let output = server.cli(&["repos", "add", &bad.url(), "--branch", "master"]);
    let mut said = String::from_utf8_lossy(&output.stderr).into_owned();
    said += &String::from_utf8_lossy(&output.stdout);
    wait_until("file, line and problem are said", || {
        let health = server
            .api()
            .request(Method::GET, "/api/server_health_messages", None);
        let all = format!("{said}{}", health.body);
        all.contains("ci.gocd.yaml") && all.contains('6') && all.contains("materials")
    });

    // The good one is still there and runs.
    let chain = Chain::install(&scene, "agent", &server.http_url)
        .with_key("")
        .started();
    let job = Job::new("good", server.api().trigger("good"), "any");
    assert_eq!(server.api().wait_for_result(&job).result, "Passed");
    drop(chain);
}

// --- work

#[test]
fn work_of_an_unknown_kind_fails_the_job_and_the_agent_goes_on() {
    let scene = Scene::new("unknown-work");
    let server = FakeServer::start();
    let folder = scene.folder("agent");
    server.give_work(json!({ "type": "TeleportWork", "target": "moon" }));
    server.give_work(build_work(
        "strange",
        1,
        &json!([{ "type": "TeleportBuilder", "conditions": [], "description": "moon" }]),
    ));
    server.give_work(build_work("plain", 2, &json!([shell("echo line 1")])));
    let mut agent = run_agent(&scene, &folder, &server.url);
    wait_until("both jobs have been reported", || {
        server.results().len() == 2
    });
    assert_eq!(server.results(), ["Failed", "Passed"]);
    let consoles = server.told().consoles.clone();
    let strange: String = consoles
        .iter()
        .filter(|(path, _)| path.contains("/strange/"))
        .map(|(_, text)| text.clone())
        .collect();
    assert!(strange.contains("TeleportBuilder"), "{strange}");
    let log = fs::read_to_string(folder.join("logs/go-agent.log")).unwrap();
    assert!(log.contains("TeleportWork"), "{log}");
    processes::terminate(agent.id() as i32);
    wait_for_end(&mut agent);
}

#[test]
fn reports_that_a_gocd_server_refuses_fail_the_job_as_gocds_agent_does() {
    let scene = Scene::new("refused");
    let server = FakeServer::start();
    let folder = scene.folder("agent");
    server
        .told()
        .refuse
        .insert("/report_current_status".to_owned(), [500].into());
    server.give_work(build_work("refused", 1, &json!([shell("echo line 1")])));
    let mut agent = run_agent(&scene, &folder, &server.url);
    wait_until("the job has been reported", || !server.results().is_empty());
    assert_eq!(server.results(), ["Failed"]);
    assert!(
        server.console().contains("status code 500"),
        "{}",
        server.console()
    );
    processes::terminate(agent.id() as i32);
    wait_for_end(&mut agent);
}

/// The agent by itself, without launcher and bootstrapper.
fn run_agent(scene: &Scene, folder: &Path, url: &str) -> std::process::Child {
    scene
        .command(&binary("journeyman-agent"))
        .args(["run", "-serverUrl", url])
        .env(
            "AGENT_STARTUP_ARGS",
            "-Dagent.get.work.delay=50 -Dagent.get.work.interval=200",
        )
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

// --- requests

#[test]
fn artifact_names_do_not_leave_their_job() {
    let scene = Scene::new("traversal");
    let server = Server::start(&scene);
    let chain = Chain::install(&scene, "agent", &server.http_url)
        .with_key("")
        .started();
    server.add_repo(&Repo::with_pipeline(&scene, "any", QUICK));
    let job = Job::new("any", server.api().trigger("any"), "any");
    server.api().wait_for_result(&job);
    let agent = Agent::of(&chain);

    let part = || Part::bytes(b"gotcha".as_slice()).file_name("escaped");
    for path in [
        "..%2f..%2f..%2fescaped",
        "a/..%2f..%2f..%2f..%2fescaped",
        "%2fescaped",
    ] {
        let url = format!(
            "{}/remoting/files/{}/{path}?buildId=1",
            server.http_url, job.locator
        );
        let form = Form::new().part("file", part());
        let status = agent.status(Method::POST, &url, |request| request.multipart(form));
        assert!(status.is_client_error(), "{path}: {status}");
        let url = format!("{}/files/{}/{path}", server.http_url, job.locator);
        let status = agent.status(Method::GET, &url, |request| request);
        assert!(status.is_client_error(), "{path}: {status}");
    }
    let url = format!(
        "{}/remoting/files/{}/?attempt=1&buildId=1",
        server.http_url, job.locator
    );
    let zip = Part::bytes(stored_zip("../../../escaped", b"gotcha")).file_name("evil.zip");
    let form = Form::new().part("zipfile", zip);
    let status = agent.status(Method::POST, &url, |request| request.multipart(form));
    assert!(status.is_client_error(), "an entry with ..: {status}");
    let escaped = find(scene.path(), "escaped");
    assert!(escaped.is_empty(), "{escaped:?}");
}

#[test]
fn a_body_over_the_limit_is_refused() {
    let scene = Scene::new("limit");
    let server = Server::start(&scene);
    let chain = Chain::install(&scene, "agent", &server.http_url)
        .with_key("")
        .started();
    server
        .api()
        .wait_for_agent(&chain.uuid(), "Enabled", "Idle");
    let agent = Agent::of(&chain);
    for (method, path) in [
        (Method::POST, "/remoting/api/agent/ping".to_owned()),
        (Method::PATCH, format!("/api/agents/{}", chain.uuid())),
    ] {
        let url = format!("{}{path}", server.http_url);
        let status = agent.status(method, &url, |request| {
            request
                .header("Content-Type", "application/json")
                .body(vec![b' '; 8 * 1024 * 1024])
        });
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{path}");
    }
    let answer = server.api().request(Method::GET, "/api/version", None);
    assert_eq!(answer.status, StatusCode::OK);
}

/// An agent's identity, to make requests with that it would not make.
struct Agent {
    uuid: String,
    token: String,
    runtime: tokio::runtime::Runtime,
}

impl Agent {
    fn of(chain: &Chain) -> Self {
        Self {
            uuid: chain.uuid(),
            token: fs::read_to_string(chain.folder().join("config/token")).unwrap(),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
        }
    }

    /// The status of a request with this agent's identity; of the admin's, where agents have no
    /// business.
    fn status(
        &self,
        method: Method,
        url: &str,
        with: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> StatusCode {
        let request = reqwest::Client::new()
            .request(method, url)
            .header("Accept", "application/vnd.go.cd+json")
            .header("X-GoCD-Confirm", "true")
            .header("X-Agent-GUID", &self.uuid);
        let request = if url.contains("/go/remoting/") {
            request.header("Authorization", &self.token)
        } else {
            request.basic_auth(FIRST_ADMIN, Some(PASSWORD))
        };
        let answer = self.runtime.block_on(with(request).send());
        answer.expect("an answer").status()
    }
}

/// A zip with one entry of this name, not compressed; libraries refuse to make it.
fn stored_zip(name: &str, content: &[u8]) -> Vec<u8> {
    let mut crc = !0_u32;
    for byte in content {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    let (name_length, length) = (name.len() as u16, content.len() as u32);
    let mut common = Vec::new();
    // Version 2.0, no flags, stored, time, date, checksum, sizes, name, no extra field.
    common.extend([20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0x5c]);
    common.extend((!crc).to_le_bytes());
    common.extend(length.to_le_bytes());
    common.extend(length.to_le_bytes());
    common.extend(name_length.to_le_bytes());
    common.extend([0, 0]);
    let mut zip = b"PK\x03\x04".to_vec();
    zip.extend(&common);
    zip.extend(name.as_bytes());
    zip.extend(content);
    let directory = zip.len() as u32;
    zip.extend(b"PK\x01\x02\x14\x00");
    zip.extend(&common);
    // Comment, disk, attributes, offset of the entry.
    zip.extend([0; 14]);
    zip.extend(name.as_bytes());
    let size = zip.len() as u32 - directory;
    zip.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    zip.extend(size.to_le_bytes());
    zip.extend(directory.to_le_bytes());
    zip.extend([0, 0]);
    zip
}

/// Every file of this name below the folder.
fn find(folder: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            } else if path.file_name().is_some_and(|found| found == name) {
                found.push(path);
            }
        }
    }
    found
}

/// A small file system of its own. Unmounted when dropped.
pub(crate) struct Mount {
    folder: PathBuf,
}

impl Mount {
    /// `None`, with the reason printed, where this may not be done.
    #[expect(clippy::print_stderr, reason = "why a test did nothing")]
    pub(crate) fn tmpfs(folder: PathBuf, options: &str) -> Option<Self> {
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(&folder)
            .output();
        match output {
            Ok(output) if output.status.success() => Some(Self { folder }),
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr);
                eprintln!("skipped, no file system can be mounted here: {why}");
                None
            }
            Err(error) => {
                eprintln!("skipped, no file system can be mounted here: {error}");
                None
            }
        }
    }

    pub(crate) fn remount(&self, options: &str) {
        let status = Command::new("mount")
            .args(["-o", &format!("remount,{options}")])
            .arg(&self.folder)
            .status()
            .unwrap();
        assert!(status.success(), "remount {options}: {status}");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: after a failed test a process may still be in it.
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
    }
}
