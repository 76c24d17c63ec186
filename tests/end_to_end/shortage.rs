//! Full disks, read-only folders and want of memory: the console names them, the job fails, and the
//! agent takes the next job when it can.

use std::{fs, path::Path};

use journeyman_tests::{
    fake_server::{FakeServer, build_work, shell},
    patience::wait_until,
    processes::Role,
    scene::Scene,
};
use pretty_assertions::assert_eq;
use serde_json::json;

use crate::{
    bad_input::Mount,
    control::{assert_in_order, start_agent, wait_for_results, wait_for_text},
};

/// A file system of its own for a folder of the agent.
fn mount(scene: &Scene, name: &str, options: &str) -> Option<Mount> {
    Mount::tmpfs(scene.folder(&format!("agent/{name}")), options)
}

fn give_shell(server: &FakeServer, id: u64, script: &str) {
    let work = build_work(&format!("job{id}"), id, &json!([shell(script)]));
    server.give_work(work);
}

/// Fills what is left.
fn fill(folder: &Path) {
    let mut file = fs::File::create(folder.join("filler")).unwrap();
    std::io::copy(&mut std::io::repeat(1), &mut file).unwrap_err();
}

#[test]
fn a_full_disk_under_the_console_is_named_and_the_rest_of_the_job_is_seen() {
    let scene = Scene::new("spool");
    let server = FakeServer::start();
    let Some(_mount) = mount(&scene, "jobs", "size=512k") else {
        return;
    };
    give_shell(&server, 1, "seq 1 400000; echo to the end");
    give_shell(&server, 2, "echo second");
    let chain = start_agent(&scene, &server);
    assert_eq!(wait_for_results(&server, 2), ["Failed", "Passed"]);
    wait_until("the first job's folder is gone", || {
        chain.process(Role::Runner).is_none()
    });
    let consoles = server.told().consoles.clone();
    let console = consoles
        .values()
        .find(|console| console.contains("job1"))
        .unwrap();
    assert_in_order(
        console,
        &[
            " 1\n",
            " 2\n",
            "&2|",
            "[go] The job's console cannot be kept, so the job fails: the disk is full under ",
            "agent/jobs/1-",
            "No space left on device",
            "[go] Task status: passed",
            "[go] Current job status: failed",
            "lines of output are lost",
            "[go] Job completed ",
        ],
    );
    assert_eq!(console.matches("cannot be kept").count(), 1);
    // Every line is whole.
    assert!(
        console.lines().all(|line| line.as_bytes()[2] == b'|'),
        "{console}"
    );
}

#[test]
fn a_full_disk_under_a_task_is_named() {
    let scene = Scene::new("work");
    let server = FakeServer::start();
    let Some(_mount) = mount(&scene, "pipelines", "size=1m") else {
        return;
    };
    give_shell(&server, 1, "head -c 2000000 /dev/zero > big; exit 3");
    give_shell(&server, 2, "rm big; echo second > made");
    let _chain = start_agent(&scene, &server);
    assert_eq!(wait_for_results(&server, 2), ["Failed", "Passed"]);
    let console = server.console();
    let folder = scene.path().join("agent/pipelines/web");
    assert_in_order(
        &console,
        &[
            "[go] The task may have failed because the disk is full under ",
            &folder.display().to_string(),
            "[go] Task status: failed",
            "(exit code: 3)",
        ],
    );
    assert_eq!(console.matches("may have failed").count(), 1, "{console}");
}

#[test]
fn a_read_only_folder_is_named_and_written_again_when_it_can_be() {
    let scene = Scene::new("readonly");
    let server = FakeServer::start();
    let Some(mount) = mount(&scene, "pipelines", "size=1m,ro") else {
        return;
    };
    give_shell(&server, 1, "true");
    let _chain = start_agent(&scene, &server);
    assert_eq!(wait_for_results(&server, 1), ["Failed"]);
    assert_in_order(
        &server.console(),
        &[
            "Unable to create working directory for agent: ",
            "[go] The job may have failed because the file system is read-only under ",
        ],
    );
    mount.remount("rw");
    give_shell(&server, 2, "true");
    assert_eq!(wait_for_results(&server, 2), ["Failed", "Passed"]);
}

#[test]
fn a_runner_that_cannot_begin_says_why_on_the_console() {
    let scene = Scene::new("begin");
    let server = FakeServer::start();
    // Room for the job's folder, but for no file in it.
    let Some(mount) = mount(&scene, "jobs", "size=1m,nr_inodes=3") else {
        return;
    };
    give_shell(&server, 1, "true");
    let _chain = start_agent(&scene, &server);
    assert_eq!(wait_for_results(&server, 1), ["Failed"]);
    assert_in_order(
        &server.console(),
        &[
            "[go] This agent cannot run the job: ",
            "No space left on device",
        ],
    );
    mount.remount("nr_inodes=100");
    give_shell(&server, 2, "true");
    assert_eq!(wait_for_results(&server, 2), ["Failed", "Passed"]);
}

