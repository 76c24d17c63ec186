//! Stages that pipelines share.

use super::*;

const SHARED: &str = "format_version: 11
templates:
  standard:
    stages:
      - build:
          tasks:
            - script: \"make #{target} ##{kept}\"
            - fetch: { stage: '#{from}', job: j, source: s }
      - ship:
          approval: manual
          jobs:
            one: { timeout: '#{minutes}', tasks: [ { script: ship } ] }
";

const PIPELINES: &str = "format_version: 11
pipelines:
  app:
    group: core
    parameters: { target: all, from: build, minutes: 5 }
    materials: { src: { git: 'https://git.example/app.git' } }
    template: Standard
";

fn source(path: &str, text: &str) -> Source {
    Source {
        path: path.to_owned(),
        text: text.to_owned(),
    }
}

/// Reads a revision, with files of templates that another repository has.
fn read_with(files: &[(&str, &str)], others: Others) -> Reading {
    let files: Vec<Source> = files
        .iter()
        .map(|(path, text)| source(path, text))
        .collect();
    let home = Home {
        templates: others,
        ..home()
    };
    read(&files, &home)
}

fn problems(files: &[(&str, &str)], others: Others) -> Vec<String> {
    let reading = read_with(files, others);
    assert_eq!(
        reading.configuration.is_none(),
        !reading.problems.is_empty()
    );
    reading.problems.iter().map(ToString::to_string).collect()
}

fn none() -> Others {
    Others::Known(Vec::new())
}

/// Without the fetch, which is wrong in a first stage.
fn good_template() -> String {
    let line = SHARED.lines().find(|line| line.contains("fetch")).unwrap();
    SHARED.replace(&format!("{line}\n"), "")
}

#[test]
fn stages_are_those_of_the_template_with_the_parameters_of_the_pipeline() {
    let shared = good_template();
    let two = PIPELINES.replace("target: all", "target: \"'#{x}'\"");
    let two = two.replace("  app:", "  two:");
    for others in [
        (vec![("ci/t.gocd-templates.yaml", shared.as_str())], none()),
        (
            vec![],
            Others::Known(vec![source("repository b: t", &shared)]),
        ),
    ] {
        let (mut files, others) = others;
        files.push(("a.gocd.yaml", PIPELINES));
        files.push(("b.gocd.yaml", &two));
        let reading = read_with(&files, others);
        assert_eq!(reading.problems, []);
        let pipelines = reading.configuration.unwrap().pipelines;
        let script = |pipeline: &Pipeline| match &pipeline.stages[0].jobs[0].tasks[0].action {
            Action::Script(script) => script.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(script(&pipelines[0]), "make all #{kept}");
        // Values are no place for parameters.
        assert_eq!(script(&pipelines[1]), "make '#{x}' #{kept}");
        assert_eq!(pipelines[0].stages[1].jobs[0].timeout, Some(5));
        assert_eq!(pipelines[0].template.as_deref(), Some("Standard"));
    }
}

#[test]
fn what_is_wrong_in_a_template_is_told_where_it_stands() {
    let shared = SHARED.replace("##{kept}", "#{missing}");
    let found = problems(
        &[
            ("ci/t.gocd-templates.yaml", &shared),
            ("a.gocd.yaml", PIPELINES),
        ],
        none(),
    );
    assert_eq!(found.len(), 2, "{found:#?}");
    let begins = "ci/t.gocd-templates.yaml:7:23: templates.standard.stages[0].build.tasks[0].script: \
                  the parameter `missing` is not defined";
    assert!(found[0].starts_with(begins), "{found:#?}");
    assert!(
        found[0].ends_with("(as the pipeline `app` uses it)"),
        "{found:#?}"
    );
    assert!(
        found[1].starts_with("ci/t.gocd-templates.yaml:8:"),
        "{found:#?}"
    );
}

#[test]
fn a_template_must_be_there_once_and_beside_no_stages() {
    let shared = good_template();
    let stages = format!("{PIPELINES}    stages: [ {{ s: {{ tasks: [ {{ script: a }} ] }} }} ]\n");
    let twice = Others::Known(vec![source("repository b: t", &shared)]);
    let template = ("t.gocd-templates.yaml", shared.as_str());
    let app = ("a.gocd.yaml", PIPELINES);
    let odd = "templates: { a: { x: 1 }, 'b/c': { stages: 1 } }\npipelines: {}\nformat_version: 11";
    for (files, others, expected) in [
        (
            vec![app],
            none(),
            "a.gocd.yaml:7:15: pipelines.app.template: there is no template `Standard`",
        ),
        (
            vec![template, ("a.gocd.yaml", &stages)],
            none(),
            "`template` and `stages` exclude each other",
        ),
        (
            vec![template],
            twice,
            "the template `standard` is defined in repository b: t, line 3, as well",
        ),
        (
            vec![("o.gocd-templates.yml", odd)],
            none(),
            "only `format_version`, `templates` and `common` stand in",
        ),
        (
            vec![("o.gocd-templates.yml", odd)],
            none(),
            "templates.a: `stages` is missing",
        ),
        (
            vec![("o.gocd-templates.yml", odd)],
            none(),
            "`b/c` is no name",
        ),
        (
            vec![("o.gocd-templates.yml", "format_version: 9"), app],
            none(),
            "one repository has one version",
        ),
    ] {
        let found = problems(&files, others);
        let hit = found.iter().any(|problem| problem.contains(expected));
        assert!(hit, "{expected}: {found:#?}");
    }
}

#[test]
fn from_a_checkout_alone_nobody_can_tell_what_other_repositories_have() {
    let reading = read_with(&[("a.gocd.yaml", PIPELINES)], Others::Unknown);
    assert_eq!(reading.problems, []);
    assert_eq!(reading.configuration.unwrap().pipelines, []);
    let warning = reading.warnings[0].to_string();
    assert!(
        warning.contains("the template `Standard` is not in these files"),
        "{warning}"
    );
}

#[test]
fn many_pipelines_with_a_large_template_are_refused() {
    let mut shared = "templates:\n  t:\n    stages:\n      - s:\n          tasks:\n".to_owned();
    for _ in 0..10_000 {
        shared.push_str("            - script: x\n");
    }
    let mut pipelines = "pipelines:\n".to_owned();
    for number in 0..100 {
        pipelines.push_str(&format!(
            "  p{number}: {{ group: g, materials: {{ m: {{ git: u }} }}, template: t }}\n"
        ));
    }
    let found = problems(
        &[
            ("t.gocd-templates.yaml", &shared),
            ("a.gocd.yaml", &pipelines),
        ],
        none(),
    );
    assert!(
        found[0].contains("take more than 500000 values"),
        "{found:#?}"
    );
}
