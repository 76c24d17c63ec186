//! Each row of GoCD's format: what it comes to.

use pretty_assertions::assert_eq;

use super::*;
use crate::pipelines::definition::{
    Approval, Artifact, ArtifactKind, Build, BuildTool, DependencyMaterial, Fetch, Filter,
    GitMaterial, Instances, Job, LockBehavior, Material, Operators, RunIf, Stage, Tab, Task, Timer,
    TrackingTool,
};

/// A good file with one line more in its pipeline, its material, its stage or its job.
fn file(at: &str, line: &str) -> String {
    let mut text = String::from("format_version: 10\npipelines:\n  app:\n");
    let mut add = |place: &str, indent: usize, lines: &str| {
        if at == place {
            text.push_str(&format!("{:indent$}{line}\n", ""));
        }
        text.push_str(lines);
    };
    add("pipeline", 4, "    group: core\n    materials:\n");
    add("materials", 6, "      src:\n        git: /srv/git/app\n");
    add("material", 8, "    stages:\n      - build:\n");
    add("stage", 10, "          jobs:\n            unit:\n");
    add("job", 14, "              tasks:\n");
    add("tasks", 16, "                - exec: { command: make }\n");
    text
}

fn app(at: &str, line: &str) -> Pipeline {
    let text = file(at, line);
    let reading = read_one(&text);
    let problems: Vec<_> = reading.problems.iter().map(ToString::to_string).collect();
    assert!(problems.is_empty(), "{line}: {problems:#?}");
    let mut configuration = reading.configuration.unwrap();
    configuration.pipelines.remove(0)
}

fn stage(line: &str) -> Stage {
    app("stage", line).stages.remove(0)
}

fn job(line: &str) -> Job {
    app("job", line).stages.remove(0).jobs.remove(0)
}

fn task(line: &str) -> Task {
    let mut stage = app("tasks", line).stages.remove(0);
    stage.jobs.remove(0).tasks.remove(0)
}

fn git(line: &str) -> GitMaterial {
    let pipeline = app("material", line);
    pipeline.git_materials().next().unwrap().clone()
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|one| (*one).to_owned()).collect()
}

#[test]
fn defaults_are_gocds() {
    let pipeline = app("", "");
    assert_eq!(pipeline.display_order, -1);
    assert_eq!(pipeline.label_template, "${COUNT}");
    assert_eq!(pipeline.lock_behavior, LockBehavior::None);
    assert_eq!(pipeline.timer, None);
    let material = pipeline.git_materials().next().unwrap();
    assert_eq!(material.branch, "master");
    assert!(material.auto_update && !material.shallow_clone);
    assert_eq!(
        (&material.destination, &material.filter),
        (&None, &Filter::None)
    );
    let stage = &pipeline.stages[0];
    assert_eq!(stage.approval, Approval::Success);
    assert!(stage.fetch_materials && !stage.clean_workspace && !stage.keep_artifacts);
    assert!(stage.operators.is_everybody());
    let job = &stage.jobs[0];
    assert_eq!((job.timeout, job.instances), (None, Instances::One));
    assert_eq!(job.tasks[0].run_if, RunIf::Passed);
}

#[test]
fn locks() {
    let table = [
        ("lock_behavior: none", LockBehavior::None),
        ("lock_behavior: lockOnFailure", LockBehavior::LockOnFailure),
        (
            "lock_behavior: unlockWhenFinished",
            LockBehavior::UnlockWhenFinished,
        ),
        ("locking: on", LockBehavior::LockOnFailure),
        ("locking: off", LockBehavior::None),
    ];
    for (line, expected) in table {
        assert_eq!(app("pipeline", line).lock_behavior, expected, "{line}");
    }
}

#[test]
fn timers_and_tracking_tools() {
    let line = "timer: { spec: '0 15 2 ? * MON-FRI', only_on_changes: yes }";
    let expected = Timer {
        spec: "0 15 2 ? * MON-FRI".to_owned(),
        only_on_changes: true,
    };
    assert_eq!(app("pipeline", line).timer, Some(expected));
    let line = r#"tracking_tool: { link: "https://bugs.example/${ID}", regex: 'BUG-(\d+)' }"#;
    let expected = TrackingTool {
        link: "https://bugs.example/${ID}".to_owned(),
        regex: r"BUG-(\d+)".to_owned(),
    };
    assert_eq!(app("pipeline", line).tracking_tool, Some(expected));
}

