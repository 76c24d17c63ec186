mod format;
mod hostile;
mod linked;
mod templates;

use super::*;
use crate::pipelines::definition::{Action, Approval, ArtifactKind, RunIf};

fn home() -> Home {
    Home {
        url: "https://ci:pw@git.example/conf.git".to_owned(),
        branch: "main".to_owned(),
        cipher: None,
        templates: Others::Known(Vec::new()),
    }
}

fn read_one(text: &str) -> Reading {
    let file = Source {
        path: "ci.gocd.yaml".to_owned(),
        text: text.to_owned(),
    };
    read(&[file], &home())
}

fn good(text: &str) -> Configuration {
    let reading = read_one(text);
    let problems: Vec<_> = reading.problems.iter().map(ToString::to_string).collect();
    assert!(problems.is_empty(), "{problems:#?}");
    reading.configuration.unwrap()
}

const FULL: &str = r#"
format_version: 11
common:
  steps: &steps
    - exec: { command: make, arguments: [one] }
    - - exec: { command: make, arguments: [two] }
pipelines:
  app:
    group: core
    display_order: 3
    label_template: 1.10-${src[:7]}-${COUNT}
    environment_variables: { VERSION: 1.10, EMPTY: , TILDE: ~, NO: no }
    secure_variables: { TOKEN: sesame }
    materials:
      src: { git: "https://git.example/app.git", branch: main, destination: app, shallow_clone: Yes }
      conf: { type: configrepo, destination: conf }
      long: { type: git, url: "/srv/git/long", username: u, password: p, destination: long }
    stages:
      - build:
          fetch_materials: no
          clean_workspace: on
          environment_variables: { MODE: strict }
          jobs:
            unit:
              resources: [linux, docker]
              timeout: 20
              environment_variables: { A: b }
              artifacts:
                - build: { source: out/**/*.tgz, destination: pkg }
                - test: { source: reports }
              tasks:
                - *steps
                - exec:
                    command: ./t.sh
                    working_directory: app
                    run_if: any
                    on_cancel: { exec: { command: ./abort.sh } }
                - script: |
                    set -e
                    ./x.sh
      - - ship: { approval: manual, tasks: [ { script: ./ship.sh } ] }
      - last:
          approval: { type: manual, allow_only_on_success: true }
          tasks: [ { exec: { command: "true", run_if: failed } } ]
environments:
  staging: { environment_variables: { ZONE: eu }, pipelines: [app] }
"#;

#[test]
fn the_whole_subset_is_read() {
    let configuration = good(FULL);
    let app = &configuration.pipelines[0];
    assert_eq!((app.name.as_str(), app.group.as_str()), ("app", "core"));
    assert_eq!(app.display_order, 3);
    assert_eq!(app.label_template, "1.10-${src[:7]}-${COUNT}");
    let variables: Vec<_> = app
        .variables
        .iter()
        .map(|one| (one.name.as_str(), one.value.as_str(), one.secure))
        .collect();
    assert_eq!(
        variables,
        [
            ("VERSION", "1.10", false),
            ("EMPTY", "", false),
            ("TILDE", "~", false),
            ("NO", "no", false),
            ("TOKEN", "sesame", true)
        ]
    );
    let materials: Vec<_> = app.git_materials().collect();
    let [src, conf, long] = materials[..] else {
        panic!("{:?}", app.materials)
    };
    assert!(src.shallow_clone && src.branch == "main");
    assert_eq!(conf.url, home().url);
    assert_eq!(
        (long.url.as_str(), long.branch.as_str()),
        ("/srv/git/long", "master")
    );
    let [build, ship, last] = &app.stages[..] else {
        panic!("{:?}", app.stages)
    };
    assert!(!build.fetch_materials && build.clean_workspace);
    assert_eq!(ship.approval, Approval::Manual);
    assert_eq!(last.approval, Approval::ManualOnSuccess);
    assert_eq!(ship.jobs[0].name, "ship");
    let unit = &build.jobs[0];
    assert_eq!(unit.resources, ["linux", "docker"]);
    assert_eq!(unit.timeout, Some(20));
    assert_eq!(unit.artifacts[1].kind, ArtifactKind::Test);
    assert_eq!(unit.tasks.len(), 4);
    assert_eq!(unit.tasks[2].run_if, RunIf::Any);
    assert!(unit.tasks[2].on_cancel.is_some());
    assert_eq!(
        unit.tasks[3].action,
        Action::Script("set -e\n./x.sh\n".to_owned())
    );
    assert_eq!(configuration.environments[0].pipelines, ["app"]);
}

