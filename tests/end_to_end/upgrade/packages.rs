//! Packages that are not what they should be: the old agent goes on, and the server hears why.

use journeyman_packaging::{keygen, public_path};
use journeyman_protocol::release::Component;
use journeyman_tests::{
    package::{Package, noise},
    patience::wait_until,
    processes::Role,
    scene::Scene,
};
use pretty_assertions::assert_eq;

use super::Machine;

/// Offers a package and expects it to be refused for a reason that has these words.
fn assert_refused(machine: &Machine, package: &Package, offer: impl FnOnce(), why: &str) {
    let agent = machine.chain.pid(Role::Agent);
    offer();
    let report = machine.wait_for_state(package, "failed");
    let reason = report.upgrade.unwrap().reason.unwrap();
    assert!(reason.contains(why), "{reason}");
    machine.wait_until_idle();
    wait_until("the server shows the reason", || {
        let known = machine.server.api().agent(&machine.uuid).unwrap();
        let told = known["journeyman"]["upgrade"]["reason"].as_str();
        told.is_some_and(|told| told.contains(why))
    });
    assert_eq!(machine.chain.pid(Role::Agent), agent, "it never stopped");
    assert_eq!(machine.current(), Package::agent(1).folder_name());
}

#[test]
fn a_package_that_a_stranger_signed_is_refused() {
    let scene = Scene::new("stranger");
    let key = keygen(&scene.path().join("ours")).unwrap();
    let stranger = keygen(&scene.path().join("stranger")).unwrap();
    let machine = Machine::running_this(&scene, &Package::agent(1), |chain| {
        // Trust begins with the next start of a launcher.
        chain
    });
    let trusted = machine
        .chain
        .folder()
        .join("config/journeyman/release-keys");
    std::fs::create_dir_all(&trusted).unwrap();
    std::fs::copy(
        public_path(&scene.path().join("ours")),
        trusted.join("ours.pub"),
    )
    .unwrap();
    let new = Package::agent(2);
    assert_refused(
        &machine,
        &new,
        || machine.shelf.put_signed(&new, &stranger),
        stranger.public().id(),
    );
    let unsigned = Package::agent(3);
    assert_refused(
        &machine,
        &unsigned,
        || machine.shelf.put_unsigned(&unsigned),
        "sign",
    );
    let good = Package::agent(4);
    machine.shelf.put_signed(&good, &key);
    machine.wait_for_state(&good, "done");
    machine.assert_runs(&good);
}

#[test]
fn a_package_that_is_altered_on_its_way_is_refused() {
    let scene = Scene::new("altered");
    let machine = Machine::running(&scene);
    let new = Package::agent(2).with_file("lib/noise", 0o644, &noise(300_000));
    // Each attempt.
    let _altered = machine
        .gate
        .spoil_all(|seen| seen.path.contains("/admin/journeyman/packages/"));
    assert_refused(&machine, &new, || machine.shelf.put(&new), "announced");
}

#[test]
fn a_package_with_a_path_outside_is_refused() {
    let scene = Scene::new("outside");
    let machine = Machine::running(&scene);
    let new = Package::agent(2).with_unannounced("../../escaped", b"x");
    assert_refused(&machine, &new, || machine.shelf.put(&new), "escaped");
    assert!(!machine.chain.folder().join("escaped").exists());
    let new = Package::agent(3).with_unannounced("more", b"x");
    assert_refused(&machine, &new, || machine.shelf.put(&new), "more");
}

#[test]
fn a_package_without_a_way_to_take_over_is_refused() {
    let scene = Scene::new("no-entry");
    let machine = Machine::running(&scene);
    let mut new = Package::agent(2);
    new.manifest.entry_points.take_over = None;
    assert_refused(&machine, &new, || machine.shelf.put(&new), "take over");
    let mut new = Package::agent(3);
    new.manifest.protocols = vec!["launcher-2".to_owned()];
    assert_refused(&machine, &new, || machine.shelf.put(&new), "launcher-1");
    assert_eq!(new.manifest.component, Component::Agent);
}