#[test]
fn git_materials() {
    let ignore = |list: &[&str]| Filter::Ignore(texts(list));
    let includes = |list: &[&str]| Filter::Includes(texts(list));
    let filters = [
        (
            "ignore: ['docs/**/*', '*.md']",
            ignore(&["docs/**/*", "*.md"]),
        ),
        ("blacklist: [a]", ignore(&["a"])),
        ("includes: [a]", includes(&["a"])),
        ("whitelist: [[a], b]", includes(&["a", "b"])),
        ("ignore: []", Filter::None),
    ];
    for (line, expected) in filters {
        assert_eq!(git(line).filter, expected, "{line}");
    }
    let destinations = [
        ("destination: app", Some("app")),
        ("destination: ./a//b/", Some("a/b")),
        ("destination: .", None),
    ];
    for (line, expected) in destinations {
        assert_eq!(git(line).destination.as_deref(), expected, "{line}");
    }
    assert_eq!(
        git("branch: refs/pull/7/head:pr7").branch,
        "refs/pull/7/head:pr7"
    );
    assert!(!git("auto_update: no").auto_update);
    assert!(git("shallow_clone: yes").shallow_clone);
    assert_eq!(git("username: ci").username.as_deref(), Some("ci"));
    let encrypted = "AES:AAECAwQFBgcICQoLDA0ODw==:zBg4B4yLnIoNqSAo3KZLfg==";
    let password = git(&format!("encrypted_password: '{encrypted}'")).password;
    assert_eq!(password.as_deref(), Some(encrypted));
}

#[test]
fn dependencies() {
    let expected = |ignore_for_scheduling| {
        Material::Dependency(DependencyMaterial {
            name: "up".to_owned(),
            pipeline: "lib".to_owned(),
            stage: "publish".to_owned(),
            ignore_for_scheduling,
        })
    };
    let table = [
        ("up: { pipeline: lib, stage: publish }", false),
        (
            "up: { type: dependency, pipeline: lib, stage: publish, ignore_for_scheduling: true }",
            true,
        ),
    ];
    for (line, ignored) in table {
        assert_eq!(
            app("materials", line).materials[0],
            expected(ignored),
            "{line}"
        );
    }
}

#[test]
fn a_material_in_the_database_keeps_its_kind_without_a_tag() {
    let pipeline = app("materials", "up: { pipeline: lib, stage: publish }");
    let text = serde_json::to_string(&pipeline).unwrap();
    assert_eq!(serde_json::from_str::<Pipeline>(&text).unwrap(), pipeline);
    let old =
        r#"{"name":"src","url":"/x","branch":"main","shallow_clone":true,"auto_update":false}"#;
    let Material::Git(git) = serde_json::from_str(old).unwrap() else {
        panic!("a dependency")
    };
    assert!(git.shallow_clone && !git.auto_update && git.filter.is_none());
}

#[test]
fn stages() {
    let approvals = [
        ("approval: auto", Approval::Success),
        ("approval: success", Approval::Success),
        ("approval: manual", Approval::Manual),
        ("approval: { type: manual }", Approval::Manual),
        (
            "approval: { type: manual, allow_only_on_success: yes }",
            Approval::ManualOnSuccess,
        ),
    ];
    for (line, expected) in approvals {
        assert_eq!(stage(line).approval, expected, "{line}");
    }
    let operators = stage("approval: { type: manual, users: [ann], roles: [ops, qa] }").operators;
    let expected = Operators {
        users: texts(&["ann"]),
        roles: texts(&["ops", "qa"]),
    };
    assert_eq!(operators, expected);
    assert!(stage("keep_artifacts: on").keep_artifacts);
    assert!(stage("clean_workspace: Y").clean_workspace);
    assert!(!stage("fetch_materials: OFF").fetch_materials);
}

#[test]
fn jobs() {
    let instances = [
        ("run_instances: all", Instances::All),
        ("run_instances: 1", Instances::One),
        ("run_instances: 4", Instances::Count(4)),
    ];
    for (line, expected) in instances {
        assert_eq!(job(line).instances, expected, "{line}");
    }
    assert_eq!(job("timeout: 20").timeout, Some(20));
    assert_eq!(job("timeout: 0").timeout, None);
    let tab = Tab {
        name: "coverage".to_owned(),
        path: "cov/index.html".to_owned(),
    };
    assert_eq!(job("tabs: { coverage: cov/index.html }").tabs, [tab]);
    let artifacts = job(
        "artifacts: [ { build: { source: 'out/**' } }, { test: { source: r, destination: d } } ]",
    );
    let artifact = |kind, source: &str, destination: &str| Artifact {
        kind,
        source: source.to_owned(),
        destination: destination.to_owned(),
    };
    let expected = [
        artifact(ArtifactKind::Build, "out/**", ""),
        artifact(ArtifactKind::Test, "r", "d"),
    ];
    assert_eq!(artifacts.artifacts, expected);
}

