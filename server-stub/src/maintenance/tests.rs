use std::sync::Arc;

use journeyman_protocol::job::JobResult;
use pretty_assertions::assert_eq;
use reqwest::{Client, Method, Response};
use serde_json::Value;

use crate::{
    clock::SystemClock,
    configuration::Configuration,
    health,
    scheduling::{
        assign,
        tests::{Scene, serve_with},
    },
    users::Login,
};

const YAML: &str = "format_version: 11
pipelines:
  web:
    group: apps
    materials: { src: { type: configrepo } }
    stages:
      - build: { approval: manual, jobs: { unit: { tasks: [ { script: make } ] } } }
      - ship: { jobs: { push: { tasks: [ { script: make } ] } } }
";

async fn call(scene: &Scene, method: &str, path: &str) -> Response {
    let method: Method = method.parse().unwrap();
    let url = format!("{}{path}", scene.app().endpoints.http_url);
    let request = Client::new().request(method, url);
    let request = request.header("X-GoCD-Confirm", "true");
    request.send().await.unwrap()
}

async fn status(scene: &Scene, method: &str, path: &str) -> u16 {
    call(scene, method, path).await.status().as_u16()
}

async fn json(scene: &Scene, path: &str) -> Value {
    call(scene, "GET", path).await.json().await.unwrap()
}

const ENABLE: &str = "/api/admin/maintenance_mode/enable";
const DISABLE: &str = "/api/admin/maintenance_mode/disable";
const INFO: &str = "/api/admin/maintenance_mode/info";

#[tokio::test]
async fn in_maintenance_what_runs_goes_on_and_nothing_else_begins() {
    let scene = Scene::with(YAML).await;
    let info = json(&scene, INFO).await;
    assert_eq!(info["is_maintenance_mode"], false);
    assert!(info.get("attributes").is_none(), "{info}");
    assert_eq!(status(&scene, "POST", DISABLE).await, 409);
    let schedule = "/api/pipelines/web/schedule";
    // A job of a second stage runs, another waits.
    assert_eq!(status(&scene, "POST", schedule).await, 202);
    let agent = scene.agent("a", &[], &[]).await;
    let job = scene.take(&agent).await;
    scene.complete(&agent, &job, JobResult::Passed).await;
    let job = scene.take(&agent).await;
    assert_eq!(status(&scene, "POST", schedule).await, 202);

    assert_eq!(status(&scene, "POST", ENABLE).await, 204);
    let again = call(&scene, "POST", ENABLE).await;
    assert_eq!(again.status(), 409);
    let told: Value = again.json().await.unwrap();
    assert!(
        told["message"].as_str().unwrap().contains("already"),
        "{told}"
    );
    let info = json(&scene, INFO).await;
    assert_eq!(info["is_maintenance_mode"], true);
    assert_eq!(info["metadata"]["updated_by"], "anonymous");
    let running = &info["attributes"]["running_systems"];
    assert_eq!(info["attributes"]["has_running_systems"], true);
    assert_eq!(running["building_jobs"][0]["agent_uuid"], "a");
    assert_eq!(running["building_jobs"][0]["stage_name"], "ship");
    assert_eq!(running["scheduled_jobs"][0]["name"], "unit");
    assert_eq!(running["scheduled_jobs"][0]["agent_uuid"], Value::Null);

    // People are refused but where it makes things quieter, and told so everywhere.
    let refused = call(&scene, "POST", schedule).await;
    assert_eq!(refused.status(), 503);
    let told: Value = refused.json().await.unwrap();
    assert_eq!(
        told["message"],
        "Server is in maintenance mode, please try later."
    );
    assert_eq!(status(&scene, "POST", "/pipelines/web/trigger").await, 503);
    let page = call(&scene, "GET", "/pipelines")
        .await
        .text()
        .await
        .unwrap();
    assert!(page.contains("in maintenance"), "{page}");
    assert_eq!(health::list(scene.app()).len(), 1);
    let other = scene.agent("b", &[], &[]).await;
    assert!(assign(scene.app(), &other).await.unwrap().is_none());

    // What runs ends, and what follows waits.
    scene.complete(&agent, &job, JobResult::Passed).await;
    assert_eq!(scene.view(1).await.state(), "Passed");
    assert_eq!(
        status(&scene, "POST", "/api/stages/web/2/build/1/cancel").await,
        200
    );
    assert_eq!(status(&scene, "POST", DISABLE).await, 204);
    assert!(health::list(scene.app()).is_empty());
    assert_eq!(status(&scene, "POST", schedule).await, 202);
    assert!(assign(scene.app(), &other).await.unwrap().is_some());
}

#[tokio::test]
async fn a_stage_that_follows_begins_when_maintenance_is_over() {
    let scene = Scene::with(YAML).await;
    scene.trigger().await;
    let agent = scene.agent("a", &[], &[]).await;
    let job = scene.take(&agent).await;
    assert_eq!(status(&scene, "POST", ENABLE).await, 204);
    scene.complete(&agent, &job, JobResult::Passed).await;
    let waits = async || scene.view(1).await.run.waiting_stage;
    assert_eq!(waits().await.as_deref(), Some("ship"));
    assert_eq!(status(&scene, "POST", DISABLE).await, 204);
    assert_eq!(waits().await, None);
    assert!(assign(scene.app(), &agent).await.unwrap().is_some());
}

#[tokio::test]
async fn maintenance_is_not_over_because_the_server_was() {
    let data = tempfile::tempdir().unwrap();
    let start = async || {
        let clock = Arc::new(SystemClock);
        serve_with(data.path(), Login::Off, clock, Configuration::default()).await
    };
    let running = start().await;
    assert!(super::switch(&running.app, true, "ann").await.unwrap());
    assert!(!super::switch(&running.app, true, "bob").await.unwrap());
    running.stop().await;
    let running = start().await;
    assert!(running.app.maintenance.is_on());
    assert_eq!(running.app.maintenance.state().by, "ann");
    assert_eq!(health::list(&running.app).len(), 1);
    running.stop().await;
}
