//! What the whole of the configuration's format comes to at an agent.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::*;

const CHAIN: &str = "format_version: 10
pipelines:
  lib:
    group: apps
    label_template: lib-${COUNT}
    materials: { src: { type: configrepo, ignore: ['docs/**/*'] } }
    stages:
      - prepare: { tasks: [ { script: ./prepare } ] }
      - publish: { jobs: { pack: { tasks: [ { script: make } ] } } }
  mid:
    group: apps
    materials: { up: { pipeline: LIB, stage: publish } }
    stages: [ { build: { tasks: [ { script: make } ] } } ]
  web:
    group: apps
    label_template: '${mid}.${COUNT}'
    materials: { mid: { pipeline: mid, stage: build } }
    stages:
      - pull:
          tasks:
            - fetch: { pipeline: lib/mid, stage: publish, job: pack, source: pkg, destination: deps }
            - fetch: { pipeline: lib/mid, stage: prepare, job: prepare, source: a/b.txt, is_file: yes }
            - fetch: { pipeline: mid, stage: build, job: build, source: x }
";

impl Scene {
    async fn start(&self, name: &str) -> Result<i64, TriggerError> {
        trigger(self.app(), name, &Options::by(&person("alice"))).await
    }

    /// Starts a run and lets all of it pass.
    async fn pass(&self, name: &str, agent: &Agent, jobs: usize) -> i64 {
        let counter = self.start(name).await.unwrap();
        for _ in 0..jobs {
            let job = self.take(agent).await;
            self.complete(agent, &job, JobResult::Passed).await;
        }
        counter
    }

    async fn document(&self, agent: &Agent) -> Value {
        let work = assign(self.app(), agent).await.unwrap().unwrap();
        serde_json::to_value(work).unwrap()
    }
}

#[tokio::test]
async fn artifacts_are_fetched_from_the_runs_that_were_waited_for() {
    let scene = Scene::with(CHAIN).await;
    let agent = scene.agent("a", &[], &[]).await;
    let early = scene.start("web").await.unwrap_err();
    assert!(
        early.to_string().contains("mid/build has not passed yet"),
        "{early}"
    );
    scene.pass("lib", &agent, 2).await;
    scene.pass("mid", &agent, 1).await;
    // A newer run of it is not the one that `mid` was made with.
    scene.pass("lib", &agent, 2).await;
    scene.start("web").await.unwrap();
    let document = scene.document(&agent).await;
    let builders = &document["assignment"]["builders"];
    let from = |index: usize| {
        let job = &builders[index]["jobIdentifier"];
        json!([
            job["pipelineName"],
            job["pipelineCounter"],
            job["pipelineLabel"],
            job["stageName"],
            job["stageCounter"],
            job["buildName"]
        ])
    };
    assert_eq!(from(0), json!(["lib", 1, "lib-1", "publish", "1", "pack"]));
    assert_eq!(
        from(1),
        json!(["lib", 1, "lib-1", "prepare", "latest", "prepare"])
    );
    assert_eq!(from(2), json!(["mid", 1, "1", "build", "1", "build"]));
    assert_eq!(
        builders[0]["checksumFileHandler"]["checksumFile"]["path"],
        "pipelines/web/deps/lib_publish_pack_md5.checksum"
    );
    assert_eq!(
        builders[0]["description"],
        "fetch artifact [pkg] => [deps] from [lib/mid/publish/pack]"
    );
    let revision = &document["assignment"]["materialRevisions"]["revisions"][0];
    assert_eq!(revision["material"]["type"], "DependencyMaterial");
    assert_eq!(revision["modifications"][0]["revision"], "mid/1/build/1");
    let variables = document["assignment"]["initialContext"]["properties"].as_array();
    for (name, value) in [
        ("GO_DEPENDENCY_LABEL_MID", "1"),
        ("GO_DEPENDENCY_LOCATOR_MID", "mid/1/build/1"),
        ("GO_MATERIAL_MID_HAS_CHANGED", "true"),
    ] {
        let mut all = variables.unwrap().iter();
        let found = all.find(|one| one["name"] == name).unwrap();
        assert_eq!(found["value"], value);
    }
    assert_eq!(
        document["assignment"]["jobIdentifier"]["pipelineLabel"],
        "1.1"
    );
}

#[tokio::test]
async fn build_tools_are_sent_as_gocd_does() {
    let scene = Scene::with(
        "pipelines:
  web:
    group: apps
    materials: { src: { type: configrepo, includes: [src/**/*] } }
    stages:
      - build:
          tasks:
            - ant: { build_file: b.xml, target: clean all, working_directory: sub, run_if: any }
            - nant: { nant_path: /opt/nant/, build_file: b.build }
            - nant: { target: t }
            - rake:
            - rake: { build_file: R, on_cancel: { rake: { target: stop } } }
",
    )
    .await;
    scene.trigger().await;
    let agent = scene.agent("a", &[], &[]).await;
    let document = scene.document(&agent).await;
    let builders = document["assignment"]["builders"].as_array().unwrap();
    let shown: Vec<Value> = builders
        .iter()
        .map(|one| {
            assert_eq!(one["type"], "CommandBuilder");
            json!([
                one["command"],
                one["args"],
                one["errorString"],
                one["workingDir"]["path"],
                one["description"]
            ])
        })
        .collect();
    let here = "pipelines/web";
    let expected = [
        json!([
            "ant",
            "-f \"b.xml\" clean all",
            "BUILD FAILED",
            "pipelines/web/sub",
            "ant -f \"b.xml\" clean all (workingDirectory: sub)"
        ]),
        json!([
            "/opt/nant/nant",
            "-buildfile:\"b.build\"",
            "BUILD FAILED",
            here,
            "/opt/nant/nant -buildfile:\"b.build\""
        ]),
        json!(["nant", "t", "BUILD FAILED", here, "nant t"]),
        json!(["rake", "", "", here, "rake"]),
        json!(["rake", "-f \"R\"", "", here, "rake -f \"R\""]),
    ];
    assert_eq!(shown, expected);
    assert_eq!(builders[0]["conditions"][0]["status"], "any");
    assert_eq!(builders[4]["cancelBuilder"]["args"], "stop");
    let material = &document["assignment"]["materialRevisions"]["revisions"][0]["material"];
    assert_eq!(material["filter"][0]["pattern"], "src/**/*");
    assert_eq!(material["invertFilter"], true);
}