#[test]
fn tasks() {
    let build = |tool, [file, target, folder]: [Option<&str>; 3]| {
        Action::Build(Build {
            tool,
            build_file: file.map(ToOwned::to_owned),
            target: target.map(ToOwned::to_owned),
            working_directory: folder.map(ToOwned::to_owned),
        })
    };
    let nant = |path: Option<&str>| BuildTool::Nant {
        path: path.map(ToOwned::to_owned),
    };
    let script = || Action::Script("make all".to_owned());
    let table = [
        ("- script: make all", script()),
        (
            "- plugin: { configuration: { id: script-executor, version: 1 }, options: { script: make all } }",
            script(),
        ),
        ("- rake:", build(BuildTool::Rake, [None; 3])),
        (
            "- ant: { build_file: b.xml, target: t u, working_directory: w }",
            build(BuildTool::Ant, [Some("b.xml"), Some("t u"), Some("w")]),
        ),
        (
            "- nant: { nant_path: 'C:\\nant', target: t }",
            build(nant(Some("C:\\nant")), [None, Some("t"), None]),
        ),
        ("- nant:", build(nant(None), [None; 3])),
    ];
    for (line, expected) in table {
        assert_eq!(task(line).action, expected, "{line}");
    }
    let conditions = [
        ("passed", RunIf::Passed),
        ("failed", RunIf::Failed),
        ("any", RunIf::Any),
        ("Any", RunIf::Any),
    ];
    for (condition, expected) in conditions {
        for kind in [
            "exec: { command: m",
            "ant: { target: t",
            "rake: { target: t",
        ] {
            let line = format!("- {kind}, run_if: {condition} }}");
            assert_eq!(task(&line).run_if, expected, "{line}");
        }
    }
    let cancels = [
        ("{ script: make all }", script()),
        ("{ rake: }", build(BuildTool::Rake, [None; 3])),
        (
            "{ ant: { target: t, run_if: any } }",
            build(BuildTool::Ant, [None, Some("t"), None]),
        ),
    ];
    for (on_cancel, expected) in cancels {
        let line = format!("- exec: {{ command: m, on_cancel: {on_cancel} }}");
        assert_eq!(task(&line).on_cancel, Some(expected), "{line}");
    }
}

#[test]
fn artifacts_of_other_pipelines() {
    let line = "- fetch: { pipeline: root/mid, stage: publish, job: pack, source: pkg, destination: deps, is_file: true }";
    let expected = Fetch {
        ancestors: texts(&["root", "mid"]),
        stage: "publish".to_owned(),
        job: "pack".to_owned(),
        source: "pkg".to_owned(),
        is_file: true,
        destination: "deps".to_owned(),
    };
    assert_eq!(task(line).action, Action::Fetch(expected));
}

#[test]
fn environments_are_put_together() {
    let configuration = good(
        "environments:
  staging:
    environment_variables: { ZONE: eu, EMPTY: }
    secure_variables: { KEY: x }
    pipelines: [app, lib]
    agents: [6f1c6a52-7a3b-4f8e-9b6e-3d1a2c4b5e6f]
  Staging: { pipelines: [third] }
",
    );
    let [environment] = &configuration.environments[..] else {
        panic!("{configuration:?}")
    };
    assert_eq!(environment.pipelines, ["app", "lib", "third"]);
    assert_eq!(environment.agents, ["6f1c6a52-7a3b-4f8e-9b6e-3d1a2c4b5e6f"]);
    assert_eq!(environment.variables.len(), 3);
}

