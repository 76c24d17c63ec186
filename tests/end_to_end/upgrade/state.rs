//! Files that a crash or a disk has spoilt, and disks that are full.

use std::{fs, path::Path};

use journeyman_tests::{
    package::{Package, noise},
    patience::wait_until,
    processes::Role,
    scene::Scene,
};
use pretty_assertions::assert_eq;

use super::Machine;
use crate::bad_input::Mount;

#[test]
fn files_that_make_no_sense_are_set_aside_and_told() {
    let scene = Scene::new("garbage");
    let mut machine = Machine::running(&scene);
    let new = Package::agent(2);
    machine.shelf.put(&new);
    machine.wait_for_state(&new, "done");
    machine.chain.stop();
    let folder = machine.chain.folder().to_owned();
    let state = format!("state/{}/state.json", new.folder_name());
    for name in ["releases/upgrade.json", "releases/bad.json", &state] {
        fs::write(folder.join(name), b"\x00\x00\xff{").unwrap();
    }
    machine.chain.start();
    machine.assert_runs(&new);
    wait_until("all that was set aside is on the server", || {
        machine.reports().last().is_some_and(|report| {
            let aside = &report.set_aside;
            ["upgrade.json", "bad.json", "state.json"]
                .iter()
                .all(|name| aside.iter().any(|aside| aside.contains(name)))
        })
    });
    for name in ["releases/upgrade.json", "releases/bad.json"] {
        let aside = format!("{name}.corrupt");
        assert!(folder.join(&aside).exists(), "no {aside}");
    }
    let mut both = [Package::agent(1), new].map(|package| package.folder_name());
    both.sort();
    assert_eq!(machine.installed(), both, "there is one to go back to");
    // And it can be upgraded.
    let next = Package::agent(3);
    machine.shelf.put(&next);
    machine.wait_for_state(&next, "done");
    machine.assert_runs(&next);
}

#[test]
fn a_disk_without_the_room_for_a_release_is_named_before_the_download() {
    let scene = Scene::new("room");
    let Some(_mount) = Mount::tmpfs(scene.folder("agent"), "size=250m") else {
        return;
    };
    let machine = Machine::running(&scene);
    let agent = machine.chain.pid(Role::Agent);
    fill(machine.chain.folder());
    let new = Package::agent(2).with_file("lib/noise", 0o644, &noise(3_000_000));
    machine.shelf.put(&new);
    let report = machine.wait_for_state(&new, "failed");
    let reason = report.upgrade.unwrap().reason.unwrap();
    assert!(reason.contains("space"), "{reason}");
    assert!(
        !machine
            .gate
            .seen()
            .iter()
            .any(|seen| seen.path.contains(&report_path(&new))),
        "it was not begun"
    );
    assert_eq!(machine.chain.pid(Role::Agent), agent);
    fs::remove_file(machine.chain.folder().join("filler")).unwrap();
    machine.wait_for_state(&new, "done");
    machine.assert_runs(&new);
}

fn report_path(package: &Package) -> String {
    journeyman_tests::package::sha256(&package.bytes())
}

/// Leaves 1 MB.
fn fill(folder: &Path) {
    let mut file = fs::File::create(folder.join("filler")).unwrap();
    std::io::copy(&mut std::io::repeat(1), &mut file).unwrap_err();
    let length = file.metadata().unwrap().len();
    file.set_len(length - 1_000_000).unwrap();
}
