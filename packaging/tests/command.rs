//! The program as an operator runs it, from the keys to the verified packages.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{fs, path::Path, process::Command};

use tempfile::TempDir;

/// Whether the program succeeded, and all it said.
fn run(folder: &Path, words: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_journeyman-package"))
        .args(words)
        .current_dir(folder)
        .env_remove("JOURNEYMAN_BUILD")
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

fn programs() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("bin")).unwrap();
    for name in ["launcher", "agent", "bootstrapper"] {
        fs::write(folder.path().join(format!("bin/journeyman-{name}")), name).unwrap();
    }
    folder
}

const BUILD: [&str; 5] = ["build", "--bin-dir", "bin", "--out", "out"];

#[test]
fn a_release_is_built_signed_and_verified() {
    let folder = programs();
    let run = |words: &[&str]| {
        let (success, said) = run(folder.path(), words);
        assert!(success, "{said}");
        said
    };
    run(&["keygen", "--out", "a.key"]);
    run(&["keygen", "--out", "b.key"]);
    let options = [
        "--build",
        "17",
        "--version",
        "2.1.0-rc1",
        "--release-key",
        "a.key.pub",
        "--release-key",
        "b.key.pub",
        "--retire-key",
        "0123456789abcdef",
    ];
    let written = run(&[BUILD.as_slice(), &options].concat());
    let packages: Vec<&str> = written.lines().take(3).collect();
    run(&[["sign", "--key", "a.key"].as_slice(), &packages].concat());
    let said = run(&[
        ["verify", "--key", "b.key.pub", "--key", "a.key.pub"].as_slice(),
        &packages,
    ]
    .concat());
    assert!(
        said.contains("the agent 2.1.0-rc1 (build 17), signed by"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 3);
    let launcher = fs::read(folder.path().join("out/journeyman-bootstrapper")).unwrap();
    let launcher = String::from_utf8_lossy(&launcher);
    assert_eq!(launcher.matches("\nrelease-key: ").count(), 2, "{launcher}");
}

#[test]
fn what_is_wrong_is_named() {
    let folder = programs();
    let refused = |words: &[&str], word: &str| {
        let (success, said) = run(folder.path(), words);
        assert!(!success && said.contains(word), "{said}");
    };
    assert!(run(folder.path(), &["keygen", "--out", "a.key"]).0);
    assert!(run(folder.path(), &["keygen", "--out", "b.key"]).0);
    assert!(run(folder.path(), &BUILD).0);
    let agent = &format!("out/agent-{}.tar.zst", journeyman_packaging::PLATFORM);
    refused(&["keygen", "--out", "a.key"], "a.key exists already");
    refused(&["verify", "--key", "a.key.pub", agent], "is not signed");
    assert!(run(folder.path(), &["sign", "--key", "a.key", agent]).0);
    refused(
        &["verify", "--key", "b.key.pub", agent],
        "none of the given keys",
    );
    refused(&["verify", "--key", "a.key", agent], "give the .pub file");
    refused(
        &["sign", "--key", "a.key.pub", agent],
        "not the one that ends in .pub",
    );
    refused(&["sign", "--key", "a.key", "a.key"], "is not a package");
    refused(&["sign", "--key", "a.key"], "PACKAGE");
    let build = |more: &[&'static str]| [BUILD.as_slice(), more].concat();
    refused(&build(&["--version", "1 2"]), "letters, digits");
    refused(&build(&["--retire-key", "ABC"]), "16 digits");
    refused(&build(&["--release-key", "a.key"]), "give the .pub file");
}
