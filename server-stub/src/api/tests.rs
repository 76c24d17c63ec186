mod feeds;
mod runs;

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::scheduling::tests::{Scene, commit};

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) media_type: String,
    pub(super) body: Value,
    pub(super) text: String,
    headers: reqwest::header::HeaderMap,
}

impl Answer {
    /// A header that must be there.
    pub(super) fn header(&self, name: &str) -> String {
        let value = self.headers.get(name);
        let value = value.unwrap_or_else(|| panic!("no {name} in {:?}", self.headers));
        value.to_str().unwrap().to_owned()
    }
}

pub(super) async fn call(
    scene: &Scene,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&str>,
) -> Answer {
    let url = format!("{}{path}", scene.app().endpoints.http_url);
    let mut request = reqwest::Client::new().request(method.parse().unwrap(), url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if let Some(body) = body {
        request = request.body(body.to_owned());
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let media_type = headers
        .get("content-type")
        .map(|value| value.to_str().unwrap().to_owned());
    let text = response.text().await.unwrap();
    Answer {
        status,
        media_type: media_type.unwrap_or_default(),
        body: serde_json::from_str(&text).unwrap_or_default(),
        text,
        headers,
    }
}

pub(super) async fn get(scene: &Scene, path: &str) -> Answer {
    call(scene, "GET", path, &[], None).await
}

pub(super) async fn send(scene: &Scene, method: &str, path: &str, body: Value) -> Answer {
    let headers = [("Content-Type", "application/json")];
    call(scene, method, path, &headers, Some(&body.to_string())).await
}

pub(super) async fn confirm(scene: &Scene, path: &str) -> Answer {
    call(scene, "POST", path, &[("X-GoCD-Confirm", "true")], None).await
}

#[tokio::test]
async fn versions_are_taken_leniently() {
    let scene = Scene::new().await;
    let table = [
        (
            "application/vnd.go.cd.v7+json",
            200,
            "application/vnd.go.cd.v7+json;charset=utf-8",
        ),
        (
            "application/vnd.go.cd.v4+json",
            200,
            "application/vnd.go.cd.v4+json;charset=utf-8",
        ),
        (
            "application/vnd.go.cd+json",
            200,
            "application/vnd.go.cd.v7+json;charset=utf-8",
        ),
        (
            "application/json, */*;q=0.5",
            200,
            "application/vnd.go.cd.v7+json;charset=utf-8",
        ),
        (
            "application/vnd.go.cd.v8+json",
            404,
            "text/plain; charset=utf-8",
        ),
    ];
    for (accept, status, media_type) in table {
        let answer = call(&scene, "GET", "/api/agents", &[("Accept", accept)], None).await;
        assert_eq!(
            (answer.status, answer.media_type.as_str()),
            (status, media_type),
            "{accept}"
        );
    }
}

#[tokio::test]
async fn agents_are_enabled_and_changed() {
    let scene = Scene::new().await;
    scene.agent("5d2c", &["a"], &[]).await;
    let shown = get(&scene, "/api/agents/5d2c").await.body;
    assert_eq!(shown["agent_state"], "Idle");
    assert_eq!(shown["free_space"], 1 << 30);
    let path = "/api/agents/5d2c";
    let table = [
        (json!({ "agent_config_state": "disabled" }), 200),
        (json!({ "resources": "x, y" }), 200),
        (json!({ "resources": ["bad/name"] }), 422),
        (json!({ "environments": ["nowhere"] }), 422),
        (json!({ "agent_config_state": "Happy" }), 422),
        (json!({}), 400),
        (json!({ "resources": { "a": 1 } }), 422),
    ];
    for (body, status) in table {
        assert_eq!(
            send(&scene, "PATCH", path, body.clone()).await.status,
            status,
            "{body}"
        );
    }
    assert_eq!(get(&scene, path).await.body["resources"], json!(["x", "y"]));
    assert_eq!(get(&scene, "/api/agents/none").await.status, 404);
    let bulk = json!({ "uuids": ["5d2c"], "operations": { "resources": { "add": ["z"], "remove": ["X"] } } });
    assert_eq!(send(&scene, "PATCH", "/api/agents", bulk).await.status, 200);
    assert_eq!(get(&scene, path).await.body["resources"], json!(["y", "z"]));
    let unknown = json!({ "uuids": ["nope"], "agent_config_state": "Enabled" });
    assert_eq!(
        send(&scene, "PATCH", "/api/agents", unknown).await.status,
        404
    );
    assert_eq!(
        confirm(&scene, "/api/agents/5d2c/kill_running_tasks")
            .await
            .status,
        409
    );
    assert_eq!(call(&scene, "DELETE", path, &[], None).await.status, 200);
    assert_eq!(get(&scene, path).await.status, 404);
}

#[tokio::test]
async fn writes_must_be_confirmed_or_have_json() {
    let scene = Scene::new().await;
    let path = "/api/pipelines/web/schedule";
    let json_type = [("Content-Type", "application/json")];
    assert_eq!(call(&scene, "POST", path, &[], None).await.status, 400);
    let form = [("Content-Type", "text/plain")];
    assert_eq!(
        call(&scene, "POST", path, &form, Some("{}")).await.status,
        415
    );
    let broken = call(&scene, "POST", path, &json_type, Some("{")).await;
    assert_eq!(broken.status, 400);
    assert!(broken.body["error"].is_string());
    let list = call(&scene, "POST", path, &json_type, Some("[]")).await;
    assert_eq!(list.status, 400);
    let huge = "x".repeat(super::MAX_BODY + 1);
    assert_eq!(
        call(&scene, "POST", path, &json_type, Some(&huge))
            .await
            .status,
        413
    );
    let old = [("Confirm", "true")];
    assert_eq!(call(&scene, "POST", path, &old, None).await.status, 202);
}

#[tokio::test]
async fn a_pipeline_is_scheduled_shown_and_cancelled() {
    let scene = Scene::new().await;
    assert_eq!(
        confirm(&scene, "/api/pipelines/nope/schedule").await.status,
        404
    );
    let unknown = json!({ "environment_variables": [{ "name": "NOPE", "value": "1" }] });
    let refused = send(&scene, "POST", "/api/pipelines/web/schedule", unknown).await;
    assert_eq!(refused.status, 422);
    let accepted = confirm(&scene, "/api/pipelines/web/schedule").await;
    assert_eq!(
        (accepted.status, &accepted.body["counter"]),
        (202, &json!(1))
    );
    assert_eq!(
        confirm(&scene, "/api/pipelines/web/schedule").await.status,
        409
    );
    let status = get(&scene, "/api/pipelines/web/status").await.body;
    assert_eq!(status["schedulable"], false);
    let run = get(&scene, "/api/pipelines/web/1").await.body;
    assert_eq!(run["label"], "1.0.1");
    assert_eq!(run["build_cause"]["approver"], "anonymous");
    assert_eq!(run["stages"][0]["counter"], "1");
    assert_eq!(run["stages"][1]["scheduled"], false);
    assert!(!run.to_string().contains("sesame"));
    let material = &run["build_cause"]["material_revisions"][0];
    assert_eq!(material["material"]["type"], "Git");
    assert_eq!(
        material["material"]["fingerprint"].as_str().unwrap().len(),
        64
    );
    for (path, expected) in [
        ("/api/pipelines/web/7", 404),
        ("/api/pipelines/web/x", 422),
        ("/api/pipelines/web/history", 200),
        ("/api/pipelines/web/history?page_size=5", 400),
        ("/api/stages/web/1/build/1", 200),
        ("/api/stages/web/1/build/2", 404),
        ("/api/jobs/web/1/build/1/unit", 200),
        ("/api/jobs/web/1/build/1/none", 404),
        ("/api/journeyman/runs/web/1", 200),
        ("/api/journeyman/runs/web/9", 404),
        ("/api/journeyman/consoles/999", 404),
    ] {
        assert_eq!(get(&scene, path).await.status, expected, "{path}");
    }
    let cancel = "/api/stages/web/1/build/1/cancel";
    assert_eq!(confirm(&scene, cancel).await.status, 200);
    assert_eq!(confirm(&scene, cancel).await.status, 200);
    let stage = get(&scene, "/api/stages/web/1/build/1").await.body;
    assert_eq!(
        (&stage["result"], &stage["cancelled_by"]),
        (&json!("Cancelled"), &json!("anonymous"))
    );
    assert_eq!(
        confirm(&scene, "/api/stages/web/1/ship/run").await.status,
        400
    );
    assert_eq!(
        confirm(&scene, "/api/stages/web/latest/build/run")
            .await
            .status,
        202
    );
    let history = get(&scene, "/api/pipelines/web/history").await.body;
    assert_eq!(history["pipelines"][0]["stages"][0]["counter"], "2");
}

#[tokio::test]
async fn repositories_are_added_looked_at_and_removed() {
    let scene = Scene::new().await;
    let root = "/api/admin/config_repos";
    let other = tempfile::tempdir().unwrap();
    crate::scheduling::tests::git(other.path(), &["init", "-qb", "trunk"]);
    commit(
        other.path(),
        "x.gocd.yaml",
        "pipelines: { web: { group: a } }",
    );
    let body = |id: &str| {
        json!({ "id": id, "plugin_id": "yaml.config.plugin", "material": { "type": "git",
            "attributes": { "url": other.path(), "branch": "trunk" } } })
    };
    let added = send(&scene, "POST", root, body("other")).await;
    assert_eq!(added.status, 200, "{}", added.text);
    let error = added.body["parse_info"]["error"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(error.contains("x.gocd.yaml:1:"), "{error}");
    assert_eq!(send(&scene, "POST", root, body("OTHER")).await.status, 422);
    assert_eq!(
        send(&scene, "POST", root, json!({ "id": "no url" }))
            .await
            .status,
        422
    );
    let text = "pipelines: { web: { group: a, materials: { s: { git: /x } }, stages: [ { s: { tasks: [ { script: x } ] } } ] } }";
    commit(other.path(), "x.gocd.yaml", text);
    let update = format!("{root}/other/trigger_update");
    assert_eq!(call(&scene, "POST", &update, &[], None).await.status, 400);
    assert_eq!(confirm(&scene, &update).await.status, 201);
    let shown = get(&scene, &format!("{root}/other")).await.body;
    let error = shown["parse_info"]["error"].as_str().unwrap();
    assert!(error.contains("`conf` already"), "{error}");
    commit(other.path(), "x.gocd.yaml", &text.replace("web", "lib"));
    assert_eq!(confirm(&scene, &update).await.status, 201);
    let definitions = get(&scene, &format!("{root}/other/definitions")).await.body;
    assert_eq!(
        definitions["groups"],
        json!([{ "name": "a", "pipelines": [{ "name": "lib" }] }])
    );
    assert_eq!(
        get(&scene, &format!("{root}/other/status")).await.body["in_progress"],
        false
    );
    assert_eq!(
        call(&scene, "DELETE", &format!("{root}/other"), &[], None)
            .await
            .status,
        200
    );
    assert_eq!(get(&scene, &format!("{root}/other")).await.status, 404);
    assert_eq!(get(&scene, "/api/pipelines/lib/status").await.status, 404);
}

#[tokio::test]
async fn a_password_in_an_address_is_not_shown() {
    let scene = Scene::new().await;
    let body = json!({ "id": "secret", "material": { "type": "git", "attributes": {
        "url": "http://127.0.0.1:1/x.git", "username": "ci", "password": "hunter2" } } });
    let answer = send(&scene, "POST", "/api/admin/config_repos", body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(answer.body["parse_info"]["error"].is_string());
    for path in ["/api/admin/config_repos", "/pipelines"] {
        assert!(!get(&scene, path).await.text.contains("hunter2"), "{path}");
    }
}

#[tokio::test]
async fn a_call_that_is_not_served_says_so() {
    let scene = Scene::new().await;
    let missing = get(&scene, "/api/nope").await;
    assert_eq!(missing.status, 404);
    assert!(
        missing.body["message"]
            .as_str()
            .unwrap()
            .contains("/go/api/nope")
    );
    let left_out = [
        ("/api/admin/templates", "Templates"),
        ("/api/admin/plugin_info", "plugins"),
        ("/api/elastic/profiles", "plugins"),
        ("/api/admin/secret_configs", "plugins"),
        ("/api/admin/scms", "plugins"),
        ("/api/admin/repositories/x", "plugins"),
        ("/api/admin/security/roles", "Roles"),
        ("/api/admin/config.xml", "XML"),
    ];
    for (path, why) in left_out {
        let answer = get(&scene, path).await;
        assert_eq!(answer.status, 404, "{path}");
        let message = answer.body["message"].as_str().unwrap();
        assert!(message.contains(why), "{path}: {message}");
    }
    assert_eq!(
        get(&scene, "/nope").await.text,
        "There is no page /go/nope.\n"
    );
}
