//! Clients for GoCD, as they were published, against the server with an agent at work.
//!
//! They are installed from their registries into `target/clients`, once for each list of them.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
};

use journeyman_tests::{
    binaries::repository,
    chain::Chain,
    installed,
    repo::Repo,
    scene::Scene,
    server::{PASSWORD, Server},
};
use pretty_assertions::assert_eq;
use reqwest::Method;
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

/// A Python with the clients of PyPI.
fn python() -> PathBuf {
    let place = installed::installed("python", &[&programs().join("requirements.txt")], |place| {
        let mut venv = Command::new("python3");
        venv.args(["-m", "venv"]).arg(place.join("venv"));
        installed::install(venv, "a virtual environment of Python");
        let mut pip = Command::new(place.join("venv/bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--requirement"])
            .arg(programs().join("requirements.txt"));
        installed::install(pip, "yagocd and gocd from PyPI");
    });
    place.join("venv/bin/python")
}

/// The `node_modules` with the clients of npm.
fn node_modules() -> PathBuf {
    installed::node_modules("clients", "gocd-api and gocd from npm")
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
    std::fs::create_dir_all(home.join(".gocd_cli")).unwrap();
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
