//! The launcher's executable and packages that break off, lie, or come from strangers.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use journeyman_packaging::{
    Build, PLATFORM, Packaged, SigningKey, keygen, launcher_file, package, public_path, sign,
};
use journeyman_protocol::release::{
    Answer, Component, ComponentRelease, PackageRef, RELEASE_PATH, Release,
};
use ring::digest::{SHA256, digest};
use tempfile::TempDir;

use crate::request::Request;

const LAUNCHER: &str = env!("CARGO_BIN_EXE_journeyman-launcher");

/// What the server does with one request for a package, other than sending what was asked for.
#[derive(Clone, Copy)]
enum Mischief {
    /// It sends so many bytes and then nothing, until the other side is gone.
    Stall(usize),
    /// It sends more than it announces.
    Excess,
}

#[derive(Default)]
struct Server {
    /// Nothing makes it a GoCD server.
    offered: Option<Release>,
    agent: Vec<u8>,
    mischief: Option<Mischief>,
    /// First byte that was asked for, of each request for a package.
    asked: Vec<Option<usize>>,
}

struct Machine {
    folder: TempDir,
    url: String,
    server: Arc<Mutex<Server>>,
    launcher: PathBuf,
    keys: [SigningKey; 3],
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keys = ["a", "b", "c"].map(|name| keygen(&folder.path().join(name)).unwrap());
        let launcher = launcher_file(b"a launcher", &Build::new(1));
        fs::write(folder.path().join("journeyman-launcher"), launcher).unwrap();
        let server = Arc::<Mutex<Server>>::default();
        Self {
            folder,
            url: serve(Arc::clone(&server)),
            server,
            launcher: PathBuf::from(LAUNCHER),
            keys,
        }
    }

    /// The operator trusts key `a`, and has put a file there that is none.
    fn trusting_a() -> Self {
        let machine = Self::new();
        let extra = machine.path("config/journeyman/release-keys");
        fs::create_dir_all(&extra).unwrap();
        let public = public_path(&machine.path("a"));
        fs::copy(public, extra.join("a.pub")).unwrap();
        fs::write(extra.join("spoilt.pub"), "no key").unwrap();
        machine
    }

    /// The launcher came with keys `a` and `b`.
    fn with_keys_in_launcher() -> Self {
        let mut machine = Self::new();
        let build = Build {
            release_keys: machine.keys[..2]
                .iter()
                .map(|key| key.public().clone())
                .collect(),
            ..Build::new(1)
        };
        let file = launcher_file(&fs::read(LAUNCHER).unwrap(), &build);
        fs::write(machine.path("written"), file).unwrap();
        machine.launcher = machine.path("launcher");
        // In another process: a file that is open for writing here, or in a fork of a test beside
        // this one, could not be started.
        let copied = Command::new("sh")
            .args(["-c", "cp written launcher && chmod +x launcher"])
            .current_dir(machine.folder.path())
            .status();
        assert!(copied.unwrap().success());
        machine
    }

    /// Offers this package of an agent, signed by these keys.
    fn offer(&self, (manifest, bytes): Packaged, by: &[usize]) {
        let sha256 = digest(&SHA256, &bytes);
        let sha256: String = sha256.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        let agent = ComponentRelease {
            manifest,
            package: PackageRef {
                url: "/packages/agent".to_owned(),
                size: bytes.len() as u64,
                signatures: by.iter().map(|&key| self.keys[key].sign(&sha256)).collect(),
                sha256,
            },
        };
        let own = fs::read(self.path("journeyman-launcher")).unwrap();
        let launcher = ComponentRelease {
            manifest: package(Component::Launcher, &own, &Build::new(1)).0,
            package: PackageRef {
                url: "/packages/launcher".to_owned(),
                size: 1,
                sha256: "0".repeat(64),
                signatures: Vec::new(),
            },
        };
        let mut server = self.server.lock().unwrap();
        server.agent = bytes;
        server.offered = Some(Release {
            launcher,
            agent,
            bootstrapper: None,
            downgrade: false,
        });
    }

    fn alter_offer(&self, alter: impl FnOnce(&mut ComponentRelease)) {
        let mut server = self.server.lock().unwrap();
        alter(&mut server.offered.as_mut().unwrap().agent);
    }

    fn mischief(&self, mischief: Mischief) {
        self.server.lock().unwrap().mischief = Some(mischief);
    }

    fn asked(&self) -> Vec<Option<usize>> {
        self.server.lock().unwrap().asked.clone()
    }

    fn start(&self) -> Running {
        let child = Command::new(&self.launcher)
            .args(["run", "--lifeline", "--server-url", &self.url])
            .current_dir(self.folder.path())
            .env_remove("AGENT_BOOTSTRAPPER_ARGS")
            .env("AGENT_STARTUP_ARGS", "-Dsleep.for.download=100")
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        Running(child.unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("logs/go-agent-launcher.log")).unwrap_or_default()
    }

    fn wait(&self, what: &str, fits: impl Fn() -> bool) {
        let start = Instant::now();
        while !fits() {
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "{what}: {}",
                self.log()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until this agent runs.
    fn wait_for_agent(&self, name: &str) {
        let runs = self.path("runs");
        self.wait(name, || {
            fs::read_to_string(&runs).is_ok_and(|runs| runs.lines().last() == Some(name))
        });
    }

    fn wait_for_log(&self, words: &[&str]) {
        self.wait(words[0], || {
            let log = self.log();
            log.lines()
                .any(|line| words.iter().all(|word| line.contains(word)))
        });
    }

    fn id(&self, key: usize) -> &str {
        self.keys[key].public().id()
    }
}

/// A launcher, ended with its agent at the end of a test, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// An agent that takes over and says in `runs` that it runs.
fn script(name: &str) -> String {
    format!(
        "#!/bin/sh\n\
         if [ \"$1\" = take-over ]; then\n\
           ln -sfn \"releases/$2\" current.new && mv -T current.new current && exit\n\
         fi\n\
         echo {name} >> runs\n\
         cat > /dev/null\n"
    )
}

fn agent(name: &str, build: u64) -> Packaged {
    package(
        Component::Agent,
        script(name).as_bytes(),
        &Build::new(build),
    )
}

fn serve(server: Arc<Mutex<Server>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/go", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let server = Arc::clone(&server);
            thread::spawn(move || answer(stream, &server));
        }
    });
    url
}

