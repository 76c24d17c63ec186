//! XML, read again by a parser.

use journeyman_protocol::job::JobResult;
use pretty_assertions::assert_eq;
use quick_xml::Reader;
use quick_xml::events::Event;

use super::*;
use crate::scheduling::report_completing;
use crate::scheduling::tests::git;

/// An element as a line: its path and its attributes.
fn lines(text: &str) -> Vec<String> {
    let mut reader = Reader::from_str(text);
    let mut path: Vec<String> = Vec::new();
    let mut lines = Vec::new();
    let mut written = String::new();
    loop {
        let event = reader.read_event().unwrap();
        match &event {
            Event::Start(tag) | Event::Empty(tag) => {
                path.push(String::from_utf8(tag.name().as_ref().to_vec()).unwrap());
                let attributes = tag.attributes().map(|one| {
                    let one = one.unwrap();
                    let name = String::from_utf8(one.key.as_ref().to_vec()).unwrap();
                    let value = String::from_utf8(one.value.to_vec()).unwrap();
                    let value = quick_xml::escape::unescape(&value).unwrap().into_owned();
                    format!(" {name}={value}")
                });
                lines.push(format!(
                    "{}{}",
                    path.join("/"),
                    attributes.collect::<String>()
                ));
                if matches!(event, Event::Empty(_)) {
                    path.pop();
                }
            }
            Event::Text(text) => written.push_str(&text.decode().unwrap()),
            Event::GeneralRef(name) => {
                let name = name.decode().unwrap();
                written.push_str(quick_xml::escape::resolve_predefined_entity(&name).unwrap());
            }
            Event::End(_) => {
                path.pop();
                if let (false, Some(line)) = (written.trim().is_empty(), lines.last_mut()) {
                    line.push_str(&format!(" '{}'", written.trim()));
                }
                written.clear();
            }
            Event::Eof => break,
            _ => {}
        }
    }
    assert!(path.is_empty());
    lines
}

async fn feed(scene: &Scene, path: &str) -> Vec<String> {
    let answer = get(scene, path).await;
    assert_eq!(answer.status, 200, "{path} {}", answer.text);
    assert_eq!(answer.media_type, "application/xml;charset=utf-8");
    let base = &scene.app().endpoints.http_url;
    lines(&answer.text.replace(base, "GO"))
}

/// What a build monitor is told, without times and addresses.
async fn monitored(scene: &Scene) -> Vec<String> {
    let mut shown: Vec<String> = Vec::new();
    for line in feed(scene, "/cctray.xml").await {
        if let Some(project) = line.strip_prefix("Projects/Project name=") {
            let (told, _) = project.split_once(" lastBuildTime=").unwrap();
            shown.push(told.to_owned());
        } else if let Some((_, rest)) = line.split_once("message text=") {
            let breakers = rest.strip_suffix(" kind=Breakers").unwrap();
            shown
                .last_mut()
                .unwrap()
                .push_str(&format!(" broken by {breakers}"));
        }
    }
    shown
}

#[tokio::test]
async fn build_monitors_are_told_of_stages_and_jobs() {
    let scene = Scene::new().await;
    assert_eq!(feed(&scene, "/cctray.xml").await, ["Projects"]);
    let agent = scene.agent("a", &["linux", "jdk"], &[]).await;
    scene.trigger().await;
    // Of what has never ended: GoCD's words. What waits for an agent builds.
    let expected = [
        "web :: build activity=Building lastBuildStatus=Success lastBuildLabel=1",
        "web :: build :: docs activity=Building lastBuildStatus=Success lastBuildLabel=1",
        "web :: build :: unit activity=Building lastBuildStatus=Success lastBuildLabel=1",
    ];
    assert_eq!(monitored(&scene).await, expected);

    let job = scene.take(&agent).await;
    scene.complete(&agent, &job, JobResult::Failed).await;
    let expected = [
        "web :: build activity=Building lastBuildStatus=Success lastBuildLabel=1 broken by Dev One",
        "web :: build :: docs activity=Building lastBuildStatus=Success lastBuildLabel=1",
        "web :: build :: unit activity=Sleeping lastBuildStatus=Failure lastBuildLabel=1.0.1 broken by Dev One",
    ];
    assert_eq!(monitored(&scene).await, expected);
    let job = scene.take(&agent).await;
    let completing = report_completing(scene.app(), &agent.uuid, &job, JobResult::Passed);
    completing.await.unwrap();
    assert_eq!(monitored(&scene).await, expected);
    scene.complete(&agent, &job, JobResult::Passed).await;

    assert_eq!(
        confirm(&scene, "/api/stages/web/1/build/run").await.status,
        202
    );
    // Of the run before, as the one that is active has not ended; but nobody has broken this one.
    let expected = [
        "web :: build activity=Building lastBuildStatus=Failure lastBuildLabel=1.0.1",
        "web :: build :: docs activity=Building lastBuildStatus=Success lastBuildLabel=1.0.1",
        "web :: build :: unit activity=Building lastBuildStatus=Failure lastBuildLabel=1.0.1",
    ];
    assert_eq!(monitored(&scene).await, expected);
    let projects = feed(&scene, "/cctray.xml").await;
    assert!(
        projects[1].ends_with("Z webUrl=GO/pipelines/web/1/build/2"),
        "{projects:?}"
    );
    assert!(projects[3].ends_with("webUrl=GO/tab/build/detail/web/1/build/2/unit"));

    for _ in 0..2 {
        let job = scene.take(&agent).await;
        scene.complete(&agent, &job, JobResult::Passed).await;
    }
    let projects = monitored(&scene).await;
    assert_eq!(
        projects[0],
        "web :: build activity=Sleeping lastBuildStatus=Success lastBuildLabel=1.0.1 :: 2"
    );

    let url = format!("{}/cctray.xml", scene.app().endpoints.http_url);
    let client = reqwest::Client::new();
    let tag = client.get(&url).send().await.unwrap().headers()["etag"].clone();
    let same = client.get(&url).header("If-None-Match", tag);
    assert_eq!(same.send().await.unwrap().status(), 304);
}

