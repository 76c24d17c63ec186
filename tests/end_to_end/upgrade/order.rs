//! What is newer, and several releases one after another.

use std::fs;

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
    let newer = Package::agent(6).with_version("10.8.5");
    machine.shelf.put(&newer);
    machine.wait_for_state(&newer, "done");
    machine.assert_runs(&newer);
}

#[test]
fn an_older_release_comes_only_on_the_administrators_word() {
    let scene = Scene::new("older");
    let newer = Package::agent(5);
    let machine = Machine::running_this(&scene, &newer, |chain| chain);
    let older = Package::agent(4).with_version("11.0.0");
    machine.add_and_offer(&older, &[]);
    machine.wait_for_questions(4);
    assert_eq!(machine.current(), newer.folder_name());
    machine.add_and_offer(&older, &["--downgrade"]);
    machine.wait_for_state(&older, "done");
    machine.assert_runs(&older);
}

#[test]
fn the_oldest_release_is_upgraded_to_the_newest_and_back() {
    let scene = Scene::new("oldest");
    let oldest = Package::oldest_agent(1);
    let machine = Machine::running_this(&scene, &oldest, |chain| chain);
    let cookie = machine.chain.folder().join("config/cookie");
    assert!(cookie.exists(), "its state has format 1");
    assert!(
        !machine
            .chain
            .folder()
            .join("state")
            .join(oldest.folder_name())
            .exists()
    );
    let before = fs::read(&cookie).unwrap();

    let newest = Package::agent(2);
    machine.shelf.put(&newest);
    machine.wait_for_state(&newest, "done");
    machine.assert_runs(&newest);
    let state = machine
        .chain
        .folder()
        .join("state")
        .join(newest.folder_name());
    assert!(state.join("state.json").exists(), "migrated");
    assert_eq!(fs::read(&cookie).unwrap(), before, "only a copy of it");

    machine.add_and_offer(&oldest, &["--downgrade"]);
    machine.wait_for_state(&oldest, "done");
    machine.assert_runs(&oldest);
}
