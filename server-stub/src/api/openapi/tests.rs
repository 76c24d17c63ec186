use std::collections::{BTreeMap, BTreeSet};

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::super::tests::{self as api, confirm};
use super::{calls, document};
use crate::scheduling::tests::Scene;
use crate::users::access::is_for_programs;

/// Methods and paths of a router, out of what it shows of itself for debugging: the paths by the
/// number of their route, and by that number the methods that have a handler.
fn routes(debug: &str) -> BTreeSet<(String, String)> {
    let number = |line: &str| {
        let (_, rest) = line.split_once("RouteId(")?;
        rest.trim_start()
            .split(')')
            .next()?
            .trim()
            .parse::<u32>()
            .ok()
    };
    let flat = debug.split_whitespace().collect::<Vec<_>>().join(" ");
    let (handlers, paths) = flat.split_once("node: Node").unwrap();
    let paths = paths.split("fallback_router").next().unwrap();
    let mut path_of = BTreeMap::new();
    for entry in paths.split("RouteId").skip(1) {
        let id = number(&format!("RouteId{entry}")).unwrap();
        let path = entry.split('"').nth(1).unwrap();
        path_of.insert(id, path.to_owned());
    }
    let mut found = BTreeSet::new();
    for entry in handlers.split("RouteId").skip(1) {
        let Some(id) = number(&format!("RouteId{entry}")) else {
            continue;
        };
        let Some(path) = path_of.get(&id) else {
            continue;
        };
        for method in ["get", "put", "post", "patch", "delete"] {
            let handled = entry.split(&format!(" {method}: ")).nth(1);
            if handled.is_some_and(|rest| !rest.starts_with("None")) {
                found.insert((method.to_uppercase(), path.clone()));
            }
        }
    }
    found
}

#[tokio::test]
async fn every_route_for_programs_is_described_and_no_other() {
    let scene = Scene::new().await;
    let router = crate::router::router(scene.running.app.clone());
    let served: BTreeSet<_> = routes(&format!("{router:?}"))
        .into_iter()
        // A page and its data are one route.
        .filter(|(_, path)| is_for_programs(path) || path.contains("/value_stream_map/"))
        .collect();
    assert!(served.len() > 50, "{served:?}");
    let described: BTreeSet<_> = calls::all()
        .map(|call| (call.method.to_string(), call.path.to_owned()))
        .collect();
    let missing: Vec<_> = served.difference(&described).collect();
    let extra: Vec<_> = described.difference(&served).collect();
    assert_eq!((missing, extra), (vec![], vec![]));
}

/// Objects have no fields but those that are described.
fn strict(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.contains_key("properties") {
                fields.insert("additionalProperties".into(), json!(false));
            }
            fields.values_mut().for_each(strict);
        }
        Value::Array(items) => items.iter_mut().for_each(strict),
        _ => {}
    }
}

