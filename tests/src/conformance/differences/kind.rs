//! The kind of a case.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use serde::Deserialize;
use serde_json::Value;

use super::Pattern;
use crate::conformance::case::Case;

/// What has to be true of a case; all that is given.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kind {
    /// A variable of the job has no value (not an empty one).
    #[serde(default)]
    variable_without_value: bool,
    /// The agent's `PATH` has no program of this name.
    program_missing: Option<String>,
    /// A command line of a task, or its script, is like this.
    a_command: Option<Pattern>,
    /// The source of an artifact is like this.
    a_source: Option<Pattern>,
    /// A material of this type has a password.
    password_of: Option<String>,
    /// An instruction comes in the middle of this, as far as can be told.
    cancelled_in: Option<Step>,
    /// There are values to hide: of secure variables, secret parameters or materials.
    #[serde(default)]
    secrets: bool,
}

/// What a cancel breaks off here and not in GoCD's agent.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Step {
    Materials,
    Fetch,
}

impl Kind {
    /// Whether a case that was run in this sandbox is of this kind.
    pub(super) fn is(&self, case: &Case, sandbox: &Path) -> bool {
        let work = &case.job.work;
        (!self.variable_without_value
            || variables(work).any(|variable| variable["value"].is_null()))
            && self.program_missing.as_ref().is_none_or(|name| {
                let path = case.job.agent_environment.get("PATH");
                let path = path.map_or("", String::as_str);
                !is_in(path, name, sandbox)
            })
            && self.a_command.as_ref().is_none_or(|pattern| {
                let mut commands = commands(work).into_iter();
                commands.any(|command| pattern.is_match(&command))
            })
            && self.a_source.as_ref().is_none_or(|pattern| {
                let plans = work.pointer("/assignment/artifactPlans");
                let mut plans = plans.and_then(Value::as_array).into_iter().flatten();
                plans.any(|plan| {
                    plan["src"]
                        .as_str()
                        .is_some_and(|src| pattern.is_match(src))
                })
            })
            && self.password_of.as_ref().is_none_or(|kind| {
                materials(work).any(|material| {
                    material["type"] == **kind && material["password"] != Value::Null
                })
            })
            && self.cancelled_in.is_none_or(|step| step.is_cancelled(case))
            && (!self.secrets || !super::masked::Secrets::of(work).is_empty())
    }
}

impl Step {
    fn is_cancelled(self, case: &Case) -> bool {
        let outcome = &case.expected.result;
        let task_kinds = case.job.work.pointer("/assignment/builders");
        let mut task_kinds = task_kinds.and_then(Value::as_array).into_iter().flatten();
        !case.job.instructions.is_empty()
            && match self {
                Self::Materials => outcome.reports == ["Preparing", "Completed"],
                Self::Fetch => {
                    outcome.last.as_deref() == Some("Cancelled")
                        && task_kinds.any(|task| task["type"] == "FetchArtifactBuilder")
                }
            }
    }
}

/// The variables of a job.
pub(super) fn variables(work: &Value) -> impl Iterator<Item = &Value> {
    let properties = work.pointer("/assignment/initialContext/properties");
    properties.and_then(Value::as_array).into_iter().flatten()
}

fn materials(work: &Value) -> impl Iterator<Item = &Value> {
    let revisions = work.pointer("/assignment/materialRevisions/revisions");
    let revisions = revisions.and_then(Value::as_array).into_iter().flatten();
    revisions.map(|revision| &revision["material"])
}

/// The command and the arguments of each task, each in one text.
fn commands(work: &Value) -> Vec<String> {
    let builders = work.pointer("/assignment/builders");
    let builders = builders.and_then(Value::as_array).into_iter().flatten();
    builders
        .map(|builder| {
            let mut words = vec![builder["command"].as_str().unwrap_or_default()];
            match &builder["args"] {
                Value::String(text) => words.push(text),
                Value::Array(list) => words.extend(list.iter().filter_map(Value::as_str)),
                _ => {}
            }
            words.join(" ")
        })
        .collect()
}

fn is_in(path: &str, name: &str, sandbox: &Path) -> bool {
    let path = path.replace("${SANDBOX}", &sandbox.to_string_lossy());
    path.split(':').any(|folder| {
        let program = fs::metadata(Path::new(folder).join(name));
        program.is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    })
}
