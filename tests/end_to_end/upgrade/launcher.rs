//! The launcher is replaced, too, and comes back when the new one is bad.

use journeyman_protocol::release::Component;
use journeyman_tests::{package::Package, patience::wait_until, processes::Role, scene::Scene};
use pretty_assertions::assert_eq;

use super::Machine;

/// It works: its bootstrapper heard so.
fn prove_the_launcher(machine: &mut Machine) {
    machine.chain.kill_nine(Role::Agent);
    machine
        .chain
        .wait_until_said("the launcher ended: exit status: 61");
    machine.wait_until_idle();
}

#[test]
fn a_newer_launcher_takes_the_place_of_the_old_one() {
    let scene = Scene::new("launcher");
    let machine = Machine::running(&scene);
    let launcher = machine.chain.pid(Role::Launcher);
    machine.shelf.put(&Package::launcher(7));
    wait_until("the newer launcher says so", || {
        machine.reports().last().is_some_and(|report| {
            let launcher = report.launcher.as_ref();
            launcher.is_some_and(|launcher| launcher.build == 7)
        })
    });
    assert!(machine.chain.pid(Role::Launcher) != launcher);
    machine.assert_runs(&Package::agent(1));
}

#[test]
fn a_launcher_that_crashes_at_start_is_gone_back_from() {
    let scene = Scene::new("bad-launcher");
    let mut machine = Machine::running(&scene);
    prove_the_launcher(&mut machine);
    let bad = Package::starting(Component::Launcher, 7, "echo 'no such luck' >&2; exit 1");
    machine.shelf.put(&bad);
    wait_until("the server hears that the launcher is bad", || {
        machine.reports().last().is_some_and(|report| {
            report
                .bad
                .iter()
                .any(|bad| bad.component == Component::Launcher && bad.build.build == 7)
        })
    });
    machine.assert_runs(&Package::agent(1));
    let launcher = machine.chain.pid(Role::Launcher);
    machine.wait_for_questions(3);
    assert_eq!(
        machine.chain.pid(Role::Launcher),
        launcher,
        "not tried again"
    );
    // A better release is taken.
    machine.shelf.put(&Package::launcher(8));
    let new = Package::agent(2);
    machine.shelf.put(&new);
    // What is told of is the launcher, which is on probation itself.
    wait_until("the new agent runs and has proved itself", || {
        machine.record()["agent"]["upgrade"]["state"] == "done"
            && machine.current() == new.folder_name()
    });
    machine.assert_runs(&new);
}
