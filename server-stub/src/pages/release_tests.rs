//! The pages about releases through the real router and the real database.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use journeyman_protocol::release::{Release, Signature};
use serde_json::{Value, json};

use crate::agents::ConfigState;
use crate::releases::store;
use crate::releases::tests::{Machine, Scene};

const OWN: (&str, &str) = ("Sec-Fetch-Site", "same-origin");

fn url(scene: &Scene, path: &str) -> String {
    format!("{}{path}", scene.app().endpoints.http_url)
}

async fn get(scene: &Scene, path: &str) -> (u16, String) {
    let response = reqwest::get(url(scene, path)).await.unwrap();
    let status = response.status().as_u16();
    (status, response.text().await.unwrap())
}

async fn page(scene: &Scene, path: &str) -> String {
    let (status, page) = get(scene, path).await;
    assert_eq!(status, 200, "{path}: {page}");
    page
}

/// Status, and the page or where it leads to.
async fn send(scene: &Scene, path: &str, fields: &[(&str, &str)]) -> (u16, String) {
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let body = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish();
    let request = client
        .post(url(scene, path))
        .header("Content-Type", "application/x-www-form-urlencoded")
        .header(OWN.0, OWN.1);
    let response = request.body(body).send().await.unwrap();
    let status = response.status().as_u16();
    let location = response.headers().get("location").cloned();
    match location {
        Some(location) => (status, location.to_str().unwrap().to_owned()),
        None => (status, response.text().await.unwrap()),
    }
}

fn upgrade(to: &Release, component: &str, state: &str, reason: Option<&str>) -> Value {
    json!({ "component": component, "to": to.agent.build(), "state": state, "reason": reason })
}

#[tokio::test]
async fn every_state_of_an_upgrade_is_shown_by_its_name() {
    let scene = Scene::new().await;
    let id = scene.add("0.2.0", 2).await;
    scene.agent("a", &[], ConfigState::Enabled).await;
    scene.agent("silent", &[], ConfigState::Enabled).await;
    let machine = Machine::with("0.1.0", 1);
    scene.report("a", &machine).await;
    assert!(page(&scene, "/agents").await.contains("0.1.0 (build 1)"));

    let offer = [("to", "all"), ("over", "1d")];
    let path = format!("/releases/{id}/offer");
    let to = format!("/go/releases/{id}");
    assert_eq!(send(&scene, &path, &offer).await, (303, to));
    let shown = page(&scene, "/agents").await;
    assert!(
        shown.contains("quiet\">scheduled<") && shown.contains(">for 2"),
        "{shown}"
    );
    assert!(shown.contains("Nothing reported yet."), "{shown}");

    scene.clock.advance(Duration::from_secs(24 * 3600));
    let release = scene.report("a", &machine).await.unwrap();
    let shown = page(&scene, "/agents").await;
    assert!(shown.contains("quiet\">requested<"), "{shown}");
    assert!(
        shown.contains(&format!("href=\"/go/releases/{id}\"")),
        "{shown}"
    );
    for (wire, name, tone, reason) in [
        ("downloading", "downloading", "busy", None),
        ("verifying", "verifying", "busy", None),
        ("unpacking", "unpacking", "busy", None),
        ("handedOver", "handed over", "busy", None),
        ("switched", "switched", "busy", None),
        ("probation", "probation", "busy", None),
        (
            "failed",
            "failed",
            "bad",
            Some("download: the disk is full"),
        ),
        ("done", "done", "good", None),
        (
            "rolledBack",
            "rolled back",
            "bad",
            Some("probation: it died"),
        ),
    ] {
        let upgraded = upgrade(&release, "agent", wire, reason);
        let report = machine.clone().says("upgrade", upgraded);
        let to = release.agent.build();
        let report = match name {
            "done" => report
                .says("agent", json!(to))
                .says("launcher", json!(release.launcher.build())),
            "rolled back" => report.says(
                "bad",
                json!([{ "component": "agent", "build": to, "reason": reason }]),
            ),
            _ => report,
        };
        scene.report("a", &report).await;
        let all = page(&scene, "/agents").await;
        let one = page(&scene, &format!("/releases/{id}")).await;
        for shown in [&all, &one] {
            assert!(
                shown.contains(&format!("state {tone}\">{name}</span>")),
                "{name}: {shown}"
            );
            assert!(shown.contains("since 2"), "{name}: {shown}");
            assert!(reason.is_none_or(|reason| shown.contains(reason)), "{name}");
        }
        let list = page(&scene, "/releases").await;
        assert!(
            list.contains(&format!("state {tone}\">1 {name}<")),
            "{list}"
        );
    }
    scene.running.stop().await;
}

