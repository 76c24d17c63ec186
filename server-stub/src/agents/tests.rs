//! Silence, with a clock that is moved by hand.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use journeyman_protocol::{
    agent::{AgentIdentifier, AgentRuntimeInfo, RuntimeStatus},
    job::{JobResult, JobState},
    secret::Secret,
};
use pretty_assertions::assert_eq;

use super::*;
use crate::{
    App,
    clock::ManualClock,
    configuration::{Configuration, Paths, Port},
    scheduling::{self, SchedulingError, tests::Scene},
    start::{Running, Start, start},
};

const MINUTE: Duration = Duration::from_secs(60);

async fn server(folder: &std::path::Path, clock: &Arc<ManualClock>) -> Running {
    let clock: Arc<ManualClock> = Arc::clone(clock);
    start(Start {
        configuration: Configuration::default(),
        paths: Paths::new(folder.to_path_buf(), None),
        http_port: Port::Exactly(0),
        https_port: Port::Exactly(0),
        auto_register_key: None,
        login: crate::users::Login::Off,
        clock,
    })
    .await
    .unwrap()
}

async fn add(app: &App, uuid: &str, config_state: ConfigState) {
    let agent = Agent {
        uuid: uuid.to_owned(),
        hostname: "build-07".to_owned(),
        ip_address: "127.0.0.1".to_owned(),
        location: "/srv/agent".to_owned(),
        operating_system: "Linux".to_owned(),
        usable_space: None,
        agent_version: "1".to_owned(),
        bootstrapper_version: "1".to_owned(),
        config_state,
        runtime_status: RuntimeStatus::Idle,
        resources: Vec::new(),
        environments: Vec::new(),
        elastic: None,
        cookie: Some(Secret::from("cookie")),
        build_locator: String::new(),
        kill_requested: false,
        cancelled_at: None,
        last_heard_at: Some(app.now_ms()),
        registered_at: app.now_ms(),
    };
    let mut write = app.database.write().await.unwrap();
    insert(&mut write, &agent).await.unwrap();
    write.commit().await.unwrap();
}

fn ping(uuid: &str) -> AgentRuntimeInfo {
    AgentRuntimeInfo {
        identifier: AgentIdentifier {
            host_name: "build-07".to_owned(),
            ip_address: "127.0.0.1".to_owned(),
            uuid: uuid.to_owned(),
        },
        runtime_status: RuntimeStatus::Idle,
        cookie: Some(Secret::from("cookie")),
        ..AgentRuntimeInfo::default()
    }
}

async fn says(app: &App, info: &AgentRuntimeInfo) {
    let mut connection = app.database.readers().acquire().await.unwrap();
    let agent = find(&mut connection, &info.identifier.uuid).await.unwrap();
    drop(connection);
    heard(app, agent.unwrap(), info).await.unwrap();
}

async fn shown(app: &App, uuid: &str) -> Option<ShownStatus> {
    let mut connection = app.database.readers().acquire().await.unwrap();
    let agent = find(&mut connection, uuid).await.unwrap();
    agent.map(|agent| agent.shown_status())
}

#[tokio::test]
async fn an_agent_is_lost_after_five_minutes_and_found_by_a_ping() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::now()));
    let running = server(folder.path(), &clock).await;
    let app = &running.app;
    add(app, "quiet", ConfigState::Enabled).await;
    add(app, "alive", ConfigState::Enabled).await;
    add(app, "pending", ConfigState::Pending).await;

    clock.advance(4 * MINUTE);
    says(app, &ping("alive")).await;
    sweep(app).await.unwrap();
    assert_eq!(shown(app, "quiet").await, Some(ShownStatus::Idle));
    assert_eq!(shown(app, "pending").await, Some(ShownStatus::Pending));

    clock.advance(MINUTE);
    sweep(app).await.unwrap();
    assert_eq!(shown(app, "quiet").await, Some(ShownStatus::LostContact));
    assert_eq!(shown(app, "alive").await, Some(ShownStatus::Idle));
    assert_eq!(shown(app, "pending").await, None);

    says(app, &ping("quiet")).await;
    assert_eq!(shown(app, "quiet").await, Some(ShownStatus::Idle));
    running.stop().await;
}

