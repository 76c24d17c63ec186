//! Runs that changes start.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use journeyman_protocol::job::JobResult;
use pretty_assertions::assert_eq;
use tempfile::TempDir;

use super::{Scene, commit, git, person, serve_with};
use crate::agents::Agent;
use crate::clock::SystemClock;
use crate::configuration::Configuration;
use crate::health;
use crate::materials::{self, PollError};
use crate::pipelines::definition::{GitMaterial, Variable};
use crate::pipelines::{repositories, store};
use crate::scheduling::production::consider;
use crate::scheduling::trigger::{Cause, Options, TriggerError, options_of, trigger};
use crate::scheduling::{cancel_stage, run, state};
use crate::users::Login;

/// A repository with one commit.
pub(super) fn repository() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    git(folder.path(), &["init", "-qb", "main"]);
    commit(folder.path(), "first", "1");
    folder
}

pub(super) fn revision(folder: &Path) -> String {
    let head = std::fs::read_to_string(folder.join(".git/refs/heads/main")).unwrap();
    head.trim().to_owned()
}

impl Scene {
    /// Looks at all git materials of a pipeline, as polling does.
    pub(super) async fn poll(&self, pipeline: &str) -> Result<bool, PollError> {
        let mut news = false;
        for git in self.git_materials(pipeline).await {
            news |= materials::poll(self.app(), &git).await?;
        }
        Ok(news)
    }

    async fn git_materials(&self, pipeline: &str) -> Vec<GitMaterial> {
        let mut connection = self.app().database.readers().acquire().await.unwrap();
        let pipeline = store::pipeline(&mut connection, pipeline).await.unwrap();
        pipeline.unwrap().git_materials().cloned().collect()
    }

    /// What changes start of a pipeline now.
    pub(super) async fn consider(&self, pipeline: &str) -> Option<i64> {
        consider(self.app(), pipeline).await.unwrap()
    }

    pub(super) async fn run(&self, pipeline: &str, counter: i64) -> run::Run {
        let mut connection = self.app().database.readers().acquire().await.unwrap();
        let run = run::find_run(&mut connection, pipeline, counter).await;
        run.unwrap().unwrap()
    }

    /// The revisions of a run, newest last, with `*` at those that are new.
    pub(super) async fn built(&self, pipeline: &str, counter: i64) -> Vec<String> {
        let run = self.run(pipeline, counter).await;
        let revisions = run.revisions.revisions.iter();
        revisions
            .map(|one| {
                let mark = if one.changed { "*" } else { "" };
                let newest = &one.newest().unwrap().revision;
                format!("{newest}{mark}")
            })
            .collect()
    }

    async fn comments(&self, pipeline: &str, counter: i64) -> Vec<String> {
        let run = self.run(pipeline, counter).await;
        let first = run.revisions.revisions[0].modifications.iter();
        first.map(|one| one.comment.clone().unwrap()).collect()
    }

    async fn stop(&self, pipeline: &str, counter: i64) {
        cancel_stage(self.app(), pipeline, counter, "build", 1, &person("x"))
            .await
            .unwrap();
    }

    /// Runs the waiting job of a pipeline to its end.
    pub(super) async fn finish(&self, agent: &Agent, pipeline: &str, counter: i64) {
        let job = self.take(agent).await;
        assert_eq!(
            (job.pipeline_name.as_str(), i64::from(job.pipeline_counter)),
            (pipeline, counter)
        );
        self.complete(agent, &job, JobResult::Passed).await;
    }
}

fn yaml(source: &Path, settings: &str) -> String {
    format!(
        "format_version: 11
pipelines:
  app:
    group: g
    environment_variables: {{ TIER: one }}
    secure_variables: {{ TOKEN: plain }}
    materials:
      src: {{ git: {source}, branch: main{settings} }}
    stages:
      - build: {{ tasks: [ {{ script: make }} ] }}
",
        source = source.display()
    )
}