fn answer(mut stream: TcpStream, server: &Mutex<Server>) {
    let request = Request::read(&stream);
    let path = &request.path;
    let from = request.header("range").map(|range| {
        let from = range.strip_prefix("bytes=").unwrap().strip_suffix('-');
        from.unwrap().parse().unwrap()
    });
    if path.is_empty() {
        // A launcher that ended while it asked.
        return;
    }
    let respond = |stream: &mut TcpStream, status: &str, more: &str, announced, body: &[u8]| {
        let head = format!(
            "HTTP/1.1 {status}\r\n{more}Content-Length: {announced}\r\nConnection: close\r\n\r\n"
        );
        // Who was killed reads no answer.
        let _ = stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(body));
    };
    let mut server = server.lock().unwrap();
    let Some(release) = &server.offered else {
        return respond(&mut stream, "404 Not Found", "", 4, b"page");
    };
    if path.starts_with(&format!("/go{RELEASE_PATH}")) {
        let answer = Answer {
            release: Some(release.clone()),
        };
        let document = serde_json::to_vec(&answer).unwrap();
        let ours = "Journeyman-Server: test\r\n";
        return respond(&mut stream, "200 OK", ours, document.len(), &document);
    }
    server.asked.push(from);
    let (agent, mischief) = (server.agent.clone(), server.mischief.take());
    drop(server);
    let size = agent.len();
    match (mischief, from) {
        (Some(Mischief::Stall(bytes)), _) => {
            respond(&mut stream, "200 OK", "", size, &agent[..bytes]);
            let _ = stream.read(&mut [0]);
        }
        (Some(Mischief::Excess), _) => {
            let more = [agent.as_slice(), &[0; 100]].concat();
            respond(&mut stream, "200 OK", "", more.len(), &more);
        }
        (None, None) => respond(&mut stream, "200 OK", "", size, &agent),
        (None, Some(from)) => {
            let range = format!("Content-Range: bytes {from}-{}/{size}\r\n", size - 1);
            respond(
                &mut stream,
                "206 Partial",
                &range,
                size - from,
                &agent[from..],
            );
        }
    }
}

#[test]
fn a_launcher_that_was_killed_leaves_a_download_that_the_next_goes_on_with() {
    let machine = Machine::new();
    machine.offer(agent("first", 1), &[]);
    machine.mischief(Mischief::Stall(100));
    let mut running = machine.start();
    let name = {
        let server = machine.server.lock().unwrap();
        let offered = server.offered.as_ref().unwrap();
        format!("data/download-{}.part", offered.agent.package.sha256)
    };
    let part = machine.path(&name);
    machine.wait("a part", || {
        fs::metadata(&part).is_ok_and(|part| part.len() == 100)
    });
    running.0.kill().unwrap();
    running.0.wait().unwrap();

    let _running = machine.start();
    machine.wait_for_agent("first");
    assert_eq!(machine.asked(), [None, Some(100)]);
    machine.wait_for_log(&["trusts no release key"]);
    assert!(!part.exists());
}