/// A good file with `replaced` put in place of a piece of it.
fn spoil(piece: &str, replaced: &str) -> String {
    let text = "format_version: 11
pipelines:
  app:
    group: core
    materials:
      src: { git: /srv/git/app }
    stages:
      - build:
          jobs:
            unit:
              tasks:
                - exec: { command: make }
";
    assert!(text.contains(piece), "{piece}");
    text.replacen(piece, replaced, 1)
}

#[test]
fn problems_name_line_path_and_cause() {
    let table = [
        (
            "group: core",
            "grup: core",
            "4:5: pipelines.app: ",
            "`group` is missing",
        ),
        (
            "group: core",
            "group: co/re",
            "4:12: pipelines.app.group",
            "`co/re` is no name",
        ),
        (
            "group: core",
            "group: [a]",
            "4:12: pipelines.app.group",
            "text is needed here, not a list",
        ),
        (
            "group: core",
            "group: a\n    group: b",
            "5:5: ",
            "`group` is given twice",
        ),
        (
            "group: core",
            "group: a\n    timer: { spec: x }",
            "5:20: pipelines.app.timer.spec",
            "has 1 fields; a Quartz cron expression has six or seven",
        ),
        (
            "group: core",
            "group: a\n    template: x",
            "",
            "`template` and `stages` exclude each other",
        ),
        (
            "group: core",
            "group: a\n    locking: maybe",
            "",
            "neither true nor false",
        ),
        (
            "group: core",
            "group: a\n    lock_behavior: lockOnSuccess",
            "",
            "is none of `none`, `lockOnFailure`",
        ),
        (
            "group: core",
            "group: a\n    label_template: 1.10",
            "",
            "no token",
        ),
        (
            "group: core",
            "group: a\n    label_template: '${x}'",
            "",
            "no material",
        ),
        (
            "group: core",
            "group: a\n    display_order: two",
            "",
            "`two` is no number",
        ),
        (
            "group: core",
            "group: a\n    secure_variables: { A: 'AES:x:y' }",
            "",
            "no encrypted value such as",
        ),
        (
            "format_version: 11",
            "format_version: 12",
            "1:17: format_version",
            "version 12 is not known",
        ),
        (
            "format_version: 11",
            "formatversion: 11",
            "1:1: ",
            "only `format_version`",
        ),
        (
            "{ git: /srv/git/app }",
            "{ hg: x }",
            "6:12: pipelines.app.materials.src",
            "`hg` are not supported; this server checks out git",
        ),
        (
            "{ git: /srv/git/app }",
            "{ pipeline: APP, stage: build }",
            "6:24: pipelines.app.materials.src.pipeline",
            "cannot depend on itself",
        ),
        (
            "{ git: /srv/git/app }",
            "{ git: x, destination: ../y }",
            "",
            "leads out",
        ),
        (
            "{ git: /srv/git/app }",
            "{ git: x, destination: /y }",
            "",
            "is absolute",
        ),
        (
            "{ git: /srv/git/app }",
            "{ git: x, ignore: [a], whitelist: [b] }",
            "",
            "only one list of patterns",
        ),
        (
            "{ git: /srv/git/app }",
            "{ git: x, branch: 'a..b' }",
            "",
            "no name of a branch",
        ),
        (
            "{ git: /srv/git/app }",
            "{ git: 'https://u:p@h/x', username: z }",
            "",
            "exclude each other",
        ),
        (
            "src: { git: /srv/git/app }",
            "a: { git: x }\n      b: { git: y }",
            "",
            "needs a `destination`",
        ),
        (
            "src: { git: /srv/git/app }",
            "a: { git: x, destination: d }\n      b: { git: y, destination: d/e }",
            "",
            "into each other",
        ),
        (
            "    materials:\n      src: { git: /srv/git/app }\n",
            "",
            "",
            "`materials` is missing",
        ),
        (
            "exec: { command: make }",
            "exec: { arguments: [a] }",
            "12:",
            "`command` is missing",
        ),
        (
            "exec: { command: make }",
            "fetch: { source: a, stage: build, job: unit }",
            "12:",
            "there is no stage `build` before this one",
        ),
        (
            "exec: { command: make }",
            "fetch: { source: ../a, stage: build, job: unit }",
            "",
            "leads out of the job's folder",
        ),
        (
            "exec: { command: make }",
            "fetch: { pipeline: 'a b', stage: build, job: unit, source: a }",
            "",
            "`a b` is no name",
        ),
        (
            "exec: { command: make }",
            "fetch: { artifact_origin: external, stage: build, job: unit, artifact_id: a }",
            "",
            "the origin `external` need a plugin",
        ),
        (
            "exec: { command: make }",
            "make: x",
            "",
            "`make` is no kind of task",
        ),
        (
            "exec: { command: make }",
            "exec: { command: make, run_if: never }",
            "",
            "`never` is none of",
        ),
        (
            "exec: { command: make }",
            "exec: { command: m, on_cancel: { exec: { command: n, on_cancel: { exec: { command: o } } } } }",
            "",
            "cannot have one itself",
        ),
        ("unit:\n", "unit-runInstance-2:\n", "", "several instances"),
        (
            "unit:\n",
            "unit:\n              run_instances: some\n",
            "",
            "`some` is neither a number nor `all`",
        ),
        (
            "unit:\n",
            "unit:\n              resources: ['a/b']\n",
            "",
            "no resource",
        ),
        (
            "unit:\n",
            "unit:\n              artifacts: [ { build: { destination: x } } ]\n",
            "",
            "`source` is missing",
        ),
        (
            "unit:\n",
            "unit:\n              artifacts: [ { zip: { source: x } } ]\n",
            "",
            "no kind of artifact",
        ),
        (
            "tasks:\n                - exec: { command: make }",
            "tasks: []",
            "",
            "at least one task",
        ),
        ("jobs:", "jebs:", "", "needs `jobs`"),
        (
            "- build:",
            "- build: {}\n        other:",
            "8:9: pipelines.app.stages[0]",
            "written as one key, not 2",
        ),
        (
            "- build:",
            "- build: { tasks: [ { script: x } ] }\n      - Build:",
            "",
            "two stages",
        ),
    ];
    for (piece, replaced, place, message) in table {
        let reading = read_one(&spoil(piece, replaced));
        let all: Vec<_> = reading.problems.iter().map(ToString::to_string).collect();
        let expected = format!("ci.gocd.yaml:{place}");
        assert!(
            all.iter()
                .any(|one| one.starts_with(&expected) && one.contains(message)),
            "{replaced}: expected {expected} … {message}, got {all:#?}"
        );
        assert!(reading.configuration.is_none());
    }
}

