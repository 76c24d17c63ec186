//! Every process of the system is killed with `kill -9`, at idle and at five points of a job.
//!
//! Afterwards the fleet is healthy, the job has exactly one final state, its console has every
//! line exactly once and in order, nothing ran twice and no process is left.

use std::{
    fs,
    path::{Path, PathBuf},
};

use journeyman_tests::{
    chain::Chain,
    console::{assert_counts_to, assert_counts_to_at_least, counted, texts},
    gate::{Gate, Hold, Seen, Where},
    patience::wait_until,
    processes::Role,
    repo::Repo,
    scene::Scene,
    server::Server,
};

use journeyman_tests::api::Job;

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Member(Role),
    Server,
}

/// When.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// No job runs.
    Idle,
    /// Materials are checked out, no task has started.
    Preparing,
    /// The first task writes line after line.
    FirstTask,
    /// The first task has ended, the second has just begun.
    BetweenTasks,
    /// About half of an artifact is on the server.
    Uploading,
    /// An artifact is on the server, and the runner is not told.
    Uploaded,
    /// The result is on its way.
    Completing,
}

const BOOTSTRAPPER: Victim = Victim::Member(Role::Bootstrapper);
const LAUNCHER: Victim = Victim::Member(Role::Launcher);
const AGENT: Victim = Victim::Member(Role::Agent);
const RUNNER: Victim = Victim::Member(Role::Runner);
const SERVER: Victim = Victim::Server;

macro_rules! kills {
    ($($name:ident: $victim:ident, $moment:ident;)*) => {
        $(#[test]
        fn $name() {
            kill($victim, Moment::$moment);
        })*
    };
}

kills! {
    bootstrapper_killed_at_idle: BOOTSTRAPPER, Idle;
    bootstrapper_killed_while_preparing: BOOTSTRAPPER, Preparing;
    bootstrapper_killed_in_the_first_task: BOOTSTRAPPER, FirstTask;
    bootstrapper_killed_between_tasks: BOOTSTRAPPER, BetweenTasks;
    bootstrapper_killed_while_uploading: BOOTSTRAPPER, Uploading;
    bootstrapper_killed_at_completing: BOOTSTRAPPER, Completing;

    launcher_killed_at_idle: LAUNCHER, Idle;
    launcher_killed_while_preparing: LAUNCHER, Preparing;
    launcher_killed_in_the_first_task: LAUNCHER, FirstTask;
    launcher_killed_between_tasks: LAUNCHER, BetweenTasks;
    launcher_killed_while_uploading: LAUNCHER, Uploading;
    launcher_killed_at_completing: LAUNCHER, Completing;

    agent_killed_at_idle: AGENT, Idle;
    agent_killed_while_preparing: AGENT, Preparing;
    agent_killed_in_the_first_task: AGENT, FirstTask;
    agent_killed_between_tasks: AGENT, BetweenTasks;
    agent_killed_while_uploading: AGENT, Uploading;
    agent_killed_at_completing: AGENT, Completing;

    // There is no runner at idle.
    runner_killed_while_preparing: RUNNER, Preparing;
    runner_killed_in_the_first_task: RUNNER, FirstTask;
    runner_killed_between_tasks: RUNNER, BetweenTasks;
    runner_killed_while_uploading: RUNNER, Uploading;
    runner_killed_at_completing: RUNNER, Completing;

    server_killed_at_idle: SERVER, Idle;
    server_killed_while_preparing: SERVER, Preparing;
    server_killed_in_the_first_task: SERVER, FirstTask;
    server_killed_between_tasks: SERVER, BetweenTasks;
    server_killed_while_uploading: SERVER, Uploading;
    server_killed_after_an_upload: SERVER, Uploaded;
    server_killed_at_completing: SERVER, Completing;
}

/// What the first task counts to, and what the second one goes on to.
const FIRST: u64 = 300;
const LAST: u64 = 400;

