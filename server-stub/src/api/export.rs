//! A pipeline as a `*.gocd.yaml` file, which read again gives the same pipeline.

use serde::ser::{Serialize, SerializeMap as _, Serializer};

use super::definitions::encrypted;
use crate::answer::Refusal;
use crate::pipelines::cipher::Cipher;
use crate::pipelines::definition::{
    Action, Approval, ArtifactKind, BuildTool, Fetch, Filter, Instances, Job, Material, Pipeline,
    RunIf, Stage, Task, Variable,
};
use crate::pipelines::location;

/// The version that is written.
const FORMAT: &str = "11";

/// What a file consists of. Every scalar of the format is a text.
enum Node {
    Text(String),
    List(Vec<Node>),
    Map(Map),
}

/// Keys in the order of the file.
#[derive(Default)]
struct Map(Vec<(String, Node)>);

impl Map {
    fn with(mut self, key: &str, node: impl Into<Node>) -> Self {
        self.0.push((key.to_owned(), node.into()));
        self
    }

    /// What is not there, empty or the default is left out.
    fn maybe(self, key: &str, node: Option<impl Into<Node>>) -> Self {
        match node.map(Into::into) {
            None => self,
            Some(Node::List(items)) if items.is_empty() => self,
            Some(Node::Map(map)) if map.0.is_empty() => self,
            Some(node) => self.with(key, node),
        }
    }

    fn flag(self, key: &str, value: bool, default: bool) -> Self {
        self.maybe(key, (value != default).then(|| value.to_string()))
    }
}

impl From<&str> for Node {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Node {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Map> for Node {
    fn from(map: Map) -> Self {
        Self::Map(map)
    }
}

impl<T: Into<Node>> FromIterator<T> for Node {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => serializer.collect_seq(items),
            Self::Map(Map(entries)) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, node) in entries {
                    map.serialize_entry(key, node)?;
                }
                map.end()
            }
        }
    }
}

/// The file's text.
pub(super) fn file(cipher: &Cipher, pipeline: &Pipeline) -> Result<String, Refusal> {
    let named = Map::default().with(&pipeline.name, self::pipeline(cipher, pipeline)?);
    let file = Map::default()
        .with("format_version", FORMAT)
        .with("pipelines", named);
    serde_saphyr::to_string(&Node::Map(file))
        .map_err(|error| Refusal::internal("write a pipeline as a file", &error))
}

fn pipeline(cipher: &Cipher, pipeline: &Pipeline) -> Result<Map, Refusal> {
    let mut materials = Map::default();
    for one in &pipeline.materials {
        materials = materials.with(one.name(), material(cipher, one)?);
    }
    let mut stages = Vec::new();
    for one in &pipeline.stages {
        stages.push(Map::default().with(&one.name, stage(cipher, one)?));
    }
    let order = pipeline.display_order;
    let map = Map::default()
        .with("group", pipeline.group.as_str())
        .maybe("display_order", (order != -1).then(|| order.to_string()))
        .with("label_template", pipeline.label_template.as_str())
        .with("lock_behavior", pipeline.lock_behavior.wire_name())
        .maybe(
            "tracking_tool",
            pipeline.tracking_tool.as_ref().map(|tool| {
                Map::default()
                    .with("link", tool.link.as_str())
                    .with("regex", tool.regex.as_str())
            }),
        )
        .maybe(
            "timer",
            pipeline.timer.as_ref().map(|timer| {
                Map::default().with("spec", timer.spec.as_str()).flag(
                    "only_on_changes",
                    timer.only_on_changes,
                    false,
                )
            }),
        );
    Ok(variables(cipher, &pipeline.variables, map)?
        .with("materials", materials)
        .with("stages", stages.into_iter().collect::<Node>()))
}

/// Plain and secret variables are under keys of their own.
fn variables(cipher: &Cipher, variables: &[Variable], map: Map) -> Result<Map, Refusal> {
    let (mut plain, mut secret) = (Map::default(), Map::default());
    for one in variables {
        if one.secure {
            secret = secret.with(&one.name, encrypted(cipher, &one.value)?);
        } else {
            plain = plain.with(&one.name, one.value.as_str());
        }
    }
    Ok(map
        .maybe("environment_variables", Some(plain))
        .maybe("secure_variables", Some(secret)))
}

