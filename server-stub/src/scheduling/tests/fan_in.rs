//! Runs that passed stages upstream start, and which revisions they are made with.

use std::path::Path;

use pretty_assertions::assert_eq;

use super::automatic::{repository, revision};
use super::{Scene, commit, person};
use crate::agents::Agent;
use crate::health;
use crate::scheduling::trigger::{Options, TriggerError, trigger};

/// Two pipelines in the middle that build one repository, and one that waits for both.
fn diamond(source: &Path, bottom: &str) -> String {
    let source = source.display();
    format!(
        "format_version: 11
common:
  - stages: &stages [ {{ build: {{ tasks: [ {{ script: make }} ] }} }} ]
pipelines:
  left:
    group: g
    materials: {{ src: {{ git: {source}, branch: main }} }}
    stages: *stages
  right:
    group: g
    materials: {{ src: {{ git: {source}, branch: main }} }}
    stages: *stages
  bottom:
    group: g
    materials:
      l: {{ pipeline: left, stage: build }}
      r: {{ pipeline: right, stage: build{bottom} }}
    stages: *stages
"
    )
}

fn with_source(source: &Path) -> String {
    format!(" }}\n      src: {{ git: {}, branch: main", source.display())
}

struct Diamond {
    scene: Scene,
    source: tempfile::TempDir,
    agent: Agent,
}

impl Diamond {
    async fn new(bottom: impl FnOnce(&Path) -> String) -> Self {
        let source = repository();
        let yaml = diamond(source.path(), &bottom(source.path()));
        let scene = Scene::with(&yaml).await;
        let agent = scene.agent("a", &[], &[]).await;
        let diamond = Self {
            scene,
            source,
            agent,
        };
        diamond.scene.poll("left").await.unwrap();
        diamond
    }

    async fn starts(&self, pipeline: &str, counter: i64) {
        assert_eq!(
            self.scene.consider(pipeline).await,
            Some(counter),
            "{pipeline}"
        );
    }

    async fn rests(&self, pipeline: &str) {
        assert_eq!(self.scene.consider(pipeline).await, None, "{pipeline}");
    }

    async fn goes_through(&self, pipeline: &str, counter: i64) {
        self.starts(pipeline, counter).await;
        self.scene.finish(&self.agent, pipeline, counter).await;
    }
}

#[tokio::test]
async fn one_commit_runs_the_bottom_once() {
    for with in [false, true] {
        let bottom = |source: &Path| {
            if with {
                with_source(source)
            } else {
                String::new()
            }
        };
        let diamond = Diamond::new(bottom).await;
        let mut expected = vec!["left/1/build/1*".to_owned(), "right/1/build/1*".to_owned()];
        if with {
            expected.push(format!("{}*", revision(diamond.source.path())));
        }
        diamond.rests("bottom").await;
        diamond.goes_through("left", 1).await;
        diamond.rests("bottom").await;
        diamond.goes_through("right", 1).await;
        diamond.goes_through("bottom", 1).await;
        assert_eq!(diamond.scene.built("bottom", 1).await, expected);
        diamond.rests("bottom").await;

        commit(diamond.source.path(), "a", "1");
        diamond.scene.poll("left").await.unwrap();
        // A commit that the middle has not built yet, and later half of it.
        diamond.rests("bottom").await;
        diamond.goes_through("right", 2).await;
        diamond.rests("bottom").await;
        // By hand, what fits is built: the older run on the right.
        let again = trigger(diamond.scene.app(), "bottom", &Options::by(&person("ann"))).await;
        assert_eq!(again.unwrap(), 2);
        let unchanged: Vec<_> = expected.iter().map(|one| one.replace('*', "")).collect();
        assert_eq!(diamond.scene.built("bottom", 2).await, unchanged);
        diamond.scene.finish(&diamond.agent, "bottom", 2).await;
        diamond.goes_through("left", 2).await;
        diamond.starts("bottom", 3).await;
        let mut expected = vec!["left/2/build/1*".to_owned(), "right/2/build/1*".to_owned()];
        if with {
            expected.push(format!("{}*", revision(diamond.source.path())));
        }
        assert_eq!(diamond.scene.built("bottom", 3).await, expected);
        let run = diamond.scene.run("bottom", 3).await;
        assert_eq!(run.trigger_message, "triggered by left/2/build/1");
        assert!(health::list(diamond.scene.app()).is_empty());
    }
}

#[tokio::test]
async fn a_faster_side_waits_for_the_slower() {
    let diamond = Diamond::new(|_| String::new()).await;
    diamond.goes_through("left", 1).await;
    diamond.goes_through("right", 1).await;
    diamond.goes_through("bottom", 1).await;
    for (name, counter) in [("a", 2), ("b", 3), ("c", 4)] {
        commit(diamond.source.path(), name, "1");
        diamond.scene.poll("left").await.unwrap();
        diamond.goes_through("left", counter).await;
        if counter == 3 {
            // The right builds only the second of the three.
            diamond.goes_through("right", 2).await;
        }
    }
    diamond.starts("bottom", 2).await;
    assert_eq!(
        diamond.scene.built("bottom", 2).await,
        ["left/3/build/1*", "right/2/build/1*"]
    );
    // All that was passed by is told.
    let run = diamond.scene.run("bottom", 2).await;
    let left: Vec<_> = run.revisions.revisions[0].modifications.iter().collect();
    assert_eq!(left[1].revision, "left/2/build/1");
    assert_eq!(left.len(), 2);
}

#[tokio::test]
async fn what_never_fits_is_told() {
    let diamond = Diamond::new(|_| String::new()).await;
    diamond.goes_through("left", 1).await;
    commit(diamond.source.path(), "a", "1");
    diamond.scene.poll("left").await.unwrap();
    diamond.goes_through("right", 1).await;
    diamond.rests("bottom").await;
    let told = health::list(diamond.scene.app());
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].message.contains("bottom is not run"), "{told:?}");
    let by_hand = trigger(diamond.scene.app(), "bottom", &Options::by(&person("ann"))).await;
    assert!(matches!(by_hand, Err(TriggerError::NoAgreement { .. })));
    diamond.goes_through("left", 2).await;
    diamond.starts("bottom", 1).await;
    assert!(health::list(diamond.scene.app()).is_empty());
}

#[tokio::test]
async fn an_ignored_dependency_joins_and_starts_nothing() {
    let ignored = ", ignore_for_scheduling: yes";
    let diamond = Diamond::new(|_| ignored.to_owned()).await;
    diamond.goes_through("left", 1).await;
    diamond.goes_through("right", 1).await;
    diamond.goes_through("bottom", 1).await;
    let app = diamond.scene.app();
    trigger(app, "right", &Options::by(&person("ann")))
        .await
        .unwrap();
    diamond.scene.finish(&diamond.agent, "right", 2).await;
    diamond.rests("bottom").await;
    trigger(app, "left", &Options::by(&person("ann")))
        .await
        .unwrap();
    diamond.scene.finish(&diamond.agent, "left", 2).await;
    diamond.starts("bottom", 2).await;
    assert_eq!(
        diamond.scene.built("bottom", 2).await,
        ["left/2/build/1*", "right/2/build/1*"]
    );
}
