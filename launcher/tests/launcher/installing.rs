//! The launcher's executable against a real release server that can be told to misbehave.

use std::{
    fs,
    io::Write,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use journeyman_packaging::{Build, Packaged, launcher_file, package};
use journeyman_protocol::release::{
    Answer, Component, ComponentRelease, PackageRef, RELEASE_PATH, Release,
};
use ring::digest::{SHA256, digest};
use tempfile::TempDir;

use crate::request::Request;

const LAUNCHER: &str = env!("CARGO_BIN_EXE_journeyman-launcher");
const AGENT: &str = "#!/bin/sh
if [ $1 = take-over ]; then ln -sfn releases/$2 current && exit; fi
echo started > started
cat > /dev/null
";

type Alter = fn(Vec<u8>) -> Vec<u8>;

/// What the server does to the bytes of the next packages it sends; afterwards nothing.
type Mischief = Arc<Mutex<Vec<Alter>>>;

struct Machine {
    folder: TempDir,
    url: String,
    mischief: Mischief,
}

impl Machine {
    /// A working directory with the launcher the server offers, and the server.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let build = Build::new(1);
        let launcher = launcher_file(&fs::read(LAUNCHER).unwrap(), &build);
        fs::write(folder.path().join("journeyman-launcher"), &launcher).unwrap();
        let packages = [
            package(Component::Launcher, &launcher, &build),
            package(Component::Agent, AGENT.as_bytes(), &build),
        ];
        let mischief = Mischief::default();
        let url = serve(packages, Arc::clone(&mischief));
        Self {
            folder,
            url,
            mischief,
        }
    }

    fn start(&self) -> Child {
        Command::new(LAUNCHER)
            .args(["run", "--lifeline", "--server-url", &self.url])
            .current_dir(self.folder.path())
            .env_remove("AGENT_BOOTSTRAPPER_ARGS")
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("logs/go-agent-launcher.log")).unwrap_or_default()
    }

    fn wait_for(&self, name: &str) {
        let start = Instant::now();
        while !self.path(name).exists() {
            assert!(start.elapsed() < Duration::from_secs(60), "{}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn a_java_agent_can_come_after_it_and_is_not_run_beside() {
    let machine = Machine::new();
    // As a Java agent leaves it when it is killed.
    let lock = machine.path(".agent-bootstrapper.running");
    fs::write(&lock, "").unwrap();
    let is_young = || {
        let modified = fs::metadata(&lock).unwrap().modified().unwrap();
        modified.elapsed().unwrap() < Duration::from_secs(600)
    };
    let child = machine.start();
    machine.wait_for("started");
    assert!(is_young(), "a Java agent must stay away now");
    end(child);
    assert!(!is_young(), "a Java agent need not stay away any more");

    let mut java = Command::new("sh")
        .args(["-c", "read line", "-jar", "agent-bootstrapper.jar"])
        .current_dir(machine.folder.path())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let refused = machine.start().wait_with_output().unwrap();
    assert_eq!(refused.status.code(), Some(73));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("a Java agent runs in"), "{said}");
    assert!(said.contains(&format!("process {}", java.id())), "{said}");
    drop(java.stdin.take());
    java.wait().unwrap();
}

/// Closes the lifeline and waits.
fn end(mut child: Child) {
    drop(child.stdin.take());
    child.wait().unwrap();
}

fn reference(name: &str, (manifest, bytes): &Packaged) -> ComponentRelease {
    let sha256 = digest(&SHA256, bytes);
    ComponentRelease {
        manifest: manifest.clone(),
        package: PackageRef {
            url: format!("/packages/{name}"),
            size: bytes.len() as u64,
            sha256: sha256.as_ref().iter().map(|b| format!("{b:02x}")).collect(),
            signatures: Vec::new(),
        },
    }
}

fn serve([launcher, agent]: [Packaged; 2], mischief: Mischief) -> String {
    let release = Release {
        launcher: reference("launcher", &launcher),
        agent: reference("agent", &agent),
        bootstrapper: None,
        downgrade: false,
    };
    let release = Answer {
        release: Some(release),
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/go", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let path = Request::read(&stream).path;
            let (announced, body) = if path.starts_with(&format!("/go{RELEASE_PATH}")) {
                let document = serde_json::to_vec(&release).unwrap();
                (document.len(), document)
            } else {
                let package = match path.as_str() {
                    "/go/packages/launcher" => launcher.1.clone(),
                    _ => agent.1.clone(),
                };
                let alter = mischief.lock().unwrap().pop().unwrap_or(|bytes| bytes);
                (package.len(), alter(package))
            };
            let head = format!(
                "HTTP/1.1 200 OK\r\nJourneyman-Server: test\r\nContent-Length: {announced}\r\n\
                 Connection: close\r\n\r\n"
            );
            let mut stream = stream;
            let _ = stream
                .write_all(head.as_bytes())
                .and_then(|()| stream.write_all(&body));
        }
    });
    url
}