#[tokio::test]
async fn changes_start_runs_and_several_are_one() {
    let source = repository();
    let scene = Scene::with(&yaml(source.path(), "")).await;
    // Nobody has looked at the repository yet.
    assert_eq!(scene.consider("app").await, None);
    assert!(scene.poll("app").await.unwrap());
    assert_eq!(scene.consider("APP").await, Some(1));
    let run = scene.run("app", 1).await;
    assert_eq!(
        (
            run.approver.as_str(),
            run.forced,
            run.trigger_message.as_str()
        ),
        ("", false, "modified by Dev One <dev@example.com>")
    );
    let mut connection = scene.app().database.readers().acquire().await.unwrap();
    let stages = run::stages_of(&mut connection, run.id).await.unwrap();
    assert_eq!(stages[0].approved_by, "changes");
    drop(connection);

    // The change is kept while the first stage is active, and what comes then is added to it.
    commit(source.path(), "a", "1");
    assert!(scene.poll("app").await.unwrap());
    assert_eq!(scene.consider("app").await, None);
    commit(source.path(), "b", "1");
    assert!(scene.poll("app").await.unwrap());
    assert!(!scene.poll("app").await.unwrap());
    scene.stop("app", 1).await;
    assert_eq!(scene.consider("app").await, Some(2));
    assert_eq!(scene.comments("app", 2).await, ["Change b", "Change a"]);
    scene.stop("app", 2).await;
    assert_eq!(scene.consider("app").await, None);
}

#[tokio::test]
async fn what_was_built_is_not_built_again_by_itself() {
    let source = repository();
    let scene = Scene::with(&yaml(source.path(), "")).await;
    let first = revision(source.path());
    scene.poll("app").await.unwrap();
    scene.consider("app").await.unwrap();
    scene.stop("app", 1).await;
    std::fs::write(source.path().join("a"), "1").unwrap();
    git(source.path(), &["add", "."]);
    let later = jiff::Timestamp::now() + Duration::from_secs(60);
    let made = std::process::Command::new("git")
        .args([
            "-c",
            "user.name=Dev Two",
            "-c",
            "user.email=two@example.com",
        ])
        .args(["commit", "-qm", "Change a"])
        .env("GIT_COMMITTER_DATE", later.to_string())
        .current_dir(source.path())
        .status();
    assert!(made.unwrap().success());
    scene.poll("app").await.unwrap();
    scene.consider("app").await.unwrap();
    scene.stop("app", 2).await;

    // A person may build an older one.
    let fingerprint = options_of(scene.app(), "app").await.unwrap().materials[0]
        .fingerprint
        .clone();
    let mut options = Options::by(&person("ann"));
    options.materials = vec![(fingerprint.clone(), first[..7].to_owned())];
    assert_eq!(trigger(scene.app(), "app", &options).await.unwrap(), 3);
    assert_eq!(scene.built("app", 3).await, [format!("{first}*")]);
    // GoCD: its place is between the others, after the one that was made from the same.
    let mut orders = Vec::new();
    for counter in 1..=3 {
        orders.push(scene.run("app", counter).await.natural_order);
    }
    assert_eq!(orders, [1.0, 2.0, 1.5]);
    scene.stop("app", 3).await;
    assert_eq!(scene.consider("app").await, None);

    // The branch goes back to it.
    git(source.path(), &["reset", "-q", "--hard", "HEAD~1"]);
    assert!(scene.poll("app").await.unwrap());
    assert!(!scene.poll("app").await.unwrap());
    assert_eq!(scene.consider("app").await, None);
    let choices = options_of(scene.app(), "app").await.unwrap();
    assert_eq!(
        choices.materials[0].newest.as_ref().unwrap().revision,
        first
    );

    for (fingerprint, revision, unknown) in [
        (&fingerprint, "0123456", "no revision"),
        (&fingerprint, &first[..3], "no revision"),
        (&fingerprint, "%", "no revision"),
        (&"00".to_owned(), &first[..], "no material"),
    ] {
        options.materials = vec![(fingerprint.clone(), revision.to_owned())];
        let error = trigger(scene.app(), "app", &options).await.unwrap_err();
        assert!(error.to_string().contains(unknown), "{error}");
    }
}

