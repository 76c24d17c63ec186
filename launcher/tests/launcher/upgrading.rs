//! Upgrades by the launcher's real executable: agents that are shell scripts, and a server that says
//! what should run and keeps what it was told.

use std::{
    collections::HashMap,
    fs,
    io::Write,
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use journeyman_packaging::{Build, PLATFORM, launcher_file, package};
use journeyman_protocol::release::{
    Answer, Component, ComponentRelease, MachineReport, PackageRef, Release, UpgradeState,
};
use ring::digest::{SHA256, digest};
use tempfile::TempDir;

use crate::request::Request;

const LAUNCHER: &str = env!("CARGO_BIN_EXE_journeyman-launcher");
/// Short, so that nobody waits: time between questions, length of the probation, and silence.
const TIMINGS: &str = "-Djourneyman.release.poll=100 -Djourneyman.probation=500 \
                       -Djourneyman.probation.silence=1500";

/// An agent that says what it is in the file `runs`, and then does this.
fn agent(name: &str, life: &str) -> String {
    format!(
        "#!/bin/sh\n\
         if [ \"$1\" = take-over ]; then\n\
           mkdir -p state/$2; ln -sfn releases/$2 current.new && mv -T current.new current && exit\n\
         fi\n\
         echo {name} >> runs\n\
         {life}\n"
    )
}

/// Says that all is well, until it is told to leave.
const WELL: &str = "exec 3>&0\n\
                    while :; do printf 'started\\npinged\\nasked\\n' >&3; sleep 0.05; done &\n\
                    cat > /dev/null; kill $!";

/// A server that offers one release and serves its packages.
#[derive(Clone)]
struct Server {
    url: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    answer: Answer,
    packages: HashMap<String, Vec<u8>>,
    reports: Vec<MachineReport>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/go", listener.local_addr().unwrap());
        let server = Self {
            url,
            state: Arc::default(),
        };
        let state = server.state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = state.clone();
                thread::spawn(move || answer(&stream, &state));
            }
        });
        server
    }

    /// Offers this agent, built as number `build`, beside the launcher that is installed.
    fn offer(&self, script: &str, build: u64, downgrade: bool) {
        let mut state = self.state.lock().unwrap();
        let mut publish = |component, content: &[u8], build: &Build| {
            let (manifest, bytes) = package(component, content, build);
            let sha256 = hex(digest(&SHA256, &bytes).as_ref());
            let package = PackageRef {
                url: format!("/packages/{sha256}"),
                size: bytes.len() as u64,
                sha256: sha256.clone(),
                signatures: Vec::new(),
            };
            state.packages.insert(sha256, bytes);
            ComponentRelease { manifest, package }
        };
        let launcher = publish(Component::Launcher, &own_launcher(), &Build::new(1));
        let agent = publish(Component::Agent, script.as_bytes(), &Build::new(build));
        state.answer.release = Some(Release {
            launcher,
            agent,
            bootstrapper: None,
            downgrade,
        });
    }

    /// Waits until a report fits.
    fn wait_for_report(&self, what: &str, fits: impl Fn(&MachineReport) -> bool) -> MachineReport {
        let start = Instant::now();
        loop {
            let state = self.state.lock().unwrap();
            if let Some(report) = state.reports.iter().find(|report| fits(report)) {
                return report.clone();
            }
            let last = state.reports.last().cloned();
            drop(state);
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "no report of {what}; the last one: {last:#?}"
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn wait_for_state(&self, build: u64, wanted: UpgradeState) -> MachineReport {
        self.wait_for_report(wanted.as_str(), |report| {
            report
                .upgrade
                .as_ref()
                .is_some_and(|upgrade| upgrade.to.build == build && upgrade.state == wanted)
        })
    }
}

fn answer(mut stream: &TcpStream, state: &Mutex<State>) {
    let Request { path, body, .. } = Request::read(stream);
    let content = {
        let mut state = state.lock().unwrap();
        if let Some(sha256) = path.strip_prefix("/go/packages/") {
            state.packages[sha256].clone()
        } else {
            // One that was cut off comes from a launcher that was killed.
            let Ok(report) = serde_json::from_slice(&body) else {
                return;
            };
            state.reports.push(report);
            serde_json::to_vec(&state.answer).unwrap()
        }
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\nJourneyman-Server: test\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        content.len()
    );
    let _ = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(&content));
}