fn kill(victim: Victim, moment: Moment) {
    let scene = Scene::new("kill");
    let mut server = Server::start(&scene);
    // A gate is where a moment between two calls can be held. The others use the server as it is,
    // with the client certificate an agent gets.
    let gate = matches!(
        moment,
        Moment::Preparing | Moment::Uploading | Moment::Uploaded | Moment::Completing
    )
    .then(|| Gate::before(&server.http_url));
    let url = gate
        .as_ref()
        .map_or(&server.http_url, |gate| &gate.url)
        .clone();
    let mut chain = Chain::install(&scene, "agent", &url)
        .with_key("linux")
        .started();
    let files = scene.folder("files");
    let repo = Repo::with_pipeline(&scene, "count", &job(&files, moment));
    server.add_repo(&repo);
    let uuid = chain.uuid();
    server.api().wait_for_agent(&uuid, "Enabled", "Idle");

    if moment == Moment::Idle {
        strike(victim, &mut server, &mut chain);
        recover(victim, &mut server, &mut chain);
        assert_healthy(&server, &chain, &uuid);
        return;
    }

    let hold = gate.as_ref().and_then(|gate| hold(gate, victim, moment));
    let job = Job::new("count", server.api().trigger("count"), "count");
    wait_for_moment(&server, &job, moment, hold.as_ref());
    strike(victim, &mut server, &mut chain);
    drop(hold);
    let_go_on(&files);
    recover(victim, &mut server, &mut chain);

    let state = server.api().wait_for_result(&job);
    assert_eq!(state.agent.as_deref(), Some(&*uuid));
    let console = server.api().console(&job);
    let runs = fs::read_to_string(files.join("runs")).unwrap_or_default();
    // A runner killed after it has noted its result needs nobody but the agent for the last word.
    if victim == RUNNER && moment != Moment::Completing {
        assert_eq!(state.result, "Failed", "{console}");
        assert_lost_runner(&console, &runs, moment);
    } else {
        assert_eq!(state.result, "Passed", "{console}");
        assert_counts_to(&console, LAST);
        assert_eq!(runs, "first\nsecond\n", "every task ran once");
        let artifacts = server.api().artifacts(&job);
        assert_eq!(artifacts.len(), 1, "{artifacts:?}");
        assert_eq!(artifacts[0].path, "out/big.bin");
        let made = fs::read(chain.folder().join("pipelines/count/big.bin")).unwrap();
        assert!(
            server.api().bytes(&artifacts[0].url) == made,
            "the artifact is not what the task made"
        );
    }
    assert_healthy(&server, &chain, &uuid);
}

