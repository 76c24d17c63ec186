//! Pauses, locks, reruns of single jobs, and who may run a stage.

use journeyman_protocol::job::JobResult::{Failed, Passed};
use pretty_assertions::assert_eq;

use super::*;
use crate::scheduling::state::{state_of, states};

/// Two jobs, then one that follows, then one that waits for a person; any agent takes all.
const PLAIN: &str = "format_version: 11
pipelines:
  web:
    group: apps
    LOCK
    materials:
      src: { type: configrepo }
    stages:
      - build:
          jobs:
            one: { tasks: [ { script: make } ] }
            two: { tasks: [ { script: make } ] }
      - pack: { tasks: [ { script: make pack } ] }
      - ship: { approval: manual, tasks: [ { script: ./ship.sh } ] }
";

async fn plain(lock: &str) -> (Scene, Agent) {
    let scene = Scene::with(&PLAIN.replace("LOCK", lock)).await;
    let agent = scene.agent("a", &[], &[]).await;
    (scene, agent)
}

impl Scene {
    /// Runs the next jobs, one for each result.
    async fn work(&self, agent: &Agent, results: &[JobResult]) {
        for result in results {
            let job = self.take(agent).await;
            self.complete(agent, &job, *result).await;
        }
    }

    async fn state(&self) -> PipelineState {
        let mut connection = self.app().database.readers().acquire().await.unwrap();
        state_of(&mut connection, "WEB").await.unwrap()
    }

    async fn refused_trigger(&self) -> TriggerError {
        let outcome = trigger(self.app(), "web", &Options::by(&person("x"))).await;
        outcome.unwrap_err()
    }

    async fn restarted(self) -> Self {
        let Self {
            running,
            repo,
            data,
        } = self;
        running.stop().await;
        let running = serve(data.path(), Login::Off, Arc::new(SystemClock)).await;
        Self {
            running,
            repo,
            data,
        }
    }
}

#[tokio::test]
async fn a_pause_holds_back_and_its_end_lets_go() {
    let (scene, agent) = plain("").await;
    let app = scene.app().clone();
    scene.trigger().await;
    pause(&app, "Web", "ann", "freeze").await.unwrap();
    assert!(matches!(
        pause(&app, "web", "bob", "").await,
        Err(StateError::Paused { pause, .. }) if pause.by == "ann"
    ));
    assert!(matches!(
        pause(&app, "none", "bob", "").await,
        Err(StateError::Unknown(_))
    ));
    let paused = scene.refused_trigger().await;
    assert_eq!(
        paused.to_string(),
        "web cannot be triggered: it is paused by ann (freeze)"
    );
    // What is active goes on, and what follows waits, over a restart too.
    scene.work(&agent, &[Passed, Passed]).await;
    let scene = scene.restarted().await;
    assert_eq!(Scene::states(&scene.view(1).await)[1], ("pack", "-", 0));
    let app = scene.app().clone();
    let refused = run_stage(&app, "web", 1, "pack", &person("bob")).await;
    assert!(matches!(
        refused,
        Err(RunStageError::Refused {
            refused: Refused::Paused { .. },
            ..
        })
    ));
    unpause(&app, "WEB").await.unwrap();
    assert_eq!(
        Scene::states(&scene.view(1).await)[1],
        ("pack", "Building", 1)
    );
    assert!(matches!(
        unpause(&app, "web").await,
        Err(StateError::NotPaused(_))
    ));
    assert_eq!(scene.state().await, PipelineState::default());
    let mut connection = app.database.readers().acquire().await.unwrap();
    assert!(states(&mut connection).await.unwrap().is_empty());
}

#[tokio::test]
async fn lock_on_failure_is_held_until_the_last_stage_has_ended() {
    let (scene, agent) = plain("lock_behavior: lockOnFailure").await;
    let app = scene.app().clone();
    scene.trigger().await;
    assert_eq!(scene.state().await.locked_by, Some(1));
    assert!(matches!(
        unlock(&app, "web").await,
        Err(StateError::Active { .. })
    ));
    scene.work(&agent, &[Passed, Failed]).await;
    let locked = scene.refused_trigger().await;
    assert!(
        matches!(locked, TriggerError::Locked { holder: 1, .. }),
        "{locked}"
    );
    // Its own stages may run, and at the manual gate it still holds the lock.
    run_stage(&app, "web", 1, "build", &person("x"))
        .await
        .unwrap();
    scene.work(&agent, &[Passed, Passed, Passed]).await;
    assert_eq!(scene.state().await.locked_by, Some(1));
    unlock(&app, "web").await.unwrap();
    assert!(matches!(
        unlock(&app, "web").await,
        Err(StateError::NotLocked(_))
    ));
    // Another run has the lock now, and an older one runs nothing.
    scene.trigger().await;
    let refused = run_stage(&app, "web", 1, "ship", &person("x")).await;
    assert!(matches!(
        refused,
        Err(RunStageError::Refused {
            refused: Refused::Locked { holder: 2, .. },
            ..
        })
    ));
    scene.work(&agent, &[Passed, Passed, Passed]).await;
    run_stage(&app, "web", 2, "ship", &person("x"))
        .await
        .unwrap();
    scene.work(&agent, &[Failed]).await;
    assert_eq!(scene.state().await.locked_by, None);
}