#[test]
fn an_agent_is_downloaded_once_and_started() {
    let machine = Machine::new();
    let child = machine.start();
    machine.wait_for("started");
    end(child);
    let current = fs::read_link(machine.path("current")).unwrap();
    let current = current.to_str().unwrap();
    assert!(current.starts_with("releases/0.1.0-"), "{current}");
    let agent = machine.path("current/journeyman-agent");
    assert_eq!(fs::read_to_string(&agent).unwrap(), AGENT);
    assert_eq!(
        fs::metadata(agent).unwrap().permissions().mode() & 0o777,
        0o755
    );

    fs::remove_file(machine.path("started")).unwrap();
    let child = machine.start();
    machine.wait_for("started");
    end(child);
    assert_eq!(machine.log().matches("downloaded and verified").count(), 1);
}

#[test]
fn damaged_downloads_are_refused_and_tried_again() {
    let machine = Machine::new();
    let altered: Alter = |mut bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bytes
    };
    let truncated: Alter = |mut bytes| {
        bytes.truncate(bytes.len() / 2);
        bytes
    };
    machine
        .mischief
        .lock()
        .unwrap()
        .extend([altered, truncated]);
    let child = machine.start();
    machine.wait_for("started");
    end(child);
    let log = machine.log();
    assert!(log.contains("is not what the server announced"), "{log}");
    assert!(log.contains("stopped after"), "{log}");
    assert!(machine.path("data/refused/agent.0").exists());
    let installed = fs::read_dir(machine.path("releases")).unwrap().flatten();
    assert_eq!(installed.filter(|entry| entry.path().is_dir()).count(), 1);
}

#[test]
fn another_launcher_is_replaced_and_says_so_to_the_bootstrapper() {
    let machine = Machine::new();
    fs::write(machine.path("journeyman-launcher"), "an older launcher").unwrap();
    let mut child = machine.start();
    // Waiting for a child closes its standard input.
    let _lifeline = child.stdin.take();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(60), "{}", machine.log());
    let own = fs::read(machine.path("journeyman-launcher")).unwrap();
    assert!(own.ends_with(b"JMLNCHR1"));
    let mode = fs::metadata(machine.path("journeyman-launcher")).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o755);
    assert!(!machine.path("started").exists());
}

#[test]
fn a_gocd_server_offers_none_so_the_package_in_the_folder_is_installed() {
    let mut machine = Machine::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    machine.url = format!("http://{}/go", listener.local_addr().unwrap());
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            Request::read(&stream);
            let page = "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\npage";
            let _ = stream.write_all(page.as_bytes());
        }
    });
    let (_, bytes) = package(Component::Agent, AGENT.as_bytes(), &Build::new(1));
    fs::write(machine.path("agent-linux-x86_64.tar.zst"), bytes).unwrap();
    let child = machine.start();
    machine.wait_for("started");
    end(child);
    assert!(machine.log().contains("a GoCD server"), "{}", machine.log());
}

#[test]
fn a_dead_server_does_not_keep_an_installed_agent_waiting() {
    let mut machine = Machine::new();
    let child = machine.start();
    machine.wait_for("started");
    end(child);
    fs::remove_file(machine.path("started")).unwrap();
    machine.url = "http://127.0.0.1:9/go".to_owned();
    let child = machine.start();
    machine.wait_for("started");
    end(child);
    assert!(
        machine
            .log()
            .contains("going on with the agent that is installed")
    );
}

#[test]
fn a_second_launcher_in_the_folder_gives_up_and_names_the_first() {
    let machine = Machine::new();
    let first = machine.start();
    machine.wait_for("started");
    let second = machine.start().wait_with_output().unwrap();
    assert_eq!(second.status.code(), Some(73));
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains(&first.id().to_string()), "{said}");
    end(first);
}

#[test]
fn bad_arguments_are_hopeless_and_named_all_at_once() {
    let machine = Machine::new();
    let run = |words: &[&str]| {
        let output = Command::new(LAUNCHER)
            .arg("run")
            .args(words)
            .current_dir(machine.folder.path())
            .env_remove("AGENT_BOOTSTRAPPER_ARGS")
            .env_remove("GO_SERVER_URL")
            .env_remove("GO_EA_SERVER_URL")
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), said)
    };
    let (code, said) = run(&[
        "-serverUrl",
        "http://ci.example.com:8153/go",
        "-rootCertFile",
        "no",
    ]);
    assert_eq!(code, Some(64));
    assert!(
        said.contains("--allow-plain-http") && said.contains("--root-cert-file"),
        "{said}"
    );
    let (code, said) = run(&["--colour"]);
    assert_eq!(code, Some(64));
    assert!(said.contains("--colour"), "{said}");
    assert_eq!(run(&[]).0, Some(64));
    assert_eq!(run(&["--help"]).0, Some(80));
    assert!(!Path::new(&machine.path("logs")).exists());
}
