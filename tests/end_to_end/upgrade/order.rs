//! What is newer, and several releases one after another.

use journeyman_tests::{gate::Where, package::Package, scene::Scene};
use pretty_assertions::assert_eq;

use super::{Machine, is_package};

#[test]
fn a_release_that_comes_while_another_is_downloaded_is_taken_in_the_end() {
    let scene = Scene::new("two");
    let machine = Machine::running(&scene);
    let hold = machine
        .gate
        .hold(Where::Answer, |seen| is_package(&seen.path));
    machine.shelf.put(&Package::agent(2));
    hold.wait_until_reached();
    let last = Package::agent(3);
    machine.shelf.put(&last);
    drop(hold);
    machine.wait_for_state(&last, "done");
    machine.assert_runs(&last);
}

#[test]
fn a_release_that_comes_while_another_is_on_probation_is_taken_in_the_end() {
    let scene = Scene::new("two-probations");
    let machine = Machine::running(&scene);
    let second = Package::agent(2);
    machine.shelf.put(&second);
    machine.wait_for_state(&second, "probation");
    let bad = Package::agent(3).acting_when_started("exit 3");
    machine.shelf.put(&bad);
    machine.wait_for_state(&bad, "rolledBack");
    // Never to one that has not proved itself.
    let current = machine.current();
    let good = [Package::agent(1), second].map(|package| package.folder_name());
    assert!(good.contains(&current), "{current}");
    let last = Package::agent(4);
    machine.shelf.put(&last);
    machine.wait_for_state(&last, "done");
    machine.assert_runs(&last);
}

#[test]
fn newer_is_what_was_built_later_whatever_its_version() {
    let scene = Scene::new("newer");
    let first = Package::agent(5).with_version("10.9.0");
    let machine = Machine::running_this(&scene, &first, |chain| chain);
    let older = Package::agent(4).with_version("11.0.0");
    machine.shelf.put(&older);
    machine.wait_for_questions(4);
    assert_eq!(machine.current(), first.folder_name());
    let newer = Package::agent(6).with_version("10.8.5");
    machine.shelf.put(&newer);
    machine.wait_for_state(&newer, "done");
    machine.assert_runs(&newer);
}
