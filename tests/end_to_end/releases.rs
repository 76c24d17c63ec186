//! Releases as an administrator has them: added, offered and withdrawn on the command line.

use std::fs;

use journeyman_packaging::{Build, keygen, package_name, sign};
use journeyman_protocol::release::Component;
use journeyman_tests::{package::Package, releases::Releases, scene::Scene, server::Server};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

#[test]
fn an_administrator_adds_offers_and_withdraws_a_release() {
    let scene = Scene::new("admin");
    let empty = scene.folder("empty");
    let server = Server::start_with(&scene, "server", &["--releases", empty.to_str().unwrap()]);
    let list = || -> Vec<Value> {
        serde_json::from_str(&server.must_cli(&["releases", "list", "--json"])).unwrap()
    };
    assert!(list().is_empty());

    let folder = scene.folder("packages");
    let key = keygen(&folder.join("release.key")).unwrap();
    let mut files = Vec::new();
    for package in [Package::launcher(9), Package::agent(9)] {
        let path = folder.join(package.name());
        fs::write(&path, package.bytes()).unwrap();
        files.push(path.to_str().unwrap().to_owned());
    }
    let add = ["releases", "add", &files[0], &files[1]];
    let said = server.must_cli(&add);
    assert!(
        said.contains("added the launcher") && said.contains("not signed"),
        "{said}"
    );
    // The same package with a signature is the same package, signed.
    sign(&key, files[1].as_ref()).unwrap();
    let said = server.must_cli(&add);
    assert!(said.contains("had already the launcher"), "{said}");
    assert!(
        said.contains("added the agent") && said.contains("signed by 1 key"),
        "{said}"
    );

    let id = list()[0]["id"].as_str().unwrap().to_owned();
    let refused = |arguments: &[&str], wanted: &str| {
        let output = server.cli(arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(wanted), "{arguments:?}: {text}");
    };
    refused(
        &["releases", "offer", "7.7.7-7"],
        "`releases list` shows all",
    );
    refused(&["releases", "offer", &id, "--to", "friends"], "percent=N");
    refused(&["releases", "offer", &id, "--over", "soon"], "90s");
    refused(&["releases", "withdraw", &id], "is not offered");
    refused(&["releases", "add", "/nowhere.tar.zst"], "/nowhere.tar.zst");
    refused(&["releases", "add", empty.to_str().unwrap()], "not a file");

    let output = server.cli(&[
        "releases",
        "offer",
        &id,
        "--to",
        "agents=nobody",
        "--over",
        "2h",
    ]);
    assert!(output.status.success(), "{output:?}");
    let warning = String::from_utf8_lossy(&output.stderr);
    assert!(
        warning.contains("no agent has the uuid or host name nobody"),
        "{warning}"
    );
    refused(&["releases", "delete", &id], "withdraw it");
    let shown = server.must_cli(&["releases", "show", &id]);
    assert!(
        shown.contains("120 min 00 s") && shown.contains("stops at 20%"),
        "{shown}"
    );
    server.must_cli(&["releases", "withdraw", &id]);
    let table = server.must_cli(&["releases", "list"]);
    assert!(table.contains("withdrawn by an administrator"), "{table}");
    server.must_cli(&["releases", "delete", &id]);
    assert!(list().is_empty());

    // What packaging makes is taken as it is.
    let packages = Releases::of_this_run();
    let name = package_name(Component::Agent, &Build::new(0));
    let path = packages.folder.join(name);
    server.must_cli(&["releases", "add", path.to_str().unwrap()]);
    assert_eq!(list()[0]["packages"][0]["component"], json!("agent"));
}