#[tokio::test]
async fn encrypted_values_are_plain_for_the_agent_only() {
    let scene = Scene::new().await;
    let text = scene.app().cipher.encrypt("open sesame").unwrap();
    let yaml = YAML.replace("SECRET: sesame", &format!("SECRET: '{text}'"));
    commit(scene.repo.path(), "ci.gocd.yaml", &yaml);
    assert_eq!(scene.look().await.error, None);
    scene.trigger().await;
    let agent = scene.agent("a", &["linux", "jdk"], &[]).await;
    let work = assign(scene.app(), &agent).await.unwrap().unwrap();
    let variable = work.assignment.initial_context.get("SECRET").unwrap();
    assert_eq!(variable.value.as_deref(), Some("open sesame"));
    assert!(variable.secure);
    let stored = scene.view(1).await.run.definition;
    let kept = stored.pipeline.variables.iter().find(|one| one.secure);
    assert_eq!(kept.unwrap().value, text);

    let foreign = "AES:AAAAAAAAAAAAAAAAAAAAAA==:AAAA";
    let yaml = YAML.replace("SECRET: sesame", &format!("SECRET: '{foreign}'"));
    commit(scene.repo.path(), "ci.gocd.yaml", &yaml);
    let error = scene.look().await.error.unwrap();
    assert!(
        error.starts_with("ci.gocd.yaml:7:33: pipelines.web.secure_variables.SECRET: "),
        "{error}"
    );
    assert!(!error.contains("AAAA"), "{error}");
}

#[tokio::test]
async fn every_error_of_a_commit_is_told_and_none_of_it_is_taken_over() {
    let scene = Scene::new().await;
    let good = scene.look().await.good_revision;
    std::fs::write(scene.repo.path().join("b.gocd.yaml"), b"pipelines: \xff").unwrap();
    std::fs::write(scene.repo.path().join("c.gocd.yml"), vec![b'#'; 1 << 21]).unwrap();
    commit(
        scene.repo.path(),
        "a.gocd.yaml",
        "format_version: 11\npipelines:\n  x: { group: a b, materials: { m: { hg: x } }, stages: [] }\n",
    );
    let seen = scene.look().await;
    let error = seen.error.unwrap();
    let lines: Vec<&str> = error.lines().collect();
    let expected = [
        "b.gocd.yaml:1:12: this is no UTF-8 text",
        "c.gocd.yml:1:1: the file has more than 1048576 bytes",
        "a.gocd.yaml:3:15: pipelines.x.group: `a b` is no name",
        "a.gocd.yaml:3:36: pipelines.x.materials.m: materials of type `hg` are not supported",
        "a.gocd.yaml:3:57: pipelines.x.stages: a pipeline needs a list",
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line}");
    }
    assert_eq!(seen.good_revision, good);

    // What only the whole server can tell is told with its place too.
    for name in ["b.gocd.yaml", "c.gocd.yml", "a.gocd.yaml"] {
        std::fs::remove_file(scene.repo.path().join(name)).unwrap();
    }
    let lone = CHAIN.replace("  mid:\n", "  other:\n");
    commit(scene.repo.path(), "ci.gocd.yaml", &lone);
    let error = scene.look().await.error.unwrap();
    assert!(
        error.starts_with(
            "ci.gocd.yaml:17:35: pipelines.web.materials.mid.pipeline: there is no pipeline `mid`"
        ),
        "{error}"
    );
    assert_eq!(scene.start("web").await.unwrap(), 1);
}

#[tokio::test]
async fn a_refspec_brings_what_is_no_branch() {
    let scene = Scene::new().await;
    let repo = scene.repo.path();
    git(repo, &["checkout", "-qb", "side"]);
    commit(repo, "side.txt", "x");
    git(repo, &["update-ref", "refs/pull/7/head", "HEAD"]);
    git(repo, &["checkout", "-q", "main"]);
    git(repo, &["branch", "-qD", "side"]);
    let url = repo.to_str().unwrap();
    let material = format!("{{ git: '{url}', branch: 'refs/pull/7/head:pr7', destination: src }}");
    let yaml = YAML.replace("{ type: configrepo, destination: src }", &material);
    commit(repo, "ci.gocd.yaml", &yaml);
    assert_eq!(scene.look().await.error, None);
    for counter in 1..=2 {
        // The second time the copy has it already.
        assert_eq!(scene.trigger().await, counter);
        cancel_stage(scene.app(), "web", counter, "build", 1, &person("alice"))
            .await
            .unwrap();
    }
    let view = scene.view(2).await;
    let newest = view.run.revisions.revisions[0].newest().unwrap();
    assert_eq!(newest.comment.as_deref(), Some("Change side.txt"));
}
