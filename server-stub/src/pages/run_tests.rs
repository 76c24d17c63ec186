//! The pages of pipelines and their runs, asked for by people with different roles.

use std::sync::Arc;

use http::header;
use jiff::Timestamp;
use journeyman_protocol::job::JobResult;
use pretty_assertions::assert_eq;
use secrecy::SecretString;

use crate::clock::ManualClock;
use crate::scheduling::tests::{Scene, git};
use crate::users::{Login, Password, store};

const PASSWORD: &str = "of everybody here";
const HOSTILE: &str = "<script>alert('BUG-7')</script> & \"more\"";
const YAML: &str = "format_version: 11
pipelines:
  web:
    group: apps
    label_template: \"<b>${COUNT}\"
    lock_behavior: lockOnFailure
    tracking_tool: { link: 'https://bugs.example/${ID}', regex: 'BUG-(\\d+)' }
    environment_variables: { LEVEL: one }
    secure_variables: { SECRET: sesame }
    materials: { src: { type: configrepo } }
    stages:
      - build: { approval: manual, jobs: { unit: { tasks: [ { script: make } ] }, docs: { tasks: [ { script: make } ] } } }
      - ship: { approval: { type: manual, users: [ operator ] }, tasks: [ { script: ./ship } ] }
  pack:
    group: apps
    materials: { web: { pipeline: web, stage: build } }
    stages: [ { pack: { approval: manual, tasks: [ { script: make } ] } } ]
  vault:
    group: secrets
    materials: { src: { type: configrepo } }
    stages: [ { build: { approval: manual, tasks: [ { script: make } ] } } ]
";

/// A server with a login: `admin`, and `operator`, `second` (also an operator) and `viewer` in the
/// group `apps`.
struct Site {
    scene: Scene,
    client: reqwest::Client,
}

impl Site {
    async fn new() -> Self {
        let now: Timestamp = "2031-05-06T07:08:09Z".parse().unwrap();
        let login = Login::On {
            admin_password: Some(SecretString::from(PASSWORD)),
            password_file: None,
        };
        let scene = Scene::started(YAML, login, Arc::new(ManualClock::new(now))).await;
        let password = Password::new(SecretString::from(PASSWORD)).unwrap();
        let hash = password.hash().await.unwrap();
        let mut write = scene.app().database.write().await.unwrap();
        for (name, role) in [
            ("viewer", "view:apps"),
            ("operator", "operate:apps"),
            ("second", "operate:apps"),
        ] {
            store::set_password(&mut write, name, &hash, 0)
                .await
                .unwrap();
            let rights = [role.parse().unwrap()];
            store::set_rights(&mut write, name, &rights).await.unwrap();
        }
        write.commit().await.unwrap();
        let folder = scene.repo.path();
        std::fs::write(folder.join("x"), "").unwrap();
        git(folder, &["add", "."]);
        git(folder, &["commit", "-qm", HOSTILE]);
        let redirects = reqwest::redirect::Policy::none();
        Self {
            client: reqwest::Client::builder()
                .redirect(redirects)
                .build()
                .unwrap(),
            scene,
        }
    }

    fn request(&self, method: http::Method, who: &str, path: &str) -> reqwest::RequestBuilder {
        let url = format!("{}{path}", self.scene.app().endpoints.http_url);
        self.client
            .request(method, url)
            .basic_auth(who, Some(PASSWORD))
    }