#[tokio::test]
async fn what_a_machine_says_is_shown_and_escaped() {
    let scene = Scene::new().await;
    let evil = "<script>alert(1)</script>";
    scene.agent("a", &[], ConfigState::Enabled).await;
    let id = scene.add("0.2.0", 2).await;
    let manifest = crate::releases::tests::manifest("bootstrapper", "0.2.0", 2, "linux-x86_64");
    let file = scene.data.path().join("package");
    crate::releases::tests::write_package(&file, &manifest);
    let packages = "/api/admin/journeyman/releases/packages";
    let request = reqwest::Client::new()
        .put(url(&scene, packages))
        .header("X-GoCD-Confirm", "true")
        .body(std::fs::read(file).unwrap());
    assert_eq!(request.send().await.unwrap().status(), 201);
    let mut connection = scene.app().database.readers().acquire().await.unwrap();
    let package = store::packages_of(&mut connection, &id).await.unwrap();
    drop(connection);
    let signature = Signature {
        key: "00112233aabbccdd".to_owned(),
        signature: STANDARD.encode([1; 64]),
    };
    store::sign(scene.app(), &package[0].sha256, vec![signature])
        .await
        .unwrap();
    let offer = format!("/releases/{id}/offer");
    send(&scene, &offer, &[("to", "all")]).await;
    let machine = Machine::with("0.1.0", 1);
    let release = scene.report("a", &machine).await.unwrap();
    let build = |version: &str| json!({ "version": version, "build": 9 });
    let machine = machine
        .says("agent", build(&format!("1{evil}")))
        .says("launcher", build(&format!("2{evil}")))
        .says("previous", build(&format!("3{evil}")))
        .says("bootstrapper", json!(format!("4{evil}")))
        .says("setAside", json!([format!("5{evil}")]))
        .says(
            "upgrade",
            upgrade(&release, "launcher", "failed", Some(&format!("6{evil}"))),
        )
        .says(
            "bad",
            json!([
                { "component": "agent", "build": build(&format!("7{evil}")), "reason": format!("8{evil}") },
                { "component": "launcher", "build": build("0.3.0"), "reason": format!("6{evil}") },
            ]),
        );
    scene.report("a", &machine).await;
    let all = page(&scene, "/agents").await;
    let one = page(&scene, &format!("/releases/{id}")).await;
    for shown in [&all, &one] {
        assert!(!shown.contains("<script>alert"), "{shown}");
        for number in 1..=8 {
            let escaped = format!("{number}&#60;script&#62;");
            // One reason that was given twice is told once.
            assert_eq!(shown.matches(&escaped).count(), 1, "{number}: {shown}");
        }
        assert!(shown.contains("bootstrapper 0.2.0 is offered"), "{shown}");
        assert!(shown.contains("launcher 0.3.0 (build 9)"), "{shown}");
    }
    let list = page(&scene, "/releases").await;
    for shown in [&one, &list] {
        assert!(shown.contains("00112233aabbccdd") && shown.contains("linux-x86_64"));
        assert!(shown.contains("not signed"), "{shown}");
    }
    assert!(list.contains("launcher, bootstrapper, agent"), "{list}");
    let evil = "/releases/%3Cscript%3Ealert(1)%3C%2Fscript%3E";
    for path in ["", "/offer", "/withdraw", "/delete"] {
        let path = format!("{evil}{path}");
        let (status, text) = match path.matches('/').count() {
            2 => get(&scene, &path).await,
            _ => send(&scene, &path, &[("to", "all")]).await,
        };
        assert!(
            status == 404 && !text.contains("<script>"),
            "{path}: {text}"
        );
    }
    scene.running.stop().await;
}

