mod automatic;
mod fan_in;
mod held;
mod instances;
mod templates;
mod whole_format;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use journeyman_protocol::agent::RuntimeStatus;
use journeyman_protocol::job::{JobIdentifier, JobResult, JobState};
use journeyman_protocol::work::BuildWork;
use pretty_assertions::assert_eq;

use super::trigger::{Options, TriggerError, trigger};
use super::view::{self, RunView};
use super::*;
use crate::App;
use crate::agents::{self, Agent, ConfigState};
use crate::clock::{Clock, SystemClock};
use crate::configuration::{Configuration, Paths, Port};
use crate::pipelines::repositories;
use crate::start::{Running, Start, start};
use crate::users::{Actor, Grant, Login, Means, Rights, Role};

/// A real server on free ports, and a real git repository that it reads pipelines from.
pub(crate) struct Scene {
    pub(crate) running: Running,
    pub(crate) repo: tempfile::TempDir,
    pub(crate) data: tempfile::TempDir,
}

const YAML: &str = "format_version: 11
pipelines:
  web:
    group: apps
    label_template: 1.0.${COUNT}
    environment_variables: { LEVEL: one, DEPLOY_TOKEN: x }
    secure_variables: { SECRET: sesame }
    materials:
      web-src: { type: configrepo, destination: src }
    stages:
      - build:
          environment_variables: { LEVEL: two }
          jobs:
            unit:
              resources: [linux, JDK]
              environment_variables: { LAST: yes }
              artifacts:
                - build: { source: target/*.jar, destination: pkg }
                - test: { source: reports }
              tasks:
                - exec:
                    command: /bin/sh
                    arguments: [-c, make test]
                    on_cancel: { exec: { command: /bin/sh, arguments: [-c, make stop] } }
                - exec: { command: make, working_directory: sub, run_if: any }
            docs:
              tasks: [ { script: make docs } ]
      - pack: { tasks: [ { script: make pack } ] }
      - ship: { approval: manual, tasks: [ { script: ./ship.sh } ] }
";

pub(crate) fn git(folder: &Path, arguments: &[&str]) {
    let output = Command::new("git")
        .current_dir(folder)
        .args([
            "-c",
            "user.name=Dev One",
            "-c",
            "user.email=dev@example.com",
        ])
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

pub(crate) fn commit(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
    git(folder, &["add", "."]);
    git(folder, &["commit", "-qm", &format!("Change {name}")]);
}

impl Scene {
    pub(crate) async fn new() -> Self {
        Self::with(YAML).await
    }

    pub(crate) async fn with(yaml: &str) -> Self {
        Self::started(yaml, Login::Off, Arc::new(SystemClock)).await
    }

    pub(crate) async fn started(yaml: &str, login: Login, clock: Arc<dyn Clock>) -> Self {
        let configuration = Configuration {
            automatic_runs: false,
            ..Configuration::default()
        };
        Self::configured(yaml, login, clock, configuration).await
    }

    pub(crate) async fn configured(
        yaml: &str,
        login: Login,
        clock: Arc<dyn Clock>,
        configuration: Configuration,
    ) -> Self {
        let repo = tempfile::tempdir().unwrap();
        git(repo.path(), &["init", "-qb", "main"]);
        commit(repo.path(), "ci.gocd.yaml", yaml);
        let data = tempfile::tempdir().unwrap();
        let running = serve_with(data.path(), login, clock, configuration).await;
        let scene = Self {
            running,
            repo,
            data,
        };
        let url = scene.repo.path().to_str().unwrap();
        repositories::add(scene.app(), "conf", url, "main")
            .await
            .unwrap();
        scene.look().await;
        scene
    }

    pub(crate) fn app(&self) -> &Arc<App> {
        &self.running.app
    }

    pub(crate) async fn look(&self) -> repositories::ConfigRepo {
        self.look_at("conf").await
    }

    pub(crate) async fn look_at(&self, id: &str) -> repositories::ConfigRepo {
        let turn = loop {
            match repositories::take_turn(self.app(), id).await {
                Ok(turn) => break turn,
                Err(repositories::RepositoryError::Busy { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        };
        repositories::look(self.app(), turn).await.unwrap()
    }

    pub(crate) async fn trigger(&self) -> i64 {
        trigger(self.app(), "web", &Options::by(&person("alice")))
            .await
            .unwrap()
    }

    /// An enabled, idle agent.
    pub(crate) async fn agent(
        &self,
        uuid: &str,
        resources: &[&str],
        environments: &[&str],
    ) -> Agent {
        let texts = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect();
        let agent = Agent {
            uuid: uuid.to_owned(),
            hostname: format!("host-{uuid}"),
            ip_address: "127.0.0.1".to_owned(),
            location: "/srv/agent".to_owned(),
            operating_system: "Linux".to_owned(),
            usable_space: Some(1 << 30),
            agent_version: "1".to_owned(),
            bootstrapper_version: "1".to_owned(),
            config_state: ConfigState::Enabled,
            runtime_status: RuntimeStatus::Idle,
            resources: texts(resources),
            environments: texts(environments),
            elastic: None,
            cookie: None,
            build_locator: String::new(),
            kill_requested: false,
            cancelled_at: None,
            last_heard_at: Some(self.app().now_ms()),
            registered_at: 0,
        };
        let mut write = self.app().database.write().await.unwrap();
        agents::insert(&mut write, &agent).await.unwrap();
        write.commit().await.unwrap();
        agent
    }

    pub(crate) async fn view(&self, counter: i64) -> RunView {
        let mut connection = self.app().database.readers().acquire().await.unwrap();
        let run = run::find_run(&mut connection, "web", counter)
            .await
            .unwrap()
            .unwrap();
        view::of_run(&mut connection, run).await.unwrap()
    }

    pub(crate) async fn job_state(&self, id: i64) -> (JobState, JobResult) {
        let mut connection = self.app().database.readers().acquire().await.unwrap();
        let job = run::job_by_id(&mut connection, id).await.unwrap().unwrap();
        (job.state(), job.result())
    }

    pub(crate) async fn take(&self, agent: &Agent) -> JobIdentifier {
        let work = assign(self.app(), agent).await.unwrap().unwrap();
        work.assignment.job_identifier
    }

    pub(crate) async fn complete(&self, agent: &Agent, job: &JobIdentifier, result: JobResult) {
        let app = self.app();
        report_status(app, &agent.uuid, job, JobState::Preparing)
            .await
            .unwrap();
        report_status(app, &agent.uuid, job, JobState::Building)
            .await
            .unwrap();
        report_completing(app, &agent.uuid, job, result)
            .await
            .unwrap();
        report_completed(app, &agent.uuid, job, result)
            .await
            .unwrap();
    }

    fn states(view: &RunView) -> Vec<(&str, &str, i64)> {
        let row = |stage: &'_ view::StageView| stage.row.clone().map_or(0, |row| row.counter);
        view.stages
            .iter()
            .map(|one| {
                let state = one.row.as_ref().map_or("-", |row| row.state.as_str());
                (one.name.as_str(), state, row(one))
            })
            .collect()
    }
}

/// Somebody who may operate every group.
pub(crate) fn person(name: &str) -> Actor {
    Actor {
        name: name.to_owned(),
        rights: Rights::new(vec![Grant::everywhere(Role::Operate)]),
        means: Means::Password,
    }
}

pub(crate) async fn serve(data: &Path, login: Login, clock: Arc<dyn Clock>) -> Running {
    // Only what a test triggers runs.
    let configuration = Configuration {
        automatic_runs: false,
        ..Configuration::default()
    };
    serve_with(data, login, clock, configuration).await
}

pub(crate) async fn serve_with(
    data: &Path,
    login: Login,
    clock: Arc<dyn Clock>,
    configuration: Configuration,
) -> Running {
    start(Start {
        configuration,
        paths: Paths::new(data.to_path_buf(), None),
        http_port: Port::Exactly(0),
        https_port: Port::Exactly(0),
        auto_register_key: None,
        login,
        clock,
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_run_goes_through_its_stages() {
    let scene = Scene::new().await;
    assert_eq!(scene.trigger().await, 1);
    let agent = scene.agent("a", &["Linux", "jdk"], &[]).await;
    for _ in 0..2 {
        let job = scene.take(&agent).await;
        scene.complete(&agent, &job, JobResult::Passed).await;
    }
    let view = scene.view(1).await;
    assert_eq!(
        Scene::states(&view),
        [
            ("build", "Passed", 1),
            ("pack", "Building", 1),
            ("ship", "-", 0)
        ]
    );
    assert_eq!(view.run.label, "1.0.1");
    let job = scene.take(&agent).await;
    assert_eq!(job.display_locator(), "web/1.0.1/pack/1/pack");
    scene.complete(&agent, &job, JobResult::Passed).await;
    // The manual stage waits for a person.
    assert!(assign(scene.app(), &agent).await.unwrap().is_none());
    let view = scene.view(1).await;
    assert!(!view.is_active() && view.stages[2].can_run);
    let shown: Vec<_> = view.stages[1].jobs[0]
        .transitions
        .iter()
        .map(|one| one.state.as_str())
        .collect();
    assert_eq!(
        shown,
        [
            "Scheduled",
            "Assigned",
            "Preparing",
            "Building",
            "Completing",
            "Completed"
        ]
    );
    assert_eq!(
        run_stage(scene.app(), "web", 1, "SHIP", &person("bob"))
            .await
            .unwrap(),
        1
    );
    let job = scene.take(&agent).await;
    scene.complete(&agent, &job, JobResult::Failed).await;
    assert_eq!(scene.view(1).await.state(), "Failed");
}

#[tokio::test]
async fn stages_run_only_when_they_may() {
    let scene = Scene::new().await;
    scene.trigger().await;
    let bob = person("bob");
    let refused = |stage: &'static str| run_stage(scene.app(), "web", 1, stage, &bob);
    assert!(matches!(
        refused("ship").await,
        Err(RunStageError::Refused {
            refused: Refused::Active { .. },
            ..
        })
    ));
    assert!(matches!(
        refused("nope").await,
        Err(RunStageError::UnknownStage { .. })
    ));
    cancel_stage(scene.app(), "web", 1, "build", 1, &person("bob"))
        .await
        .unwrap();
    assert!(matches!(
        refused("ship").await,
        Err(RunStageError::PreviousNotRun { .. })
    ));
    // A stage that was cancelled can be run again.
    assert_eq!(refused("build").await.unwrap(), 2);
}

#[tokio::test]
async fn a_failed_stage_ends_the_run() {
    let scene = Scene::new().await;
    scene.trigger().await;
    let agent = scene.agent("a", &["linux", "jdk"], &[]).await;
    let first = scene.take(&agent).await;
    scene.complete(&agent, &first, JobResult::Failed).await;
    assert_eq!(scene.view(1).await.state(), "Failing");
    let again = trigger(scene.app(), "web", &Options::by(&person("bob"))).await;
    assert!(matches!(again, Err(TriggerError::Active { .. })));
    let second = scene.take(&agent).await;
    scene.complete(&agent, &second, JobResult::Passed).await;
    assert_eq!(
        Scene::states(&scene.view(1).await),
        [("build", "Failed", 1), ("pack", "-", 0), ("ship", "-", 0)]
    );
    assert_eq!(scene.trigger().await, 2);
}

#[tokio::test]
async fn agents_get_what_fits() {
    let yaml = format!("{YAML}environments:\n  prod: {{ pipelines: [WEB] }}\n");
    let scene = Scene::with(&yaml).await;
    scene.trigger().await;
    let table = [
        ("none", &["linux", "jdk"][..], &[][..], None),
        ("other", &["linux", "jdk"], &["test"], None),
        ("poor", &["linux"], &["prod"], Some("docs")),
        (
            "rich",
            &["LINUX", "jdk", "gpu"],
            &["test", "PROD"],
            Some("unit"),
        ),
    ];
    for (uuid, resources, environments, expected) in table {
        let agent = scene.agent(uuid, resources, environments).await;
        let work = assign(scene.app(), &agent).await.unwrap();
        let name = work.map(|work| work.assignment.job_identifier.build_name);
        assert_eq!(name.as_deref(), expected, "{uuid}");
    }
}

#[tokio::test]
async fn a_disabled_or_busy_agent_gets_nothing() {
    let scene = Scene::new().await;
    scene.trigger().await;
    let agent = scene.agent("a", &["linux", "jdk"], &[]).await;
    agents::disable(scene.app(), "a").await.unwrap();
    // Even when the caller still takes it for enabled.
    assert!(assign(scene.app(), &agent).await.unwrap().is_none());
    agents::enable(scene.app(), "a").await.unwrap();
    scene.take(&agent).await;
    assert!(assign(scene.app(), &agent).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_handed_out_twice() {
    let scene = Scene::new().await;
    scene.trigger().await;
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..20 {
        let agent = scene
            .agent(&format!("a{number}"), &["linux", "jdk"], &[])
            .await;
        let app = scene.app().clone();
        asking.spawn(async move { assign(&app, &agent).await.unwrap() });
    }
    let mut ids: Vec<i64> = asking
        .join_all()
        .await
        .into_iter()
        .flatten()
        .map(|work| work.assignment.job_identifier.build_id)
        .collect();
    ids.sort_unstable();
    assert_eq!(ids.len(), 2);
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_many_triggers_wins() {
    let scene = Scene::new().await;
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let app = scene.app().clone();
        all.spawn(async move { trigger(&app, "web", &Options::by(&person("x"))).await });
    }
    let outcomes = all.join_all().await;
    assert_eq!(outcomes.iter().filter(|one| one.is_ok()).count(), 1);
    assert_eq!(scene.view(1).await.run.counter, 1);
}

#[tokio::test]
async fn a_cancelled_stage_is_over_at_once() {
    let scene = Scene::new().await;
    scene.trigger().await;
    let agent = scene.agent("a", &["linux", "jdk"], &[]).await;
    let job = scene.take(&agent).await;
    assert!(!is_ignored(scene.app(), &job).await.unwrap());
    assert!(
        cancel_stage(scene.app(), "web", 1, "build", 1, &person("bob"))
            .await
            .unwrap()
    );
    assert!(
        !cancel_stage(scene.app(), "web", 1, "build", 1, &person("bob"))
            .await
            .unwrap()
    );
    let view = scene.view(1).await;
    let row = view.stages[0].row.clone().unwrap();
    assert_eq!(
        (row.state.as_str(), row.cancelled_by.as_deref()),
        ("Cancelled", Some("bob"))
    );
    assert!(is_ignored(scene.app(), &job).await.unwrap());
    let mut connection = scene.app().database.readers().acquire().await.unwrap();
    let told = agents::find(&mut connection, "a").await.unwrap().unwrap();
    assert_eq!(told.runtime_status, RuntimeStatus::Cancelled);
    // What comes later changes nothing.
    scene.complete(&agent, &job, JobResult::Passed).await;
    assert_eq!(
        scene.job_state(job.build_id).await,
        (JobState::Completed, JobResult::Cancelled)
    );
    assert_eq!(scene.view(1).await.state(), "Cancelled");
}

#[tokio::test]
async fn a_lost_agents_job_goes_to_another() {
    let scene = Scene::new().await;
    scene.trigger().await;
    let lost = scene.agent("lost", &["linux", "jdk"], &[]).await;
    let first = scene.take(&lost).await;
    assert_eq!(reschedule_jobs_of(scene.app(), "lost").await.unwrap(), 1);
    assert_eq!(reschedule_jobs_of(scene.app(), "lost").await.unwrap(), 0);
    assert!(is_ignored(scene.app(), &first).await.unwrap());
    assert_eq!(
        scene.job_state(first.build_id).await.0,
        JobState::Rescheduled
    );
    let other = scene.agent("other", &["linux", "jdk"], &[]).await;
    let mut again = scene.take(&other).await;
    if again.build_name != first.build_name {
        scene.complete(&other, &again, JobResult::Passed).await;
        again = scene.take(&other).await;
    }
    assert_eq!(again.build_name, first.build_name);
    assert_ne!(again.build_id, first.build_id);
    // The lost agent comes back and reports: nothing happens.
    scene.complete(&lost, &first, JobResult::Failed).await;
    scene.complete(&other, &again, JobResult::Passed).await;
    assert_eq!(scene.job_state(again.build_id).await.1, JobResult::Passed);
    let names: Vec<_> = scene.view(1).await.stages[0]
        .jobs
        .iter()
        .map(|job| job.row.name.clone())
        .collect();
    assert_eq!(names, ["unit", "docs"]);
}

#[tokio::test]
async fn reports_by_others_and_twice() {
    let scene = Scene::new().await;
    scene.trigger().await;
    let agent = scene.agent("a", &["linux", "jdk"], &[]).await;
    let job = scene.take(&agent).await;
    let app = scene.app();
    let other = report_status(app, "b", &job, JobState::Building).await;
    assert!(matches!(other, Err(SchedulingError::NotAssigned { .. })));
    let unknown = JobIdentifier {
        build_id: 999,
        ..job.clone()
    };
    let unknown_report = report_status(app, "a", &unknown, JobState::Building).await;
    assert!(matches!(
        unknown_report,
        Err(SchedulingError::UnknownJob { .. })
    ));
    assert!(!is_ignored(app, &unknown).await.unwrap());
    // Completing passes through Building; a late Building does not go back.
    report_status(app, "a", &job, JobState::Preparing)
        .await
        .unwrap();
    report_completing(app, "a", &job, JobResult::Passed)
        .await
        .unwrap();
    report_status(app, "a", &job, JobState::Building)
        .await
        .unwrap();
    assert_eq!(
        scene.job_state(job.build_id).await,
        (JobState::Completing, JobResult::Passed)
    );
    report_completed(app, "a", &job, JobResult::Failed)
        .await
        .unwrap();
    report_completed(app, "a", &job, JobResult::Failed)
        .await
        .unwrap();
    assert_eq!(
        scene.job_state(job.build_id).await,
        (JobState::Completed, JobResult::Failed)
    );
}

#[tokio::test]
async fn a_job_an_agent_cancels_itself_does_not_stand_still() {
    let scene = Scene::new().await;
    scene.trigger().await;
    let agent = scene.agent("a", &["linux", "jdk"], &[]).await;
    let job = scene.take(&agent).await;
    scene.complete(&agent, &job, JobResult::Cancelled).await;
    assert_eq!(
        scene.job_state(job.build_id).await,
        (JobState::Completed, JobResult::Cancelled)
    );
}

#[tokio::test]
async fn a_newer_run_waits_until_the_stage_is_free() {
    let yaml = YAML.replace("[linux, JDK]", "[]");
    let scene = Scene::with(&yaml).await;
    let agent = scene.agent("a", &[], &[]).await;
    scene.trigger().await;
    for _ in 0..2 {
        let job = scene.take(&agent).await;
        scene.complete(&agent, &job, JobResult::Passed).await;
    }
    let pack = scene.take(&agent).await;
    scene.trigger().await;
    let other = scene.agent("b", &[], &[]).await;
    for _ in 0..2 {
        let job = scene.take(&other).await;
        scene.complete(&other, &job, JobResult::Passed).await;
    }
    assert_eq!(Scene::states(&scene.view(2).await)[1], ("pack", "-", 0));
    assert!(scene.view(2).await.is_active());
    // A server that is started anew leaves it as it is.
    resume(scene.app()).await.unwrap();
    assert_eq!(Scene::states(&scene.view(2).await)[1], ("pack", "-", 0));
    scene.complete(&agent, &pack, JobResult::Failed).await;
    assert_eq!(
        Scene::states(&scene.view(2).await)[1],
        ("pack", "Building", 1)
    );
}

#[tokio::test]
async fn all_is_there_after_a_restart() {
    let scene = Scene::new().await;
    scene.trigger().await;
    let agent = scene.agent("a", &["linux", "jdk"], &[]).await;
    let job = scene.take(&agent).await;
    let Scene {
        running,
        repo,
        data,
    } = scene;
    running.stop().await;
    let running = serve(data.path(), Login::Off, Arc::new(SystemClock)).await;
    let scene = Scene {
        running,
        repo,
        data,
    };
    assert!(assign(scene.app(), &agent).await.unwrap().is_none());
    scene.complete(&agent, &job, JobResult::Passed).await;
    assert_eq!(scene.job_state(job.build_id).await.1, JobResult::Passed);
}

#[tokio::test]
async fn modifications_are_those_since_the_last_run() {
    let scene = Scene::new().await;
    scene.trigger().await;
    let first = scene.view(1).await.run.revisions.revisions[0].clone();
    assert!(first.changed);
    assert_eq!(first.modifications.len(), 1);
    assert_eq!(
        first.modifications[0].user_name.as_deref(),
        Some("Dev One <dev@example.com>")
    );
    cancel_stage(scene.app(), "web", 1, "build", 1, &person("x"))
        .await
        .unwrap();
    commit(scene.repo.path(), "a", "1");
    commit(scene.repo.path(), "b", "1");
    scene.trigger().await;
    let second = scene.view(2).await.run.revisions.revisions[0].clone();
    let comments: Vec<_> = second
        .modifications
        .iter()
        .map(|one| one.comment.clone().unwrap())
        .collect();
    assert_eq!(comments, ["Change b", "Change a"]);
    cancel_stage(scene.app(), "web", 2, "build", 1, &person("x"))
        .await
        .unwrap();
    scene.trigger().await;
    let third = scene.view(3).await.run.revisions.revisions[0].clone();
    assert!(!third.changed);
    assert_eq!(
        third.modifications[0].revision,
        second.modifications[0].revision
    );
}

#[tokio::test]
async fn a_bad_commit_leaves_the_last_good_one_in_force() {
    let scene = Scene::new().await;
    let good = scene.look().await;
    assert_eq!(good.error, None);
    commit(scene.repo.path(), "bad.gocd.yaml", "pipelines:\n  x: [\n");
    let bad = scene.look().await;
    assert!(bad.error.unwrap().starts_with("bad.gocd.yaml:"));
    assert_eq!(bad.good_revision, good.good_revision);
    assert_ne!(bad.seen_revision, good.seen_revision);
    scene.trigger().await;
    std::fs::remove_file(scene.repo.path().join("bad.gocd.yaml")).unwrap();
    commit(
        scene.repo.path(),
        "ci.gocd.yaml",
        &YAML.replace("apps", "tools"),
    );
    assert_eq!(scene.look().await.error, None);
    let mut connection = scene.app().database.readers().acquire().await.unwrap();
    let pipeline = crate::pipelines::store::pipeline(&mut connection, "web")
        .await
        .unwrap();
    assert_eq!(pipeline.unwrap().group, "tools");
    // The run that is under way keeps what it was started from.
    drop(connection);
    assert_eq!(scene.view(1).await.run.definition.pipeline.group, "apps");
}

#[tokio::test]
async fn a_repository_that_vanishes_or_moves_is_told() {
    let scene = Scene::new().await;
    git(scene.repo.path(), &["branch", "-m", "main", "other"]);
    let repo = scene.look().await;
    assert!(repo.error.unwrap().contains("no branch main"));
    git(scene.repo.path(), &["branch", "-m", "other", "main"]);
    assert_eq!(scene.look().await.error, None);
    std::fs::remove_dir_all(scene.repo.path().join(".git")).unwrap();
    assert!(
        scene
            .look()
            .await
            .error
            .unwrap()
            .contains("cannot fetch branch main")
    );
    let failed = trigger(scene.app(), "web", &Options::by(&person("x"))).await;
    assert!(matches!(failed, Err(TriggerError::Material { .. })));
}

#[tokio::test]
async fn the_document_is_what_gocd_sends() {
    let scene = Scene::new().await;
    let mut options = Options::by(&person("alice"));
    options
        .overrides
        .push(crate::pipelines::definition::Variable {
            name: "DEPLOY_TOKEN".to_owned(),
            value: "tok-123".to_owned(),
            secure: true,
        });
    trigger(scene.app(), "web", &options).await.unwrap();
    let agent = scene.agent("a", &["linux", "jdk", "linux"], &[]).await;
    let work: BuildWork = assign(scene.app(), &agent).await.unwrap().unwrap();
    let shown =
        serde_json::to_value(journeyman_protocol::work::Work::BuildWork(Box::new(work))).unwrap();
    let assignment = &shown["assignment"];
    let kill_all = serde_json::json!({
        "type": "BuilderForKillAllChildTask", "currentProcess": {}, "cancelAttempted": false,
        "exitCode": -1, "conditions": [], "description": "Kills child processes",
        "cancelBuilder": { "type": "NullBuilder", "exitCode": -1, "conditions": [], "description": "NULL" },
    });
    assert_eq!(
        assignment["builders"],
        serde_json::json!([
            {
                "type": "CommandBuilderWithArgList", "args": ["-c", "make test"], "command": "/bin/sh",
                "workingDir": { "path": "pipelines/web" }, "errorString": "", "exitCode": -1,
                "conditions": [], "description": "/bin/sh -c \"make test\"",
                "cancelBuilder": {
                    "type": "CommandBuilderWithArgList", "args": ["-c", "make stop"], "command": "/bin/sh",
                    "workingDir": { "path": "pipelines/web" }, "errorString": "", "exitCode": -1,
                    "conditions": [], "description": "/bin/sh -c \"make stop\"", "cancelBuilder": kill_all,
                },
            },
            {
                "type": "CommandBuilder", "args": "", "command": "make",
                "workingDir": { "path": "pipelines/web/sub" }, "errorString": "", "exitCode": -1,
                "conditions": [{ "status": "any", "configErrors": {} }], "description": "make",
                "cancelBuilder": kill_all,
            },
        ])
    );
    let names: Vec<_> = assignment["initialContext"]["properties"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let secure = if one["secure"] == true { "!" } else { "" };
            format!(
                "{}{secure}={}",
                one["name"].as_str().unwrap(),
                one["value"].as_str().unwrap()
            )
        })
        .collect();
    let revision = scene.view(1).await.run.revisions.revisions[0].modifications[0]
        .revision
        .clone();
    let url = scene.repo.path().to_str().unwrap();
    let expected = format!(
        "GO_PIPELINE_GROUP_NAME=apps GO_AGENT_RESOURCES=jdk,linux GO_TRIGGER_USER=alice GO_PIPELINE_NAME=web \
         GO_PIPELINE_COUNTER=1 GO_PIPELINE_LABEL=1.0.1 GO_STAGE_NAME=build GO_STAGE_COUNTER=1 GO_JOB_NAME=unit \
         GO_REVISION_WEB_SRC={revision} GO_TO_REVISION_WEB_SRC={revision} GO_FROM_REVISION_WEB_SRC={revision} \
         GO_MATERIAL_URL_WEB_SRC={url} GO_MATERIAL_BRANCH_WEB_SRC=main GO_MATERIAL_WEB_SRC_HAS_CHANGED=true \
         LEVEL=two DEPLOY_TOKEN=x SECRET!=sesame LAST=yes DEPLOY_TOKEN!=tok-123"
    );
    assert_eq!(names, expected.split_whitespace().collect::<Vec<_>>());
    let git = &assignment["materialRevisions"]["revisions"][0]["material"];
    assert_eq!(
        git["name"],
        serde_json::json!({ "name": "web-src", "hashCode": 1_222_259_691 })
    );
    assert_eq!(
        (&git["type"], &git["materialType"]),
        (&"GitMaterial".into(), &"GitMaterial".into())
    );
    assert_eq!(
        (&git["folder"], &git["refSpecOrBranch"]),
        (&"src".into(), &"main".into())
    );
    let plans = assignment["artifactPlans"].as_array().unwrap();
    assert_eq!(
        (&plans[0]["artifactPlanType"], &plans[0]["dest"]),
        (&"file".into(), &"pkg".into())
    );
    assert_eq!(
        (&plans[1]["artifactPlanType"], &plans[1]["dest"]),
        (&"unit".into(), &"testoutput".into())
    );
    // Every member that the Java agent cannot do without.
    for member in [
        "fetchMaterials",
        "cleanWorkingDirectory",
        "artifactStores",
        "buildWorkingDirectory",
        "jobIdentifier",
        "approver",
    ] {
        assert!(!assignment[member].is_null(), "{member}");
    }
    assert_eq!(shown["consoleLogCharset"], "UTF-8");
}
