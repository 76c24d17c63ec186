//! What ends a job's processes, and what never holds a job up: against a server of GoCD's kind.

use std::fs;

use journeyman_tests::{
    chain::Chain,
    fake_server::{FakeServer, build_work, shell},
    patience::wait_until,
    processes::{self, Role},
    scene::Scene,
};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

/// Pings often; and short limits, so that tests need not wait for long ones.
const QUICK: &str = "-Dagent.ping.delay=100 -Dagent.ping.interval=200 \
    -Dagent.get.work.delay=100 -Dagent.get.work.interval=500 \
    -Djourneyman.cancel.grace=1 -Djourneyman.task.output.limit=1";

/// An agent as an operator installs it for a GoCD server: with its package.
pub(crate) fn start_agent<'a>(scene: &'a Scene, server: &FakeServer) -> Chain<'a> {
    start_agent_with(scene, server, "")
}

fn start_agent_with<'a>(scene: &'a Scene, server: &FakeServer, more: &str) -> Chain<'a> {
    Chain::install(scene, "agent", &server.url)
        .with_package()
        .with_environment("AGENT_STARTUP_ARGS", &format!("{QUICK} {more}"))
        .started()
}

pub(crate) fn wait_for_text(server: &FakeServer, text: &str) {
    wait_until(&format!("{text:?} is on the console"), || {
        server.console().contains(text)
    });
}

pub(crate) fn wait_for_results(server: &FakeServer, count: usize) -> Vec<String> {
    wait_until("the jobs are reported", || server.results().len() == count);
    server.results()
}

fn instruct(server: &FakeServer, instruction: &'static str) {
    server.told().instruction = Some(instruction);
}

pub(crate) fn assert_in_order(console: &str, texts: &[&str]) {
    let mut rest = console;
    for text in texts {
        let at = rest.find(text);
        let at = at.unwrap_or_else(|| panic!("no {text:?} in its place in:\n{console}"));
        rest = &rest[at + text.len()..];
    }
}

/// Whether a process of the scene has this word among its arguments.
fn runs(scene: &Scene, word: &str) -> bool {
    scene.processes().iter().any(|process| {
        let mut arguments = process.arguments.iter();
        arguments.any(|argument| argument.contains(word))
    })
}

fn with_on_cancel(mut task: Value, script: &str) -> Value {
    task["cancelBuilder"] = shell(script);
    task["cancelBuilder"]["description"] = json!("clean up");
    task
}

// --- cancel

#[test]
fn a_late_cancel_is_not_for_the_next_job() {
    let scene = Scene::new("late");
    let server = FakeServer::start();
    let go = scene.path().join("go");
    let wait = format!("until [ -e {} ]; do sleep 0.02; done", go.display());
    let first = shell(&format!("echo first; {wait}"));
    let second = shell("echo second; while ! [ -e end ]; do sleep 0.02; done; echo whole");
    server.give_work(build_work("one", 1, &json!([first])));
    server.give_work(build_work("two", 2, &json!([second])));
    let chain = start_agent(&scene, &server);
    wait_for_text(&server, " first\n");
    // The ping names the first job; its answer comes when the second one runs.
    server.told().late_cancel_after = Some(" second\n");
    wait_until("a ping is under way", || {
        server.told().late_cancel_after.is_none()
    });
    fs::write(&go, "").unwrap();
    wait_for_text(&server, " second\n");
    wait_until("the cancel has come", || server.told().late_cancels == 1);
    // The next ping is behind the late answer: the agent has dealt with that by then.
    let pings = server.calls("ping").len();
    wait_until("the agent pings on", || {
        server.calls("ping").len() > pings + 1
    });
    fs::write(chain.folder().join("pipelines/web/end"), "").unwrap();
    assert_eq!(wait_for_results(&server, 2), ["Passed", "Passed"]);
    wait_for_text(&server, " whole\n");
    assert!(
        !server.console().contains("On Cancel"),
        "{}",
        server.console()
    );
}

#[test]
fn a_kill_gets_through_an_on_cancel_task_that_hangs() {
    let scene = Scene::new("hangs");
    let server = FakeServer::start();
    let task = with_on_cancel(
        shell("trap '' TERM; echo going; while :; do sleep 0.1; done"),
        "trap '' TERM; echo hanging; while :; do sleep 0.1; done",
    );
    server.give_work(build_work("unit", 1, &json!([task])));
    server.give_work(build_work("next", 2, &json!([shell("true")])));
    let _chain = start_agent(&scene, &server);
    wait_for_text(&server, " going\n");
    instruct(&server, "CANCEL");
    wait_for_text(&server, " hanging\n");
    instruct(&server, "KILL_RUNNING_TASKS");
    assert_eq!(wait_for_results(&server, 2), ["Cancelled", "Passed"]);
    assert_in_order(
        &server.console(),
        &[
            "!x|",
            "[go] On Cancel Task: clean up",
            "[go] Attempting to force kill child processes.",
            "[go] On Cancel Task failed",
        ],
    );
    assert!(server.console().contains("[go] Task status: failed"));
}

