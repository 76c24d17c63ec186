//! Clients for GoCD, as they were published, against the server with an agent at work.
//!
//! They are installed from their registries into `target/clients`, once for each list of them.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
};

use journeyman_tests::{
    binaries::{folder, repository},
    chain::Chain,
    repo::Repo,
    scene::Scene,
    server::{PASSWORD, Server},
};
use pretty_assertions::assert_eq;
use reqwest::Method;
use ring::digest::{SHA256, digest};
use serde_json::Value;

const PIPELINES: &str = "\
format_version: 11
pipelines:
  shop:
    group: clients
    environment_variables: { GREETING: hello }
    secure_variables: { TOKEN: none }
    materials:
      source: { git: \"{url}\" }
    stages:
      - build:
          approval: manual
          jobs:
            unit:
              artifacts:
                - build: { source: out/*, destination: pkg }
              tasks:
                - script: |
                    mkdir -p out/deep
                    echo \"$GREETING\" > out/greeting.txt
                    echo deep > out/deep/file.txt
                    for i in 1 2 3; do echo \"line $i $TOKEN\"; done
      - check:
          approval: manual
          jobs: { breaks: { tasks: [ { script: exit 1 } ] } }
      - slow:
          approval: manual
          jobs: { wait: { tasks: [ { script: sleep 600 } ] } }
  calm:
    group: clients
    materials:
      source: { git: \"{url}\" }
    stages:
      - rest: { approval: manual, tasks: [ { script: \"true\" } ] }
environments:
  staging:
    pipelines: [calm]
";

/// The programs that use the clients.
fn programs() -> PathBuf {
    repository().join("tests/clients")
}

/// A server with pipelines and an agent.
struct Shop<'a> {
    scene: &'a Scene,
    server: Server<'a>,
    agent: Chain<'a>,
}

impl Drop for Shop<'_> {
    /// A job that a client has cancelled is over for the server before the agent hears of it, and
    /// an agent that is stopped then has a job to finish.
    fn drop(&mut self) {
        if !thread::panicking() {
            let uuid = self.agent.uuid();
            self.server.api().wait_for_agent(&uuid, "Enabled", "Idle");
        }
    }
}

impl<'a> Shop<'a> {
    fn open(scene: &'a Scene) -> Self {
        let server = Server::start(scene);
        let repo = Repo::new(scene, "shop.repo", PIPELINES);
        server.add_repo(&repo);
        let agent = Chain::install(scene, "agent", &server.http_url)
            .with_key("linux")
            .started();
        server
            .api()
            .wait_for_agent(&agent.uuid(), "Enabled", "Idle");
        Self {
            scene,
            server,
            agent,
        }
    }

    /// A program of ours with an interpreter.
    fn program(&self, interpreter: &Path, name: &str) -> Command {
        let mut command = self.scene.command(interpreter);
        command
            .arg(programs().join(name))
            .env("CLIENT_URL", &self.server.http_url)
            .env("CLIENT_USER", "admin")
            .env("CLIENT_PASSWORD", PASSWORD)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("NO_PROXY", "*");
        command
    }

    /// Runs another stage of the first run of `shop`, and waits for its result.
    fn run_stage(&self, stage: &str) -> String {
        let api = self.server.api();
        let path = format!("/api/stages/shop/1/{stage}/run");
        let answer = api.request(Method::POST, &path, None);
        assert_eq!(answer.status, 202, "{}", answer.body);
        api.wait_for_stage("shop", 1, stage)
    }
}

/// Runs a command that must succeed, and returns what it printed.
fn must(mut command: Command) -> String {
    let output = command.output();
    let output: Output = output.unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?} ended with {}\n{printed}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    printed
}

/// A folder in which something was installed by `install`, once for what is in `lists`. Others
/// that want the same wait.
fn installed(name: &str, lists: &[&str], install: impl FnOnce(&Path)) -> PathBuf {
    let mut content = Vec::new();
    for list in lists {
        content.extend(fs::read(programs().join(list)).unwrap());
    }
    let mark = digest(&SHA256, &content);
    let mark: String = mark.as_ref()[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let target = folder().parent().unwrap().join("clients");
    let place = target.join(format!("{name}-{mark}"));
    fs::create_dir_all(&target).unwrap();
    let lock = File::create(target.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    let done = place.join("installed");
    if !done.exists() {
        if place.exists() {
            fs::remove_dir_all(&place).unwrap();
        }
        fs::create_dir(&place).unwrap();
        install(&place);
        File::create(&done)
            .and_then(|mut file| file.write_all(b"\n"))
            .unwrap();
    }
    place
}

/// Installs with a program of a registry. What it says when that cannot be reached is what the
/// test says.
fn install(mut command: Command, what: &str) {
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

/// A Python with the clients of PyPI.
fn python() -> PathBuf {
    let place = installed("python", &["requirements.txt"], |place| {
        let mut venv = Command::new("python3");
        venv.args(["-m", "venv"]).arg(place.join("venv"));
        install(venv, "a virtual environment of Python");
        let mut pip = Command::new(place.join("venv/bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--requirement"])
            .arg(programs().join("requirements.txt"));
        install(pip, "yagocd and gocd from PyPI");
    });
    place.join("venv/bin/python")
}

/// The `node_modules` with the clients of npm.
fn node_modules() -> PathBuf {
    let place = installed("node", &["package.json"], |place| {
        fs::copy(programs().join("package.json"), place.join("package.json")).unwrap();
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--no-package-lock"])
            .current_dir(place);
        install(npm, "gocd-api and gocd from npm");
    });
    place.join("node_modules")
}

#[test]
fn yagocd_works() {
    let python = python();
    let scene = Scene::new("yagocd");
    let shop = Shop::open(&scene);
    let said = must(shop.program(&python, "yagocd_smoke.py"));
    assert_eq!(said, "yagocd: all as it should be\n");
}

#[test]
fn py_gocd_works() {
    let python = python();
    let scene = Scene::new("py-gocd");
    let shop = Shop::open(&scene);
    let said = must(shop.program(&python, "py_gocd_smoke.py"));
    assert_eq!(said, "py-gocd: all as it should be\n");
}

#[test]
fn readers_of_cctray_and_the_gocd_api_of_npm_work() {
    let (python, modules) = (python(), node_modules());
    let scene = Scene::new("gocd-api");
    let shop = Shop::open(&scene);
    let api = shop.server.api();
    api.trigger("shop");
    assert_eq!(api.wait_for_stage("shop", 1, "build"), "Passed");
    let mut program = shop.program(Path::new("node"), "gocd_api_smoke.js");
    let said = must({
        program.env("CLIENT_MODULES", &modules);
        program
    });
    assert!(said.ends_with("gocd-api: all as it should be\n"), "{said}");
    assert_eq!(shop.run_stage("check"), "Failed");
    let said = must(shop.program(&python, "cctray_check.py"));
    assert_eq!(said, "cctray: all as it should be\n");
}

#[test]
fn the_gocd_command_of_npm_works() {
    let modules = node_modules();
    let scene = Scene::new("gocd-command");
    let shop = Shop::open(&scene);
    let home = scene.folder("home");
    let gocd = |arguments: &[&str]| {
        // It finds its own parts only from there.
        let mut command = scene.command(Path::new("node"));
        command
            .arg("index.js")
            .args(arguments)
            .current_dir(modules.join("gocd"))
            .env("HOME", &home)
            .env("NO_PROXY", "*");
        must(command)
    };
    let json = |arguments: &[&str]| -> Value {
        let text = gocd(arguments);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
    };
    fs::create_dir_all(home.join(".gocd_cli")).unwrap();
    let url = &shop.server.http_url;
    gocd(&["configure", "-l", url, "-u", "admin", "-p", PASSWORD]);
    let agents = json(&["list", "agents"]);
    let agent = &agents["_embedded"]["agents"][0];
    assert_eq!(agent["agent_state"], "Idle");
    assert_eq!(agent["resources"], serde_json::json!(["linux"]));
    let environments = json(&["list", "environments"]);
    let environment = &environments["_embedded"]["environments"][0];
    assert_eq!(environment["name"], "staging");
    assert_eq!(environment["pipelines"][0]["name"], "calm");
    let pipeline = json(&["get", "pipeline", "--name", "shop"]);
    assert_eq!(pipeline["stages"][0]["jobs"][0]["name"], "unit");
    let triggered = json(&["trigger", "pipeline", "--name", "shop"]);
    let message = triggered["message"].as_str().unwrap();
    assert!(message.contains("shop"), "{message}");
    assert_eq!(
        shop.server.api().wait_for_stage("shop", 1, "build"),
        "Passed"
    );
    let status = json(&["status", "pipeline", "--name", "shop"]);
    assert_eq!(status["status"], "Success");
    assert_eq!(status["stageName"], "build");
}