#[test]
fn parameters_are_replaced_in_values_only() {
    let text = "pipelines:
  app:
    group: '#{team}'
    parameters: { team: core, dir: 'a b', self: '#{team}', none: }
    environment_variables: { run_if: 'x#{none}y', password: '#{team}', HASH: '##{team} # ##' }
    materials:
      src: { git: '/srv/#{dir}', username: u, password: '#{team}' }
    stages:
      - build:
          approval: { type: manual, users: ['#{team}'] }
          tasks:
            - exec: { command: '#{DIR}', arguments: ['#{dir}/#{team}', '#{self}'] }
";
    let configuration = good(text);
    let app = &configuration.pipelines[0];
    assert_eq!(app.group, "core");
    let values: Vec<_> = app.variables.iter().map(|one| one.value.as_str()).collect();
    assert_eq!(values, ["xy", "core", "#{team} # ##"]);
    let material = app.git_materials().next().unwrap();
    assert_eq!(material.url, "/srv/a b");
    assert_eq!(material.password.as_deref(), Some("#{team}"));
    assert_eq!(app.stages[0].operators.users, ["core"]);
    let expected = Action::Exec {
        command: "a b".to_owned(),
        arguments: texts(&["a b/core", "#{team}"]),
        working_directory: None,
    };
    assert_eq!(app.stages[0].jobs[0].tasks[0].action, expected);

    let table = [
        (
            "environment_variables: { A: '#{nope}' }",
            "the parameter `nope` is not defined",
        ),
        ("environment_variables: { A: '#{open' }", "not closed"),
        ("parameters: { 'a b': x }", "`a b` is no name"),
        ("parameters: { a: [x] }", "text is needed here"),
    ];
    for (line, expected) in table {
        let problems = read_one(&file("pipeline", line)).problems;
        assert!(
            problems
                .iter()
                .any(|one| one.message.contains(expected) && one.at.line == 4),
            "{line}: {problems:?}"
        );
    }
}

#[test]
fn what_is_wrong_is_said_where_it_stands() {
    let table = [
        (
            "pipeline",
            "template: t",
            "`template` and `stages` exclude each other",
        ),
        (
            "pipeline",
            "locking: yes\n    lock_behavior: none",
            "only one of them",
        ),
        ("pipeline", "timer: {}", "`spec` is missing"),
        ("pipeline", "timer: { spec: '0 0 12 * *' }", "has 5 fields"),
        (
            "pipeline",
            "timer: { spec: '0 0 25 * * ?' }",
            "`25` is no hour",
        ),
        (
            "pipeline",
            "tracking_tool: { link: 'x${ID}', regex: x }",
            "an http or https address",
        ),
        (
            "pipeline",
            "tracking_tool: { link: 'http://x' }",
            "`regex` is missing",
        ),
        (
            "pipeline",
            "label_template: '${up[:7]}'",
            "which is no material",
        ),
        ("pipeline", "label_template: '${src[:0]}'", "is no token"),
        (
            "pipeline",
            "label_template: '${env:NOPE}'",
            "no plain variable",
        ),
        (
            "pipeline",
            "secure_variables: { A: 'DES:x' }",
            "encrypted with DES",
        ),
        (
            "pipeline",
            "secure_variables: { A: '{{SECRET:[a][b]}}' }",
            "need a plugin",
        ),
        (
            "pipeline",
            "environment_variables: { A: x }\n    secure_variables: { A: y }",
            "defined twice",
        ),
        (
            "pipeline",
            "environment_variables: { 'A=B': x }",
            "a variable's name",
        ),
        (
            "pipeline",
            "environment_variables: [A]",
            "a map is needed here, not a list",
        ),
        ("materials", "x: { type: git }", "`url` is missing"),
        ("materials", "x: { pipeline: lib }", "`stage` is missing"),
        (
            "materials",
            "x: { pipeline: lib, stage: s }\n      y: { pipeline: LIB, stage: t }",
            "depends on the pipeline",
        ),
        ("materials", "x: { svn: a }", "`svn` are not supported"),
        ("materials", "x: { p4: a }", "`p4` are not supported"),
        ("materials", "x: { tfs: a }", "`tfs` are not supported"),
        ("materials", "x: { scm: a }", "`scm` need a plugin"),
        ("materials", "x: { package: a }", "`package` need a plugin"),
        ("materials", "x: { type: cvs }", "`cvs` is no type"),
        ("materials", "x: { branch: a }", "says what kind it is"),
        (
            "materials",
            "SRC: { pipeline: a, stage: b }",
            "two materials have the name",
        ),
        (
            "materials",
            "x: { git: a, destination: d }",
            "needs a `destination`; `src` has none",
        ),
        ("material", "branch: 'refs/heads/*:x'", "is no refspec"),
        ("material", "branch: 'a:b:c'", "is no refspec"),
        ("material", "branch: -x", "is no name of a branch"),
        ("material", "ignore: a", "a list is needed here"),
        ("material", "auto_update: maybe", "neither true nor false"),
        (
            "material",
            "password: x\n        encrypted_password: y",
            "exclude each other",
        ),
        ("material", "password: '{{SECRET:[a][b]}}'", "need a plugin"),
        ("material", "encrypted_password: x", "no encrypted value"),
        ("stage", "approval: { users: [a] }", "`type` is missing"),
        (
            "stage",
            "approval: [manual]",
            "`success`, `manual` or a map",
        ),
        ("stage", "approval: sometimes", "is none of `success`"),
        ("job", "elastic_profile_id: x", "elastic agents"),
        ("job", "run_instances: -1", "neither a number nor `all`"),
        ("job", "run_instances: 4000000000", "at most 1000"),
        ("job", "timeout: -1", "is no number"),
        ("job", "timeout: +5", "is no number"),
        ("job", "tabs: [a]", "a map is needed here"),
        ("job", "tabs: { sixteen-letters-: x }", "at most 15"),
        ("job", "tabs: { a: ../x }", "leads out"),
        (
            "job",
            "artifacts: { build: { source: a } }",
            "a list is needed here",
        ),
        (
            "job",
            "artifacts: [ { external: { id: a } } ]",
            "`external` need a plugin",
        ),
        (
            "job",
            "artifacts: [ { build: { source: a, destination: ./cruise-output/x } } ]",
            "kept for",
        ),
        (
            "tasks",
            "- plugin: { configuration: { id: curl, version: 1 } }",
            "does not run `curl`",
        ),
        (
            "tasks",
            "- fetch: { artifact_origin: moon, stage: a, job: b, source: c }",
            "neither `gocd` nor",
        ),
        (
            "tasks",
            "- fetch: { pipeline: a, stage: a, job: b }",
            "`source` is missing",
        ),
        (
            "tasks",
            "- exec: { command: m, on_cancel: { fetch: { stage: a } } }",
            "nothing can be fetched on cancel",
        ),
        (
            "tasks",
            "- exec: { command: m, on_cancel: [x] }",
            "a map is needed here",
        ),
        ("tasks", "- exec", "a map is needed here, not text"),
        ("tasks", "- exec: { command: '' }", "the command is blank"),
        ("tasks", "- script: ''", "the script is blank"),
        (
            "tasks",
            "- ant: { build_file: 'a\"b' }",
            "no quotation mark",
        ),
        ("tasks", "- rake: { working_directory: /x }", "is absolute"),
    ];
    for (at, line, expected) in table {
        let text = file(at, line);
        let reading = read_one(&text);
        let first = text
            .lines()
            .position(|one| one.trim() == line.lines().next().unwrap());
        let first = first.unwrap() + 1;
        let found = reading
            .problems
            .iter()
            .find(|one| one.message.contains(expected));
        let Some(found) = found else {
            panic!("{line}: {expected} is not in {:#?}", reading.problems)
        };
        // Some are said of what stands around, or beside it.
        let lines = first.saturating_sub(2)..=first + 2;
        assert!(lines.contains(&found.at.line), "{line}: {found}");
        assert!(reading.configuration.is_none());
    }
}

