//! What only all pipelines together can tell.

use pretty_assertions::assert_eq;

use super::links::Elsewhere;
use super::*;
use crate::pipelines::store::StoredPipeline;

/// A pipeline of a build and a test stage, with these materials and this first task.
fn pipeline(name: &str, materials: &str, task: &str) -> String {
    format!(
        "  {name}:
    group: core
    materials: {{ {materials} }}
    stages:
      - build: {{ jobs: {{ unit: {{ tasks: [ {task} ] }} }} }}
      - test: {{ tasks: [ {{ script: x }} ] }}
"
    )
}

const GIT: &str = "src: { git: /x }";
const WORK: &str = "{ script: x }";

fn plain(name: &str) -> String {
    pipeline(name, GIT, WORK)
}

fn after(name: &str, upstream: &str) -> String {
    let materials = format!("up: {{ pipeline: {upstream}, stage: build }}");
    pipeline(name, &materials, WORK)
}

fn reading(pipelines: &[String]) -> Reading {
    let text = format!("pipelines:\n{}", pipelines.concat());
    let reading = read_one(&text);
    assert!(reading.problems.is_empty(), "{:?}", reading.problems);
    reading
}

fn elsewhere(pipelines: &[String]) -> Elsewhere {
    let configuration = reading(pipelines).configuration.unwrap();
    let stored = |pipeline| StoredPipeline {
        repository: "theirs".to_owned(),
        pipeline,
    };
    Elsewhere {
        pipelines: configuration.pipelines.into_iter().map(stored).collect(),
        environments: Vec::new(),
    }
}

fn check(own: &[String], others: Option<&[String]>) -> Vec<String> {
    let reading = reading(own);
    let pipelines = reading.configuration.unwrap().pipelines;
    let others = others.map(elsewhere);
    let problems = links::check(&reading.links, &pipelines, others.as_ref());
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn upstream_pipelines_and_stages_must_be_there() {
    assert_eq!(check(&[after("b", "A"), plain("a")], Some(&[])), [""; 0]);
    assert_eq!(check(&[after("b", "A")], Some(&[plain("a")])), [""; 0]);
    assert_eq!(check(&[after("b", "a")], None), [""; 0]);
    assert_eq!(
        check(&[after("b", "a")], Some(&[])),
        ["ci.gocd.yaml:4:34: pipelines.b.materials.up.pipeline: there is no pipeline `a`"]
    );
    let wrong = pipeline("b", "up: { pipeline: a, stage: ship }", WORK);
    for others in [None, Some(&[][..])] {
        assert_eq!(
            check(&[plain("a"), wrong.clone()], others),
            [
                "ci.gocd.yaml:10:34: pipelines.b.materials.up.pipeline: the pipeline `a` has no stage `ship`"
            ]
        );
    }
}

#[test]
fn circles_are_found_once() {
    let own = [
        after("a", "c"),
        after("b", "a"),
        after("c", "b"),
        after("d", "a"),
    ];
    let problems = check(&own, Some(&[]));
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].contains("in a circle: a -> c -> b -> a"),
        "{problems:?}"
    );
    let problems = check(&own[..2], Some(&own[2..]));
    assert_eq!(problems.len(), 1, "{problems:?}");
    // A long chain is no circle, and no deep recursion.
    let mut chain = vec![plain("p0")];
    chain.extend((1..800).map(|n| after(&format!("p{n}"), &format!("p{}", n - 1))));
    assert_eq!(check(&chain, Some(&[])), [""; 0]);
}

#[test]
fn artifacts_come_from_what_is_waited_for() {
    let fetch = |from: &str, stage: &str, job: &str| {
        format!("{{ fetch: {{ pipeline: {from}, stage: {stage}, job: {job}, source: x }} }}")
    };
    let table = [
        ("mid", "build", "unit", ""),
        ("MID", "Build", "UNIT", ""),
        ("root/mid", "build", "unit", ""),
        (
            "root",
            "build",
            "unit",
            "`end` does not depend on the pipeline `root`",
        ),
        (
            "mid/root",
            "build",
            "unit",
            "`end` does not depend on the pipeline `root`",
        ),
        ("mid", "test", "test", "comes after `build`"),
        ("mid", "ship", "unit", "has no stage `ship`"),
        ("root/mid", "build", "other", "has no job `other`"),
    ];
    for (from, stage, job, expected) in table {
        let end = pipeline(
            "end",
            "up: { pipeline: mid, stage: build }",
            &fetch(from, stage, job),
        );
        let problems = check(&[plain("root"), after("mid", "root"), end], Some(&[]));
        match expected {
            "" => assert_eq!(problems, [""; 0], "{from}/{stage}/{job}"),
            _ => assert!(
                problems.len() == 1 && problems[0].contains(expected),
                "{problems:?}"
            ),
        }
    }
}

#[test]
fn one_of_several_instances_can_be_fetched_from() {
    let fetch =
        |job: &str| format!("{{ fetch: {{ pipeline: up, stage: build, job: {job}, source: x }} }}");
    for (instances, job, is_right) in [
        ("3", "unit-runInstance-1", true),
        ("3", "UNIT-runInstance-1", true),
        // GoCD: neither is refused, as what is there is only known when it is fetched.
        ("3", "unit-runInstance-9", true),
        ("3", "unit", true),
        ("all", "unit-runOnAll-2", true),
        ("all", "unit-runInstance-2", false),
        ("3", "unit-runOnAll-2", false),
        ("3", "unit-runInstance-x", false),
        ("3", "unit-runInstance-", false),
        ("3", "other-runInstance-1", false),
    ] {
        let up = plain("up").replace("unit: {", &format!("unit: {{ run_instances: {instances},"));
        let end = pipeline("end", "up: { pipeline: up, stage: build }", &fetch(job));
        let problems = check(&[up.clone(), end], Some(&[]));
        assert_eq!(
            problems.is_empty(),
            is_right,
            "{instances} {job} {problems:?} {up}"
        );
    }
}

#[test]
fn a_pipeline_is_defined_and_placed_once() {
    let problems = check(&[plain("a")], Some(&[plain("A")]));
    assert_eq!(
        problems,
        [
            "ci.gocd.yaml:2:3: pipelines.a: the pipeline `a` is defined by the configuration repository `theirs` already"
        ]
    );
    let reading = read_one("environments: { staging: { pipelines: [x, y] } }");
    let mut others = Elsewhere::default();
    let part = |name: &str, pipelines: &[&str]| Environment {
        name: name.to_owned(),
        variables: Vec::new(),
        pipelines: pipelines.iter().map(|one| (*one).to_owned()).collect(),
        agents: Vec::new(),
    };
    others.environments = vec![
        ("theirs".to_owned(), part("STAGING", &["x"])),
        ("theirs".to_owned(), part("live", &["Y"])),
    ];
    let problems = links::check(&reading.links, &[], Some(&others));
    assert_eq!(problems.len(), 1);
    assert!(problems[0].to_string().starts_with("ci.gocd.yaml:1:43: environments.staging.pipelines[1]: the pipeline `y` is in the environment `live`"), "{problems:?}");
}

#[test]
fn a_revision_must_not_take_away_what_others_need() {
    let old = reading(&[plain("a"), plain("b")])
        .configuration
        .unwrap()
        .pipelines;
    let others = elsewhere(&[after("c", "a"), after("d", "gone")]);
    assert_eq!(links::broken(&old, &old, &others), [""; 0]);
    let problems = links::broken(&old, &old[1..], &others);
    assert_eq!(
        problems,
        [
            "the pipeline `c` of the configuration repository `theirs` needs what would be gone: there is no pipeline `a`"
        ]
    );
}
