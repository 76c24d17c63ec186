//! A cancelled job leaves no process, whatever its tasks forked.

use std::{
    fs,
    time::{Duration, Instant},
};

use journeyman_tests::{
    api::Job, chain::Chain, console::texts, patience::wait_until, processes::Role, repo::Repo,
    scene::Scene, server::Server,
};

/// Starts children in sessions of their own and orphans (forked twice), each of which does the
/// same; all of them ignore TERM.
const TREE: &str = "\
#!/bin/sh
trap '' TERM HUP INT
echo \"$$\" >> \"$2\"
if [ \"$1\" -gt 0 ]; then
    setsid sh \"$0\" $(($1 - 1)) \"$2\" &
    (sh \"$0\" $(($1 - 1)) \"$2\" &)
    (setsid sh \"$0\" $(($1 - 1)) \"$2\" > /dev/null 2>&1 < /dev/null &)
fi
while :; do sleep 1; done
";

/// 1 + 3 + 9.
const PROCESSES: usize = 13;

#[test]
fn cancel_ends_a_tree_of_sessions_and_orphans_that_ignore_term() {
    let scene = Scene::new("cancel");
    let server = Server::start(&scene);
    let chain = Chain::install(&scene, "agent", &server.http_url)
        .with_key("linux")
        .started();
    let pids = scene.path().join("pids");
    let repo = Repo::with_pipeline(
        &scene,
        "tree",
        &format!(
            "\
grow:
  artifacts:
    - build: {{ source: ci.gocd.yaml }}
  tasks:
    - exec: {{ command: sh, arguments: [tree.sh, \"2\", {}] }}
    - exec: {{ command: echo, arguments: [never], run_if: any }}
",
            pids.display()
        ),
    );
    repo.commit("tree.sh", TREE);
    server.add_repo(&repo);
    let job = Job::new("tree", server.api().trigger("tree"), "grow");
    let read_pids = || -> Vec<i32> {
        let text = fs::read_to_string(&pids).unwrap_or_default();
        text.lines().filter_map(|pid| pid.parse().ok()).collect()
    };
    wait_until("the tree has grown", || read_pids().len() == PROCESSES);

    server.api().cancel(&job);
    let uuid = chain.uuid();
    wait_until("no process of the tree is left", || {
        !read_pids()
            .into_iter()
            .any(journeyman_tests::processes::alive)
    });
    server.api().wait_for_agent(&uuid, "Enabled", "Idle");
    wait_until("the runner has ended", || {
        chain.processes(Role::Runner).is_empty()
    });

    let state = server.api().wait_for_result(&job);
    assert_eq!(state.result, "Cancelled");
    let console = server.api().console(&job);
    assert!(
        texts(&console, "!x").any(|text| text.starts_with("[go] On Cancel Task: ")),
        "{console}"
    );
    assert!(!console.contains("never"), "{console}");
    assert_eq!(
        server.api().artifacts(&job),
        [],
        "a cancelled job publishes nothing"
    );

    // The agent takes the next job as if nothing had been.
    fs::remove_file(&pids).unwrap();
    repo.commit("tree.sh", "echo felled\n");
    let job = Job::new("tree", server.api().trigger("tree"), "grow");
    assert_eq!(server.api().wait_for_result(&job).result, "Passed");
}

#[test]
fn an_on_cancel_task_runs_and_the_job_leaves_nothing() {
    let scene = Scene::new("oncancel");
    let server = Server::start(&scene);
    let chain = Chain::install(&scene, "agent", &server.http_url)
        .with_key("")
        .started();
    let marks = scene.path().join("marks");
    let repo = Repo::with_pipeline(
        &scene,
        "polite",
        &format!(
            "\
wait:
  tasks:
    - exec:
        command: sh
        arguments: [-c, 'echo line 1; while [ ! -e stop ]; do sleep 0.05; done; echo down']
        on_cancel:
          exec: {{ command: sh, arguments: [-c, 'echo asked; touch stop {}'] }}
",
            marks.display()
        ),
    );
    server.add_repo(&repo);
    let job = Job::new("polite", server.api().trigger("polite"), "wait");
    server.api().wait_for_output(&job, "line 1");
    server.api().cancel(&job);
    server
        .api()
        .wait_for_agent(&chain.uuid(), "Enabled", "Idle");
    assert_eq!(server.api().wait_for_result(&job).result, "Cancelled");
    assert!(marks.exists(), "the on-cancel task ran");
    let console = server.api().console(&job);
    for wanted in [" asked", " down", "[go] On Cancel Task completed"] {
        assert!(console.contains(wanted), "no {wanted:?} in {console}");
    }
}

#[test]
fn a_job_that_hangs_is_cancelled_after_its_timeout_and_one_that_talks_is_not() {
    let scene = Scene::new("hung");
    let server = Server::start(&scene);
    let chain = Chain::install(&scene, "agent", &server.http_url)
        .with_key("")
        .started();
    let talker = Chain::install(&scene, "talker", &server.http_url)
        .with_key("")
        .started();
    let pid = scene.path().join("pid");
    let done = scene.path().join("done");
    let repo = Repo::with_pipeline(
        &scene,
        "hung",
        &format!(
            "\
hang:
  timeout: 1
  tasks:
    - exec: {{ command: sh, arguments: [-c, 'echo $$ > {}; echo last words; exec sleep 1000'] }}
    - exec: {{ command: echo, arguments: [never], run_if: any }}
talk:
  timeout: 1
  tasks:
    - exec: {{ command: sh, arguments: [-c, 'while [ ! -e {} ]; do echo busy; sleep 1; done'] }}
",
            pid.display(),
            done.display()
        ),
    );
    server.add_repo(&repo);
    let run = server.api().trigger("hung");
    let job = Job::new("hung", run, "hang");
    let talks = Job::new("hung", run, "talk");
    server.api().wait_for_output(&job, "last words");
    server.api().wait_for_output(&talks, "busy");
    let begun = Instant::now();
    wait_until("most of a minute has gone by", || {
        begun.elapsed() > Duration::from_secs(50)
    });
    // The server looks every half a minute.
    let state = server.api().wait_for_result(&job);
    assert_eq!(state.result, "Cancelled");
    let read = || -> i32 { fs::read_to_string(&pid).unwrap().trim().parse().unwrap() };
    wait_until("the process that hung has ended", || {
        !journeyman_tests::processes::alive(read())
    });
    let console = server.api().console(&job);
    assert!(!console.contains("never"), "{console}");
    let other = server.api().job(&talks).unwrap();
    assert_eq!((&*other.state, &*other.result), ("Building", "Unknown"));

    fs::write(&done, "").unwrap();
    assert_eq!(server.api().wait_for_result(&talks).result, "Passed");
    let stage = job.locator.rsplit_once('/').unwrap().0;
    let stage = server.api().text(&format!("/api/stages/{stage}"));
    assert!(stage.contains("\"cancelled_by\": \"GoCD\""), "{stage}");
    for chain in [&chain, &talker] {
        let uuid = chain.uuid();
        server.api().wait_for_agent(&uuid, "Enabled", "Idle");
    }
}

#[test]
fn a_job_that_waits_for_an_agent_is_cancelled_at_once() {
    let scene = Scene::new("waiting");
    let server = Server::start(&scene);
    let repo = Repo::with_pipeline(
        &scene,
        "waiting",
        "never:\n  resources: [nobody]\n  tasks:\n    - exec: { command: \"true\" }\n",
    );
    server.add_repo(&repo);
    let job = Job::new("waiting", server.api().trigger("waiting"), "never");
    server.api().wait_for_state(&job, "Scheduled");
    server.api().cancel(&job);
    assert_eq!(server.api().wait_for_result(&job).result, "Cancelled");
}

#[test]
fn background_processes_of_a_passed_job_are_ended_with_it() {
    let scene = Scene::new("daemon");
    let server = Server::start(&scene);
    let _chain = Chain::install(&scene, "agent", &server.http_url)
        .with_key("")
        .started();
    let pid = scene.path().join("pid");
    let repo = Repo::with_pipeline(
        &scene,
        "daemon",
        &format!(
            "\
leave:
  tasks:
    - exec:
        command: sh
        arguments: [-c, '(setsid sh -c \"echo \\$\\$ > {}; exec sleep 1000\" > /dev/null 2>&1 < /dev/null &)']
    - exec: {{ command: sh, arguments: [-c, 'until [ -s {} ]; do sleep 0.05; done'] }}
",
            pid.display(),
            pid.display()
        ),
    );
    server.add_repo(&repo);
    let job = Job::new("daemon", server.api().trigger("daemon"), "leave");
    assert_eq!(server.api().wait_for_result(&job).result, "Passed");
    let pid: i32 = fs::read_to_string(pid).unwrap().trim().parse().unwrap();
    wait_until("the daemon of the job has ended", || {
        !journeyman_tests::processes::alive(pid)
    });
}