#[test]
fn a_kill_that_comes_while_the_on_cancel_task_runs_waits_for_its_end() {
    let scene = Scene::new("waits");
    let server = FakeServer::start();
    let task = with_on_cancel(
        shell("echo going; while ! [ -e end ]; do sleep 0.02; done"),
        "echo cleaning; sleep 0.5; echo clean; [ -e again ] && touch end; touch again",
    );
    server.give_work(build_work("unit", 1, &json!([task])));
    let _chain = start_agent(&scene, &server);
    wait_for_text(&server, " going\n");
    instruct(&server, "CANCEL");
    wait_for_text(&server, " cleaning\n");
    instruct(&server, "KILL_RUNNING_TASKS");
    assert_eq!(wait_for_results(&server, 1), ["Cancelled"]);
    let console = server.console();
    // GoCD: a configured on-cancel task is simply run again.
    assert_eq!(console.matches(" clean\n").count(), 2, "{console}");
    assert!(!console.contains("force kill"), "{console}");
}

#[test]
fn a_checkout_is_ended_and_nothing_of_it_goes_on() {
    let scene = Scene::new("checkout");
    let server = FakeServer::start();
    server.told().ignores_cancelled = true;
    let url = server.url.replace("/go", "/go/hang/app.git");
    let mut work = build_work("unit", 1, &json!([shell("echo never")]));
    work["assignment"]["materialRevisions"] = git_revisions(&url);
    server.give_work(work);
    server.give_work(build_work("next", 2, &json!([shell("true")])));
    let _chain = start_agent(&scene, &server);
    wait_until("git waits for the server", || runs(&scene, "remote-http"));
    instruct(&server, "CANCEL");
    assert_eq!(wait_for_results(&server, 1), ["Passed"]);
    assert!(!runs(&scene, "remote-http"));
    // GoCD: what an ignored job reports is a state, not a result.
    let reports: Vec<_> = server
        .calls("report_current_status")
        .iter()
        .map(|report| report["jobState"].clone())
        .collect();
    assert_eq!(reports[..2], [json!("Preparing"), json!("Completed")]);
    let console = server.console();
    assert_in_order(&console, &["[go] Job is cancelled ", "[go] Job completed "]);
    assert!(!console.contains(" never\n"), "{console}");
}

fn git_revisions(url: &str) -> Value {
    json!({ "revisions": [{
        "material": { "type": "GitMaterial", "autoUpdate": true, "shallowClone": false,
            "url": { "url": url }, "branch": "master" },
        "modifications": [{ "modifiedTime": "Aug 1, 2026, 10:00:00 AM",
            "revision": "0123456789012345678901234567890123456789", "modifiedFiles": [] }],
        "changed": true
    }] })
}

#[test]
fn an_upload_is_broken_off() {
    let scene = Scene::new("upload");
    let server = FakeServer::start();
    server.told().holds_uploads = true;
    let mut work = build_work("unit", 1, &json!([shell("echo made > made")]));
    work["assignment"]["artifactPlans"] = json!([{
        "testArtifactPlansForMerging": [], "buildId": 1, "artifactPlanType": "file",
        "src": "made", "dest": "", "id": 1
    }]);
    server.give_work(work);
    let _chain = start_agent(&scene, &server);
    wait_until("the upload has begun", || !server.told().uploads.is_empty());
    instruct(&server, "CANCEL");
    assert_eq!(wait_for_results(&server, 1), ["Passed"]);
    assert_in_order(
        &server.console(),
        &[
            "[go] Start to upload ",
            "ae|",
            "the rest is not uploaded",
            "[go] Job completed ",
        ],
    );
}