#[tokio::test]
async fn history_that_is_rewritten_is_a_change() {
    let source = repository();
    let scene = Scene::with(&yaml(source.path(), "")).await;
    commit(source.path(), "a", "1");
    scene.poll("app").await.unwrap();
    scene.consider("app").await.unwrap();
    scene.stop("app", 1).await;
    git(source.path(), &["reset", "-q", "--hard", "HEAD~1"]);
    commit(source.path(), "b", "1");
    git(
        source.path(),
        &["reflog", "expire", "--expire=now", "--all"],
    );
    git(source.path(), &["gc", "-q", "--prune=now"]);
    assert!(scene.poll("app").await.unwrap());
    assert_eq!(scene.consider("app").await, Some(2));
    assert_eq!(scene.comments("app", 2).await, ["Change b"]);
    scene.stop("app", 2).await;
    // An orphan: nothing in common with what was there.
    git(source.path(), &["checkout", "-q", "--orphan", "new"]);
    commit(source.path(), "c", "1");
    git(source.path(), &["branch", "-qM", "new", "main"]);
    assert!(scene.poll("app").await.unwrap());
    assert_eq!(scene.consider("app").await, Some(3));
    assert_eq!(scene.comments("app", 3).await, ["Change c"]);
}

#[tokio::test]
async fn a_filter_looks_at_everything_since_the_last_run() {
    let source = repository();
    let scene = Scene::with(&yaml(source.path(), ", ignore: [\"*.md\"]")).await;
    scene.poll("app").await.unwrap();
    assert_eq!(scene.consider("app").await, Some(1));
    scene.stop("app", 1).await;
    commit(source.path(), "a.md", "1");
    scene.poll("app").await.unwrap();
    assert_eq!(scene.consider("app").await, None);
    git(
        source.path(),
        &["commit", "-q", "--allow-empty", "-m", "Nothing"],
    );
    scene.poll("app").await.unwrap();
    assert_eq!(scene.consider("app").await, None);
    commit(source.path(), "b.rs", "1");
    scene.poll("app").await.unwrap();
    commit(source.path(), "c.md", "1");
    scene.poll("app").await.unwrap();
    assert_eq!(scene.consider("app").await, Some(2));
    assert_eq!(
        scene.comments("app", 2).await,
        ["Change c.md", "Change b.rs", "Nothing", "Change a.md"]
    );
    scene.stop("app", 2).await;
    // A person is not asked for what has changed.
    commit(source.path(), "d.md", "1");
    assert_eq!(
        trigger(scene.app(), "app", &Options::by(&person("ann")))
            .await
            .unwrap(),
        3
    );
}

#[tokio::test]
async fn files_are_told_of_deletions_and_merges() {
    let source = repository();
    let scene = Scene::with(&yaml(source.path(), "")).await;
    scene.poll("app").await.unwrap();
    git(source.path(), &["checkout", "-qb", "side"]);
    commit(source.path(), "side", "1");
    git(source.path(), &["checkout", "-q", "main"]);
    git(source.path(), &["rm", "-q", "first"]);
    commit(source.path(), "main", "1");
    git(
        source.path(),
        &["merge", "-q", "--no-ff", "-m", "Merge", "side"],
    );
    assert!(scene.poll("app").await.unwrap());
    let fingerprint = options_of(scene.app(), "app").await.unwrap().materials[0]
        .fingerprint
        .clone();
    let mut connection = scene.app().database.readers().acquire().await.unwrap();
    let page = materials::modifications(&mut connection, &fingerprint, materials::Cursor::Start, 2)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(page.items[0].comment, "Merge");
    assert!(page.older && !page.newer && page.items.len() == 2);
    let last = page.items[1].position;
    let next = materials::Cursor::After(last);
    let older = materials::modifications(&mut connection, &fingerprint, next, 9)
        .await
        .unwrap()
        .unwrap();
    assert!(older.newer && !older.older && older.items.len() == 2);
    let before = materials::Cursor::Before(older.items[0].position);
    let newer = materials::modifications(&mut connection, &fingerprint, before, 1)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(newer.items, page.items[1..]);
    let files = materials::files_between(&mut connection, &fingerprint, Some(1), 9)
        .await
        .unwrap();
    let mut shown: Vec<String> = files
        .known
        .iter()
        .map(|file| format!("{} {}", file.action, file.path))
        .collect();
    shown.sort();
    assert_eq!(shown, ["added main", "added side", "deleted first"]);
}

