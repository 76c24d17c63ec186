//! Calls about what is configured.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::tests::{call, confirm, get, send};
use crate::health::{self, Level};
use crate::scheduling::tests::Scene;

/// A header of the answer to a GET.
async fn tag(scene: &Scene, path: &str) -> String {
    let answer = get(scene, path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    answer.header("etag")
}

#[tokio::test]
async fn the_server_tells_its_version_to_anybody() {
    let scene = Scene::new().await;
    let version = get(&scene, "/api/version").await;
    assert_eq!(
        version.media_type,
        "application/vnd.go.cd.v1+json;charset=utf-8"
    );
    assert_eq!(version.body["version"], "26.2.0");
    let own = version.body["_links"]["self"]["href"].as_str().unwrap();
    assert!(own.ends_with("/go/api/version"), "{own}");
    let about = get(&scene, "/about").await.text;
    assert!(
        about.contains("<td>Go Server Version:</td><td>26.2.0"),
        "{about}"
    );
    let health = get(&scene, "/api/v1/health").await;
    assert_eq!(health.body, json!({ "health": "OK" }));
}

#[tokio::test]
async fn health_messages_have_a_tag() {
    let scene = Scene::new().await;
    let path = "/api/server_health_messages";
    let before = tag(&scene, path).await;
    health::raise(scene.app(), "a", Level::Error, "broken", "why");
    let after = get(&scene, path).await;
    assert_eq!(after.body[0]["level"], "ERROR");
    assert_eq!(after.body[0]["message"], "broken");
    assert!(after.body[0]["time"].as_str().unwrap().ends_with('Z'));
    let now = after.header("etag");
    assert_ne!(before, now);
    let gzip = format!("{}--gzip\"", now.trim_end_matches('"'));
    for (asked, status) in [(&before, 200), (&now, 304), (&gzip, 304)] {
        let headers = [("If-None-Match", asked.as_str())];
        let answer = call(&scene, "GET", path, &headers, None).await;
        assert_eq!(answer.status, status, "{asked}");
        assert_eq!(answer.text.is_empty(), status == 304);
    }
}

#[tokio::test]
async fn values_are_encrypted_so_many_times_a_minute() {
    let scene = Scene::new().await;
    let path = "/api/admin/encrypt";
    let answer = send(&scene, "POST", path, json!({ "value": "s3cret" })).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let encrypted = answer.body["encrypted_value"].as_str().unwrap();
    assert_eq!(scene.app().cipher.decrypt(encrypted).unwrap(), "s3cret");
    assert_eq!(answer.header("x-ratelimit-limit"), "30");
    let nothing = send(&scene, "POST", path, json!({})).await;
    assert_eq!(nothing.status, 422);
    // The minute may end while this runs; then there are as many again.
    let mut refused = None;
    for _ in 0..61 {
        let answer = send(&scene, "POST", path, json!({ "value": "x" })).await;
        if answer.status != 200 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.unwrap();
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("x-ratelimit-remaining"), "0");
}

const SHARED: &str = "format_version: 11
pipelines:
  lib:
    group: core
    environment_variables: { LEVEL: one }
    secure_variables: { TOKEN: sesame }
    materials: { src: { type: configrepo } }
    stages: [ { make: { tasks: [ { script: make } ] } } ]
environments:
  staging:
    environment_variables: { ZONE: eu }
    secure_variables: { PW: sesame }
    pipelines: [lib]
    agents: [5d2c]
";

/// Adds a second repository, with an environment.
async fn shared(scene: &Scene) -> tempfile::TempDir {
    let other = tempfile::tempdir().unwrap();
    crate::scheduling::tests::git(other.path(), &["init", "-qb", "trunk"]);
    crate::scheduling::tests::commit(other.path(), "x.gocd.yaml", SHARED);
    let body = json!({ "id": "shared", "plugin_id": "yaml.config.plugin", "material": {
        "type": "git", "attributes": { "url": other.path(), "branch": "trunk" } } });
    let added = send(scene, "POST", "/api/admin/config_repos", body).await;
    assert_eq!(added.status, 200, "{}", added.text);
    assert_eq!(added.body["parse_info"]["error"], Value::Null);
    other
}

#[tokio::test]
async fn environments_are_shown_and_changed_elsewhere() {
    let scene = Scene::new().await;
    let _other = shared(&scene).await;
    scene.agent("5d2c", &[], &[]).await;
    let root = "/api/admin/environments";
    let one = get(&scene, &format!("{root}/staging")).await;
    assert_eq!(one.body["pipelines"][0]["name"], "lib");
    let variables = one.body["environment_variables"].as_array().unwrap();
    assert_eq!(
        variables[0],
        json!({ "secure": false, "name": "ZONE", "value": "eu" })
    );
    let secret = variables[1]["encrypted_value"].as_str().unwrap();
    assert_eq!(scene.app().cipher.decrypt(secret).unwrap(), "sesame");
    // Encrypting twice gives two texts; it is the same environment all the same.
    let tag_of_one = tag(&scene, &format!("{root}/staging")).await;
    assert_eq!(tag_of_one, one.header("etag"));
    assert_eq!(one.body.get("agents"), None);
    let old = [("Accept", "application/vnd.go.cd.v2+json")];
    let old = call(&scene, "GET", root, &old, None).await.body;
    let old = &old["_embedded"]["environments"][0];
    assert_eq!(old["agents"][0]["uuid"], "5d2c");
    let path = format!("{root}/staging");
    let table = [
        ("POST", root, json!({ "name": "new" }), 422),
        ("PUT", &path, json!({ "name": "staging" }), 422),
        ("PATCH", &path, json!({ "pipelines": {} }), 422),
        (
            "PATCH",
            "/api/admin/environments/none",
            json!({ "a": 1 }),
            404,
        ),
    ];
    for (method, path, body, status) in table {
        let answer = send(&scene, method, path, body).await;
        assert_eq!(answer.status, status, "{method} {path}");
    }
    let deleted = call(&scene, "DELETE", &path, &[], None).await;
    assert_eq!(deleted.status, 422);
    let agent = get(&scene, "/api/agents/5d2c").await.body;
    assert_eq!(agent["environments"][0]["name"], "staging");
    assert_eq!(agent["environments"][0]["origin"]["type"], "config-repo");
    let old = [("Accept", "application/vnd.go.cd.v4+json")];
    let old = call(&scene, "GET", "/api/agents/5d2c", &old, None).await;
    assert_eq!(old.body["environments"], json!(["staging"]));
    let may = get(&scene, "/api/auth/permissions?type=environment").await;
    let expected = json!({ "environment": { "view": ["staging"], "administer": ["staging"] } });
    assert_eq!(may.body["permissions"], expected);
    let wrong = get(&scene, "/api/auth/permissions?type=cows").await;
    assert_eq!(wrong.status, 422);
}

#[tokio::test]
async fn a_pipeline_is_shown_as_it_is_defined_and_as_a_file() {
    let scene = Scene::new().await;
    let _other = shared(&scene).await;
    let path = "/api/admin/pipelines/web";
    let shown = get(&scene, path).await;
    assert_eq!(
        shown.media_type,
        "application/vnd.go.cd.v11+json;charset=utf-8"
    );
    let body = &shown.body;
    assert_eq!(body["origin"]["id"], "conf");
    assert_eq!(body["materials"][0]["type"], "git");
    let task = &body["stages"][0]["jobs"][0]["tasks"][0];
    assert_eq!(task["attributes"]["command"], "/bin/sh");
    assert_eq!(task["attributes"]["run_if"], json!(["passed"]));
    assert_eq!(task["attributes"]["on_cancel"]["type"], "exec");
    assert!(!shown.text.contains("sesame"));
    let change = |tag: Option<String>| {
        let scene = &scene;
        async move {
            let mut headers = vec![("Content-Type", "application/json")];
            if let Some(tag) = &tag {
                headers.push(("If-Match", tag));
            }
            call(scene, "PUT", path, &headers, Some("{}")).await.status
        }
    };
    assert_eq!(change(None).await, 412);
    assert_eq!(change(Some("\"other\"".into())).await, 412);
    assert_eq!(change(Some(shown.header("etag"))).await, 422);
    let groups = get(&scene, "/api/admin/pipeline_groups").await.body;
    let names: Vec<&Value> = groups["_embedded"]["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| &group["name"])
        .collect();
    assert_eq!(names, ["apps", "core"]);
    assert_eq!(
        get(&scene, "/api/admin/pipeline_groups/none").await.status,
        404
    );
    let old = get(&scene, "/api/config/pipeline_groups").await.body;
    assert_eq!(old[1]["pipelines"][0]["name"], "lib");
    assert_eq!(old[1]["pipelines"][0]["materials"][0]["type"], "Git");

    let export = "/api/admin/export/pipelines/web";
    let asked = format!("{export}?plugin_id=yaml.config.plugin");
    let file = get(&scene, &asked).await;
    assert_eq!(
        file.header("content-disposition"),
        "attachment; filename=\"web.gocd.yaml\""
    );
    assert!(file.text.contains("web:"), "{}", file.text);
    assert!(!file.text.contains("sesame"));
    assert_eq!(get(&scene, export).await.status, 422);
    assert_eq!(
        get(&scene, &format!("{export}?plugin_id=other"))
            .await
            .status,
        422
    );
}

/// Sends files as forms do.
async fn preflight(scene: &Scene, query: &str, files: &[(&str, &str)]) -> (u16, Value) {
    let mut form = reqwest::multipart::Form::new();
    for (name, text) in files {
        let part = reqwest::multipart::Part::text((*text).to_owned());
        form = form.part("files[]", part.file_name((*name).to_owned()));
    }
    let url = format!(
        "{}/api/admin/config_repo_ops/preflight{query}",
        scene.app().endpoints.http_url
    );
    let request = reqwest::Client::new().post(url).multipart(form);
    let request = request.header("X-GoCD-Confirm", "true");
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.json().await.unwrap())
}

#[tokio::test]
async fn files_are_checked_before_they_are_committed() {
    let scene = Scene::new().await;
    let _other = shared(&scene).await;
    let plugin = "?pluginId=yaml.config.plugin";
    let good = SHARED.replace("lib", "new").replace("staging", "fresh");
    let (status, body) = preflight(&scene, plugin, &[("a.gocd.yaml", &good)]).await;
    assert_eq!(
        (status, body),
        (200, json!({ "errors": [], "valid": true }))
    );
    // The same pipeline is somebody else's, unless it is this repository's own.
    let (_, body) = preflight(&scene, plugin, &[("a.gocd.yaml", SHARED)]).await;
    assert_eq!(body["valid"], false);
    let error = body["errors"][0].as_str().unwrap();
    assert!(error.contains("`shared` already"), "{error}");
    let own = format!("{plugin}&repoId=shared");
    let (_, body) = preflight(&scene, &own, &[("a.gocd.yaml", SHARED)]).await;
    assert_eq!(body["valid"], true);
    let files = [
        ("b.gocd.yaml", "pipelines: { x: { group: g } }"),
        ("c.gocd.yaml", "nonsense: 1"),
    ];
    let (status, body) = preflight(&scene, plugin, &files).await;
    let errors = body["errors"].as_array().unwrap();
    assert_eq!((status, body["valid"].as_bool()), (200, Some(false)));
    for file in ["b.gocd.yaml", "c.gocd.yaml"] {
        let named = errors
            .iter()
            .any(|one| one.as_str().unwrap().contains(file));
        assert!(named, "{file}: {errors:?}");
    }
    assert_eq!(preflight(&scene, plugin, &[]).await.1["valid"], false);
    assert_eq!(preflight(&scene, "", &files).await.0, 422);
    assert_eq!(preflight(&scene, "?pluginId=json", &files).await.0, 404);
    let nowhere = format!("{plugin}&repoId=none");
    assert_eq!(preflight(&scene, &nowhere, &files).await.0, 404);
    assert_eq!(get(&scene, "/api/pipelines/new/status").await.status, 404);
}

#[tokio::test]
async fn a_repository_is_changed_by_who_has_seen_it() {
    let scene = Scene::new().await;
    let other = shared(&scene).await;
    crate::scheduling::tests::git(other.path(), &["branch", "next"]);
    let path = "/api/admin/config_repos/shared";
    let shown = get(&scene, path).await;
    let tag = shown.header("etag");
    let mut body = shown.body;
    body["material"]["attributes"]["branch"] = json!("next");
    let body = body.to_string();
    let json_type = ("Content-Type", "application/json");
    let unseen = call(&scene, "PUT", path, &[json_type], Some(&body)).await;
    assert_eq!(unseen.status, 412);
    let seen = [json_type, ("If-Match", tag.as_str())];
    let changed = call(&scene, "PUT", path, &seen, Some(&body)).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    assert_eq!(changed.body["material"]["attributes"]["branch"], "next");
    assert_ne!(changed.header("etag"), tag);
    assert_eq!(
        call(&scene, "PUT", path, &seen, Some(&body)).await.status,
        412
    );
    let secret = scene.app().cipher.encrypt("hunter2").unwrap();
    let body = json!({ "id": "locked", "material": { "type": "git", "attributes": {
        "url": "http://127.0.0.1:1/x.git", "username": "ci", "encrypted_password": secret } } });
    let answer = send(&scene, "POST", "/api/admin/config_repos", body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let shown = &answer.body["material"]["attributes"]["encrypted_password"];
    let decrypted = scene.app().cipher.decrypt(shown.as_str().unwrap());
    assert_eq!(decrypted.unwrap(), "hunter2");
}

#[tokio::test]
async fn an_agent_shows_the_jobs_it_has_done() {
    let scene = Scene::new().await;
    scene.agent("5d2c", &["linux", "jdk"], &[]).await;
    confirm(&scene, "/api/pipelines/web/schedule").await;
    let app = scene.app();
    let mut write = app.database.write().await.unwrap();
    sqlx::query("UPDATE jobs SET state = 'Completed', result = 'Passed', agent_uuid = '5d2c'")
        .execute(&mut *write)
        .await
        .unwrap();
    write.commit().await.unwrap();
    let path = "/api/agents/5d2c/job_run_history";
    let shown = get(&scene, path).await;
    assert_eq!(shown.status, 200, "{}", shown.text);
    assert_eq!(
        shown.media_type,
        "application/vnd.go.cd.v1+json;charset=utf-8"
    );
    let expected = json!({ "page_size": 50, "offset": 0, "total": 2 });
    assert_eq!(shown.body["pagination"], expected);
    let sorted = format!("{path}?sort_column=job&sort_order=ASC");
    let job = &get(&scene, &sorted).await.body["jobs"][0];
    assert_eq!(job["job_name"], "docs");
    assert_eq!(
        (&job["pipeline_counter"], &job["stage_counter"]),
        (&json!(1), &json!("1"))
    );
    assert_eq!(job["job_state_transitions"][0]["state"], "Scheduled");
    let beyond = get(&scene, &format!("{path}?offset=2")).await.body;
    assert_eq!(beyond["jobs"], json!([]));
    let old = get(&scene, &format!("{path}/1")).await.body;
    assert_eq!(old["jobs"].as_array().unwrap().len(), 1);
    for wrong in ["offset=-1", "page_size=9", "sort_column=x", "sort_order=up"] {
        let answer = get(&scene, &format!("{path}?{wrong}")).await;
        assert_eq!(answer.status, 400, "{wrong}");
    }
    let nobody = get(&scene, "/api/agents/none/job_run_history").await;
    assert_eq!(nobody.status, 404);
    let empty = get(&scene, "/properties/web/1/build/1/unit").await;
    assert_eq!((empty.status, empty.text.trim()), (200, ""));
}

#[tokio::test]
async fn nobody_is_no_current_user() {
    let scene = Scene::new().await;
    let path = "/api/current_user";
    assert_eq!(get(&scene, path).await.status, 403);
    let answer = send(&scene, "PATCH", path, json!({ "email": "a@b" })).await;
    assert_eq!(answer.status, 403);
}