#[test]
fn stopped_deaf_and_ever_forking_processes_end_at_a_cancel() {
    let scene = Scene::new("stubborn");
    let server = FakeServer::start();
    let fork = "[ $1 -gt 0 ] && setsid sh fork.sh $(($1 - 1)) &";
    let script = format!(
        "trap '' TERM; cat > fork.sh <<'END'\ntrap '' TERM\n{fork}\nEND\n\
         sh fork.sh 20000 & sh fork.sh 20000 & sh -c 'kill -STOP $$; sleep 1000' & \
         setsid sh -c 'trap \"\" TERM HUP; while :; do sleep 0.1; done' & \
         echo going; while :; do sleep 0.1; done"
    );
    server.give_work(build_work("unit", 1, &json!([shell(&script)])));
    server.give_work(build_work("next", 2, &json!([shell("true")])));
    let chain = start_agent(&scene, &server);
    wait_for_text(&server, " going\n");
    instruct(&server, "CANCEL");
    assert_eq!(wait_for_results(&server, 2), ["Cancelled", "Passed"]);
    wait_until("the runner has ended", || {
        chain.processes(Role::Runner).is_empty()
    });
    assert!(!runs(&scene, "sh"), "{:?}", scene.processes());
    assert!(server.console().contains("(exit code: 137)"));
}

#[test]
fn a_fork_bomb_ends_at_a_cancel() {
    let scene = Scene::new("bomb");
    let Some(fence) = Fence::new(&scene) else {
        return;
    };
    let server = FakeServer::start();
    // As many as may be, all the time, and none listens. The task itself only waits: a shell that
    // cannot fork ends, and the task would have failed before it is cancelled.
    let script = format!(
        "trap '' TERM; mkfifo hold; echo $$ > {}; cat > bomb.sh <<'END'\ntrap '' TERM\n\
         while :; do setsid sh bomb.sh & done 2> /dev/null\nEND\n\
         echo going; sh bomb.sh & while :; do true < hold; done",
        fence.folder.join("cgroup.procs").display()
    );
    server.give_work(build_work("unit", 1, &json!([shell(&script)])));
    server.give_work(build_work("next", 2, &json!([shell("true")])));
    let _chain = start_agent(&scene, &server);
    wait_for_text(&server, " going\n");
    wait_until("the bomb has gone off", || {
        fence.members() > Fence::MOST / 2
    });
    instruct(&server, "CANCEL");
    assert_eq!(wait_for_results(&server, 2), ["Cancelled", "Passed"]);
    assert_eq!(fence.members(), 0);
}

/// A control group that limits the number of processes, for a bomb. Removed when dropped.
struct Fence {
    folder: std::path::PathBuf,
}

impl Fence {
    const MOST: usize = 150;

    /// `None`, with the reason printed, where none can be made.
    #[expect(clippy::print_stderr, reason = "why a test did nothing")]
    fn new(scene: &Scene) -> Option<Self> {
        let name = scene.path().file_name().unwrap();
        for parent in ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"] {
            let folder = std::path::Path::new(parent).join(name);
            if fs::create_dir(&folder).is_err() {
                continue;
            }
            let fence = Self { folder };
            if fs::write(fence.folder.join("pids.max"), Self::MOST.to_string()).is_ok() {
                return Some(fence);
            }
        }
        eprintln!("skipped, no control group with a limit of processes can be made here");
        None
    }

    fn members(&self) -> usize {
        let members = fs::read_to_string(self.folder.join("cgroup.procs")).unwrap_or_default();
        members.lines().count()
    }
}