#[test]
fn an_agent_that_cannot_start_a_runner_says_so_and_lives() {
    let scene = Scene::new("handles");
    let server = FakeServer::start();
    give_shell(&server, 1, "true");
    let chain = start_agent(&scene, &server);
    assert_eq!(wait_for_results(&server, 1), ["Passed"]);
    wait_until("the agent pings as idle", || {
        let pings = server.calls("ping");
        pings
            .last()
            .is_some_and(|ping| ping["agentRuntimeInfo"]["runtimeStatus"] == "Idle")
    });
    // What it has open stays so, and nothing can be opened beside it.
    let agent = chain.pid(Role::Agent);
    let open = |handle: &u32| Path::new(&format!("/proc/{agent}/fd/{handle}")).exists();
    let limit = (0..).find(|handle| !open(handle)).unwrap();
    set_handle_limit(agent, &limit.to_string());
    give_shell(&server, 2, "true");
    chain.wait_until_said("Cannot run a job");
    set_handle_limit(agent, "1024");
    assert_eq!(wait_for_results(&server, 2), ["Passed", "Failed"]);
    wait_for_text(&server, "Too many open files");
    give_shell(&server, 3, "true");
    assert_eq!(wait_for_results(&server, 3)[2], "Passed");
    assert_eq!(chain.pid(Role::Agent), agent);
}

fn set_handle_limit(process: i32, soft: &str) {
    let status = std::process::Command::new("prlimit")
        .args(["--pid", &process.to_string(), &format!("--nofile={soft}:")])
        .status()
        .unwrap();
    assert!(status.success(), "prlimit: {status}");
}

#[test]
fn an_agent_without_room_for_a_job_asks_for_none() {
    let scene = Scene::new("room");
    let server = FakeServer::start();
    let Some(_mount) = mount(&scene, "jobs", "size=256k") else {
        return;
    };
    let jobs = scene.path().join("agent/jobs");
    fill(&jobs);
    give_shell(&server, 1, "true");
    let chain = start_agent(&scene, &server);
    chain.wait_until_said("asking for no work until it can be written");
    let pings = server.calls("ping").len();
    wait_until("the agent pings on", || {
        server.calls("ping").len() > pings + 2
    });
    assert_eq!(server.calls("get_work").len(), 0);
    fs::remove_file(jobs.join("filler")).unwrap();
    assert_eq!(wait_for_results(&server, 1), ["Passed"]);
}

#[test]
fn tasks_are_the_first_to_go_when_memory_runs_out() {
    let scene = Scene::new("expendable");
    let server = FakeServer::start();
    give_shell(
        &server,
        1,
        "echo task $(cat /proc/self/oom_score_adj); echo runner $(cat /proc/$PPID/oom_score_adj)",
    );
    let _chain = start_agent(&scene, &server);
    assert_eq!(wait_for_results(&server, 1), ["Passed"]);
    let console = server.console();
    let score = |whose: &str| -> i32 {
        let text = format!(" {whose} ");
        let line = console.lines().find(|line| line.contains(&text)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let own = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    let own: i32 = own.trim().parse().unwrap();
    assert_eq!(score("runner"), own);
    assert_eq!(score("task"), (own + 500).min(1000));
}

#[test]
fn a_task_that_the_kernel_ends_for_want_of_memory_is_named() {
    let scene = Scene::new("memory");
    let Some(group) = MemoryGroup::new(&scene) else {
        return;
    };
    let server = FakeServer::start();
    // The task's own process needs ever more.
    let eat = format!(
        "echo $$ > {} && exec tail /dev/zero",
        group.folder.join("cgroup.procs").display()
    );
    give_shell(&server, 1, &eat);
    give_shell(&server, 2, "true");
    let _chain = start_agent(&scene, &server);
    assert_eq!(wait_for_results(&server, 2), ["Failed", "Passed"]);
    wait_for_text(&server, "(exit code: 137)");
    assert_in_order(
        &server.console(),
        &[
            "for want of memory: the task may have failed because of it",
            "(exit code: 137)",
        ],
    );
}

/// A control group with little memory. Removed when dropped.
struct MemoryGroup {
    folder: std::path::PathBuf,
}

impl MemoryGroup {
    /// `None`, with the reason printed, where none can be made.
    #[expect(clippy::print_stderr, reason = "why a test did nothing")]
    fn new(scene: &Scene) -> Option<Self> {
        let name = scene.path().file_name().unwrap();
        let kinds = [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            ("/sys/fs/cgroup", "memory.max"),
        ];
        for (parent, limit) in kinds {
            let folder = Path::new(parent).join(name);
            if fs::create_dir(&folder).is_err() {
                continue;
            }
            let group = Self { folder };
            if fs::write(group.folder.join(limit), "33554432").is_ok() {
                // Else it would be moved out to the disk first.
                let _ = fs::write(group.folder.join("memory.swap.max"), "0");
                return Some(group);
            }
        }
        eprintln!("skipped, no control group with a limit of memory can be made here");
        None
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}