#[tokio::test]
async fn unlock_when_finished_unlocks_when_the_run_rests() {
    let (scene, agent) = plain("lock_behavior: unlockWhenFinished").await;
    scene.trigger().await;
    scene.work(&agent, &[Passed, Passed]).await;
    // Between stages it is held; before a person it is not.
    assert_eq!(scene.state().await.locked_by, Some(1));
    scene.work(&agent, &[Passed]).await;
    assert_eq!(scene.state().await.locked_by, None);
    scene.trigger().await;
    scene.work(&agent, &[Failed, Passed]).await;
    assert_eq!(scene.state().await.locked_by, None);
    // A stage that runs later takes the lock again.
    run_stage(scene.app(), "web", 1, "ship", &person("x"))
        .await
        .unwrap();
    assert_eq!(scene.state().await.locked_by, Some(1));
    cancel_stage(scene.app(), "web", 1, "ship", 1, &person("x"))
        .await
        .unwrap();
    assert_eq!(scene.state().await.locked_by, None);
    assert!(matches!(
        unlock(scene.app(), "web").await,
        Err(StateError::NotLocked(_))
    ));
}

#[tokio::test]
async fn without_lock_behavior_nothing_locks() {
    let (scene, _) = plain("").await;
    scene.trigger().await;
    assert_eq!(scene.state().await.locked_by, None);
    assert!(matches!(
        unlock(scene.app(), "web").await,
        Err(StateError::NotLockable(_))
    ));
}