#[test]
fn malformed_yaml_is_shown_where_it_breaks() {
    let table = [
        ("pipelines:\n  a: [1, 2\nb: 3\n", 3),
        ("pipelines:\n\ta: 1\n", 2),
        ("a: \"open\n", 1),
        ("", 1),
        ("---\na: 1\n---\nb: 1\n", 3),
        ("a: *nope\n", 1),
    ];
    for (text, line) in table {
        let problems = read_one(text).problems;
        assert!(!problems.is_empty(), "{text}");
        assert!(problems[0].at.line >= line, "{text}: {problems:?}");
        assert!(!problems[0].message.is_empty());
    }
}

#[test]
fn all_problems_are_reported_at_once() {
    let text = spoil("group: core", "group: a b").replace("command: make", "comand: make");
    assert_eq!(read_one(&text).problems.len(), 2);
}

#[test]
fn aliases_that_multiply_are_stopped() {
    let mut text = String::from("common:\n  a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("  a{level}: &a{level} [{aliases}]\n"));
    }
    let problems = read_one(&text).problems;
    assert!(
        problems[0].message.contains("aliases are written out"),
        "{problems:?}"
    );

    let long = format!(
        "common: &a [x{}]\nb: [{}]\n",
        ", x".repeat(999),
        "*a, ".repeat(999)
    );
    assert!(read_one(&long).problems[0].message.contains("aliases"));

    let deep = format!("common: {}{}\n", "[".repeat(300), "]".repeat(300));
    assert!(!read_one(&deep).problems.is_empty());

    assert!(!read_one("common: &a [*a]\n").problems.is_empty());
}

