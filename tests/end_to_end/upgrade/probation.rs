//! A new agent proves itself, or the old one comes back.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use journeyman_tests::{
    package::Package,
    patience::{wait_for, wait_until},
    processes::{self, Role},
    scene::Scene,
};
use pretty_assertions::assert_eq;

use super::{Machine, is_package, is_report, state_name};

#[test]
fn a_newer_agent_takes_over_and_proves_itself() {
    let scene = Scene::new("up");
    let machine = Machine::running(&scene);
    let launcher = machine.chain.pid(Role::Launcher);
    let old = Package::agent(1);
    let new = Package::agent(2);
    machine.shelf.put(&new);
    let report = machine.wait_for_state(&new, "done");
    machine.assert_runs(&new);
    assert_eq!(machine.chain.pid(Role::Launcher), launcher);
    assert_eq!(report.agent.unwrap().build, 2);
    assert_eq!(report.previous.unwrap().build, 1);
    assert!(report.bad.is_empty(), "{:?}", report.bad);
    let mut both = [old.folder_name(), new.folder_name()];
    both.sort();
    assert_eq!(machine.installed(), both);

    // The server heard of it on the way.
    let mut states: Vec<_> = machine.reports().iter().map(state_name).collect();
    states.dedup();
    assert_eq!(states.last().map(String::as_str), Some("done"));
    assert!(
        states.iter().any(|state| state == "probation"),
        "{states:?}"
    );
}

#[test]
fn one_that_crashes_at_start_is_gone_back_from() {
    let scene = Scene::new("crash");
    let machine = Machine::running(&scene);
    let state = files(&machine.chain.folder().join("state"));
    let new = Package::agent(2).acting_when_started("echo 'no such luck' >&2; exit 3");
    machine.shelf.put(&new);
    machine.assert_gone_back(&new, &Package::agent(1), "exit status: 3");
    let now = files(&machine.chain.folder().join("state"));
    for (path, content) in state {
        let now = now.iter().find(|(now, _)| *now == path);
        assert!(
            now.is_some_and(|(_, now)| path.ends_with("cookie") || *now == content),
            "{path} is not what it was"
        );
    }
}

#[test]
fn one_that_crashes_after_a_while_is_gone_back_from() {
    let scene = Scene::new("later");
    let machine = Machine::running(&scene);
    let new = Package::agent(2).acting_when_started(
        "(sleep 0.6; kill -9 $$) < /dev/null > /dev/null 2>&1 & really \"$@\"",
    );
    machine.shelf.put(&new);
    machine.assert_gone_back(&new, &Package::agent(1), "signal: 9");
}

#[test]
fn one_that_never_says_anything_is_gone_back_from() {
    let scene = Scene::new("mute");
    let machine = Machine::running(&scene);
    // It does not mind that its launcher wants it to leave, either.
    let new = Package::agent(2).acting_when_started("exec sleep 1234");
    machine.shelf.put(&new);
    machine.assert_gone_back(&new, &Package::agent(1), "did not come up");
    let mute = || {
        let mut all = scene.processes().into_iter();
        all.any(|process| process.arguments.contains(&"1234".to_owned()))
    };
    wait_until("the mute one is gone", || !mute());
}

#[test]
fn one_that_cannot_reach_the_server_is_gone_back_from() {
    let scene = Scene::new("wrong-way");
    let machine = Machine::running(&scene);
    let new = Package::agent(2).acting_when_started(
        "for word; do shift; case $word in http*) word=http://127.0.0.1:9/go;; esac; \
         set -- \"$@\" \"$word\"; done; really \"$@\"",
    );
    machine.shelf.put(&new);
    machine.assert_gone_back(&new, &Package::agent(1), "no contact");
}

#[test]
fn one_that_cannot_take_over_changes_nothing() {
    let scene = Scene::new("refuses");
    let machine = Machine::running(&scene);
    let agent = machine.chain.pid(Role::Agent);
    let new = Package::agent(2)
        .acting_when_taking_over("echo 'this kernel is too old for me' >&2; exit 1");
    machine.shelf.put(&new);
    let report = machine.wait_for_state(&new, "failed");
    let reason = report.upgrade.unwrap().reason.unwrap();
    assert!(reason.contains("too old for me"), "{reason}");
    machine.assert_not_tried_again();
    machine.assert_runs(&Package::agent(1));
    assert_eq!(machine.chain.pid(Role::Agent), agent, "it never stopped");
}

#[test]
fn one_that_is_killed_while_it_takes_over_may_try_again() {
    let scene = Scene::new("killed");
    let machine = Machine::running(&scene);
    let once = scene.path().join("once");
    let new = Package::agent(2).acting_when_taking_over(&format!(
        "[ -e '{0}' ] || {{ touch '{0}'; kill -9 $$; }}; really \"$@\"",
        once.display()
    ));
    machine.shelf.put(&new);
    machine.wait_for_state(&new, "done");
    machine.assert_runs(&new);
}

