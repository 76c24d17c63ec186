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
    assert!(page.contains("20.0 KiB") && page.contains("abc123"));
    assert!(page.contains("a%20&#38;%20b/%3Ci%3E.txt"), "{page}");
    assert!(!page.contains("sesame"));

    for path in [
        "/tab/build/detail/web/1/build/1/none",
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