#[test]
fn merge_keys_fill_in_what_is_missing() {
    let configuration = good(
        "common:\n  base: &base { group: core, materials: { src: { git: /x } } }\npipelines:\n  app:\n    <<: *base\n    group: own\n    stages: [ { s: { tasks: [ { script: x } ] } } ]\n",
    );
    assert_eq!(configuration.pipelines[0].group, "own");
    assert_eq!(
        configuration.pipelines[0].materials[0].git().unwrap().url,
        "/x"
    );
}

#[test]
fn files_of_one_repository_must_agree() {
    let file = |path: &str, text: &str| Source {
        path: path.to_owned(),
        text: text.to_owned(),
    };
    let text = spoil("app", "one");
    let same = [
        file("a.gocd.yaml", &text),
        file("b.gocd.yaml", &text.replace("one:", "ONE:")),
    ];
    let problems = read(&same, &home()).problems;
    assert!(
        problems[0]
            .message
            .contains("defined in a.gocd.yaml, line 3"),
        "{problems:?}"
    );
    assert_eq!(problems[0].file, "b.gocd.yaml");

    let mixed = [
        file("a.gocd.yaml", &text),
        file("b.gocd.yaml", "format_version: 9\n"),
    ];
    assert!(
        read(&mixed, &home()).problems[0]
            .message
            .contains("one repository has one version")
    );
}

#[test]
fn keys_without_meaning_are_warned_about() {
    let reading = read_one(&spoil("group: core", "group: core\n    colour: red"));
    assert!(reading.problems.is_empty());
    assert_eq!(reading.warnings[0].path, "pipelines.app.colour");
}

#[test]
fn operators_who_can_be_nobody_are_warned_about() {
    let approval =
        "approval: { type: manual, users: [ann, \"x y\", local], roles: [Operate, releasers] }";
    let reading = read_one(&spoil(
        "- build:",
        &format!("- build:\n          {approval}"),
    ));
    assert!(reading.problems.is_empty(), "{:?}", reading.problems);
    let said: Vec<&str> = reading
        .warnings
        .iter()
        .map(|one| one.message.as_str())
        .collect();
    assert_eq!(
        said,
        [
            "`x y` lets nobody run the stage: no user can be called so",
            "`local` lets nobody run the stage: no user can be called so",
            "`releasers` lets nobody run the stage: the roles are `view`, `operate` and `admin`",
        ]
    );
}

#[test]
fn old_versions_fill_in_a_task() {
    let text = spoil(
        "tasks:\n                - exec: { command: make }",
        "tasks: []",
    );
    let configuration = good(&text.replace("format_version: 11", "format_version: 10"));
    assert_eq!(configuration.pipelines[0].stages[0].jobs[0].tasks.len(), 1);
}

#[test]
fn no_password_shows_in_debug_output() {
    let shown = format!("{:?}", good(FULL));
    assert!(
        !shown.contains("sesame") && !shown.contains(":pw@"),
        "{shown}"
    );
}