    async fn get(&self, who: &str, path: &str) -> (u16, String) {
        let response = self
            .request(http::Method::GET, who, path)
            .send()
            .await
            .unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// A page that is there. Whatever is shown, no text of others makes a tag, and no secret is told.
    async fn page(&self, who: &str, path: &str) -> String {
        let (status, page) = self.get(who, path).await;
        assert_eq!(status, 200, "{who} {path}: {page}");
        for never in ["<script>alert", "<b>1", "sesame"] {
            assert!(!page.contains(never), "{who} {path}: {page}");
        }
        page
    }

    async fn post(&self, who: &str, path: &str, body: &str) -> (u16, String, String) {
        let request = self.request(http::Method::POST, who, path);
        let request = request.header("Content-Type", "application/x-www-form-urlencoded");
        let response = request.body(body.to_owned()).send().await.unwrap();
        let to = response.headers().get(header::LOCATION);
        let to = to.map_or("", |to| to.to_str().unwrap()).to_owned();
        (
            response.status().as_u16(),
            to,
            response.text().await.unwrap(),
        )
    }

    async fn done(&self, path: &str, body: &str) -> String {
        let (status, to, page) = self.post("operator", path, body).await;
        assert_eq!(status, 303, "{path}: {page}");
        to
    }
}

#[tokio::test]
async fn pages_of_runs_show_what_there_is_and_buttons_to_those_who_may() {
    let site = Site::new().await;
    let page = site.page("operator", "/pipelines").await;
    assert!(
        page.contains("Never run") && !page.contains("vault"),
        "{page}"
    );
    assert_eq!(
        site.done("/pipelines/web/trigger", "").await,
        "/go/pipelines"
    );
    let agent = site.scene.agent("a", &[], &[]).await;
    for result in [JobResult::Passed, JobResult::Failed] {
        let job = site.scene.take(&agent).await;
        site.scene.complete(&agent, &job, result).await;
    }
    let stage = "/pipelines/web/1/build/1";
    let activity = "/pipeline/activity/web";
    let stream = "/pipelines/value_stream_map/web/1";
    let compare = "/compare/web/0/with/1";
    for (path, shown) in [
        (
            "/pipelines",
            &[
                "&#60;b&#62;1",
                "/go/pipelines/web/1/build/1",
                "Forced by operator",
            ][..],
        ),
        (
            activity,
            &["alert(", "https://bugs.example/7", "Dev One", "build"],
        ),
        (
            stage,
            &["docs", "host-a", "Failed", "https://bugs.example/7"],
        ),
        (stream, &["&#60;b&#62;1", "main", "pack", "alert("]),
        (compare, &["alert(", "Dev One"]),
    ] {
        for who in ["viewer", "operator", "second", "admin"] {
            let page = site.page(who, path).await;
            for text in shown {
                assert!(page.contains(text), "{who} {path} {text}: {page}");
            }
            let acts = page.contains("method=\"post\"");
            let may = who != "viewer" && path != stream && path != compare;
            assert_eq!(acts, may, "{who} {path}: {page}");
            assert_eq!(page.contains("Repositories"), who == "admin", "{who}");
        }
    }
    // Runs are pinned where they are listed and where they are looked at.
    let back = "/go/pipeline/activity/web#run-1";
    assert_eq!(
        site.done("/pipelines/web/1/pin", "reason=for+%3Cb%3E1")
            .await,
        back
    );
    for path in [activity, stage] {
        let page = site.page("operator", path).await;
        let told = "Pinned by operator: for &#60;b&#62;1";
        assert!(page.contains(told) && page.contains("Unpin"), "{page}");
    }
    assert_eq!(site.done("/pipelines/web/1/unpin", "").await, back);
    assert!(!site.page("operator", stage).await.contains("Unpin"));
    let long = format!("reason={}", "x".repeat(1001));
    for (who, path, body, expected) in [
        ("viewer", "/pipelines/web/1/pin", "", 403),
        ("operator", "/pipelines/web/7/pin", "", 404),
        ("operator", "/pipelines/web/1/pin", &long, 422),
    ] {
        assert_eq!(site.post(who, path, body).await.0, expected, "{who} {path}");
    }
    // The gate is for those whom the stage names.
    for (who, gate) in [
        ("viewer", false),
        ("second", false),
        ("operator", true),
        ("admin", true),
    ] {
        let page = site.page(who, "/pipelines").await;
        assert_eq!(
            page.contains("/go/pipelines/web/1/ship/run"),
            gate,
            "{who}: {page}"
        );
    }
    for path in [
        "/pipelines/web/1/build/9",
        "/pipelines/value_stream_map/web/9",
        "/compare/web/1/with/9",
        "/pipeline/activity/none",
    ] {
        assert_eq!(site.get("admin", path).await.0, 404, "{path}");
    }
    for path in [
        "/pipelines/value_stream_map/vault/1",
        "/pipeline/activity/vault",
        "/pipelines/vault/trigger",
    ] {
        assert_eq!(site.get("operator", path).await.0, 403, "{path}");
    }
    assert_eq!(site.get("viewer", "/pipelines/web/trigger").await.0, 403);
    let (status, document) = site.get("viewer", &format!("{stream}.json")).await;
    assert!(
        status == 200 && document.contains("current_pipeline"),
        "{document}"
    );
}

#[tokio::test]
async fn a_pipeline_is_paused_triggered_and_run_again_by_forms() {
    let site = Site::new().await;
    site.done("/pipelines/web/pause", "cause=%3Cb%3Efreeze")
        .await;
    let page = site.page("viewer", "/pipelines").await;
    assert!(
        page.contains("&#60;b&#62;freeze") && page.contains("paused"),
        "{page}"
    );
    for (path, message) in [
        ("/pipelines/web/pause", "is paused by operator already"),
        ("/pipelines/web/trigger", "it is paused by operator"),
        ("/pipelines/web/unlock", "no run has locked it"),
        ("/pipelines/pack/unlock", "no run locks it"),
    ] {
        let (status, _, page) = site.post("operator", path, "").await;
        assert!(status == 409 && page.contains(message), "{path}: {page}");
        assert_eq!(site.post("viewer", path, "").await.0, 403, "{path}");
    }
    site.done("/pipelines/web/unpause", "").await;

    // What was typed comes back with the error, except secrets.
    let form = "form=options&variable%3ALEVEL=two&variable%3ASECRET=opened&update=yes";
    let page = site.page("operator", "/pipelines/web/trigger").await;
    assert!(
        page.contains("value=\"one\"") && page.contains("type=\"password\""),
        "{page}"
    );
    assert_eq!(
        site.done("/pipelines/web/trigger", form).await,
        "/go/pipeline/activity/web"
    );
    let (status, _, page) = site.post("operator", "/pipelines/web/trigger", form).await;
    assert!(status == 409 && page.contains("value=\"two\""), "{page}");
    assert!(
        page.contains("typed once more") && !page.contains("opened"),
        "{page}"
    );

    let run = site.scene.view(1).await.run;
    assert_eq!(run.definition.overrides.len(), 2);
    assert_eq!(
        site.done("/pipelines/web/1/build/1/cancel", "").await,
        "/go/pipelines/web/1/build/1"
    );
    let to = site
        .done("/pipelines/web/1/build/1/rerun", "job=docs")
        .await;
    assert_eq!(to, "/go/pipelines/web/1/build/2");
    let page = site.page("viewer", "/pipelines/web/1/build/2").await;
    assert!(
        page.contains("as before") && page.contains("Some jobs of run 1"),
        "{page}"
    );
    let (status, _, page) = site
        .post("operator", "/pipelines/web/1/build/2/rerun", "")
        .await;
    assert!(
        status == 400 && page.contains("name at least one job"),
        "{page}"
    );
    site.done("/pipelines/web/1/build/2/cancel", "").await;
    let to = site
        .done("/pipelines/web/1/build/2/rerun", "what=failed&job=docs")
        .await;
    assert_eq!(to, "/go/pipelines/web/1/build/3");
    let (status, _, page) = site.post("second", "/pipelines/web/1/ship/run", "").await;
    assert!(
        status == 403 && page.contains("is not among them"),
        "{page}"
    );
}

#[tokio::test]
async fn runs_are_searched_paged_and_commented_on() {
    let site = Site::new().await;
    for counter in 1..=12 {
        site.done("/pipelines/web/trigger", "").await;
        site.done(&format!("/pipelines/web/{counter}/build/1/cancel"), "")
            .await;
        site.post("operator", "/pipelines/web/unlock", "").await;
    }
    let page = site.page("viewer", "/pipeline/activity/web").await;
    assert!(
        page.contains("id=\"run-12\"") && !page.contains("id=\"run-2\""),
        "{page}"
    );
    assert!(
        page.contains("/go/pipeline/activity/web?before=3"),
        "{page}"
    );
    let page = site.page("viewer", "/pipeline/activity/web?before=3").await;
    assert!(
        page.contains("id=\"run-2\"") && !page.contains("id=\"run-3\""),
        "{page}"
    );

    site.done(
        "/pipelines/web/7/comment",
        "comment=%3Cscript%3Ealert(1)%0ARelease+Candidate",
    )
    .await;
    for (q, found) in [
        ("release%20cand", true),
        ("script%3Ealert(1", true),
        ("bug-7", true),
        ("dev+one", true),
        ("nothing", false),
    ] {
        let page = site
            .page("viewer", &format!("/pipeline/activity/web?q={q}"))
            .await;
        // The commit is new in the first run only, but the comment is of the seventh.
        let any = page.contains("class=\"card activity\"");
        assert_eq!(any, found, "{q}: {page}");
    }
    // Addresses of repositories may hold passwords, and are not looked through.
    let folder = site
        .scene
        .repo
        .path()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap();
    let page = site
        .page("viewer", &format!("/pipeline/activity/web?q={folder}"))
        .await;
    assert!(page.contains("No run has that"), "{page}");

    let long = format!("comment={}", "x".repeat(4001));
    let (status, _, page) = site
        .post("operator", "/pipelines/web/7/comment", &long)
        .await;
    assert!(
        status == 422 && page.contains("xxxx") && page.contains("at most 4000"),
        "{page}"
    );
    assert_eq!(
        site.post("viewer", "/pipelines/web/7/comment", "comment=x")
            .await
            .0,
        403
    );
}

#[tokio::test]
async fn the_dashboard_is_filtered_and_says_when_it_is_the_same() {
    let site = Site::new().await;
    site.done("/pipelines/web/trigger", "").await;
    site.done("/pipelines/pack/pause", "").await;
    for (query, web, pack) in [
        ("", true, true),
        ("q=we+nothing", true, false),
        ("q=APPS", true, true),
        ("state=building", true, false),
        ("state=failed", false, false),
        ("state=paused", false, true),
        ("state=locked", true, false),
        ("state=new", false, true),
        ("by=environment", true, true),
    ] {
        let page = site.page("viewer", &format!("/pipelines?{query}")).await;
        assert_eq!(page.contains("id=\"p-web\""), web, "{query}: {page}");
        assert_eq!(page.contains("id=\"p-pack\""), pack, "{query}: {page}");
    }
    let get = |tag: String| {
        let request = site.request(http::Method::GET, "viewer", "/pipelines");
        request.header(header::IF_NONE_MATCH, tag).send()
    };
    let first = get(String::new()).await.unwrap();
    let tag = first.headers()[header::ETAG].to_str().unwrap().to_owned();
    assert_eq!(get(tag.clone()).await.unwrap().status(), 304);
    site.done("/pipelines/web/1/build/1/cancel", "").await;
    assert_eq!(get(tag).await.unwrap().status(), 200);
}
