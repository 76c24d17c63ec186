//! What tests install from registries of packages, once for each list of what is wanted.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use ring::digest::{SHA256, digest};

use crate::binaries::{folder, repository};

/// The `node_modules` with what the `package.json` in a folder of `tests` wants.
pub fn node_modules(list: &str, what: &str) -> PathBuf {
    let wanted = repository().join("tests").join(list).join("package.json");
    let name = if list == "clients" { "node" } else { list };
    let place = installed(name, &[&wanted], |place| {
        fs::copy(&wanted, place.join("package.json")).expect("the list");
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--no-package-lock"])
            .current_dir(place);
        install(npm, what);
    });
    place.join("node_modules")
}

/// A folder in which something was installed by `install`, once for what is in `lists`. Others
/// that want the same wait.
pub fn installed(name: &str, lists: &[&Path], install: impl FnOnce(&Path)) -> PathBuf {
    let mut content = Vec::new();
    for list in lists {
        content.extend(fs::read(list).expect("a list of packages"));
    }
    let mark = digest(&SHA256, &content);
    let mark: String = mark.as_ref()[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let target = folder()
        .parent()
        .expect("the folder of builds")
        .join("clients");
    let place = target.join(format!("{name}-{mark}"));
    fs::create_dir_all(&target).expect("a folder in target");
    let lock = File::create(target.join(format!("{name}.lock"))).expect("a folder in target");
    lock.lock().expect("a folder in target");
    let done = place.join("installed");
    if !done.exists() {
        if place.exists() {
            fs::remove_dir_all(&place).expect("a folder in target");
        }
        fs::create_dir(&place).expect("a folder in target");
        install(&place);
        File::create(&done)
            .and_then(|mut file| file.write_all(b"\n"))
            .expect("a folder in target");
    }
    place
}

/// Installs with a program of a registry. What it says when that cannot be reached is what the
/// test says.
pub fn install(mut command: Command, what: &str) {
    let output = command.output();
    let output = output.unwrap_or_else(|error| {
        panic!("cannot run {command:?}: {error}. `.ci/prepare test` installs what is missing")
    });
    assert!(
        output.status.success(),
        "cannot install {what}, which this test needs; is the registry reached?\n{command:?}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