fn material(cipher: &Cipher, material: &Material) -> Result<Map, Refusal> {
    let git = match material {
        Material::Git(git) => git,
        Material::Dependency(one) => {
            return Ok(Map::default()
                .with("pipeline", one.pipeline.as_str())
                .with("stage", one.stage.as_str())
                .flag("ignore_for_scheduling", one.ignore_for_scheduling, false));
        }
    };
    let (user, password) = location::credentials(&git.url).unzip();
    let user = git.username.clone().or(user);
    let password = git.password.clone().or(password.flatten());
    let password = password.map(|one| encrypted(cipher, &one)).transpose()?;
    let (ignore, includes) = match &git.filter {
        Filter::None => (None, None),
        Filter::Ignore(patterns) => (Some(texts(patterns)), None),
        Filter::Includes(patterns) => (None, Some(texts(patterns))),
    };
    Ok(Map::default()
        .with("git", location::without_credentials(&git.url))
        .with("branch", git.branch.as_str())
        .maybe("username", user)
        .maybe("encrypted_password", password)
        .maybe("destination", git.destination.as_deref())
        .flag("auto_update", git.auto_update, true)
        .flag("shallow_clone", git.shallow_clone, false)
        .maybe("ignore", ignore)
        .maybe("includes", includes))
}

fn texts(texts: &[String]) -> Node {
    texts.iter().map(String::as_str).collect()
}

fn stage(cipher: &Cipher, stage: &Stage) -> Result<Map, Refusal> {
    let kind = match stage.approval {
        Approval::Success => "success",
        Approval::Manual | Approval::ManualOnSuccess => "manual",
    };
    let approval = Map::default()
        .with("type", kind)
        .flag(
            "allow_only_on_success",
            stage.approval == Approval::ManualOnSuccess,
            false,
        )
        .maybe("users", Some(texts(&stage.operators.users)))
        .maybe("roles", Some(texts(&stage.operators.roles)));
    let map = Map::default()
        .with("approval", approval)
        .flag("fetch_materials", stage.fetch_materials, true)
        .flag("clean_workspace", stage.clean_workspace, false)
        .flag("keep_artifacts", stage.keep_artifacts, false);
    let mut jobs = Map::default();
    for one in &stage.jobs {
        jobs = jobs.with(&one.name, job(cipher, one)?);
    }
    Ok(variables(cipher, &stage.variables, map)?.with("jobs", jobs))
}

fn job(cipher: &Cipher, job: &Job) -> Result<Map, Refusal> {
    let instances = match job.instances {
        Instances::One => None,
        Instances::Count(count) => Some(count.to_string()),
        Instances::All => Some("all".to_owned()),
    };
    let mut tabs = Map::default();
    for tab in &job.tabs {
        tabs = tabs.with(&tab.name, tab.path.as_str());
    }
    let artifacts = job.artifacts.iter().map(|one| {
        let kind = match one.kind {
            ArtifactKind::Build => "build",
            ArtifactKind::Test => "test",
        };
        let destination = Some(one.destination.as_str()).filter(|text| !text.is_empty());
        let what = Map::default()
            .with("source", one.source.as_str())
            .maybe("destination", destination);
        Map::default().with(kind, what)
    });
    let map = Map::default()
        .maybe("timeout", job.timeout.map(|minutes| minutes.to_string()))
        .maybe("run_instances", instances)
        .maybe("resources", Some(texts(&job.resources)));
    Ok(variables(cipher, &job.variables, map)?
        .maybe("tabs", Some(tabs))
        .maybe("artifacts", Some(artifacts.collect::<Node>()))
        .with("tasks", job.tasks.iter().map(task).collect::<Node>()))
}

fn task(task: &Task) -> Map {
    let run_if = match task.run_if {
        RunIf::Passed => None,
        RunIf::Failed => Some("failed"),
        RunIf::Any => Some("any"),
    };
    // The short form of a script has no place for anything else.
    if let (Action::Script(script), None, None) = (&task.action, run_if, &task.on_cancel) {
        return Map::default().with("script", script.as_str());
    }
    let (kind, map) = action(&task.action);
    let on_cancel = task.on_cancel.as_ref().map(|one| {
        let (kind, map) = action(one);
        Map::default().with(kind, map)
    });
    let map = map.maybe("run_if", run_if).maybe("on_cancel", on_cancel);
    Map::default().with(kind, map)
}

