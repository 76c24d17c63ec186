//! Runs, stages and jobs as GoCD's clients see them.

use journeyman_protocol::job::JobResult;
use pretty_assertions::{assert_eq, assert_ne};
use serde_json::{Value, json};

use super::*;
use crate::scheduling::{
    self, report_completing,
    tests::person,
    trigger::{self, Options},
};

const YAML: &str = "format_version: 11
environments: { staging: { pipelines: [lib] } }
pipelines:
  lib:
    group: core
    label_template: lib-${COUNT}
    lock_behavior: lockOnFailure
    tracking_tool: { link: 'https://bugs.example/${ID}', regex: 'BUG-(\\d+)' }
    environment_variables: { TIER: gold }
    secure_variables: { TOKEN: sesame }
    materials: { src: { type: configrepo, destination: src } }
    stages:
      - compile: { jobs: { unit: { tasks: [ { script: x } ] }, lint: { tasks: [ { script: x } ] } } }
      - publish: { approval: manual, tasks: [ { script: x } ] }
  app:
    group: apps
    materials:
      lib: { pipeline: lib, stage: compile }
      src: { type: configrepo, destination: src }
    stages: [ { build: { tasks: [ { script: x } ] } } ]
  site:
    group: apps
    materials: { app: { pipeline: app, stage: build } }
    stages: [ { put: { tasks: [ { script: x } ] } } ]
";

impl Scene {
    async fn begin(&self, pipeline: &str) -> i64 {
        let options = Options::by(&person("ann"));
        trigger::trigger(self.app(), pipeline, &options)
            .await
            .unwrap()
    }

    /// Lets an agent do the jobs that wait, with these results.
    async fn do_jobs(&self, agent: &crate::agents::Agent, results: &[JobResult]) {
        for result in results {
            let job = self.take(agent).await;
            self.complete(agent, &job, *result).await;
        }
    }
}

/// The names of the fields of an object, with the kinds of their values.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), shape(value)))
            .collect(),
        Value::Array(items) => items.first().map_or(json!([]), |item| json!([shape(item)])),
        Value::String(_) => json!("text"),
        Value::Number(number) if number.is_f64() => json!("fraction"),
        Value::Number(_) => json!("number"),
        Value::Bool(_) => json!("flag"),
        Value::Null => Value::Null,
    }
}

