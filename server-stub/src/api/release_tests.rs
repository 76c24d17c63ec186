//! Releases over REST.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::agents::ConfigState;
use crate::releases::tests::{Machine, Scene, manifest, write_package};

const ROOT: &str = "/api/admin/journeyman/releases";

async fn call(
    scene: &Scene,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> (u16, Value) {
    let url = format!("{}{path}", scene.app().endpoints.http_url);
    let mut request = reqwest::Client::new().request(method.parse().unwrap(), url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.body(body).send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.json().await.unwrap_or_default())
}

async fn send(scene: &Scene, method: &str, path: &str, body: Value) -> (u16, Value) {
    let headers = [("Content-Type", "application/json")];
    let path = format!("{ROOT}{path}");
    call(scene, method, &path, &headers, body.to_string().into()).await
}

async fn confirmed(scene: &Scene, method: &str, path: &str, body: Vec<u8>) -> (u16, Value) {
    let headers = [("X-GoCD-Confirm", "true")];
    call(scene, method, &format!("{ROOT}{path}"), &headers, body).await
}

fn package(scene: &Scene, component: &str, build: u64) -> Vec<u8> {
    let path = scene.data.path().join("package");
    write_package(&path, &manifest(component, "0.2.0", build, "linux-x86_64"));
    std::fs::read(path).unwrap()
}

#[tokio::test]
async fn a_release_is_added_offered_withdrawn_and_deleted() {
    let scene = Scene::new().await;
    scene.agent("a", &[], ConfigState::Enabled).await;
    scene.report("a", &Machine::with("0.1.0", 1)).await;
    let launcher = package(&scene, "launcher", 2);
    let (status, added) = confirmed(&scene, "PUT", "/packages", launcher.clone()).await;
    assert_eq!((status, &added["release"]), (201, &json!("0.2.0-2")));
    assert_eq!(
        confirmed(&scene, "PUT", "/packages", launcher.clone())
            .await
            .0,
        200
    );
    let offers = "/0.2.0-2/offers";
    let (status, refused) = send(&scene, "POST", offers, json!({})).await;
    assert_eq!(status, 422);
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("releases add"), "{message}");
    confirmed(&scene, "PUT", "/packages", package(&scene, "agent", 2)).await;

    for wrong in [
        json!({ "to": "everybody" }),
        json!({ "to": 7 }),
        json!({ "over": "2" }),
        json!({ "over": "91d" }),
        json!({ "stop_at": "0%" }),
        json!({ "downgrade": "yes" }),
    ] {
        let (status, answer) = send(&scene, "POST", offers, wrong.clone()).await;
        assert_eq!(status, 422, "{wrong}");
        assert!(answer["message"].is_string(), "{wrong}");
    }
    let asked = json!({ "to": "percent=100", "over": "0", "downgrade": true, "stop_at": "50" });
    let (status, offered) = send(&scene, "POST", offers, asked).await;
    assert_eq!((status, &offered["warnings"]), (201, &json!([])));
    scene.report("a", &Machine::with("0.1.0", 1)).await.unwrap();
    let (_, agent) = call(&scene, "GET", "/api/agents/a", &[], Vec::new()).await;
    assert_eq!(agent["journeyman"]["agent"]["release"], "0.1.0-1");
    assert_eq!(agent["journeyman"]["upgrade"]["state"], "requested");
    let (_, shown) = confirmed(&scene, "GET", "/0.2.0-2", Vec::new()).await;
    assert_eq!(shown["status"], "offered to percent=100");
    assert_eq!(shown["states"], json!({ "requested": 1 }));
    assert_eq!(shown["machines"][0]["hostname"], "host-a");
    assert_eq!(shown["offers"][0]["stop_at_percent"], 50);
    assert_eq!(shown["packages"].as_array().unwrap().len(), 2);

    assert_eq!(
        confirmed(&scene, "DELETE", "/0.2.0-2", Vec::new()).await.0,
        409
    );
    let withdraw = "/0.2.0-2/withdraw";
    let other = json!({ "offer": 99 });
    assert_eq!(send(&scene, "POST", withdraw, other).await.0, 409);
    assert_eq!(send(&scene, "POST", withdraw, json!({})).await.0, 200);
    assert_eq!(send(&scene, "POST", withdraw, json!({})).await.0, 409);
    let (_, list) = confirmed(&scene, "GET", "", Vec::new()).await;
    let first = &list["_embedded"]["releases"][0];
    assert_eq!(
        first["status"],
        "not offered any more: withdrawn by an administrator"
    );
    assert_eq!(
        confirmed(&scene, "DELETE", "/0.2.0-2", Vec::new()).await.0,
        200
    );
    for (method, path) in [
        ("GET", "/0.2.0-2"),
        ("DELETE", "/0.2.0-2"),
        ("POST", withdraw),
        ("POST", offers),
    ] {
        assert_eq!(
            confirmed(&scene, method, path, Vec::new()).await.0,
            404,
            "{path}"
        );
    }
    scene.running.stop().await;
}

#[tokio::test]
async fn uploads_are_confirmed_limited_and_packages() {
    let scene = Scene::new().await;
    let path = format!("{ROOT}/packages");
    let package = package(&scene, "agent", 2);
    let (status, _) = call(&scene, "PUT", &path, &[], package.clone()).await;
    assert_eq!(status, 400);
    let (status, refused) = confirmed(&scene, "PUT", "/packages", b"a tar, maybe".to_vec()).await;
    assert_eq!(status, 422);
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("journeyman-package build"), "{message}");

    // Refused before it is sent: 2 GiB.
    let address = scene.running.http_address();
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "PUT /go{path} HTTP/1.1\r\nHost: {address}\r\nConfirm: true\r\nConnection: close\r\n\
         Content-Length: 2147483648\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    socket.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 413");
    drop(socket);

    let (_, added) = confirmed(&scene, "PUT", "/packages", package).await;
    let sha256 = added["sha256"].as_str().unwrap();
    let sign = format!("/packages/{sha256}/signatures");
    let wrong = json!({ "signatures": [{ "key": "k", "signature": "s" }] });
    assert_eq!(send(&scene, "PUT", &sign, wrong.clone()).await.0, 422);
    assert_eq!(
        send(&scene, "PUT", &sign, json!({ "signatures": 1 }))
            .await
            .0,
        422
    );
    let nowhere = format!("/packages/{}/signatures", "0".repeat(64));
    let none = json!({ "signatures": [] });
    assert_eq!(send(&scene, "PUT", &nowhere, none).await.0, 404);
    assert!(
        std::fs::read_dir(scene.app().paths.incoming())
            .unwrap()
            .next()
            .is_none()
    );
    scene.running.stop().await;
}