#[tokio::test]
async fn after_a_start_everybody_is_missing_and_has_five_minutes_again() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::now()));
    let running = server(folder.path(), &clock).await;
    add(&running.app, "agent", ConfigState::Enabled).await;
    running.stop().await;

    clock.advance(60 * MINUTE);
    let running = server(folder.path(), &clock).await;
    let app = &running.app;
    clock.advance(4 * MINUTE);
    sweep(app).await.unwrap();
    assert_eq!(shown(app, "agent").await, Some(ShownStatus::Missing));
    clock.advance(MINUTE);
    sweep(app).await.unwrap();
    assert_eq!(shown(app, "agent").await, Some(ShownStatus::LostContact));
    running.stop().await;
}

#[tokio::test]
async fn an_agent_that_falls_silent_loses_its_job_and_is_not_heard_about_it_any_more() {
    let clock = Arc::new(ManualClock::new(Timestamp::now()));
    let yaml = "format_version: 11
pipelines:
  web:
    group: apps
    materials: { src: { type: configrepo } }
    stages: [ { build: { tasks: [ { script: make } ] } } ]
";
    let scene = Scene::started(yaml, crate::users::Login::Off, clock.clone()).await;
    let app = scene.app();
    scene.trigger().await;
    let silent = scene.agent("silent", &[], &[]).await;
    let lost = scene.take(&silent).await;
    let other = scene.agent("other", &[], &[]).await;
    let alive = ping("other");
    for _ in 0..4 {
        clock.advance(MINUTE);
        says(app, &alive).await;
        sweep(app).await.unwrap();
    }
    assert_eq!(scene.job_state(lost.build_id).await.0, JobState::Assigned);
    clock.advance(MINUTE);
    says(app, &alive).await;
    sweep(app).await.unwrap();
    assert_eq!(
        scene.job_state(lost.build_id).await.0,
        JobState::Rescheduled
    );
    assert!(scheduling::is_ignored(app, &lost).await.unwrap());

    // While the other has it, and when it is through.
    let again = scene.take(&other).await;
    scene.complete(&silent, &lost, JobResult::Failed).await;
    let state = scene.job_state(again.build_id).await;
    assert_eq!(state, (JobState::Assigned, JobResult::Unknown));
    scene.complete(&other, &again, JobResult::Passed).await;
    scene.complete(&silent, &lost, JobResult::Failed).await;
    let state = scene.job_state(again.build_id).await;
    assert_eq!(state, (JobState::Completed, JobResult::Passed));
    assert_eq!(scene.view(1).await.state(), "Passed");
    // Nor about the other's job, which it never had.
    let stranger = scheduling::report_completed(app, "silent", &again, JobResult::Failed).await;
    assert!(
        matches!(stranger, Err(SchedulingError::NotAssigned { .. })),
        "{stranger:?}"
    );
    assert_eq!(scene.view(1).await.state(), "Passed");
}

#[tokio::test]
async fn the_job_of_a_lost_agent_goes_to_another() {
    let scene = Scene::new().await;
    scene.trigger().await;
    let first = scene.agent("first", &["linux", "jdk"], &[]).await;
    let lost = scene.take(&first).await;
    // The other job of the stage waits longer than the one that comes back.
    let other = scene.agent("other", &["linux", "jdk"], &[]).await;
    scene.take(&other).await;
    let second = scene.agent("second", &["linux", "jdk"], &[]).await;

    let mut write = scene.app().database.write().await.unwrap();
    sqlx::query("UPDATE agents SET last_heard_at = 0 WHERE uuid = 'first'")
        .execute(&mut *write)
        .await
        .unwrap();
    write.commit().await.unwrap();
    sweep(scene.app()).await.unwrap();

    let again = scene.take(&second).await;
    assert_eq!(again.build_name, lost.build_name);
    assert!(again.build_id > lost.build_id);
}