#[tokio::test]
async fn runs_stages_and_jobs_have_the_fields_and_types_of_gocd() {
    let scene = Scene::with(YAML).await;
    scene.begin("lib").await;
    let agent = scene.agent("5d2c", &[], &["staging"]).await;
    scene.do_jobs(&agent, &[JobResult::Passed; 2]).await;
    let run = get(&scene, "/api/pipelines/LIB/1").await;
    assert_eq!(
        run.media_type,
        "application/vnd.go.cd.v1+json;charset=utf-8"
    );
    let job =
        json!({ "name": "text", "scheduled_date": "number", "state": "text", "result": "text" });
    let expected = json!({
        "name": "text", "counter": "number", "label": "text", "natural_order": "fraction",
        "can_run": "flag", "preparing_to_schedule": "flag", "comment": null, "scheduled_date": "number",
        "build_cause": {
            "trigger_message": "text", "trigger_forced": "flag", "approver": "text",
            "material_revisions": [{
                "changed": "flag",
                "material": { "name": "text", "fingerprint": "text", "type": "text", "description": "text" },
                "modifications": [{
                    "revision": "text", "modified_time": "number", "user_name": "text",
                    "comment": "text", "email_address": null,
                }],
            }],
        },
        "stages": [{
            "result": "text", "status": "text", "rerun_of_counter": null, "name": "text",
            "counter": "text", "scheduled": "flag", "approval_type": "text", "approved_by": "text",
            "operate_permission": "flag", "can_run": "flag", "jobs": [job],
        }],
    });
    assert_eq!(shape(&run.body), expected);
    let waiting = json!({
        "result": "Unknown", "status": "Unknown", "rerun_of_counter": null, "name": "publish",
        "counter": "1", "scheduled": false, "approval_type": "manual", "approved_by": null,
        "operate_permission": true, "can_run": true, "jobs": [],
    });
    assert_eq!(run.body["stages"][1], waiting);
    let revision = &run.body["build_cause"]["material_revisions"][0];
    assert_eq!(
        revision["modifications"][0]["user_name"],
        "Dev One <dev@example.com>"
    );
    assert!(!run.text.contains("sesame"));

    let transition = json!({ "state": "text", "state_change_time": "number" });
    let job = |more: Value| {
        let mut job = json!({
            "name": "text", "state": "text", "result": "text", "original_job_id": null,
            "scheduled_date": "number", "rerun": "flag", "agent_uuid": "text",
            "pipeline_name": "text", "pipeline_counter": "number", "stage_name": "text",
            "stage_counter": "text",
        });
        job["job_state_transitions"] = more;
        job
    };
    let latest = get(&scene, "/files/lib/latest/compile/latest/unit.json").await;
    assert_ne!(latest.status, 500, "{}", latest.text);
    let one = get(&scene, "/api/jobs/lib/1/compile/1/unit").await;
    assert_eq!(shape(&one.body), job(json!([transition])));
    let stage = get(&scene, "/api/stages/lib/1/compile/1").await;
    let expected = json!({
        "name": "text", "counter": "number", "approval_type": "text", "approved_by": "text",
        "scheduled_at": "number", "last_transitioned_time": "number", "result": "text",
        "rerun_of_counter": null, "fetch_materials": "flag", "clean_working_directory": "flag",
        "artifacts_deleted": "flag", "pipeline_name": "text", "pipeline_counter": "number",
        "jobs": [job(json!([transition]))],
    });
    assert_eq!(shape(&stage.body), expected);
    assert_eq!(
        stage.media_type,
        "application/vnd.go.cd.v3+json;charset=utf-8"
    );
    let history = get(&scene, "/api/stages/lib/compile/history").await.body;
    assert_eq!(history["stages"][0]["counter"], "1");
    assert_eq!(history["stages"][0]["pipeline_counter"], 1);
    assert_eq!(history.get("_links"), None);
    let history = get(&scene, "/api/jobs/lib/compile/lint/history").await.body;
    assert_eq!(history["jobs"][0]["stage_counter"], "1");
}

