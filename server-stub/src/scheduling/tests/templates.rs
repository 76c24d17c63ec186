//! Templates that one repository has and another one uses.

use pretty_assertions::assert_eq;

use super::{Scene, commit, git};
use crate::pipelines::{definition::Action, repositories, store};

const PIPELINE: &str = "format_version: 11
pipelines:
  web:
    group: apps
    parameters: { target: all }
    materials: { src: { type: configrepo } }
    template: standard
";

const TEMPLATES: &str = "format_version: 11
templates:
  standard:
    stages:
      - build:
          secure_variables: { KEY: open-sesame }
          tasks: [ { script: 'make #{target}' } ]
";

async fn script(scene: &Scene) -> String {
    let mut connection = scene.app().database.readers().acquire().await.unwrap();
    let web = store::pipeline(&mut connection, "web").await.unwrap();
    let web = web.expect("the pipeline is there");
    match &web.stages[0].jobs[0].tasks[0].action {
        Action::Script(script) => script.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelines_follow_a_template_of_another_repository() {
    let scene = Scene::with(PIPELINE).await;
    let error = scene.look().await.error.unwrap();
    assert!(error.contains("there is no template `standard`"), "{error}");

    let shared = tempfile::tempdir().unwrap();
    git(shared.path(), &["init", "-qb", "main"]);
    commit(shared.path(), "ci.gocd-templates.yaml", TEMPLATES);
    let url = shared.path().to_str().unwrap();
    repositories::add(scene.app(), "shared", url, "main")
        .await
        .unwrap();
    assert_eq!(scene.look_at("shared").await.error, None);
    assert_eq!(scene.look().await.error, None);
    assert_eq!(script(&scene).await, "make all");

    // The pipeline's own repository has nothing new.
    let second = TEMPLATES.replace("make", "build");
    commit(shared.path(), "ci.gocd-templates.yaml", &second);
    assert_eq!(scene.look_at("shared").await.error, None);
    assert_eq!(scene.look().await.error, None);
    assert_eq!(script(&scene).await, "build all");

    let bad = TEMPLATES.replace("target}", "aim}");
    commit(shared.path(), "ci.gocd-templates.yaml", &bad);
    scene.look_at("shared").await;
    let error = scene.look().await.error.unwrap();
    assert!(
        error.starts_with("repository shared: ci.gocd-templates.yaml:7:"),
        "{error}"
    );
    assert_eq!(
        script(&scene).await,
        "build all",
        "the last good one stays in force"
    );

    let mut connection = scene.app().database.readers().acquire().await.unwrap();
    let stored: Vec<String> = sqlx::query_scalar("SELECT content FROM template_files")
        .fetch_all(&mut *connection)
        .await
        .unwrap();
    assert_eq!(stored.len(), 1);
    assert!(!stored[0].contains("sesame"), "{stored:?}");
    repositories::remove(scene.app(), "shared").await.unwrap();
    let error = scene.look().await.error.unwrap();
    assert!(error.contains("there is no template"), "{error}");
}