fn action(action: &Action) -> (&'static str, Map) {
    match action {
        Action::Exec {
            command,
            arguments,
            working_directory,
        } => (
            "exec",
            Map::default()
                .with("command", command.as_str())
                .maybe("arguments", Some(texts(arguments)))
                .maybe("working_directory", working_directory.as_deref()),
        ),
        Action::Script(script) => {
            let plugin = Map::default()
                .with("id", "script-executor")
                .with("version", "1");
            let options = Map::default().with("script", script.as_str());
            let map = Map::default()
                .with("configuration", plugin)
                .with("options", options);
            ("plugin", map)
        }
        Action::Fetch(fetch) => ("fetch", self::fetch(fetch)),
        Action::Build(build) => {
            let map = Map::default()
                .maybe("build_file", build.build_file.as_deref())
                .maybe("target", build.target.as_deref())
                .maybe("working_directory", build.working_directory.as_deref());
            match &build.tool {
                BuildTool::Ant => ("ant", map),
                BuildTool::Rake => ("rake", map),
                BuildTool::Nant { path } => ("nant", map.maybe("nant_path", path.as_deref())),
            }
        }
    }
}

fn fetch(fetch: &Fetch) -> Map {
    let pipeline = Some(fetch.ancestors.join("/")).filter(|text| !text.is_empty());
    let destination = Some(fetch.destination.as_str()).filter(|text| !text.is_empty());
    Map::default()
        .maybe("pipeline", pipeline)
        .with("stage", fetch.stage.as_str())
        .with("job", fetch.job.as_str())
        .with("source", fetch.source.as_str())
        .flag("is_file", fetch.is_file, false)
        .maybe("destination", destination)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pretty_assertions::assert_eq;

    use super::*;
    use crate::pipelines::reader::{self, Home, Source};

    const EVERYTHING: &str = r##"
format_version: 11
pipelines:
  all:
    group: g
    display_order: 3
    label_template: "1.10-${src[:7]}-${COUNT}"
    lock_behavior: unlockWhenFinished
    tracking_tool: { link: "https://bugs/${ID}", regex: "BUG-(\\d+)" }
    timer: { spec: "0 15 2 ? * MON-FRI", only_on_changes: yes }
    environment_variables: { EMPTY: "", NUMBER: 0x10, YES: no, HASH: "# not: a comment", LINES: "a\nb\n" }
    secure_variables: { TOKEN: "AES:AAAAAAAAAAAAAAAAAAAAAA==:AAAAAAAAAAAAAAAAAAAAAA==" }
    materials:
      src: { git: "https://git.example/app.git", branch: main, destination: a, shallow_clone: yes, ignore: ["docs/**/*", "*.md"] }
      conf: { git: "git@git.example:conf", destination: b, auto_update: no, includes: ["*"], username: u }
      up: { pipeline: lib, stage: publish, ignore_for_scheduling: true }
    stages:
      - one:
          approval: { type: manual, allow_only_on_success: true, users: [ann], roles: [ops] }
          fetch_materials: no
          clean_workspace: yes
          keep_artifacts: yes
          environment_variables: { MODE: strict }
          jobs:
            zebra: { tasks: [ { script: "set -e\n./report.sh\n" } ] }
            ant:
              timeout: 7
              run_instances: 3
              resources: [linux, "J D K"]
              tabs: { Report: out/index.html }
              artifacts:
                - build: { source: "out/**/*.tgz", destination: pkg }
                - test: { source: reports }
              tasks:
                - exec: { command: bash, arguments: ["-c", "make: test"], working_directory: app, run_if: any,
                          on_cancel: { exec: { command: ./abort.sh } } }
                - fetch: { pipeline: lib, stage: publish, job: pack, source: pkg, is_file: yes, destination: deps }
                - ant: { build_file: b.xml, target: "a b", run_if: failed }
                - nant: { nant_path: /opt/nant }
                - rake: { working_directory: r }
      - two:
          jobs:
            every: { run_instances: all, tasks: [ { plugin: { configuration: { id: script-executor, version: 1 }, options: { script: "x" }, run_if: any } } ] }
"##;

    fn read(text: &str) -> Pipeline {
        let file = Source::new("x.gocd.yaml".to_owned(), text.as_bytes().to_vec()).unwrap();
        let home = Home {
            url: "/home".to_owned(),
            branch: "main".to_owned(),
            cipher: None,
            templates: reader::template::Others::Unknown,
        };
        let reading = reader::read(&[file], &home);
        let problems: Vec<String> = reading.problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems, [""; 0], "{text}");
        reading.configuration.unwrap().pipelines.remove(0)
    }

    #[test]
    fn what_is_written_is_read_as_the_same_pipeline() {
        let folder = tempfile::tempdir().unwrap();
        let cipher = Arc::new(Cipher::open(&folder.path().join("key")).unwrap());
        let pipeline = read(EVERYTHING);
        let text = file(&cipher, &pipeline).unwrap();
        assert_eq!(read(&text), pipeline, "{text}");
        assert_eq!(file(&cipher, &read(&text)).unwrap(), text);
    }
}