#[tokio::test]
async fn histories_are_walked_from_end_to_end() {
    let scene = Scene::with(YAML.replace("lock_behavior: lockOnFailure", "").as_str()).await;
    for counter in 1..=25 {
        // What is known already is enough, and no repository need be asked.
        let options = Options {
            update_materials: counter == 1,
            ..Options::by(&person("ann"))
        };
        let begun = trigger::trigger(scene.app(), "lib", &options).await;
        assert_eq!(begun.unwrap(), counter);
        scheduling::cancel_stage(scene.app(), "lib", counter, "compile", 1, &person("ann"))
            .await
            .unwrap();
    }
    for (path, list, field) in [
        ("/api/pipelines/lib/history", "pipelines", "counter"),
        (
            "/api/stages/LIB/compile/history",
            "stages",
            "pipeline_counter",
        ),
        (
            "/api/jobs/lib/Compile/unit/history",
            "jobs",
            "pipeline_counter",
        ),
    ] {
        let counters = |body: &Value| -> Vec<i64> {
            let items = body[list].as_array().unwrap().iter();
            items.map(|item| item[field].as_i64().unwrap()).collect()
        };
        let all: Vec<i64> = (1..=25).rev().collect();
        let mut walked: Vec<i64> = Vec::new();
        let mut next = format!("{path}?page_size=11");
        loop {
            let body = get(&scene, &next).await.body;
            let page = counters(&body);
            walked.extend(&page);
            let Some(url) = body["_links"]["next"]["href"].as_str() else {
                // And back again.
                let url = body["_links"]["previous"]["href"].as_str().unwrap();
                let before = get(&scene, url.split_once("/go").unwrap().1).await.body;
                assert_eq!(counters(&before), (4..=14).rev().collect::<Vec<_>>());
                break;
            };
            // What a client takes as the cursor.
            assert!(url.split("after=").nth(1).unwrap().parse::<i64>().is_ok());
            next = url.split_once("/go").unwrap().1.to_owned();
        }
        assert_eq!(walked, all, "{path}");
        let mut walked: Vec<i64> = Vec::new();
        loop {
            let body = get(&scene, &format!("{path}/{}", walked.len())).await.body;
            let pagination = json!({ "offset": walked.len(), "total": 25, "page_size": 10 });
            assert_eq!(body["pagination"], pagination);
            let page = counters(&body);
            if page.is_empty() {
                break;
            }
            walked.extend(page);
        }
        assert_eq!(walked, all, "{path}");
        for query in [
            "page_size=9",
            "page_size=x",
            "after=0",
            "before=x",
            "after=1&before=2",
        ] {
            let answer = get(&scene, &format!("{path}?{query}")).await;
            assert_eq!(answer.status, 400, "{query}");
        }
        assert_eq!(get(&scene, &format!("{path}/-1")).await.status, 400);
    }
    for (path, status) in [
        ("/api/pipelines/nope/history", 404),
        ("/api/stages/lib/nope/history", 404),
        ("/api/stages/lib/publish/history", 200),
        ("/api/jobs/lib/compile/nope/history", 404),
        ("/api/jobs/lib/publish/publish/history", 200),
    ] {
        assert_eq!(get(&scene, path).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn a_pipeline_is_paused_and_goes_on() {
    let scene = Scene::with(YAML).await;
    let path = |what: &str| format!("/api/pipelines/lib/{what}");
    let cause = json!({ "pause_cause": "freeze" });
    assert_eq!(
        send(&scene, "POST", &path("pause"), cause.clone())
            .await
            .status,
        200
    );
    let again = send(&scene, "POST", &path("pause"), cause).await;
    assert_eq!(again.status, 409, "{}", again.text);
    let status = get(&scene, &path("status")).await.body;
    let expected = json!({
        "paused": true, "paused_cause": "freeze", "paused_by": "anonymous", "locked": false,
        "schedulable": false,
    });
    assert_eq!(status, expected);
    let refused = confirm(&scene, &path("schedule")).await;
    assert_eq!(refused.status, 409);
    let message = refused.body["message"].as_str().unwrap();
    let (summary, detail) = message.split_once(" { ").unwrap();
    assert!(summary.contains("lib"), "{message}");
    assert!(
        detail.contains("freeze") && detail.ends_with(" }"),
        "{message}"
    );
    assert_eq!(confirm(&scene, &path("unpause")).await.status, 200);
    assert_eq!(confirm(&scene, &path("unpause")).await.status, 409);
    // As py-gocd and yagocd send it.
    let headers = [
        ("Confirm", "true"),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    let paused = call(
        &scene,
        "POST",
        &path("pause"),
        &headers,
        Some("pauseCause=x+y"),
    )
    .await;
    assert_eq!(paused.status, 200, "{}", paused.text);
    assert_eq!(
        get(&scene, &path("status")).await.body["paused_cause"],
        "x y"
    );
    assert_eq!(confirm(&scene, &path("unpause")).await.status, 200);

    assert_eq!(confirm(&scene, &path("unlock")).await.status, 409);
    let form = "variables[TIER]=blue&secure_variables[TOKEN]=x1";
    let accepted = call(&scene, "POST", &path("schedule"), &headers, Some(form)).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text);
    assert_eq!(confirm(&scene, &path("releaseLock")).await.status, 409);
    assert_eq!(
        confirm(&scene, "/api/stages/lib/compile/cancel")
            .await
            .status,
        200
    );
    assert_eq!(confirm(&scene, &path("releaseLock")).await.status, 200);
    let options = get(&scene, &path("trigger_options")).await;
    assert!(!options.text.contains("sesame"), "{}", options.text);
    let link = json!({ "href": "text" });
    let expected = json!({
        "_links": { "self": link, "doc": link, "schedule": link },
        "variables": [{ "name": "text", "secure": "flag", "value": "text" }],
        "materials": [{
            "name": "text", "fingerprint": "text", "type": "text", "description": "text",
            "folder": "text",
            "revision": {
                "date": "text", "user": "text", "comment": "text", "revision": "text",
                "last_run_revision": "text",
            },
        }],
    });
    assert_eq!(shape(&options.body), expected);
    let secret = json!({ "name": "TOKEN", "secure": true });
    assert_eq!(options.body["variables"][1], secret);
    let built = options.body["materials"][0]["revision"]["revision"]
        .as_str()
        .unwrap();
    commit(scene.repo.path(), "file.txt", "newer");
    let body = json!({
        "variables": { "TIER": "red" }, "secure_variables": {}, "materials": { "SRC": built },
    });
    let accepted = send(&scene, "POST", &path("schedule"), body).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text);
    let run = get(&scene, &path("2")).await.body;
    let revision = &run["build_cause"]["material_revisions"][0]["modifications"][0]["revision"];
    assert_eq!(revision, built);
    let scheduled = get(&scene, "/api/feed/jobs/scheduled.xml").await;
    assert!(scheduled.text.contains(">red<"), "{}", scheduled.text);
    let comment = json!({ "comment": "rc1 <b>" });
    assert_eq!(
        send(&scene, "POST", &path("2/comment"), comment.clone())
            .await
            .status,
        200
    );
    assert_eq!(get(&scene, &path("2")).await.body["comment"], "rc1 <b>");
    assert_eq!(
        send(&scene, "POST", &path("9/comment"), comment)
            .await
            .status,
        404
    );
    assert_eq!(
        send(&scene, "POST", &path("2/comment"), json!({}))
            .await
            .status,
        422
    );
    for (what, status) in [
        ("pause", 404),
        ("unpause", 404),
        ("unlock", 404),
        ("schedule", 404),
    ] {
        let answer = confirm(&scene, &format!("/api/pipelines/nope/{what}")).await;
        assert_eq!(answer.status, status, "{what}");
    }
}

#[tokio::test]
async fn stages_and_single_jobs_run_again() {
    let scene = Scene::with(YAML).await;
    scene.begin("lib").await;
    let agent = scene.agent("5d2c", &[], &["staging"]).await;
    let busy = confirm(&scene, "/api/stages/lib/1/compile/run").await;
    assert_eq!(busy.status, 409, "{}", busy.text);
    scene
        .do_jobs(&agent, &[JobResult::Failed, JobResult::Passed])
        .await;
    let path = "/api/stages/lib/1/compile/1";
    let selected = format!("{path}/run-selected-jobs");
    for (body, status) in [
        (json!({}), 422),
        (json!({ "job": ["unit"] }), 422),
        (json!({ "jobs": [] }), 400),
        (json!({ "jobs": ["nope"] }), 404),
        (json!({ "jobs": 3 }), 422),
        (json!({ "jobs": ["unit"] }), 202),
        (json!({ "jobs": ["unit"] }), 409),
    ] {
        let answer = send(&scene, "POST", &selected, body.clone()).await;
        assert_eq!(answer.status, status, "{body} {}", answer.text);
    }
    scene.do_jobs(&agent, &[JobResult::Failed]).await;
    let stage = get(&scene, "/api/stages/lib/1/compile/2").await.body;
    assert_eq!(stage["rerun_of_counter"], 1);
    let jobs = stage["jobs"].as_array().unwrap();
    assert_eq!(
        (&jobs[0]["rerun"], &jobs[0]["original_job_id"]),
        (&json!(true), &Value::Null)
    );
    assert_eq!(jobs[1]["rerun"], false);
    assert!(jobs[1]["original_job_id"].is_i64(), "{stage}");
    let failed = "/api/stages/lib/1/compile/2/run-failed-jobs";
    assert_eq!(confirm(&scene, failed).await.status, 202);
    scene.do_jobs(&agent, &[JobResult::Passed]).await;
    let none = confirm(&scene, "/api/stages/lib/1/compile/3/run-failed-jobs").await;
    assert_eq!(none.status, 400, "{}", none.text);
    for (path, status) in [
        ("/api/stages/lib/1/compile/9/run-failed-jobs", 404),
        ("/api/stages/lib/1/compile/x/run-failed-jobs", 422),
        ("/api/stages/lib/x/compile/run", 422),
        ("/api/stages/lib/1/nope/run", 404),
        ("/api/stages/nope/latest/compile/run", 404),
        ("/run/lib/1/publish", 202),
        ("/api/stages/lib/publish/cancel", 200),
        ("/api/stages/lib/nope/cancel", 404),
    ] {
        assert_eq!(confirm(&scene, path).await.status, status, "{path}");
    }
    let cancelled = get(&scene, "/api/stages/lib/publish/instance/1/1")
        .await
        .body;
    assert_eq!(cancelled["cancelled_by"], "anonymous");
    let run = get(&scene, "/api/pipelines/lib/instance/1").await.body;
    assert_eq!(run["stages"][0]["counter"], "3");
    assert_eq!(run["stages"][0]["rerun_of_counter"], 2);
    let history = get(&scene, "/api/agents/5d2c/job_run_history").await.body;
    let jobs = history["jobs"].as_array().unwrap().iter();
    let reruns: Vec<bool> = jobs.map(|job| job["rerun"].as_bool().unwrap()).collect();
    // Copies are listed as well, as GoCD does.
    assert_eq!(reruns, [true, true, false, false, false, false]);
}

#[tokio::test]
async fn a_job_that_is_completing_is_neither_building_nor_over() {
    let scene = Scene::with(YAML).await;
    scene.begin("lib").await;
    let agent = scene.agent("5d2c", &[], &["staging"]).await;
    let job = scene.take(&agent).await;
    let (app, uuid) = (scene.app(), &agent.uuid);
    report_completing(app, uuid, &job, JobResult::Failed)
        .await
        .unwrap();
    let shown = get(&scene, "/api/jobs/lib/1/compile/1/unit").await.body;
    assert_eq!(
        (&shown["state"], &shown["result"]),
        (&json!("Completing"), &json!("Failed"))
    );
    let run = get(&scene, "/api/pipelines/lib/1").await.body;
    let stage = &run["stages"][0];
    assert_eq!(
        (&stage["status"], &stage["result"]),
        (&json!("Failing"), &json!("Failed"))
    );
    assert_eq!(stage["jobs"][0]["state"], "Completing");
    let instance = get(&scene, "/api/stages/lib/1/compile/1").await.body;
    assert_eq!(instance["result"], "Failed");
    let dashboard = get(&scene, "/api/dashboard").await.body;
    let pipelines = dashboard["_embedded"]["pipelines"].as_array().unwrap();
    let lib = pipelines.iter().find(|one| one["name"] == "lib").unwrap();
    let stages = &lib["_embedded"]["instances"][0]["_embedded"]["stages"];
    assert_eq!(stages[0]["status"], "Failing");
    for (page, shown) in [
        ("/pipelines", "failing"),
        ("/pipelines/lib/1/compile/1", "state completing"),
        ("/tab/build/detail/lib/1/compile/1/unit", "state completing"),
    ] {
        let url = format!("{}{page}", app.endpoints.http_url);
        let text = reqwest::get(&url).await.unwrap().text().await.unwrap();
        assert!(text.contains(shown), "{page}: {text}");
    }
}

#[tokio::test]
async fn the_default_timeout_of_jobs_is_set() {
    let scene = Scene::new().await;
    let path = "/api/admin/config/server/default_job_timeout";
    let told = async || get(&scene, path).await.body["default_job_timeout"].clone();
    assert_eq!(told().await, "0");
    for (method, given, status, then) in [
        ("POST", json!("90"), 200, "90"),
        ("PUT", json!(60), 200, "60"),
        ("POST", json!("-1"), 422, "60"),
        ("POST", json!(-1), 422, "60"),
        ("POST", json!("soon"), 422, "60"),
        ("POST", json!(1.5), 422, "60"),
        ("POST", json!([90]), 422, "60"),
        ("POST", Value::Null, 422, "60"),
        ("POST", json!("0"), 200, "0"),
    ] {
        let body = json!({ "default_job_timeout": given });
        let answer = send(&scene, method, path, body).await;
        assert_eq!(answer.status, status, "{given} {}", answer.text);
        assert_eq!(told().await, then, "{given}");
    }
}

#[tokio::test]
async fn the_dashboard_shows_what_runs_and_says_when_nothing_is_new() {
    let scene = Scene::with(YAML).await;
    let agent = scene.agent("5d2c", &[], &["staging"]).await;
    scene.begin("lib").await;
    scene.do_jobs(&agent, &[JobResult::Passed; 2]).await;
    assert_eq!(confirm(&scene, "/run/lib/1/publish").await.status, 202);
    scene.do_jobs(&agent, &[JobResult::Passed]).await;
    scene.begin("lib").await;
    let url = format!("{}/api/dashboard", scene.app().endpoints.http_url);
    let client = reqwest::Client::new();
    let response = client.get(&url).send().await.unwrap();
    let tag = response.headers()["etag"].clone();
    assert_eq!(
        response.headers()["content-type"],
        "application/vnd.go.cd.v4+json;charset=utf-8"
    );
    let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    let same = client.get(&url).header("If-None-Match", tag.clone());
    let same = same.send().await.unwrap();
    assert_eq!(same.status(), 304);
    assert_eq!(same.headers()["etag"], tag);
    assert_eq!(same.text().await.unwrap(), "");

    let embedded = &body["_embedded"];
    let names: Vec<&Value> = embedded["pipeline_groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| &group["name"])
        .collect();
    assert_eq!(names, ["apps", "core"]);
    assert_eq!(embedded["environments"][0]["pipelines"], json!(["lib"]));
    let pipelines = embedded["pipelines"].as_array().unwrap();
    let lib = pipelines.iter().find(|one| one["name"] == "lib").unwrap();
    let link = json!({ "href": "text" });
    let links = json!({ "self": link, "doc": link });
    let own = json!({ "self": link });
    let expected = json!({
        "_links": links, "name": "text", "last_updated_timestamp": "number", "locked": "flag",
        "pause_info": { "paused": "flag", "paused_by": null, "pause_reason": null, "paused_at": null },
        "template_info": { "is_using_template": "flag", "template_name": null },
        "can_operate": "flag", "can_administer": "flag", "can_unlock": "flag", "can_pause": "flag",
        "from_config_repo": "flag", "config_repo_id": "text", "config_repo_material_url": "text",
        "_embedded": { "instances": [{
            "_links": own, "label": "text", "counter": "number", "triggered_by": "text",
            "scheduled_at": "text",
            "_embedded": { "stages": [{
                "_links": own, "name": "text", "counter": "text", "status": "text",
                "allow_only_on_success_of_previous_stage": "flag", "can_operate": "flag",
                "approval_type": "text", "approved_by": "text", "scheduled_at": "text",
            }] },
        }] },
        "tracking_tool": { "regex": "text", "link": "text" },
    });
    assert_eq!(shape(lib), expected);
    let run = &lib["_embedded"]["instances"][0];
    assert_eq!(
        (&run["counter"], &run["triggered_by"]),
        (&json!(2), &json!("Triggered by ann"))
    );
    let stages = &run["_embedded"]["stages"];
    assert_eq!(stages[0]["status"], "Building");
    assert_eq!(stages[0]["approval_type"], "auto");
    assert_eq!(stages[1]["approval_type"], "manual");
    assert_eq!(stages[1]["previous_stage"]["status"], "Passed");
    assert_eq!(lib["locked"], true);

    assert_eq!(
        confirm(&scene, "/api/stages/lib/2/compile/1/cancel")
            .await
            .status,
        200
    );
    let changed = client.get(&url).header("If-None-Match", tag);
    assert_eq!(changed.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn runs_are_compared_and_followed_up_and_down_the_stream() {
    let scene = Scene::with(YAML).await;
    let agent = scene.agent("5d2c", &[], &["staging"]).await;
    let free = scene.agent("77", &[], &[]).await;
    for message in ["one", "two"] {
        commit(scene.repo.path(), "file.txt", message);
        scene.begin("lib").await;
        scene.do_jobs(&agent, &[JobResult::Passed; 2]).await;
        assert_eq!(
            confirm(&scene, "/api/pipelines/lib/unlock").await.status,
            200
        );
        scene.begin("app").await;
        scene.do_jobs(&free, &[JobResult::Passed]).await;
    }
    let compared = get(&scene, "/api/pipelines/app/compare/2/1").await;
    assert_eq!(
        compared.media_type,
        "application/vnd.go.cd.v2+json;charset=utf-8"
    );
    let link = json!({ "href": "text" });
    let expected = json!({
        "_links": { "self": link, "doc": link },
        "pipeline_name": "text", "from_counter": "number", "to_counter": "number",
        "is_bisect": "flag",
        "changes": [{
            "material": { "type": "text", "attributes": {
                "url": "text", "destination": "text", "filter": null, "invert_filter": "flag",
                "auto_update": "flag", "branch": "text", "submodule_folder": null,
                "shallow_clone": "flag", "name": "text", "display_type": "text", "description": "text",
            } },
            "revision": [{
                "revision_sha": "text", "modified_by": "text", "modified_at": "text",
                "commit_message": "text",
            }],
        }],
    });
    assert_eq!(shape(&compared.body), expected);
    let changes = compared.body["changes"].as_array().unwrap();
    // The same commit, seen directly and through lib.
    assert_eq!(changes.len(), 2, "{}", compared.text);
    assert_eq!(changes[0]["revision"].as_array().unwrap().len(), 1);
    assert_eq!(changes[1]["material"]["type"], "dependency");
    assert_eq!(changes[1]["revision"][0]["revision"], "lib/2/compile/1");
    assert_eq!(changes[1]["revision"][0]["pipeline_counter"], "lib-2");
    for (path, status) in [
        ("/api/pipelines/app/compare/1/1", 200),
        ("/api/pipelines/app/compare/1/9", 404),
        ("/api/pipelines/app/compare/0/1", 422),
        ("/api/pipelines/app/compare/x/1", 422),
        ("/api/pipelines/nope/compare/1/2", 404),
        ("/pipelines/value_stream_map/app/9.json", 404),
        ("/pipelines/value_stream_map/app/x.json", 422),
    ] {
        assert_eq!(get(&scene, path).await.status, status, "{path}");
    }

    let stream = get(&scene, "/pipelines/value_stream_map/app/2.json")
        .await
        .body;
    assert_eq!(stream["current_pipeline"], "app");
    let levels: Vec<Vec<(&str, &str)>> = stream["levels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|level| {
            let nodes = level["nodes"].as_array().unwrap().iter();
            let text = |value: &'_ Value| -> &'static str {
                Box::leak(value.as_str().unwrap().to_owned().into_boxed_str())
            };
            nodes
                .map(|node| (text(&node["node_type"]), text(&node["name"])))
                .collect()
        })
        .collect();
    let repo = scene.repo.path().to_str().unwrap();
    assert_eq!(levels[0], [("GIT", repo)]);
    assert_eq!(
        levels[1].len(),
        2,
        "the repository leads into app directly as well"
    );
    assert_eq!(levels[2], [("PIPELINE", "app")]);
    assert_eq!(levels[3], [("PIPELINE", "site")]);
    let app = &stream["levels"][2]["nodes"][0];
    assert_eq!(app["dependents"], json!(["site"]));
    assert_eq!(app["parents"].as_array().unwrap().len(), 2);
    let instance = &app["instances"][0];
    assert_eq!(
        (&instance["counter"], &instance["locator"]),
        (&json!(2), &json!("/go/pipelines/value_stream_map/app/2"))
    );
    assert_eq!(
        instance["stages"][0]["locator"],
        "/go/pipelines/app/2/build/1"
    );
    let site = &stream["levels"][3]["nodes"][0]["instances"][0];
    assert_eq!(
        (&site["counter"], &site["stages"][0]["status"]),
        (&json!(0), &json!("Unknown"))
    );
    let stream = get(&scene, "/pipelines/value_stream_map/lib/1.json")
        .await
        .body;
    let levels = stream["levels"].as_array().unwrap();
    let app = &levels[2]["nodes"][0];
    assert_eq!(
        (&app["name"], &app["instances"][0]["counter"]),
        (&json!("app"), &json!(1))
    );
}