#[test]
fn what_is_old_is_only_warned_about() {
    let old = file("job", "properties: { x: { source: a, xpath: b } }")
        .replace("version: 10", "version: 6");
    let reading = read_one(&old);
    assert!(reading.problems.is_empty(), "{:?}", reading.problems);
    assert!(reading.warnings[0].message.contains("no longer kept"));
    let plain = read_one(&file("pipeline", "secure_variables: { A: sesame }"));
    assert!(plain.problems.is_empty());
    assert!(
        plain.warnings[0]
            .message
            .contains("readable in the repository")
    );
    assert!(!plain.warnings[0].to_string().contains("sesame"));
}

#[test]
fn values_of_another_key_are_found_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    // A fixed key: one in 256 takes any text for a padded one.
    std::fs::write(folder.path().join("key"), "0".repeat(32)).unwrap();
    let cipher = Cipher::open(&folder.path().join("key")).unwrap();
    let mine = cipher.encrypt("sesame").unwrap();
    let text = file(
        "pipeline",
        &format!(
            "secure_variables: {{ A: '{mine}', B: 'AES:AAAAAAAAAAAAAAAAAAAAAA==:AAAAAAAAAAAAAAAAAAAAAA==' }}"
        ),
    );
    let home = Home {
        cipher: Some(Arc::new(cipher)),
        ..home()
    };
    let source = Source {
        path: "ci.gocd.yaml".to_owned(),
        text,
    };
    let problems = read(&[source], &home).problems;
    let [problem] = &problems[..] else {
        panic!("{problems:?}")
    };
    assert_eq!(problem.path, "pipelines.app.secure_variables.B");
    assert!(
        problem
            .message
            .contains("not encrypted with this server's key")
    );
}
