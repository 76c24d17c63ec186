use std::{fs, sync::Arc, time::Duration};

use jiff::Timestamp;
use journeyman_protocol::job::JobResult;
use pretty_assertions::assert_eq;
use reqwest::Client;
use serde_json::{Value, json};

use super::*;
use crate::{
    agents::Agent, clock::ManualClock, configuration::Retention, scheduling::tests::Scene,
    users::Login,
};

const YAML: &str = "format_version: 10
pipelines:
  web:
    group: apps
    materials:
      source: { type: configrepo }
    stages:
      - build:
          jobs:
            unit:
              tasks: [ { script: make } ]
      - docs:
          keep_artifacts: yes
          jobs:
            book:
              tasks: [ { script: make } ]
";
const DAY: Duration = Duration::from_secs(24 * 3600);

struct Runs {
    scene: Scene,
    clock: Arc<ManualClock>,
    agent: Agent,
}

impl Runs {
    async fn new() -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::now()));
        let scene = Scene::started(YAML, Login::Off, clock.clone()).await;
        let agent = scene.agent("a", &[], &[]).await;
        Self {
            scene,
            clock,
            agent,
        }
    }

    /// Makes a run whose jobs end so, each with a console and an artifact, and lets a day pass.
    async fn run(&self, results: &[JobResult]) -> i64 {
        let counter = self.scene.trigger().await;
        for result in results {
            let job = self.scene.take(&self.agent).await;
            let app = self.scene.app();
            fs::write(
                app.paths.consoles().join(format!("{}.log", job.build_id)),
                "hello\n",
            )
            .unwrap();
            let folder = app.paths.artifacts(job.build_id);
            fs::create_dir_all(folder.join("pkg")).unwrap();
            fs::write(folder.join("pkg/a.txt"), "x").unwrap();
            let mut write = app.database.write().await.unwrap();
            sqlx::query("INSERT INTO artifacts (job_id, path, size, sha256) VALUES ($1, 'pkg/a.txt', 1, 'x')")
                .bind(job.build_id)
                .execute(&mut *write)
                .await
                .unwrap();
            write.commit().await.unwrap();
            self.scene.complete(&self.agent, &job, *result).await;
        }
        self.clock.advance(DAY);
        counter
    }

    async fn pass(&self, retention: Retention) -> usize {
        pass(self.scene.app(), &retention).await.unwrap()
    }

    /// Which of the files of both jobs of a run are there: `unit`, `book`.
    async fn there(&self, counter: i64) -> Vec<String> {
        let rows: Vec<(i64, String)> = sqlx::query_as(
            "SELECT jobs.id, jobs.name FROM jobs JOIN stages ON stages.id = jobs.stage_id \
             JOIN pipeline_runs ON pipeline_runs.id = stages.run_id WHERE pipeline_runs.counter = $1 ORDER BY jobs.id",
        )
        .bind(counter)
        .fetch_all(self.scene.app().database.readers())
        .await
        .unwrap();
        let paths = &self.scene.app().paths;
        rows.into_iter()
            .filter(|(id, _)| {
                let console = paths.consoles().join(format!("{id}.log")).exists();
                assert_eq!(console, paths.artifacts(*id).exists());
                console
            })
            .map(|(_, name)| name)
            .collect()
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.scene.app().endpoints.http_url)
    }
}

const PASSED: [JobResult; 2] = [JobResult::Passed; 2];

fn by_count(runs: u32) -> Retention {
    Retention {
        runs: Some(runs),
        ..Retention::default()
    }
}

#[tokio::test]
async fn old_runs_go_and_what_is_needed_stays() {
    let runs = Runs::new().await;
    for _ in 0..3 {
        runs.run(&PASSED).await;
    }
    runs.run(&[JobResult::Failed]).await;
    assert_eq!(runs.pass(Retention::default()).await, 0);
    let age = |days| Retention {
        age: Some(DAY * days),
        ..Retention::default()
    };
    assert_eq!(runs.pass(age(5)).await, 0);
    assert_eq!(runs.pass(age(3)).await, 1);
    assert_eq!(runs.there(1).await, ["book"]);
    assert_eq!(runs.there(2).await, ["unit", "book"]);
    assert_eq!(runs.pass(age(3)).await, 0);
    // Run 3 is the latest that passed.
    assert_eq!(runs.pass(by_count(1)).await, 1);
    assert_eq!(runs.there(2).await, ["book"]);
    assert_eq!(runs.there(3).await, ["unit", "book"]);
    assert_eq!(runs.there(4).await, ["unit"]);
    assert_eq!(runs.pass(by_count(1)).await, 0);
}

#[tokio::test]
async fn space_is_made_from_the_oldest_on() {
    let runs = Runs::new().await;
    for _ in 0..3 {
        runs.run(&PASSED).await;
    }
    let free = |free_space| Retention {
        free_space: Some(free_space),
        ..Retention::default()
    };
    assert_eq!(runs.pass(free(1)).await, 0);
    assert_eq!(runs.pass(free(u64::MAX)).await, 2);
    assert_eq!(runs.there(3).await, ["unit", "book"]);
}

