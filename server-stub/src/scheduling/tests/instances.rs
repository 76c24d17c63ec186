//! Jobs that run several times, on agents of environments, and jobs that are silent.

use std::time::Duration;

use jiff::Timestamp;
use journeyman_protocol::builder::Builder;
use journeyman_protocol::job::JobResult::Passed;
use pretty_assertions::assert_eq;

use super::*;
use crate::clock::ManualClock;
use crate::health;

const MINUTE: Duration = Duration::from_secs(60);

const SEVERAL: &str = "format_version: 11
pipelines:
  web:
    group: apps
    materials:
      src: { type: configrepo }
    stages:
      - build:
          jobs:
            many: { run_instances: 2, timeout: 10, tasks: [ { script: make } ] }
      - spread: { run_instances: all, resources: [linux], tasks: [ { script: make } ] }
";

fn names(view: &RunView, stage: usize) -> Vec<String> {
    let jobs = view.stages[stage].jobs.iter();
    jobs.map(|job| job.row.name.clone()).collect()
}

#[tokio::test]
async fn a_job_runs_as_often_as_its_definition_says() {
    let scene = Scene::with(SEVERAL).await;
    scene.trigger().await;
    let plain = scene.agent("plain", &[], &[]).await;
    assert_eq!(
        names(&scene.view(1).await, 0),
        ["many-runInstance-1", "many-runInstance-2"]
    );
    for index in ["1", "2"] {
        let work = assign(scene.app(), &plain).await.unwrap().unwrap();
        let context = &work.assignment.initial_context;
        let value = |name: &str| context.get(name).and_then(|one| one.value.clone());
        assert_eq!(value("GO_JOB_RUN_INDEX").as_deref(), Some(index));
        assert_eq!(value("GO_JOB_RUN_COUNT").as_deref(), Some("2"));
        let job = work.assignment.job_identifier;
        assert_eq!(value("GO_JOB_NAME").unwrap(), job.build_name);
        scene.complete(&plain, &job, Passed).await;
    }
    // Nothing fits the job of the next stage: it waits, people hear of it, and it starts when
    // there are agents.
    assert_eq!(Scene::states(&scene.view(1).await)[1], ("spread", "-", 0));
    let by_hand = run_stage(scene.app(), "web", 1, "spread", &person("x")).await;
    assert!(matches!(
        by_hand,
        Err(RunStageError::Refused {
            refused: Refused::NoAgent { .. },
            ..
        })
    ));
    timeouts::check(scene.app()).await.unwrap();
    let told: Vec<String> = health::list(scene.app())
        .into_iter()
        .map(|one| one.key)
        .collect();
    assert_eq!(told, ["stage:web/1/spread"]);
    let mut fitting = Vec::new();
    for uuid in ["a", "b"] {
        fitting.push(scene.agent(uuid, &["linux"], &[]).await);
    }
    timeouts::check(scene.app()).await.unwrap();
    assert!(health::list(scene.app()).is_empty());
    let spread = names(&scene.view(1).await, 1);
    assert_eq!(spread, ["spread-runOnAll-1", "spread-runOnAll-2"]);
    // Each is bound to its agent, and stays so when it is lost or runs again.
    assert!(assign(scene.app(), &plain).await.unwrap().is_none());
    let first = scene.take(&fitting[1]).await;
    assert!(assign(scene.app(), &fitting[1]).await.unwrap().is_none());
    reschedule_jobs_of(scene.app(), "b").await.unwrap();
    let again = scene.take(&fitting[1]).await;
    assert_eq!(again.build_name, first.build_name);
    scene.complete(&fitting[1], &again, JobResult::Failed).await;
    let other = scene.take(&fitting[0]).await;
    scene.complete(&fitting[0], &other, Passed).await;
    let failed = Rerun::Failed;
    let rerun = rerun_jobs(scene.app(), "web", 1, "spread", 1, &failed, &person("x")).await;
    assert_eq!(rerun.unwrap(), 2);
    assert!(assign(scene.app(), &fitting[0]).await.unwrap().is_none());
    assert_eq!(scene.take(&fitting[1]).await.build_name, first.build_name);
}

#[tokio::test]
async fn files_put_agents_into_environments() {
    let yaml = format!("{SEVERAL}environments:\n  prod: {{ pipelines: [web], agents: [filed] }}\n");
    let scene = Scene::with(&yaml).await;
    scene.trigger().await;
    let other = scene.agent("other", &[], &[]).await;
    assert!(assign(scene.app(), &other).await.unwrap().is_none());
    let filed = scene.agent("filed", &[], &[]).await;
    let job = scene.take(&filed).await;
    scene.complete(&filed, &job, Passed).await;
    // The run keeps its environment; the agent leaves it with the file.
    commit(scene.repo.path(), "ci.gocd.yaml", SEVERAL);
    assert_eq!(scene.look().await.error, None);
    assert!(assign(scene.app(), &filed).await.unwrap().is_none());
    let by_hand = scene.agent("by-hand", &[], &["PROD"]).await;
    scene.take(&by_hand).await;
}

#[tokio::test]
async fn the_oldest_of_many_jobs_that_fit_comes_first() {
    let yaml = SEVERAL.replace("run_instances: 2", "run_instances: 300");
    let yaml = yaml.replace(
        "        jobs:\n            many",
        "        jobs:\n            rare: { resources: [gpu], tasks: [ { script: make } ] }\n            many",
    );
    let scene = Scene::with(&yaml).await;
    scene.trigger().await;
    let plain = scene.agent("plain", &[], &[]).await;
    let gpu = scene.agent("gpu", &["GPU"], &[]).await;
    assert_eq!(scene.take(&plain).await.build_name, "many-runInstance-1");
    assert_eq!(scene.take(&gpu).await.build_name, "rare");
    let third = scene.agent("third", &["gpu"], &[]).await;
    assert_eq!(scene.take(&third).await.build_name, "many-runInstance-2");
}