fn own_launcher() -> Vec<u8> {
    launcher_file(&fs::read(LAUNCHER).unwrap(), &Build::new(1))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Machine {
    folder: TempDir,
    server: Server,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("journeyman-launcher"), own_launcher()).unwrap();
        Self {
            folder,
            server: Server::start(),
        }
    }

    /// A machine on which the agent `old` of build 1 runs.
    fn with_old() -> (Self, Child) {
        let machine = Self::new();
        machine.server.offer(&agent("old", WELL), 1, false);
        let child = machine.start();
        machine.server.wait_for_state(1, UpgradeState::Done);
        (machine, child)
    }

    fn start(&self) -> Child {
        Command::new(LAUNCHER)
            .args(["run", "--lifeline", "--bootstrapper-version", "0.1.0"])
            .args(["-serverUrl", &self.server.url])
            .current_dir(self.folder.path())
            .env("AGENT_STARTUP_ARGS", TIMINGS)
            .env_remove("AGENT_BOOTSTRAPPER_ARGS")
            .stdin(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("logs/go-agent-launcher.log")).unwrap()
    }

    /// The agents that were started, in order.
    fn runs(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("runs")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn installed(&self) -> usize {
        let entries = fs::read_dir(self.path("releases")).unwrap().flatten();
        entries.filter(|entry| entry.path().is_dir()).count()
    }
}