#[tokio::test]
async fn active_and_pinned_runs_stay() {
    let runs = Runs::new().await;
    runs.run(&PASSED).await;
    runs.run(&PASSED).await;
    // Its second stage waits for an agent.
    runs.run(&[JobResult::Passed]).await;
    let app = runs.scene.app();
    let client = Client::new();
    let pin = client
        .post(runs.url("/api/journeyman/runs/WEB/1/pin"))
        .json(&json!({ "reason": "released" }))
        .send()
        .await
        .unwrap();
    assert_eq!(pin.status(), 200);
    let pins: Value = client
        .get(runs.url("/api/journeyman/pins"))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let shown = &pins["pins"][0];
    assert_eq!(
        (&shown["pipeline"], &shown["counter"], &shown["reason"]),
        (&json!("web"), &json!(1), &json!("released"))
    );
    assert_eq!(runs.pass(by_count(1)).await, 0);
    assert_eq!(runs.there(1).await, ["unit", "book"]);

    let unknown = client
        .post(runs.url("/api/journeyman/runs/web/9/pin"))
        .header("X-GoCD-Confirm", "true");
    assert_eq!(unknown.send().await.unwrap().status(), 404);
    let wrong = client
        .post(runs.url("/api/journeyman/runs/web/1/pin"))
        .json(&json!({ "cause": "x" }));
    assert_eq!(wrong.send().await.unwrap().status(), 422);
    let unconfirmed = client.post(runs.url("/api/journeyman/runs/web/1/unpin"));
    assert_eq!(unconfirmed.send().await.unwrap().status(), 400);
    let unpin = client
        .post(runs.url("/api/journeyman/runs/web/1/unpin"))
        .header("X-GoCD-Confirm", "true");
    assert_eq!(unpin.send().await.unwrap().status(), 200);
    assert_eq!(runs.pass(by_count(1)).await, 1);
    assert_eq!(runs.there(1).await, ["book"]);
    let mut reader = app.database.readers().acquire().await.unwrap();
    assert_eq!(pinned(&mut reader).await.unwrap(), []);
}

#[tokio::test]
async fn what_was_deleted_is_said_to_be_and_a_crash_leaves_nothing_behind() {
    let runs = Runs::new().await;
    for _ in 0..2 {
        runs.run(&PASSED).await;
    }
    let app = runs.scene.app();
    // As a crash leaves it that comes after the rows have gone.
    let mut write = app.database.write().await.unwrap();
    sqlx::query("UPDATE stages SET artifacts_deleted = 1 WHERE name = 'build' AND run_id = 1")
        .execute(&mut *write)
        .await
        .unwrap();
    write.commit().await.unwrap();
    let file = runs.url("/files/web/1/build/1/unit/pkg/a.txt");
    let answer = reqwest::get(&file).await.unwrap();
    assert_eq!(answer.status(), 404);
    let text = answer.text().await.unwrap();
    assert!(text.contains("were deleted"), "{text}");
    assert_eq!(runs.pass(Retention::default()).await, 0);
    assert_eq!(runs.there(1).await, ["book"]);
    let console = runs.url("/files/web/1/build/1/unit/cruise-output/console.log");
    let answer = reqwest::get(console).await.unwrap();
    assert_eq!(answer.status(), 404);
    assert!(answer.text().await.unwrap().contains("were deleted"));
    let stage: Value = reqwest::get(runs.url("/api/stages/web/1/build/1"))
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(stage["artifacts_deleted"], true);
    let stage: Value = reqwest::get(runs.url("/api/stages/web/2/build/1"))
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(stage["artifacts_deleted"], false);
}

#[tokio::test]
async fn a_full_disk_is_said_and_nothing_else_stops() {
    let folder = tempfile::tempdir().unwrap();
    let running = crate::start::start(crate::start::Start {
        configuration: crate::configuration::Configuration {
            space_reserve: u64::MAX,
            automatic_runs: false,
            ..Default::default()
        },
        paths: crate::configuration::Paths::new(folder.path().to_path_buf(), None),
        http_port: crate::configuration::Port::Exactly(0),
        https_port: crate::configuration::Port::Exactly(0),
        auto_register_key: None,
        login: Login::Off,
        clock: Arc::new(crate::clock::SystemClock),
    })
    .await
    .unwrap();
    watch_disk(&running.app);
    let said = health::list(&running.app);
    assert_eq!((said.len(), said[0].level), (1, Level::Error));
    let url = |path: &str| format!("{}{path}", running.app.endpoints.http_url);
    let ready = reqwest::get(url("/api/v1/ready")).await.unwrap();
    assert_eq!(ready.status(), 503);
    let ready: Value = ready.json().await.unwrap();
    assert_eq!(ready["reasons"], json!(["there is no space for uploads"]));
    for path in ["/api/v1/health", "/api/agents", "/pipelines"] {
        assert_eq!(
            reqwest::get(url(path)).await.unwrap().status(),
            200,
            "{path}"
        );
    }
    running.stop().await;
}