#[tokio::test]
async fn silent_jobs_are_told_of_and_cancelled() {
    let clock = Arc::new(ManualClock::new(Timestamp::now()));
    let scene = Scene::started(
        &SEVERAL.replace(
            "      - spread: { run_instances: all, resources: [linux],",
            "      - last: {",
        ),
        Login::Off,
        Arc::clone(&clock) as Arc<dyn Clock>,
    )
    .await;
    let app = scene.app();
    scene.trigger().await;
    let agent = scene.agent("a", &[], &[]).await;
    let job = scene.take(&agent).await;
    let check = || timeouts::check(app);
    let told = || {
        let mut all: Vec<String> = health::list(app).into_iter().map(|one| one.key).collect();
        all.sort();
        all
    };
    check().await.unwrap();
    assert!(told().is_empty());
    clock.advance(6 * MINUTE);
    check().await.unwrap();
    let (one, other) = (job.build_id, job.build_id + 1);
    assert_eq!(told(), [format!("job:{one}"), format!("job:{other}")]);
    // New output takes the warning back.
    let console = app.paths.consoles().join(format!("{one}.log"));
    std::fs::write(&console, "&1|10:00:00.000 working\n").unwrap();
    let now = std::time::SystemTime::UNIX_EPOCH
        + Duration::from_millis(u64::try_from(app.now_ms()).unwrap());
    let file = std::fs::File::options().write(true).open(&console).unwrap();
    file.set_modified(now).unwrap();
    check().await.unwrap();
    assert_eq!(told(), [format!("job:{other}")]);
    // The job that nobody took is cancelled first.
    clock.advance(5 * MINUTE);
    check().await.unwrap();
    assert_eq!(
        scene.job_state(other).await,
        (JobState::Completed, JobResult::Cancelled)
    );
    assert_eq!(scene.job_state(one).await.0, JobState::Assigned);
    let line = std::fs::read_to_string(console.with_file_name(format!("{other}.log"))).unwrap();
    assert!(
        line.ends_with("Cancelled by the server: no agent took it for 10 minutes.\n"),
        "{line}"
    );
    clock.advance(5 * MINUTE);
    check().await.unwrap();
    assert!(is_ignored(app, &job).await.unwrap());
    let view = scene.view(1).await;
    let row = view.stages[0].row.clone().unwrap();
    assert_eq!(
        (row.state.as_str(), row.cancelled_by.as_deref()),
        ("Cancelled", Some("GoCD"))
    );
    let told_agent = {
        let mut connection = app.database.readers().acquire().await.unwrap();
        agents::find(&mut connection, "a").await.unwrap().unwrap()
    };
    assert_eq!(told_agent.runtime_status, RuntimeStatus::Cancelled);
    check().await.unwrap();
    assert!(told().is_empty());
}

#[tokio::test]
async fn the_servers_default_counts_for_jobs_without_a_timeout() {
    let clock = Arc::new(ManualClock::new(Timestamp::now()));
    let yaml = SEVERAL.replace("timeout: 10, ", "");
    let configuration = Configuration {
        automatic_runs: false,
        job_timeout: Some(Duration::from_secs(100 * 60)),
        ..Configuration::default()
    };
    let now = Arc::clone(&clock) as Arc<dyn Clock>;
    let scene = Scene::configured(&yaml, Login::Off, now, configuration).await;
    let app = scene.app();
    scene.trigger().await;
    // What is set while the server runs counts more than its configuration, until it is set again.
    timeouts::set_default_minutes(app, 0).await.unwrap();
    clock.advance(100 * MINUTE);
    timeouts::check(app).await.unwrap();
    assert_eq!(scene.view(1).await.state(), "Building");
    cancel_stage(app, "web", 1, "build", 1, &person("x"))
        .await
        .unwrap();
    timeouts::set_default_minutes(app, 100).await.unwrap();
    scene.trigger().await;
    clock.advance(99 * MINUTE);
    timeouts::check(app).await.unwrap();
    assert_eq!(scene.view(2).await.state(), "Building");
    clock.advance(MINUTE);
    timeouts::check(app).await.unwrap();
    assert_eq!(scene.view(2).await.state(), "Cancelled");
}

#[tokio::test]
async fn one_instance_of_several_can_be_fetched_from() {
    let fetch = "      - pack: { tasks: [ { fetch: { stage: BUILD, job: MANY-runInstance-2, source: pkg } } ] }\n";
    let (before, after) = SEVERAL.split_once("      - spread").unwrap();
    let yaml = format!("{before}{fetch}      - spread{after}");
    let scene = Scene::with(&yaml).await;
    scene.trigger().await;
    let agent = scene.agent("a", &[], &[]).await;
    for _ in 0..2 {
        let job = scene.take(&agent).await;
        scene.complete(&agent, &job, Passed).await;
    }
    let work = assign(scene.app(), &agent).await.unwrap().unwrap();
    let Builder::FetchArtifactBuilder(task) = &work.assignment.builders[0] else {
        panic!("{:?}", work.assignment.builders);
    };
    let from = &task.job_identifier;
    assert_eq!(
        (from.stage_name.as_str(), from.build_name.as_str()),
        ("build", "many-runInstance-2")
    );
    assert_eq!(
        task.checksum_file_handler.checksum_file,
        std::path::Path::new("pipelines/web/web_build_many-runInstance-2_md5.checksum")
    );
}