/// Closes the lifeline and waits.
fn end(mut child: Child) {
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn a_newer_agent_takes_over_while_the_old_one_runs_and_is_done_after_its_probation() {
    let (machine, child) = Machine::with_old();
    machine.server.offer(&agent("new", WELL), 2, false);
    let report = machine.server.wait_for_state(2, UpgradeState::Done);
    assert_eq!(machine.runs(), ["old", "new"]);
    assert_eq!(report.agent.unwrap().build, 2);
    assert_eq!(report.previous.unwrap().build, 1);
    for state in [UpgradeState::Downloading, UpgradeState::Probation] {
        machine.server.wait_for_state(2, state);
    }
    machine.server.offer(&agent("newest", WELL), 3, false);
    let report = machine.server.wait_for_state(3, UpgradeState::Done);
    assert_eq!(report.previous.unwrap().build, 2);
    assert_eq!(machine.installed(), 2, "the current and the one before");
    end(child);
}

#[test]
fn a_new_agent_that_crashes_is_gone_back_from_and_not_tried_again() {
    let (machine, child) = Machine::with_old();
    machine.server.offer(&agent("bad", "exit 9"), 2, false);
    let report = machine.server.wait_for_state(2, UpgradeState::RolledBack);
    assert_eq!(report.agent.unwrap().build, 1);
    let reason = report.upgrade.unwrap().reason.unwrap();
    assert!(reason.contains("exit status: 9"), "{reason}");
    assert_eq!(report.bad[0].build.build, 2);
    // The same offer stands; a launcher that is started anew leaves it alone too.
    end(child);
    let child = machine.start();
    machine.server.offer(&agent("newest", WELL), 3, false);
    machine.server.wait_for_state(3, UpgradeState::Done);
    assert_eq!(machine.runs(), ["old", "bad", "old", "old", "newest"]);
    end(child);
}

#[test]
fn a_new_agent_that_reaches_nobody_is_gone_back_from() {
    let (machine, child) = Machine::with_old();
    let mute = "printf 'started\\naway\\n' >&0; cat > /dev/null";
    machine.server.offer(&agent("mute", mute), 2, false);
    let report = machine.server.wait_for_state(2, UpgradeState::RolledBack);
    let reason = report.upgrade.unwrap().reason.unwrap();
    assert!(reason.contains("although the server answers"), "{reason}");
    assert_eq!(machine.runs().last().unwrap(), "old");
    end(child);
}

#[test]
fn a_new_agent_that_refuses_to_take_over_never_runs() {
    let (machine, child) = Machine::with_old();
    let refusing = "#!/bin/sh\necho this processor lacks something >&2\nexit 1\n";
    machine.server.offer(refusing, 2, false);
    let report = machine.server.wait_for_state(2, UpgradeState::Failed);
    let reason = report.upgrade.unwrap().reason.unwrap();
    assert!(reason.contains("lacks something"), "{reason}");
    assert_eq!(report.bad[0].build.build, 2);
    assert_eq!(machine.runs(), ["old"]);
    end(child);
}

#[test]
fn one_that_cannot_take_over_now_is_asked_again_later() {
    let (machine, child) = Machine::with_old();
    let later = agent("new", WELL).replace(
        "ln -sfn",
        "[ -e room ] || { echo the disk is full >&2; > room; exit 75; }\nln -sfn",
    );
    machine.server.offer(&later, 2, false);
    let report = machine.server.wait_for_state(2, UpgradeState::Failed);
    assert_eq!(report.bad, []);
    machine.server.wait_for_state(2, UpgradeState::Done);
    assert_eq!(machine.runs(), ["old", "new"]);
    end(child);
}

#[test]
fn an_older_build_comes_only_on_the_administrators_word() {
    let machine = Machine::new();
    machine.server.offer(&agent("newer", WELL), 5, false);
    let child = machine.start();
    machine.server.wait_for_state(5, UpgradeState::Done);
    machine.server.offer(&agent("older", WELL), 4, false);
    // It asks again and again, and is answered with the older one.
    let asked = || machine.server.state.lock().unwrap().reports.len();
    let before = asked();
    while asked() < before + 3 {
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(machine.runs(), ["newer"]);
    machine.server.offer(&agent("older", WELL), 4, true);
    machine.server.wait_for_state(4, UpgradeState::Done);
    assert_eq!(machine.runs(), ["newer", "older"]);
    end(child);
}

#[test]
fn a_withdrawn_release_does_not_give_way_to_an_older_package_in_the_folder() {
    let machine = Machine::new();
    machine.server.offer(&agent("newer", WELL), 5, false);
    let child = machine.start();
    machine.server.wait_for_state(5, UpgradeState::Done);
    let older = agent("older", WELL);
    let (_, bytes) = package(Component::Agent, older.as_bytes(), &Build::new(4));
    fs::write(machine.path(&format!("agent-{PLATFORM}.tar.zst")), bytes).unwrap();
    machine.server.state.lock().unwrap().answer.release = None;
    let asked = || machine.server.state.lock().unwrap().reports.len();
    let before = asked();
    while asked() < before + 3 {
        thread::sleep(Duration::from_millis(10));
    }
    let tried = machine.log().contains("current=0.1.0 (build 5)");
    assert!(!tried, "{}", machine.log());
    end(child);
}

#[test]
fn the_next_launcher_goes_on_with_the_probation_of_one_that_was_killed() {
    let (machine, mut child) = Machine::with_old();
    machine.server.offer(&agent("new", WELL), 2, false);
    machine.server.wait_for_state(2, UpgradeState::Probation);
    child.kill().unwrap();
    child.wait().unwrap();
    let child = machine.start();
    machine.server.wait_for_state(2, UpgradeState::Done);
    assert_eq!(machine.runs(), ["old", "new", "new"]);
    end(child);
}

#[test]
fn a_lost_link_costs_nothing_though_no_server_helps() {
    let (machine, child) = Machine::with_old();
    end(child);
    fs::remove_file(machine.path("current")).unwrap();
    machine.server.state.lock().unwrap().answer.release = None;
    let runs = machine.runs().len();
    let child = machine.start();
    while machine.runs().len() == runs {
        thread::sleep(Duration::from_millis(10));
    }
    end(child);
}

#[test]
fn a_damaged_agent_is_replaced() {
    let (machine, child) = Machine::with_old();
    end(child);
    let folder = fs::canonicalize(machine.path("current")).unwrap();
    fs::write(folder.join("journeyman-agent"), "#!/bin/sh\nexit 3\n").unwrap();
    let runs = machine.runs().len();
    let child = machine.start();
    while machine.runs().len() == runs {
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(machine.runs().last().unwrap(), "old");
    end(child);
}