impl Drop for Fence {
    fn drop(&mut self) {
        for _ in 0..100 {
            let members = fs::read_to_string(self.folder.join("cgroup.procs")).unwrap_or_default();
            for pid in members.lines().filter_map(|pid| pid.parse().ok()) {
                processes::kill_nine(pid);
            }
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

#[test]
fn a_job_has_a_control_group_of_its_own_where_one_can_be_made() {
    let scene = Scene::new("group");
    let server = FakeServer::start();
    let task = "echo in $(grep ^0:: /proc/self/cgroup)";
    server.give_work(build_work("unit", 1, &json!([shell(task)])));
    let chain = start_agent(&scene, &server);
    assert_eq!(wait_for_results(&server, 1), ["Passed"]);
    wait_until("the runner has ended", || {
        chain.processes(Role::Runner).is_empty()
    });
    let console = server.console();
    let line = console
        .lines()
        .find(|line| line.contains(" in 0::"))
        .unwrap();
    let group = line.split("0::").nth(1).unwrap();
    // Where none can be made, the job runs all the same: that is seen above.
    for root in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
        let folder = std::path::Path::new(root).join(group.trim_start_matches('/'));
        if group.contains("/journeyman-job-") {
            assert!(!folder.exists(), "{} is left", folder.display());
        }
    }
}

// --- background processes

#[test]
fn a_background_process_that_holds_the_output_holds_nothing_up() {
    let scene = Scene::new("holder");
    let server = FakeServer::start();
    // It writes more than a pipe holds, which it could not if nobody read it, and again later.
    let holder = "(echo $$ > pid; until [ -e go ]; do sleep 0.02; done; \
        dd if=/dev/zero bs=1024 count=1024 2> /dev/null; echo hidden; touch wrote; \
        while :; do echo hidden; sleep 0.02; done) & echo begun";
    let next = "touch go; until [ -e wrote ]; do sleep 0.02; done; echo next";
    server.give_work(build_work("unit", 1, &json!([shell(holder), shell(next)])));
    let _chain = start_agent(&scene, &server);
    assert_eq!(wait_for_results(&server, 1), ["Passed"]);
    let console = server.console();
    assert_in_order(
        &console,
        &[
            "&1|",
            " begun\n",
            "still holds its output after 1 seconds",
            "[go] Task status: passed",
            " next\n",
            "[go] Task status: passed",
        ],
    );
    assert!(!console.contains("hidden"), "{console}");
}

#[test]
fn given_up_outputs_leave_no_thread_and_no_handle_behind() {
    let scene = Scene::new("handles");
    let server = FakeServer::start();
    let count =
        "echo $1 $(ls /proc/$PPID/fd | wc -l) $(cat /proc/$PPID/task/*/comm | grep -c pump)";
    let measure = |name: &str| shell(&count.replace("$1", name));
    let hold = "(until [ -e end ]; do sleep 0.05; done) & true";
    let mut tasks = vec![measure("before")];
    tasks.extend((0..5).map(|_| shell(hold)));
    tasks.push(measure("meanwhile"));
    tasks.push(shell(
        "touch end; while [ $(cat /proc/$PPID/task/*/comm | grep -c pump) -gt 2 ]; \
         do sleep 0.05; done",
    ));
    tasks.push(measure("after"));
    server.give_work(build_work("unit", 1, &json!(tasks)));
    let _chain = start_agent(&scene, &server);
    assert_eq!(wait_for_results(&server, 1), ["Passed"]);
    let console = server.console();
    let measured = |name: &str| -> (u32, u32) {
        let line = console
            .lines()
            .find(|line| line.starts_with("&1|") && line.split(' ').nth(1) == Some(name));
        let mut numbers = line.unwrap().split(' ').skip(2).map(|n| n.parse().unwrap());
        (numbers.next().unwrap(), numbers.next().unwrap())
    };
    // Two threads read the outputs of the task that counts.
    let (before, meanwhile, after) = (measured("before"), measured("meanwhile"), measured("after"));
    assert_eq!(before.1, 2);
    assert_eq!(meanwhile.1, 12);
    assert_eq!(after, before, "{console}");
    let _ = processes::with_environment;
}

/// Starts a service and leaves it running; its process id is in the file `pid`.
const SERVICE: &str = "setsid sh -c 'echo $$ > pid; exec sleep 1000' > /dev/null 2>&1 < /dev/null & \
    until [ -s pid ]; do sleep 0.02; done";

fn service_pid(chain: &Chain<'_>) -> i32 {
    let text = fs::read_to_string(chain.folder().join("pipelines/web/pid")).unwrap();
    text.trim().parse().unwrap()
}

#[test]
fn what_a_job_leaves_running_is_ended_and_named() {
    let scene = Scene::new("service");
    let server = FakeServer::start();
    server.give_work(build_work("unit", 1, &json!([shell(SERVICE)])));
    let chain = start_agent(&scene, &server);
    assert_eq!(wait_for_results(&server, 1), ["Passed"]);
    let pid = service_pid(&chain);
    assert!(!processes::alive(pid));
    let named = format!("[go] Ended what the job has left running: sleep (process {pid}). ");
    assert_in_order(&server.console(), &["##|", &named, "[go] Job completed "]);
}

#[test]
fn what_a_job_leaves_running_goes_on_where_the_operator_says_so() {
    let scene = Scene::new("keep");
    let server = FakeServer::start();
    server.give_work(build_work("unit", 1, &json!([shell(SERVICE)])));
    server.give_work(build_work(
        "next",
        2,
        &json!([shell("echo going; sleep 1000")]),
    ));
    let keep = "-Djourneyman.keep.background.processes=true";
    let chain = start_agent_with(&scene, &server, keep);
    wait_for_text(&server, " going\n");
    let pid = service_pid(&chain);
    // A cancel ends what is the job's own, and not what an earlier one was to leave.
    instruct(&server, "CANCEL");
    assert_eq!(wait_for_results(&server, 2), ["Passed", "Cancelled"]);
    assert!(processes::alive(pid));
    assert!(
        !server.console().contains("Ended what"),
        "{}",
        server.console()
    );
    processes::kill_nine(pid);
}