#[tokio::test]
async fn only_a_person_starts_what_begins_by_hand() {
    let source = repository();
    let yaml = yaml(source.path(), "").replace("{ tasks:", "{ approval: manual, tasks:");
    let scene = Scene::with(&yaml).await;
    scene.poll("app").await.unwrap();
    assert_eq!(scene.consider("app").await, None);
    assert_eq!(
        trigger(scene.app(), "app", &Options::by(&person("ann")))
            .await
            .unwrap(),
        1
    );
    let run = scene.run("app", 1).await;
    assert!(run.forced && run.trigger_message == "Forced by ann");
}

#[tokio::test]
async fn another_material_is_a_change() {
    let (source, other) = (repository(), repository());
    let scene = Scene::with(&yaml(source.path(), "")).await;
    scene.poll("app").await.unwrap();
    scene.consider("app").await.unwrap();
    scene.stop("app", 1).await;
    let more = format!(
        ", destination: a }}\n      more: {{ git: {}, branch: main, destination: b",
        other.path().display()
    );
    commit(
        scene.repo.path(),
        "ci.gocd.yaml",
        &yaml(source.path(), &more),
    );
    assert_eq!(scene.look().await.error, None);
    assert_eq!(scene.consider("app").await, None);
    scene.poll("app").await.unwrap();
    assert_eq!(scene.consider("app").await, Some(2));
    let (first, second) = (revision(source.path()), revision(other.path()));
    assert_eq!(scene.built("app", 2).await, [first, format!("{second}*")]);
    scene.stop("app", 2).await;
    // Back to what was built before.
    commit(scene.repo.path(), "ci.gocd.yaml", &yaml(source.path(), ""));
    scene.look().await;
    assert_eq!(scene.consider("app").await, None);
}

#[tokio::test]
async fn a_repository_that_is_lost_is_told_until_it_is_back() {
    let source = repository();
    let scene = Scene::with(&yaml(source.path(), "")).await;
    scene.poll("app").await.unwrap();
    let hidden = source.path().join("hidden");
    std::fs::rename(source.path().join(".git"), &hidden).unwrap();
    assert!(matches!(scene.poll("app").await, Err(PollError::Git(_))));
    let told = health::list(scene.app());
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0]
            .message
            .starts_with("Modification check failed for material: URL: ")
    );
    assert!(
        told[0].detail.contains("cannot fetch branch main"),
        "{told:?}"
    );
    // What is known can be built all the same.
    assert_eq!(scene.consider("app").await, Some(1));
    scene.stop("app", 1).await;
    let failed = trigger(scene.app(), "app", &Options::by(&person("ann"))).await;
    assert!(matches!(failed, Err(TriggerError::Material { .. })));
    let mut options = Options::by(&person("ann"));
    options.update_materials = false;
    assert_eq!(trigger(scene.app(), "app", &options).await.unwrap(), 2);
    std::fs::rename(&hidden, source.path().join(".git")).unwrap();
    assert!(!scene.poll("app").await.unwrap());
    assert!(health::list(scene.app()).is_empty());
}