#[test]
fn a_server_that_is_away_stops_the_clock() {
    let scene = Scene::new("away");
    let mut machine = Machine::running(&scene);
    let new = Package::agent(2);
    machine.shelf.put(&new);
    machine.wait_for_state(&new, "probation");
    machine.server.kill_nine();
    longer_than_any_silence();
    let record = machine.record();
    assert_eq!(record["agent"]["upgrade"]["state"], "probation", "{record}");
    machine.server.start_again();
    machine.wait_for_state(&new, "done");
    machine.assert_runs(&new);
}

#[test]
fn a_server_that_is_too_busy_is_no_reason_to_go_back() {
    for status in [429, 503] {
        let scene = Scene::new("busy");
        let machine = Machine::running(&scene);
        let new = Package::agent(2);
        // The launcher is answered: the agent alone is not.
        let busy = machine
            .gate
            .refuse(status, |seen| !is_report(seen) && !is_package(&seen.path));
        machine.shelf.put(&new);
        machine.wait_for_state(&new, "probation");
        longer_than_any_silence();
        machine.wait_for_questions(2);
        let last = machine.reports().pop().unwrap();
        assert_eq!(state_name(&last), "probation", "{status}");
        drop(busy);
        machine.wait_for_state(&new, "done");
        machine.assert_runs(&new);
    }
}

#[test]
fn a_clock_that_is_set_changes_nothing() {
    let Some(library) = faketime() else {
        return;
    };
    for offset in ["-1d", "+1y"] {
        let scene = Scene::new("clock");
        let file = scene.path().join("clock");
        fs::write(&file, "+0").unwrap();
        let machine = Machine::running_this(&scene, &Package::agent(1), |chain| {
            chain
                .with_environment("LD_PRELOAD", &library)
                .with_environment("FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap())
                .with_environment("FAKETIME_NO_CACHE", "1")
                .with_environment("FAKETIME_DONT_FAKE_MONOTONIC", "1")
                .with_environment("DONT_FAKE_MONOTONIC", "1")
        });
        let new = Package::agent(2);
        machine.shelf.put(&new);
        machine.wait_for_state(&new, "probation");
        fs::write(&file, offset).unwrap();
        machine.wait_for_state(&new, "done");
        machine.assert_runs(&new);

        // And a bad one is still found out.
        let bad = Package::agent(3).acting_when_started("exec sleep 1234");
        machine.shelf.put(&bad);
        machine.assert_gone_back(&bad, &new, "did not come up");
    }
}

#[test]
fn the_watcher_may_die_and_goes_on_where_it_was() {
    let scene = Scene::new("watcher");
    let mut machine = Machine::running(&scene);
    let new = Package::agent(2);
    machine.shelf.put(&new);
    machine.wait_for_state(&new, "probation");
    machine.chain.kill_nine(Role::Launcher);
    machine.wait_for_state(&new, "done");
    machine.assert_runs(&new);
}

/// It holds the lock that every agent needs, and hears nothing.
const HANGS: &str = "exec 9>> .agent.running; flock 9; echo $$ > .agent.running; exec sleep 1234";

#[test]
fn one_that_hangs_is_ended_and_gone_back_from() {
    let scene = Scene::new("hangs");
    let machine = Machine::running(&scene);
    let new = Package::agent(2).acting_when_started(HANGS);
    machine.shelf.put(&new);
    machine.assert_gone_back(&new, &Package::agent(1), "did not come up");
}

#[test]
fn one_that_hangs_is_ended_by_the_next_launcher_too() {
    let scene = Scene::new("hangs-on");
    let mut machine = Machine::running(&scene);
    let new = Package::agent(2).acting_when_started(HANGS);
    machine.shelf.put(&new);
    let hanging = || {
        let mut all = scene.processes().into_iter();
        all.find(|process| process.arguments.contains(&"1234".to_owned()))
    };
    let first = wait_for("the agent hangs", hanging);
    machine.chain.kill_nine(Role::Launcher);
    machine.assert_gone_back(&new, &Package::agent(1), "did not come up");
    assert!(!processes::alive(first.pid));
}

/// Longer than an agent on probation may be silent in these tests.
pub(super) fn longer_than_any_silence() {
    let start = Instant::now();
    wait_until("more time has passed than an agent may be silent", || {
        start.elapsed() > Duration::from_secs(8)
    });
}

/// Every file below a folder with its content.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    found
}

/// The library that lets processes see another time, if it is here.
fn faketime() -> Option<String> {
    let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
    let path = format!("/usr/lib/{triplet}/faketime/libfaketimeMT.so.1");
    if !Path::new(&path).exists() {
        #[expect(clippy::print_stderr, reason = "why a test does nothing")]
        {
            eprintln!("skipped: libfaketime is not here (Debian: faketime)");
        }
        return None;
    }
    Some(path)
}