/// A job of two tasks that count, with one artifact of 3 MB. A task waits for the file `go` where
/// the moment needs it to be still running; in the first one lines flow all through the kill.
fn job(files: &Path, moment: Moment) -> String {
    let files = files.display();
    let wait = format!("while [ ! -e {files}/go ]; do sleep 0.02; done");
    let (first, second) = match moment {
        Moment::FirstTask => (wait.as_str(), ":"),
        Moment::BetweenTasks => (":", wait.as_str()),
        _ => (":", ":"),
    };
    let count = |every: u32| {
        format!(
            "while [ $i -lt $1 ]; do i=$((i+1)); echo \\\"line $i\\\"; \
             [ $((i % {every})) != 0 ] || sleep 0.01; done"
        )
    };
    let slow = count(if moment == Moment::FirstTask { 1 } else { 10 });
    let count = count(10);
    let half = FIRST / 2;
    format!(
        "\
count:
  resources: [linux]
  artifacts:
    - build: {{ source: big.bin, destination: out }}
  tasks:
    - exec:
        command: sh
        arguments: [-c, \"echo first >> {files}/runs; i=0; set {half}; {count}; set {FIRST}; {slow}; {first}\"]
    - exec:
        command: sh
        arguments: [-c, \"echo second >> {files}/runs; echo line {}; {second}; i={}; set {LAST}; {count}; head -c 3000000 /dev/urandom > big.bin\"]
",
        FIRST + 1,
        FIRST + 1,
    )
}

fn let_go_on(files: &Path) {
    fs::write(files.join("go"), "").unwrap();
}

fn hold(gate: &Gate, victim: Victim, moment: Moment) -> Option<Hold> {
    let report = |action: &'static str, word: &'static str| {
        move |seen: &Seen| seen.path.ends_with(action) && seen.body.contains(word)
    };
    match moment {
        Moment::Preparing => Some(gate.hold(
            Where::Request,
            report("/report_current_status", "\"jobState\":\"Building\""),
        )),
        Moment::Uploading => Some(gate.hold(Where::Body, is_upload)),
        Moment::Uploaded => Some(gate.hold(Where::Answer, is_upload)),
        // The worst for a server: it has the result, and the runner is not told.
        Moment::Completing if victim == SERVER => {
            Some(gate.hold(Where::Answer, report("/report_completed", "")))
        }
        Moment::Completing => Some(gate.hold(Where::Request, report("/report_completed", ""))),
        Moment::Idle | Moment::FirstTask | Moment::BetweenTasks => None,
    }
}

fn is_upload(seen: &Seen) -> bool {
    seen.method == "POST" && seen.path.contains("/remoting/files/")
}

fn wait_for_moment(server: &Server, job: &Job, moment: Moment, hold: Option<&Hold>) {
    match moment {
        Moment::FirstTask => server
            .api()
            .wait_for_output(job, &format!("line {}", FIRST / 2)),
        Moment::BetweenTasks => server
            .api()
            .wait_for_output(job, &format!("line {}", FIRST + 1)),
        _ => hold.unwrap().wait_until_reached(),
    }
}

fn strike(victim: Victim, server: &mut Server, chain: &mut Chain) {
    match victim {
        Victim::Server => server.kill_nine(),
        Victim::Member(role) => {
            chain.kill_nine(role);
        }
    }
}

/// What is left to others: a service manager starts server and bootstrapper again.
fn recover(victim: Victim, server: &mut Server, chain: &mut Chain) {
    match victim {
        Victim::Server => server.start_again(),
        BOOTSTRAPPER => chain.start(),
        Victim::Member(_) => {}
    }
}

fn assert_lost_runner(console: &str, runs: &str, moment: Moment) {
    let errors: Vec<_> = texts(console, "&2").collect();
    assert!(
        errors.iter().any(|text| text.contains("unexpectedly")),
        "the console says why: {console}"
    );
    match moment {
        Moment::Preparing => {
            assert!(counted(console).is_empty(), "{console}");
            assert_eq!(runs, "", "no task had started");
        }
        Moment::FirstTask => {
            assert_counts_to_at_least(console, FIRST / 2);
            assert_eq!(runs, "first\n");
        }
        Moment::BetweenTasks => {
            assert_counts_to_at_least(console, FIRST + 1);
            assert_eq!(runs, "first\nsecond\n");
        }
        _ => {
            assert_counts_to(console, LAST);
            assert_eq!(runs, "first\nsecond\n");
        }
    }
}

/// One process of each kind, no runner, no task, no trace of the job; and the next job passes.
fn assert_healthy(server: &Server, chain: &Chain, uuid: &str) {
    server.api().wait_for_agent(uuid, "Enabled", "Idle");
    wait_until("the chain is whole and nothing else runs", || {
        [Role::Bootstrapper, Role::Launcher, Role::Agent]
            .iter()
            .all(|role| chain.processes(*role).len() == 1)
            && chain.processes(Role::Runner).is_empty()
            && processes_of_tasks(chain).is_empty()
            && jobs(chain.folder()).is_empty()
    });
    fs::write(chain.folder().with_file_name("files/go"), "").unwrap();
    let job = Job::new("count", server.api().trigger("count"), "count");
    let state = server.api().wait_for_result(&job);
    let console = server.api().console(&job);
    assert_eq!(state.result, "Passed", "{console}");
    assert_counts_to(&console, LAST);
    let agents = server.api().agents();
    assert_eq!(agents.len(), 1, "still one agent: {agents:?}");
}

fn processes_of_tasks(chain: &Chain) -> Vec<i32> {
    let pipelines = chain.folder().join("pipelines");
    chain
        .all_processes()
        .into_iter()
        .filter(|process| {
            process
                .cwd
                .as_deref()
                .is_some_and(|cwd| cwd.starts_with(&pipelines))
        })
        .map(|process| process.pid)
        .collect()
}

/// Job folders that are left.
fn jobs(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder.join("jobs"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect()
}
