use journeyman_protocol::job::JobState;

use crate::scheduling::tests::Scene;
use crate::{agents, scheduling};

async fn get(scene: &Scene, path: &str) -> (u16, String) {
    let url = format!("{}{path}", scene.app().endpoints.http_url);
    let response = reqwest::get(url).await.unwrap();
    assert!(
        response.headers().contains_key("content-security-policy"),
        "{path}"
    );
    (response.status().as_u16(), response.text().await.unwrap())
}

async fn post(scene: &Scene, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let url = format!("{}{path}", scene.app().endpoints.http_url);
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let mut request = client.post(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test]
async fn every_page_shows_and_escapes() {
    let scene = Scene::new().await;
    scene.trigger().await;
    let mut agent = scene.agent("a", &["linux", "jdk"], &[]).await;
    agent.hostname = "<script>alert(1)</script>".to_owned();
    let mut write = scene.app().database.write().await.unwrap();
    agents::insert(&mut write, &agent).await.unwrap();
    write.commit().await.unwrap();
    let work = scheduling::assign(scene.app(), &agent)
        .await
        .unwrap()
        .unwrap();
    let job = work.assignment.job_identifier;
    scheduling::report_status(scene.app(), "a", &job, JobState::Building)
        .await
        .unwrap();
    let console = scene.app().consoles.of(job.build_id);
    let text = "&1|10:11:12.123 <b>bold</b> \x1b[31mred\x1b[0m\nnot yet whole";
    let stream = futures_util::stream::iter([Ok::<_, ()>(bytes::Bytes::from(text))]);
    console.append(None, stream).await.unwrap();
    let mut write = scene.app().database.write().await.unwrap();
    sqlx::query("INSERT INTO artifacts (job_id, path, size, sha256) VALUES ($1, 'a & b/<i>.txt', 20480, 'abc123')")
        .bind(job.build_id)
        .execute(&mut *write)
        .await
        .unwrap();
    write.commit().await.unwrap();

    let (status, page) = get(&scene, "/agents").await;
    assert_eq!(status, 200);
    assert!(!page.contains("<script>alert"), "{page}");
    assert!(page.contains("Disable") && page.contains("web/1/build/1/"));

    let (status, page) = get(&scene, "/pipelines").await;
    assert_eq!(status, 200);
    assert!(page.contains("1.0.1") && page.contains("/go/pipelines/web/1/build/1"));

    let (status, page) = get(&scene, "/pipelines/web/1/build/1").await;
    assert_eq!(status, 200);
    assert!(page.contains("Dev One") && page.contains("Cancel stage"));

    let path = format!("/tab/build/detail/web/1/build/1/{}", job.build_name);
    let (status, page) = get(&scene, &path).await;
    assert_eq!(status, 200);
    assert!(!page.contains("<b>bold") && !page.contains("<script>alert") && !page.contains('\x1b'));
    assert!(page.contains("class=\"c1\">red"), "{page}");
    assert!(!page.contains("not yet whole"));
    assert!(!page.contains("sesame"));
    let (status, page) = get(&scene, &format!("{path}?tab=artifacts")).await;
    assert_eq!(status, 200);
    assert!(page.contains("20.0 KiB") && page.contains("abc123"));
    assert!(
        page.contains("a%20&#38;%20b/%3Ci%3E.txt") && !page.contains("<i>"),
        "{page}"
    );
    let (status, page) = get(&scene, &format!("{path}?tab=materials")).await;
    assert!(
        status == 200 && page.contains("Change ci.gocd.yaml"),
        "{page}"
    );
    let (status, page) = get(&scene, &format!("{path}?tab=tests")).await;
    assert!(status == 200 && page.contains("No test results"), "{page}");
    assert_eq!(get(&scene, &format!("{path}?tab=custom-1")).await.0, 404);
    let (status, page) = get(&scene, &format!("{path}?q=BOLD")).await;
    assert!(
        status == 200 && page.contains("1 line has <q>BOLD</q>"),
        "{page}"
    );
    // Pieces for scripts.
    let (status, piece) = get(&scene, &format!("{path}/console?from=0&count=9")).await;
    assert!(
        status == 200 && piece.starts_with("<div class=\"line \" id=\"L1\">"),
        "{piece}"
    );
    let (status, piece) = get(&scene, &format!("{path}/console?since=0&wait=9")).await;
    assert!(
        status == 200 && piece.contains("id=\"C0\" data-from=\"0\" data-count=\"1\""),
        "{piece}"
    );

    for path in [
        "/tab/build/detail/web/1/build/1/none",
        "/tab/build/detail/web/1/build/1/none/console",
        "/pipelines/web/9/build/1",
    ] {
        assert_eq!(get(&scene, path).await.0, 404, "{path}");
    }
    for path in ["/assets/style.css", "/assets/live.js", "/", "/home"] {
        assert_eq!(get(&scene, path).await.0, 200, "{path}");
    }
}

#[tokio::test]
async fn buttons_work_and_foreign_forms_do_not() {
    let scene = Scene::new().await;
    scene.agent("a", &[], &[]).await;
    let own = [("Sec-Fetch-Site", "same-origin")];
    let foreign = [("Origin", "https://evil.example")];
    assert_eq!(post(&scene, "/agents/a/disable", &foreign).await.0, 403);
    let (status, page) = post(&scene, "/agents/a/delete", &own).await;
    assert!(status == 409 && page.contains("must be disabled"), "{page}");
    for action in ["disable", "enable", "disable", "delete"] {
        assert_eq!(
            post(&scene, &format!("/agents/a/{action}"), &own).await.0,
            303,
            "{action}"
        );
    }
    assert!(
        get(&scene, "/agents")
            .await
            .1
            .contains("No agent has registered yet")
    );
    assert_eq!(
        post(&scene, "/pipelines/web/trigger", &foreign).await.0,
        403
    );
    assert_eq!(post(&scene, "/pipelines/web/trigger", &own).await.0, 303);
    let (status, page) = post(&scene, "/pipelines/web/trigger", &own).await;
    assert!(
        status == 409 && page.contains("its first stage is active"),
        "{page}"
    );
    assert_eq!(
        post(&scene, "/pipelines/web/1/build/1/cancel", &own)
            .await
            .0,
        303
    );
    assert_eq!(
        post(&scene, "/pipelines/web/1/build/run", &own).await.0,
        303
    );
}

async fn send(scene: &Scene, path: &str, fields: &[(&str, &str)]) -> (u16, String) {
    let url = format!("{}{path}", scene.app().endpoints.http_url);
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let response = client.post(url).form(fields).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test]
async fn agents_are_found_sorted_and_changed_together() {
    let scene = Scene::new().await;
    scene.agent("a", &["linux"], &[]).await;
    scene.agent("b", &[], &[]).await;
    let (_, page) = get(&scene, "/agents?filter=LINUX+host-a").await;
    assert!(
        page.contains("host-a") && !page.contains("host-b"),
        "{page}"
    );
    assert!(
        page.contains("2 known") && page.contains("1 shown"),
        "{page}"
    );
    let (_, page) = get(&scene, "/agents?sort=-name").await;
    assert!(page.find("host-b") < page.find("host-a") && page.contains("descending"));
    let (status, page) = send(&scene, "/agents", &[("action", "enable")]).await;
    assert!(status == 422 && page.contains("tick the agents"), "{page}");
    let both = |fields: &[(&'static str, &'static str)]| {
        [&[("uuid", "a"), ("uuid", "b")], fields].concat()
    };
    let resources = both(&[
        ("action", "resources"),
        ("add", "jdk, x y"),
        ("remove", "LINUX"),
    ]);
    assert_eq!(send(&scene, "/agents", &resources).await.0, 303);
    let (_, page) = get(&scene, "/agents").await;
    assert!(
        page.contains("x y</span>") && !page.contains(">linux<"),
        "{page}"
    );
    let bad = both(&[("action", "environments"), ("add", "a b")]);
    let (status, page) = send(&scene, "/agents", &bad).await;
    assert!(
        status == 409 && page.contains("Nothing was changed"),
        "{page}"
    );
    let (status, page) = send(&scene, "/agents", &both(&[("action", "delete")])).await;
    assert!(status == 409 && page.contains("must be disabled"), "{page}");
    for action in ["disable", "delete"] {
        assert_eq!(
            send(&scene, "/agents", &both(&[("action", action)]))
                .await
                .0,
            303
        );
    }
    assert!(
        get(&scene, "/agents")
            .await
            .1
            .contains("No agent has registered yet")
    );
}

#[tokio::test]
async fn repositories_are_added_checked_and_removed() {
    let scene = Scene::new().await;
    let bad = tempfile::tempdir().unwrap();
    crate::scheduling::tests::git(bad.path(), &["init", "-qb", "master"]);
    let text = "format_version: 10\npipelines:\n  p:\n    group: g\n    stages: 7\n";
    crate::scheduling::tests::commit(bad.path(), "p.gocd.yaml", text);
    let url = bad.path().to_str().unwrap();
    let page = "/admin/config_repos";
    let fields = [("url", url), ("id", "bad")];
    assert_eq!(send(&scene, page, &fields).await.0, 303);
    let (_, shown) = get(&scene, page).await;
    assert!(
        shown.contains("In force") && shown.contains("Refused"),
        "{shown}"
    );
    assert!(shown.contains("<code>p.gocd.yaml:5:"), "{shown}");
    let (status, shown) = send(&scene, page, &fields).await;
    assert!(status == 422 && shown.contains("was not added"), "{shown}");
    let with_user = [
        ("url", "https://h/x.git"),
        ("user", "u"),
        ("password", "pass word"),
    ];
    send(&scene, page, &with_user).await;
    assert!(
        !get(&scene, page).await.1.contains("pass%20word"),
        "a password is shown"
    );
    for id in ["bad", "x"] {
        let path = format!("{page}/{id}/check");
        assert_eq!(send(&scene, &path, &[]).await.0, 303);
        let path = format!("{page}/{id}/remove");
        assert_eq!(send(&scene, &path, &[]).await.0, 303);
    }
    assert_eq!(
        send(&scene, "/admin/config_repos/bad/remove", &[]).await.0,
        409
    );
    let (status, shown) = get(&scene, "/health").await;
    assert!(status == 200 && shown.contains("Agents pending"), "{shown}");
}

#[tokio::test]
async fn users_are_made_changed_and_removed_on_their_page() {
    let scene = Scene::new().await;
    let page = "/admin/users";
    let ann = [
        ("name", "Ann"),
        ("password", "correct horse"),
        ("roles", "view, operate:apps"),
    ];
    assert_eq!(send(&scene, page, &ann).await.0, 303);
    let (_, shown) = get(&scene, page).await;
    assert!(shown.contains("value=\"view, operate:apps\""), "{shown}");
    for (fields, reason) in [
        (ann, "already"),
        (
            [("name", "b"), ("password", "short"), ("roles", "")],
            "cannot be used",
        ),
        (
            [
                ("name", "b"),
                ("password", "long enough"),
                ("roles", "king"),
            ],
            "is no role",
        ),
        (
            [("name", "-"), ("password", "long enough"), ("roles", "")],
            "cannot be the name",
        ),
    ] {
        let (status, shown) = send(&scene, page, &fields).await;
        assert!(
            status == 422 && shown.contains(reason) && !shown.contains("long enough"),
            "{shown}"
        );
    }
    let act = |action: &str| format!("{page}/ann/{action}");
    assert_eq!(
        send(&scene, &act("roles"), &[("roles", "admin")]).await.0,
        303
    );
    assert_eq!(
        send(&scene, &act("roles"), &[("roles", "king")]).await.0,
        422
    );
    assert_eq!(
        send(&scene, &act("password"), &[("password", "battery staple")])
            .await
            .0,
        303
    );
    assert_eq!(send(&scene, &act("remove"), &[]).await.0, 303);
    assert_eq!(send(&scene, &act("remove"), &[]).await.0, 404);
    let (_, log) = get(&scene, "/admin/audit").await;
    assert!(
        log.contains("/go/admin/users/ann/roles") && !log.contains("battery"),
        "{log}"
    );
    // Tokens are for those who have logged in.
    assert_eq!(get(&scene, "/access_tokens").await.0, 403);
}