#[tokio::test]
async fn a_form_that_is_wrong_says_so_once_and_keeps_what_was_typed() {
    let scene = Scene::new().await;
    let id = scene.add("0.2.0", 2).await;
    let path = format!("/releases/{id}/offer");
    let good = [
        ("to", "agents"),
        ("who", "host-<i>"),
        ("over", "2h"),
        ("stop_at", "33"),
        ("downgrade", "yes"),
    ];
    for (field, value, invalid, message) in [
        ("to", "", "to", "Choose whom"),
        ("to", "everybody", "to", "Choose whom"),
        ("to", "all", "who", "you chose all agents"),
        ("to", "percent", "who", "from 1% to 100%"),
        ("who", " ", "who", "uuids or host names"),
        ("over", "2", "over", "is no time"),
        ("over", "91d", "over", "90 days"),
        ("stop_at", "0%", "stop_at", "is no share"),
    ] {
        let fields = good.map(|(name, kept)| (name, if name == field { value } else { kept }));
        let (status, page) = send(&scene, &path, &fields).await;
        assert_eq!(status, 422, "{field}={value}");
        assert_eq!(page.matches("role=\"alert\"").count(), 1, "{page}");
        assert!(
            page.to_lowercase().contains(&message.to_lowercase()),
            "{page}"
        );
        assert_eq!(page.matches("aria-invalid").count(), 1, "{page}");
        let input = page.lines().find(|line| line.contains("aria-invalid"));
        assert!(
            input.unwrap().contains(&format!("id=\"{invalid}\"")),
            "{page}"
        );
        for (name, kept) in fields {
            let shown = match name {
                "to" => continue,
                "downgrade" => "value=\"yes\" checked".to_owned(),
                _ => format!(
                    "value=\"{}\"",
                    kept.replace('<', "&#60;").replace('>', "&#62;")
                ),
            };
            assert!(page.contains(&shown), "{name}={kept}: {page}");
        }
        let chosen = fields[0].1;
        let is_kind = ["all", "agents", "percent"].contains(&chosen);
        let selected = page.contains(&format!("value=\"{chosen}\" selected"));
        assert_eq!(selected, is_kind, "{page}");
    }
    let twice = [("to", "all"), ("to", "all")];
    for (path, fields) in [
        (&path, twice.as_slice()),
        (&format!("/releases/{id}/withdraw"), &[("offer", "first")]),
    ] {
        let (status, page) = send(&scene, path, fields).await;
        assert_eq!((status, page.matches("role=\"alert\"").count()), (422, 1));
    }
    let long = "a".repeat(70 * 1024);
    let (status, page) = send(&scene, &path, &[("to", "agents"), ("who", &long)]).await;
    assert!(
        status == 413 && page.contains("nothing has changed"),
        "{page}"
    );
    let (_, list) = get(&scene, "/releases").await;
    assert!(list.contains("not offered yet"), "{list}");
    scene.running.stop().await;
}

#[tokio::test]
async fn releases_are_offered_withdrawn_and_deleted() {
    let scene = Scene::new().await;
    assert!(page(&scene, "/releases").await.contains("releases add"));
    let id = scene.add("0.2.0", 2).await;
    let at = |action: &str| format!("/releases/{id}/{action}");
    let to = format!("/go/releases/{id}");
    let foreign = reqwest::Client::new()
        .post(url(&scene, &at("delete")))
        .header("Origin", "https://evil.example");
    assert_eq!(foreign.send().await.unwrap().status(), 403);

    let (status, refused) = send(&scene, &at("withdraw"), &[]).await;
    assert!(
        status == 409 && refused.contains("is not offered"),
        "{refused}"
    );
    let fields = [("to", "agents"), ("who", "b, nobody"), ("downgrade", "yes")];
    assert_eq!(send(&scene, &at("offer"), &fields).await, (303, to.clone()));
    let shown = page(&scene, &format!("/releases/{id}")).await;
    // For as long as it is so.
    let warning = "no agent has the uuid or host name b now";
    assert!(
        shown.contains(warning) && shown.contains("agents=b,nobody"),
        "{shown}"
    );
    assert!(shown.contains(">downgrade<") && shown.contains("<td>at once</td>"));
    assert!(shown.contains(">20%<"), "{shown}");
    scene.agent("b", &[], ConfigState::Enabled).await;
    let shown = page(&scene, &format!("/releases/{id}")).await;
    assert!(!shown.contains(warning) && shown.contains("host name nobody now"));

    let share = [
        ("to", "percent"),
        ("who", "10%"),
        ("over", "90m"),
        ("stop_at", "5%"),
    ];
    assert_eq!(send(&scene, &at("offer"), &share).await.0, 303);
    let list = page(&scene, "/releases").await;
    assert!(list.contains("percent=10, 90m from"), "{list}");
    assert!(
        list.contains("0 asked, 0 done, 0 failed; stops at 5%"),
        "{list}"
    );
    let (status, refused) = send(&scene, &at("delete"), &[]).await;
    assert!(
        status == 409 && refused.contains("withdraw it before"),
        "{refused}"
    );

    assert_eq!(
        send(&scene, &at("withdraw"), &[("offer", "2")]).await.0,
        303
    );
    let (status, refused) = send(&scene, &at("withdraw"), &[("offer", "2")]).await;
    assert!(status == 409 && refused.contains("no offer 2"), "{refused}");
    assert_eq!(send(&scene, &at("withdraw"), &[]).await, (303, to));
    let shown = page(&scene, &format!("/releases/{id}")).await;
    assert_eq!(shown.matches("withdrawn by an administrator, 2").count(), 2);
    assert!(!shown.contains(">Withdraw<"), "{shown}");
    assert!(!shown.contains("nobody now"), "{shown}");
    let deleted = send(&scene, &at("delete"), &[]).await;
    assert_eq!(deleted, (303, "/go/releases".to_owned()));
    assert_eq!(get(&scene, &format!("/releases/{id}")).await.0, 404);
    scene.running.stop().await;
}