#[tokio::test]
async fn feeds_lead_from_pipelines_to_jobs() {
    let scene = Scene::new().await;
    let subject = "Mend <parser> & \u{1b}[1mmore";
    std::fs::write(scene.repo.path().join("a&b.txt"), "x").unwrap();
    git(scene.repo.path(), &["add", "."]);
    git(scene.repo.path(), &["commit", "-qm", subject]);
    scene.trigger().await;
    let accept = [("Accept", "application/vnd.go.cd.v9+json")];
    let any = call(&scene, "GET", "/api/feed/pipelines.xml", &accept, None).await;
    assert_eq!(any.status, 200, "{}", any.text);
    for path in ["/api/feed/pipelines.xml", "/api/pipelines.xml"] {
        let expected = [
            "pipelines",
            "pipelines/link rel=self href=GO/api/feed/pipelines.xml",
            "pipelines/pipeline href=GO/api/feed/pipelines/web/stages.xml",
        ];
        assert_eq!(feed(&scene, path).await, expected);
    }
    let waiting = feed(&scene, "/api/feed/jobs/scheduled.xml").await;
    assert_eq!(waiting, feed(&scene, "/api/jobs/scheduled.xml").await);
    assert_eq!(waiting[1], "scheduledJobs/job name=unit");
    assert_eq!(
        waiting[4],
        "scheduledJobs/job/buildLocator 'web/1/build/1/unit'"
    );
    assert_eq!(waiting[6], "scheduledJobs/job/resources/resource 'linux'");
    let variables = waiting.join("\n");
    assert!(
        variables.contains("variable name=LEVEL 'two'"),
        "{variables}"
    );
    assert!(
        variables.contains("variable name=SECRET '********'"),
        "{variables}"
    );
    assert!(!variables.contains("sesame"));

    assert_eq!(
        confirm(&scene, "/api/stages/web/1/build/1/cancel")
            .await
            .status,
        200
    );
    let stages = feed(&scene, "/api/feed/pipelines/web/stages.xml").await;
    assert_eq!(stages, feed(&scene, "/api/pipelines/web/stages.xml").await);
    assert_eq!(stages[0], "feed xmlns=http://www.w3.org/2005/Atom");
    assert_eq!(stages[1], "feed/title 'web'");
    let text = stages.join("\n");
    for expected in [
        "feed/entry/title 'web(1) stage build(1) Cancelled'",
        "feed/entry/id 'GO/pipelines/web/1/build/1'",
        "feed/entry/author/email 'dev@example.com'",
        "href=GO/api/feed/pipelines/web/1/build/1.xml rel=alternate type=application/vnd.go+xml",
        "href=GO/api/feed/pipelines/web/1.xml rel=http://www.thoughtworks-studios.com/ns/relations/go/pipeline",
        "term=cancelled",
    ] {
        assert!(text.contains(expected), "{expected} in\n{text}");
    }
    let run = feed(&scene, "/api/feed/pipelines/web/1.xml").await;
    assert_eq!(run, feed(&scene, "/api/pipelines/web/1.xml").await);
    let text = run.join("\n");
    assert!(
        text.contains("changeset/file name=a&b.txt action=added"),
        "{text}"
    );
    assert!(
        text.contains("pipeline/stages/stage href=GO/api/feed/pipelines/web/1/build/1.xml"),
        "{text}"
    );
    assert!(
        text.contains("changeset/user 'Dev One <dev@example.com>'"),
        "{text}"
    );
    let changes = run.iter().find_map(|line| {
        let found = line.strip_prefix("pipeline/materials/material materialUri=GO")?;
        found.split(' ').next()
    });
    let changes = get(&scene, changes.unwrap()).await;
    assert!(
        changes
            .text
            .contains("Mend &lt;parser&gt; &amp; \u{fffd}[1mmore"),
        "{}",
        changes.text
    );
    let stage = feed(&scene, "/api/feed/pipelines/web/1/build/1.xml")
        .await
        .join("\n");
    assert!(stage.contains("stage/result 'Cancelled'"), "{stage}");
    let job = feed(&scene, "/api/feed/pipelines/web/1/build/1/unit.xml")
        .await
        .join("\n");
    assert!(
        job.contains("job/id 'urn:x-go.studios.thoughtworks.com:job-id:web:1:build:1:unit'"),
        "{job}"
    );
    for path in [
        "/api/feed/pipelines/web/9.xml",
        "/api/feed/pipelines/web/1",
        "/api/feed/pipelines/nope/stages.xml",
        "/api/feed/pipelines/web/1/build/7.xml",
        "/api/feed/pipelines/web/1/build/1/nope.xml",
        "/api/feed/materials/web/1/abc.xml",
    ] {
        assert_eq!(get(&scene, path).await.status, 404, "{path}");
    }
}