/// What is wrong with an answer to a call.
fn faults(description: &Value, method: &str, path: &str, status: u16, body: &Value) -> Vec<String> {
    let operation = &description["paths"][path][method];
    let content = &operation["responses"][status.to_string()]["content"];
    let Some(content) = content.as_object().and_then(|one| one.values().next()) else {
        return vec![format!("{status} is not described: {operation}")];
    };
    let mut schema = content["schema"].clone();
    schema["components"] = description["components"].clone();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors = validator.iter_errors(body);
    errors
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

#[tokio::test]
async fn handlers_answer_what_is_described() {
    let scene = Scene::new().await;
    scene.agent("5d2c", &["linux", "jdk"], &[]).await;
    scene.agent("other", &[], &[]).await;
    crate::health::raise(scene.app(), "a", crate::health::Level::Warning, "odd", "");
    confirm(&scene, "/api/pipelines/web/schedule").await;
    let mut description = serde_json::to_value(document()).unwrap();
    strict(&mut description);

    let mut wrong = Vec::new();
    let mut checked = 0;
    let materials = api::get(&scene, "/api/config/materials").await.body;
    let fingerprint = materials["_embedded"]["materials"][0]["fingerprint"].clone();
    let parameters = [
        ("{fingerprint}", fingerprint.as_str().unwrap()),
        ("{pipeline}", "web"),
        ("{counter}", "1"),
        ("{stage}", "build"),
        ("{stage_counter}", "1"),
        ("{job}", "unit"),
        ("{uuid}", "5d2c"),
        ("{group}", "apps"),
        ("{offset}", "0"),
        ("{from}", "1"),
        ("{to}", "1"),
    ];
    for call in calls::all().filter(|call| call.method == http::Method::GET) {
        let mut path = call.path.trim_start_matches("/go").to_owned();
        for (name, value) in parameters {
            path = path.replace(name, value);
        }
        if path.starts_with("/api/admin/config_repos/") {
            path = path.replace("{id}", "conf");
        }
        let is_json = matches!(
            call.answers,
            super::Answers::Json(_) | super::Answers::List(_)
        );
        if path.contains('{') || !is_json {
            continue;
        }
        // As strict clients ask, and as old ones do.
        let media_type = call.media_type();
        let accept = [("Accept", media_type.as_str())];
        let answer = api::call(&scene, "GET", &path, &accept, None).await;
        if let Some(version) = call.version {
            let beyond = format!("application/vnd.go.cd.v{}+json", version + 1);
            let accept = [("Accept", beyond.as_str())];
            let refused = api::call(&scene, "GET", &path, &accept, None).await;
            assert_eq!(refused.status, 404, "{path} as {beyond}");
            for accept in ["*/*", "application/json", "application/vnd.go.cd+json"] {
                let asked = [("Accept", accept)];
                let same = api::call(&scene, "GET", &path, &asked, None).await;
                assert_eq!(same.status, answer.status, "{path} as {accept}");
            }
        }
        if answer.status == 403 || answer.status == 404 {
            // Of users and releases there are none here.
            let known = ["current_user", "users", "releases"];
            assert!(
                known.iter().any(|part| path.contains(part)),
                "{path}: {}",
                answer.text
            );
            continue;
        }
        assert!(
            answer.media_type.starts_with(&media_type),
            "{path}: {}",
            answer.media_type
        );
        let found = faults(&description, "get", call.path, answer.status, &answer.body);
        wrong.extend(
            found
                .into_iter()
                .map(|fault| format!("GET {path}: {fault}")),
        );
        checked += 1;
    }

    let patched = json!({ "resources": ["x"] });
    let bulk = json!({ "uuids": ["5d2c"], "agent_config_state": "Disabled" });
    let repo = json!({ "id": "second", "material": { "type": "git", "attributes": {
        "url": "/nowhere" } } });
    let writes = [
        ("PATCH", "/api/agents/{uuid}", "other", patched),
        ("PATCH", "/api/agents", "", bulk),
        ("DELETE", "/api/agents/{uuid}", "5d2c", Value::Null),
        ("POST", "/api/admin/encrypt", "", json!({ "value": "x" })),
        ("POST", "/api/admin/config_repos", "", repo),
        (
            "POST",
            "/api/admin/config_repos/{id}/trigger_update",
            "conf",
            Value::Null,
        ),
        (
            "DELETE",
            "/api/admin/config_repos/{id}",
            "second",
            Value::Null,
        ),
    ];
    for (method, template, value, body) in writes {
        let path = template.replace("{uuid}", value).replace("{id}", value);
        let answer = if body.is_null() {
            let headers = [("X-GoCD-Confirm", "true")];
            api::call(&scene, method, &path, &headers, None).await
        } else {
            api::send(&scene, method, &path, body).await
        };
        let described = format!("/go{template}");
        let method = method.to_lowercase();
        let found = faults(
            &description,
            &method,
            &described,
            answer.status,
            &answer.body,
        );
        wrong.extend(
            found
                .into_iter()
                .map(|fault| format!("{method} {path}: {fault}")),
        );
        checked += 1;
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(checked > 25, "{checked}");
}

#[tokio::test]
async fn the_description_is_served_to_anybody() {
    let scene = Scene::new().await;
    let served = api::get(&scene, "/api/openapi.json").await;
    assert_eq!(
        served.body["openapi"].as_str().unwrap().split('.').next(),
        Some("3")
    );
    assert_eq!(served.body, serde_json::to_value(document()).unwrap());
    let references = served.text.split("\"#/components/schemas/").skip(1);
    for reference in references {
        let name = reference.split('"').next().unwrap();
        let schema = &served.body["components"]["schemas"][name];
        assert!(
            schema.is_object(),
            "{name} is referred to and not described"
        );
    }
}