#[tokio::test]
async fn failed_jobs_run_again_and_the_others_are_copied() {
    let (scene, agent) = plain("").await;
    let app = scene.app().clone();
    let again = |counter, which: Rerun| {
        let app = app.clone();
        async move { rerun_jobs(&app, "web", 1, "Build", counter, &which, &person("bob")).await }
    };
    scene.trigger().await;
    assert!(matches!(
        again(1, Rerun::Failed).await,
        Err(RerunError::NoneFailed { .. })
    ));
    scene.work(&agent, &[Passed, Failed]).await;
    for (which, expected) in [
        (Rerun::Selected(Vec::new()), "name at least one job"),
        (
            Rerun::Selected(vec!["one".to_owned(), "nine".to_owned()]),
            "has no job nine",
        ),
    ] {
        let error = again(1, which).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(matches!(
        again(7, Rerun::Failed).await,
        Err(RerunError::UnknownStage { .. })
    ));
    assert_eq!(again(1, Rerun::Failed).await.unwrap(), 2);
    assert!(matches!(
        again(1, Rerun::Failed).await,
        Err(RerunError::Refused {
            refused: Refused::Active { .. },
            ..
        })
    ));
    let work = assign(&app, &agent).await.unwrap().unwrap().assignment;
    let job = work.job_identifier;
    assert_eq!(
        (job.build_name.as_str(), job.stage_counter.as_str()),
        ("two", "2")
    );
    let variable = work.initial_context.get("GO_RERUN_OF_STAGE_COUNTER");
    assert_eq!(variable.unwrap().value.as_deref(), Some("1"));
    scene.complete(&agent, &job, Failed).await;
    // A copy of a copy leads to the job that ran.
    assert_eq!(again(2, Rerun::Failed).await.unwrap(), 3);
    let view = scene.view(1).await;
    let stage = &view.stages[0];
    assert_eq!(stage.row.as_ref().unwrap().rerun_of_counter, Some(2));
    let (copied, ran) = (&stage.jobs[0], &stage.jobs[1]);
    assert_eq!((copied.row.rerun, ran.row.rerun), (false, true));
    assert_eq!(ran.row.original_job_id, None);
    assert_eq!(copied.transitions.len(), 6);
    let mut connection = app.database.readers().acquire().await.unwrap();
    let first = run::find_stage(&mut connection, view.run.id, "build", 1)
        .await
        .unwrap()
        .unwrap();
    let first = run::jobs_of(&mut connection, first.id).await.unwrap();
    assert_eq!(copied.row.original_job_id, Some(first[0].id));
    let (locator, _) = crate::jobs::Locator::parse("web/1/build/3/one").unwrap();
    let located = crate::jobs::locate(&mut connection, &locator, None).await;
    assert_eq!(located.unwrap().unwrap().id, first[0].id);
    drop(connection);
    // When it passes the next stage runs as if nothing had been.
    scene.work(&agent, &[Passed, Passed]).await;
    let states = scene.view(1).await;
    assert_eq!(
        Scene::states(&states)[..2],
        [("build", "Passed", 3), ("pack", "Passed", 1)]
    );
    assert_eq!(
        again(3, Rerun::Selected(vec!["ONE".to_owned(), "one".to_owned()]))
            .await
            .unwrap(),
        4
    );
    scene.work(&agent, &[Passed]).await;
    assert_eq!(
        Scene::states(&scene.view(1).await)[1],
        ("pack", "Building", 2)
    );
}

#[tokio::test]
async fn only_the_named_run_a_stage() {
    let yaml = PLAIN.replace("LOCK", "").replace(
        "approval: manual",
        "approval: { type: manual, users: [Ann], roles: [operate, ops] }",
    );
    let yaml = yaml.replace(
        "      - pack: {",
        "      - pack: { approval: { type: manual, users: [ann], roles: [ops] },",
    );
    let scene = Scene::with(&yaml).await;
    let agent = scene.agent("a", &[], &[]).await;
    scene.trigger().await;
    scene.work(&agent, &[Passed, Passed]).await;
    let run = |stage: &'static str, by: Actor| {
        let app = scene.app().clone();
        async move { run_stage(&app, "web", 1, stage, &by).await }
    };
    let with = |name: &str, role: &str| Actor {
        rights: Rights::new(vec![role.parse().unwrap()]),
        ..person(name)
    };
    assert!(matches!(
        run("pack", person("bob")).await,
        Err(RunStageError::Refused {
            refused: Refused::NotAllowed { .. },
            ..
        })
    ));
    run("pack", person("ann")).await.unwrap();
    // GoCD: nor does anybody else cancel it.
    let cancel = |by: Actor| {
        let app = scene.app().clone();
        async move { cancel_stage(&app, "web", 1, "pack", 1, &by).await }
    };
    assert!(matches!(
        cancel(person("bob")).await,
        Err(CancelError::Refused {
            refused: Refused::NotAllowed { .. },
            ..
        })
    ));
    scene.work(&agent, &[Failed]).await;
    // It has ended, so there is nothing that nobody else may do.
    assert!(!cancel(person("bob")).await.unwrap());
    let refused = rerun_jobs(
        scene.app(),
        "web",
        1,
        "pack",
        1,
        &Rerun::Failed,
        &person("bob"),
    )
    .await;
    assert!(matches!(
        refused,
        Err(RerunError::Refused {
            refused: Refused::NotAllowed { .. },
            ..
        })
    ));
    run("pack", with("carl", "admin:apps")).await.unwrap();
    assert!(
        cancel_stage(scene.app(), "web", 1, "pack", 2, &person("ann"))
            .await
            .unwrap()
    );
    run("pack", with("carl", "admin:apps")).await.unwrap();
    scene.work(&agent, &[Passed]).await;
    assert!(run("ship", with("dora", "view:apps")).await.is_err());
    run("ship", with("emil", "operate:apps")).await.unwrap();
}

#[tokio::test]
async fn a_first_stage_that_names_people_is_triggered_by_them_alone() {
    let yaml = YAML.replace(
        "      - build:\n",
        "      - build:\n          approval: { type: manual, users: [ann] }\n",
    );
    let scene = Scene::with(&yaml).await;
    let options = Options::by(&person("bob"));
    assert!(matches!(
        trigger(scene.app(), "web", &options).await,
        Err(TriggerError::Refused {
            refused: Refused::NotAllowed { .. },
            ..
        })
    ));
    let options = Options::by(&person("ann"));
    trigger(scene.app(), "web", &options).await.unwrap();
}

#[tokio::test]
async fn a_comment_is_kept_with_a_run() {
    let (scene, _) = plain("").await;
    scene.trigger().await;
    comment(scene.app(), "WEB", 1, "rc1").await.unwrap();
    assert_eq!(scene.view(1).await.run.comment.as_deref(), Some("rc1"));
    comment(scene.app(), "web", 1, "").await.unwrap();
    assert_eq!(scene.view(1).await.run.comment, None);
    let unknown = comment(scene.app(), "web", 2, "x").await;
    assert!(matches!(unknown, Err(CommentError::UnknownRun { .. })));
}
