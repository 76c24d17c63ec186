//! A running job notices nothing of what happens to its agent.

use std::{fs, path::PathBuf};

use journeyman_tests::{
    api::Job,
    console::assert_counts_to,
    package::Package,
    patience::wait_until,
    processes::{self, Role},
    repo::Repo,
    scene::Scene,
};
use pretty_assertions::assert_eq;

use super::{Machine, probation::longer_than_any_silence};

const LAST: u64 = 400;

/// A job that counts on and on, until it is let go.
struct Running {
    job: Job,
    runner: i32,
    go: PathBuf,
}

impl Running {
    fn on(machine: &Machine, scene: &Scene) -> Self {
        let go = scene.path().join("go");
        let repo = Repo::with_pipeline(
            scene,
            "count",
            &format!(
                "count:\n  tasks:\n    - exec:\n        command: sh\n        arguments: [-c, \
                 \"i=0; until [ $i = {half} ]; do i=$((i+1)); echo line $i; done; \
                 until [ -e {go} ]; do sleep 0.05; done; \
                 until [ $i = {LAST} ]; do i=$((i+1)); echo line $i; done\"]\n",
                half = LAST / 2,
                go = go.display(),
            ),
        );
        machine.server.add_repo(&repo);
        let job = Job::new("count", machine.server.api().trigger("count"), "count");
        machine
            .server
            .api()
            .wait_for_output(&job, &format!("line {}", LAST / 2));
        Self {
            job,
            runner: machine.chain.pid(Role::Runner),
            go,
        }
    }

    fn let_go_on(&self) {
        fs::write(&self.go, "").unwrap();
    }

    fn assert_passes_whole(&self, machine: &Machine) {
        assert!(processes::alive(self.runner), "the same runner all along");
        self.let_go_on();
        let state = machine.server.api().wait_for_result(&self.job);
        let console = machine.server.api().console(&self.job);
        assert_eq!(state.result, "Passed", "{console}");
        assert_eq!(state.agent.as_ref(), Some(&machine.uuid));
        assert_counts_to(&console, LAST);
    }
}

#[test]
fn a_job_runs_through_an_upgrade() {
    let scene = Scene::new("job-up");
    let machine = Machine::running(&scene);
    let running = Running::on(&machine, &scene);
    let new = Package::agent(2);
    machine.shelf.put(&new);
    machine.wait_for_state(&new, "done");
    running.assert_passes_whole(&machine);
    machine.assert_runs(&new);
}

#[test]
fn a_job_ends_well_when_its_new_agent_stops_and_the_server_is_away() {
    let scene = Scene::new("job-stop");
    let mut machine = Machine::running(&scene);
    let running = Running::on(&machine, &scene);
    let new = Package::agent(2);
    machine.shelf.put(&new);
    machine.wait_for_state(&new, "probation");
    machine.chain.wait_until_said("the agent is on probation");
    let agent = machine.chain.pid(Role::Agent);
    machine.chain.ask_to_stop();
    machine.chain.wait_until_said("asked to stop requests=1");
    machine.server.kill_nine();
    longer_than_any_silence();
    assert_eq!(machine.chain.pid(Role::Agent), agent);
    machine.server.start_again();
    running.assert_passes_whole(&machine);
    let status = machine.chain.wait_for_end();
    assert!(status.success(), "{status}");
    assert_eq!(machine.record()["agent"]["upgrade"]["state"], "probation");
}

#[test]
fn a_job_runs_through_an_upgrade_and_the_way_back() {
    let scene = Scene::new("job-back");
    let machine = Machine::running(&scene);
    let running = Running::on(&machine, &scene);
    let new = Package::agent(2).acting_when_started(
        "(sleep 0.6; kill -9 $$) < /dev/null > /dev/null 2>&1 & really \"$@\"",
    );
    machine.shelf.put(&new);
    machine.wait_for_state(&new, "rolledBack");
    running.assert_passes_whole(&machine);
    machine.assert_runs(&Package::agent(1));
}

#[test]
fn a_runner_that_dies_on_probation_fails_its_job_and_nothing_else() {
    let scene = Scene::new("job-dies");
    let mut machine = Machine::running(&scene);
    let running = Running::on(&machine, &scene);
    let new = Package::agent(2);
    machine.shelf.put(&new);
    machine.wait_for_state(&new, "probation");
    assert_eq!(machine.chain.kill_nine(Role::Runner), running.runner);
    let state = machine.server.api().wait_for_result(&running.job);
    assert_eq!(state.result, "Failed");
    machine.wait_for_state(&new, "done");
    machine.assert_runs(&new);
}

#[test]
fn a_release_in_use_is_not_removed() {
    let scene = Scene::new("in-use");
    let mut machine = Machine::running(&scene);
    let running = Running::on(&machine, &scene);
    let releases = [1, 2, 3].map(Package::agent);
    for new in &releases[1..] {
        machine.shelf.put(new);
        machine.wait_for_state(new, "done");
    }
    let names = |releases: &[Package]| {
        let mut names: Vec<_> = releases.iter().map(Package::folder_name).collect();
        names.sort();
        names
    };
    assert_eq!(machine.installed(), names(&releases), "the job's as well");
    running.assert_passes_whole(&machine);
    // The next launcher finds nobody in it any more.
    machine.wait_until_idle();
    wait_until("the runner is gone", || !processes::alive(running.runner));
    machine.chain.kill_nine(Role::Launcher);
    wait_until("the current and the previous release are left", || {
        machine.installed() == names(&releases[1..])
    });
    machine.assert_runs(&releases[2]);
}