#[tokio::test]
async fn secrets_of_materials_and_triggers_are_stored_encrypted() {
    let source = repository();
    let scene = Scene::with(&yaml(source.path(), ", username: u, password: hunter22")).await;
    let mut options = Options::by(&person("ann"));
    options.overrides = vec![
        Variable {
            name: "TOKEN".to_owned(),
            value: "given-one".to_owned(),
            secure: false,
        },
        Variable {
            name: "TIER".to_owned(),
            value: scene.app().cipher.encrypt("given-two").unwrap(),
            secure: true,
        },
    ];
    trigger(scene.app(), "app", &options).await.unwrap();
    let agent = scene.agent("a", &[], &[]).await;
    let work = crate::scheduling::assign(scene.app(), &agent)
        .await
        .unwrap()
        .unwrap();
    let text = serde_json::to_string(&work.assignment).unwrap();
    for secret in ["hunter22", "given-one", "given-two"] {
        assert!(text.contains(secret), "{secret}");
    }
    let mut write = scene.app().database.write().await.unwrap();
    // What was written stands in the file itself after this.
    sqlx::query("SELECT 1").execute(&mut *write).await.unwrap();
    drop(write);
    for file in ["journeyman.db", "journeyman.db-wal"] {
        let bytes = std::fs::read(scene.data.path().join(file)).unwrap_or_default();
        for secret in ["hunter22", "given-one", "given-two", "plain"] {
            let found = bytes
                .windows(secret.len())
                .any(|part| part == secret.as_bytes());
            assert!(!found, "{secret} in {file}");
        }
    }
    let wrong = "AES:AAAAAAAAAAAAAAAAAAAAAA==:AAAAAAAAAAAAAAAAAAAAAA==";
    options.overrides = vec![Variable {
        name: "TOKEN".to_owned(),
        value: wrong.to_owned(),
        secure: true,
    }];
    let refused = trigger(scene.app(), "app", &options).await;
    assert!(
        matches!(refused, Err(TriggerError::Value { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_timer_may_wait_for_changes() {
    let source = repository();
    let timer = "environment_variables: { TIER: one }\n    timer: { spec: \"0 0 3 * * ?\", only_on_changes: yes }";
    let yaml = yaml(source.path(), "").replace("environment_variables: { TIER: one }", timer);
    let scene = Scene::with(&yaml).await;
    let options = Options {
        cause: Cause::Timer,
        ..Options::by(&person(""))
    };
    assert_eq!(trigger(scene.app(), "app", &options).await.unwrap(), 1);
    let run = scene.run("app", 1).await;
    assert_eq!(
        (run.approver.as_str(), run.trigger_message.as_str()),
        ("timer", "Forced by timer")
    );
    scene.stop("app", 1).await;
    let nothing = trigger(scene.app(), "app", &options).await;
    assert!(matches!(nothing, Err(TriggerError::NothingNew(_))));
    commit(source.path(), "a", "1");
    assert_eq!(trigger(scene.app(), "app", &options).await.unwrap(), 2);
}

/// A server that starts runs by itself, and a repository of pipelines for it.
async fn automatic(yaml: &str) -> Scene {
    let repo = tempfile::tempdir().unwrap();
    git(repo.path(), &["init", "-qb", "main"]);
    commit(repo.path(), "ci.gocd.yaml", yaml);
    let data = tempfile::tempdir().unwrap();
    let clock = Arc::new(SystemClock);
    let configuration = Configuration {
        fetch_limit: Duration::from_secs(1),
        ..Configuration::default()
    };
    let running = serve_with(data.path(), Login::Off, clock, configuration).await;
    let scene = Scene {
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

/// Looks again and again until there is a run with this counter.
async fn until_run(scene: &Scene, pipeline: &str, counter: i64) {
    let mut told = scene.app().state_changed.subscribe();
    loop {
        let mut connection = scene.app().database.readers().acquire().await.unwrap();
        let found = run::find_run(&mut connection, pipeline, counter)
            .await
            .unwrap();
        drop(connection);
        if found.is_some() {
            return;
        }
        told.raised().await;
    }
}

#[tokio::test]
async fn a_repository_that_hangs_is_in_nobodys_way() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let source = repository();
    let hanging = format!(
        "  stuck:
    group: g
    materials:
      src: {{ git: \"git://{}/x\", branch: main }}
    stages:
      - build: {{ tasks: [ {{ script: make }} ] }}
",
        silent.local_addr().unwrap()
    );
    let scene = automatic(&(yaml(source.path(), "") + &hanging)).await;
    let mut told = scene.app().state_changed.subscribe();
    until_run(&scene, "app", 1).await;
    let message = loop {
        if let Some(message) = health::list(scene.app()).pop() {
            break message;
        }
        told.raised().await;
    };
    assert!(message.message.contains("git://127.0.0.1"), "{message:?}");
    assert!(
        message.detail.ends_with("did not answer within 1 s"),
        "{message:?}"
    );
    // By hand it is no other.
    let stuck = trigger(scene.app(), "stuck", &Options::by(&person("ann"))).await;
    assert!(matches!(stuck, Err(TriggerError::Material { .. })));
}

#[tokio::test]
async fn a_configuration_repository_that_is_rewritten_vanishes_or_hangs_leaves_what_is_in_force() {
    let source = repository();
    let scene = automatic(&yaml(source.path(), "")).await;
    let group = async || {
        let mut connection = scene.app().database.readers().acquire().await.unwrap();
        let pipeline = crate::pipelines::store::pipeline(&mut connection, "app").await;
        pipeline.unwrap().unwrap().group
    };
    let folder = scene.repo.path();
    let first = revision(folder);
    git(folder, &["checkout", "-q", "--orphan", "other"]);
    let rewritten = yaml(source.path(), "").replace("group: g", "group: h");
    commit(folder, "ci.gocd.yaml", &rewritten);
    git(folder, &["branch", "-qM", "main"]);
    let seen = scene.look().await;
    assert_eq!((seen.error, &*group().await), (None, "h"));
    assert_ne!(seen.good_revision.as_deref(), Some(&*first));

    let away = folder.with_extension("away");
    std::fs::rename(folder, &away).unwrap();
    let gone = scene.look().await;
    assert!(gone.error.is_some_and(|error| !error.is_empty()));
    assert_eq!(gone.good_revision, seen.good_revision);
    assert_eq!(group().await, "h");

    // Servers that accept and say nothing.
    for scheme in ["git", "http"] {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("{scheme}://{}/x", silent.local_addr().unwrap());
        repositories::change(scene.app(), "conf", &url, "main")
            .await
            .unwrap();
        let error = scene.look().await.error.unwrap();
        assert!(error.contains("did not answer within 1 s"), "{error}");
        assert_eq!(group().await, "h");
    }

    std::fs::rename(&away, folder).unwrap();
    let url = folder.to_str().unwrap();
    repositories::change(scene.app(), "conf", url, "main")
        .await
        .unwrap();
    let back = scene.look().await;
    assert_eq!((back.error, &*group().await), (None, "h"));
}

#[tokio::test]
async fn what_was_held_back_is_made_up_for_when_the_pipeline_is_free() {
    let source = repository();
    let yaml =
        yaml(source.path(), "").replace("group: g", "group: g\n    lock_behavior: lockOnFailure");
    // The second stage keeps the lock.
    let scene =
        automatic(&(yaml + "      - ship: { approval: manual, tasks: [ { script: x } ] }\n")).await;
    let app = scene.app();
    until_run(&scene, "app", 1).await;
    state::pause(app, "app", "ann", "freeze").await.unwrap();
    let agent = scene.agent("a", &[], &[]).await;
    scene.finish(&agent, "app", 1).await;
    commit(source.path(), "a", "1");
    scene.poll("app").await.unwrap();
    assert_eq!(scene.consider("app").await, None);
    state::unpause(app, "app").await.unwrap();
    assert_eq!(scene.consider("app").await, None);
    commit(source.path(), "b", "1");
    scene.poll("app").await.unwrap();
    state::unlock(app, "app").await.unwrap();
    until_run(&scene, "app", 2).await;
    assert_eq!(scene.comments("app", 2).await, ["Change b", "Change a"]);
}

#[tokio::test]
async fn a_passed_stage_starts_what_waits_for_it() {
    let source = repository();
    let downstream = "  down:
    group: g
    materials: { up: { pipeline: app, stage: build } }
    stages:
      - build: { tasks: [ { script: make } ] }
";
    let scene = automatic(&(yaml(source.path(), "") + downstream)).await;
    until_run(&scene, "app", 1).await;
    let agent = scene.agent("a", &[], &[]).await;
    scene.finish(&agent, "app", 1).await;
    until_run(&scene, "down", 1).await;
    let run = scene.run("down", 1).await;
    assert_eq!(run.trigger_message, "triggered by app/1/build/1");
}