#[test]
fn too_much_is_refused_however_it_is_announced() {
    let machine = Machine::new();
    machine.offer(agent("first", 1), &[]);
    machine.alter_offer(|agent| agent.package.size = 2 * 1024 * 1024 * 1024);
    let _running = machine.start();
    machine.wait_for_log(&["agent 0.1.0 (build 1)", "no package may have more"]);
    assert_eq!(machine.asked(), []);
    machine.mischief(Mischief::Excess);
    machine.offer(agent("first", 1), &[]);
    machine.wait_for_agent("first");
    machine.wait_for_log(&["more than", "refused", "data/refused/agent.0"]);
    assert_eq!(machine.asked(), [None, None]);
}

#[test]
fn a_trusted_signature_is_needed_and_one_is_enough() {
    let machine = Machine::trusting_a();
    machine.offer(agent("first", 1), &[2]);
    let running = machine.start();
    machine.wait_for_log(&[machine.id(2), machine.id(0), "takes only what is signed by"]);
    machine.wait_for_log(&["spoilt.pub", "the others count"]);
    machine.offer(agent("first", 1), &[]);
    machine.wait_for_log(&["is not signed"]);
    assert_eq!(
        machine.asked(),
        [],
        "a stranger's package is not downloaded"
    );
    machine.offer(agent("first", 1), &[2, 0]);
    machine.wait_for_agent("first");
    machine.wait_for_log(&[machine.id(2), "another one is good"]);
    drop(running);

    // The signature of another package.
    machine.offer(agent("second", 2), &[0]);
    let mut signatures = Vec::new();
    machine.alter_offer(|agent| signatures.clone_from(&agent.package.signatures));
    machine.offer(agent("third", 3), &[]);
    machine.alter_offer(|agent| agent.package.signatures = signatures);
    let _running = machine.start();
    machine.wait_for_log(&[machine.id(0), "is wrong", "build 3"]);
    machine.wait_for_agent("first");
    assert_eq!(machine.asked(), [None]);
}

#[test]
fn a_key_that_a_release_retires_is_refused_from_then_on() {
    let machine = Machine::with_keys_in_launcher();
    let retiring = Build {
        retired_keys: vec![machine.id(0).to_owned()],
        ..Build::new(1)
    };
    let first = package(Component::Agent, script("first").as_bytes(), &retiring);
    machine.offer(first, &[0, 1]);
    let running = machine.start();
    machine.wait_for_agent("first");
    drop(running);
    let retired = fs::read_to_string(machine.path("config/journeyman/release-keys.json"));
    assert!(retired.unwrap().contains(machine.id(0)));

    machine.offer(agent("second", 2), &[0]);
    let running = machine.start();
    machine.wait_for_log(&["build 2", machine.id(0), "has retired", machine.id(1)]);
    machine.wait_for_agent("first");
    drop(running);

    machine.offer(agent("second", 2), &[0, 1]);
    let _running = machine.start();
    machine.wait_for_agent("second");
}

#[test]
fn what_was_made_for_another_platform_is_not_downloaded() {
    let machine = Machine::new();
    let elsewhere = Build {
        platform: "plan9-mips".to_owned(),
        ..Build::new(1)
    };
    machine.offer(package(Component::Agent, b"", &elsewhere), &[]);
    let _running = machine.start();
    machine.wait_for_log(&["plan9-mips", PLATFORM]);
    assert_eq!(machine.asked(), []);
}

#[test]
fn a_package_that_leaves_its_folder_is_refused_and_kept_to_be_looked_at() {
    let machine = Machine::new();
    let (manifest, _) = agent("first", 1);
    let document = serde_json::to_vec(&manifest).unwrap();
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in [
        ("manifest.json", document.as_slice()),
        ("../../escaped", b"x"),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        // Other ways to write the name refuse this one.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        archive.append(&header, content).unwrap();
    }
    let bytes = zstd::encode_all(archive.into_inner().unwrap().as_slice(), 1).unwrap();
    machine.offer((manifest, bytes), &[]);
    let _running = machine.start();
    machine.wait_for_log(&["../../escaped", "is not in its manifest"]);
    machine.wait("the package", || {
        machine.path("data/refused/agent.0").exists()
    });
    assert!(!machine.path("escaped").exists());
    assert!(!machine.path("current").exists());
}

#[test]
fn the_package_that_an_operator_puts_into_the_folder_needs_a_signature_too() {
    let machine = Machine::trusting_a();
    let name = format!("agent-{PLATFORM}.tar.zst");
    let package = machine.path(&name);
    fs::write(&package, agent("first", 1).1).unwrap();
    let _running = machine.start();
    machine.wait_for_log(&["is not signed"]);
    sign(&machine.keys[2], &package).unwrap();
    machine.wait_for_log(&[machine.id(2), "takes only what is signed by"]);
    assert!(!Path::new(&machine.path("current")).exists());
    sign(&machine.keys[0], &package).unwrap();
    machine.wait_for_agent("first");
}
