//! The tasks of a job, which GoCD calls builders.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    document::{ConfigErrors, Document},
    fetch::{FetchArtifactBuilder, FetchPluggableArtifactBuilder},
    job::JobResult,
    secret::Secret,
    wire,
};

/// A task, or what runs when a task is cancelled.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type")]
pub enum Builder {
    /// A command with its arguments in one string.
    CommandBuilder(CommandBuilder),
    /// A command with a list of arguments.
    CommandBuilderWithArgList(CommandBuilderWithArgList),
    /// Fetches artifacts from the server.
    FetchArtifactBuilder(FetchArtifactBuilder),
    /// Fetches an artifact from an artifact store.
    FetchPluggableArtifactBuilder(FetchPluggableArtifactBuilder),
    /// A task run by a plugin.
    PluggableTaskBuilder(PluggableTaskBuilder),
    /// The usual cancel task.
    BuilderForKillAllChildTask(BuilderForKillAllChildTask),
    /// Does nothing.
    NullBuilder(NullBuilder),
    /// A kind that this version does not know: the job must fail with a line that names it.
    #[serde(untagged)]
    Unknown(Document),
}

/// What every builder has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BuilderAttributes {
    /// Always -1, which means "not set". The Java agent takes an absent one for 0 and shows it.
    pub exit_code: i32,
    /// On which results so far the builder runs; empty means on passed only.
    pub conditions: Vec<RunIf>,
    /// What the console shows after `Task: `.
    pub description: String,
    /// What to run if the builder is cancelled; absent in [`NullBuilder`] only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancel_builder: Option<Box<Builder>>,
}

/// A condition on the result of a job so far. On the wire it is an object,
/// `{"status":"any","configErrors":{}}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "RunIfOnWire", into = "RunIfOnWire")]
pub enum RunIf {
    /// All went well so far.
    Passed,
    /// Something failed.
    Failed,
    /// Always.
    Any,
    /// A condition that this version does not know, and that no result meets.
    #[default]
    Unknown,
}

/// A command with its arguments in one string, which the agent splits. Sent for exec tasks with
/// `args`, and for ant, nant and rake.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CommandBuilder {
    /// All arguments, with quotes.
    pub args: String,
    /// Program to run.
    pub command: String,
    /// Where to run it, relative to the agent's directory.
    #[serde(with = "wire::file")]
    pub working_dir: PathBuf,
    /// A line of output equal to this, trimmed and in any letter case, fails the task; empty
    /// for none.
    pub error_string: String,
    /// What every builder has.
    #[serde(flatten)]
    pub attributes: BuilderAttributes,
}

/// A command with a list of arguments. Sent for exec tasks with `<arg>` elements.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CommandBuilderWithArgList {
    /// The arguments.
    pub args: Vec<String>,
    /// Program to run.
    pub command: String,
    /// Where to run it, relative to the agent's directory.
    #[serde(with = "wire::file")]
    pub working_dir: PathBuf,
    /// As in [`CommandBuilder::error_string`].
    pub error_string: String,
    /// What every builder has.
    #[serde(flatten)]
    pub attributes: BuilderAttributes,
}

/// A task run by a plugin.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PluggableTaskBuilder {
    /// Where to run it, relative to the agent's directory. (A plain string, unlike elsewhere.)
    pub working_dir: String,
    /// The plugin.
    pub plugin_id: String,
    /// Settings for the plugin.
    pub plugin_config: BTreeMap<String, PluginConfigValue>,
    /// What every builder has.
    #[serde(flatten)]
    pub attributes: BuilderAttributes,
}

/// Value of a setting of a [`PluggableTaskBuilder`], which may be a secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PluginConfigValue {
    /// The value in clear text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Secret>,
}

/// The usual cancel task: kill all that the task has started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BuilderForKillAllChildTask {
    /// Always `{}`: a Java object that has nothing to say.
    pub current_process: NoMembers,
    /// Always false in work.
    pub cancel_attempted: bool,
    /// What every builder has.
    #[serde(flatten)]
    pub attributes: BuilderAttributes,
}

/// Does nothing. As a cancel task it leaves the task alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NullBuilder {
    /// What every builder has.
    #[serde(flatten)]
    pub attributes: BuilderAttributes,
}

/// The empty object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoMembers {}

// === impl Builder ===

impl Builder {
    /// The usual cancel task.
    pub fn kill_all_children() -> Self {
        Self::BuilderForKillAllChildTask(BuilderForKillAllChildTask::default())
    }

    /// The cancel task that does nothing.
    pub fn null() -> Self {
        Self::NullBuilder(NullBuilder::default())
    }

    /// The value of `type`.
    pub fn kind(&self) -> &str {
        match self {
            Self::CommandBuilder(_) => "CommandBuilder",
            Self::CommandBuilderWithArgList(_) => "CommandBuilderWithArgList",
            Self::FetchArtifactBuilder(_) => "FetchArtifactBuilder",
            Self::FetchPluggableArtifactBuilder(_) => "FetchPluggableArtifactBuilder",
            Self::PluggableTaskBuilder(_) => "PluggableTaskBuilder",
            Self::BuilderForKillAllChildTask(_) => "BuilderForKillAllChildTask",
            Self::NullBuilder(_) => "NullBuilder",
            Self::Unknown(document) => &document.kind,
        }
    }

    /// What every builder has; nothing is known of an unknown one.
    pub fn attributes(&self) -> Option<&BuilderAttributes> {
        match self {
            Self::CommandBuilder(builder) => Some(&builder.attributes),
            Self::CommandBuilderWithArgList(builder) => Some(&builder.attributes),
            Self::FetchArtifactBuilder(builder) => Some(&builder.attributes),
            Self::FetchPluggableArtifactBuilder(builder) => Some(&builder.attributes),
            Self::PluggableTaskBuilder(builder) => Some(&builder.attributes),
            Self::BuilderForKillAllChildTask(builder) => Some(&builder.attributes),
            Self::NullBuilder(builder) => Some(&builder.attributes),
            Self::Unknown(_) => None,
        }
    }
}

impl<'de> Deserialize<'de> for Builder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let document = Document::deserialize(deserializer)?;
        match document.kind.as_str() {
            "CommandBuilder" => document.read().map(Self::CommandBuilder),
            "CommandBuilderWithArgList" => document.read().map(Self::CommandBuilderWithArgList),
            "FetchArtifactBuilder" => document.read().map(Self::FetchArtifactBuilder),
            "FetchPluggableArtifactBuilder" => {
                document.read().map(Self::FetchPluggableArtifactBuilder)
            }
            "PluggableTaskBuilder" => document.read().map(Self::PluggableTaskBuilder),
            "BuilderForKillAllChildTask" => document.read().map(Self::BuilderForKillAllChildTask),
            "NullBuilder" => document.read().map(Self::NullBuilder),
            _ => Ok(Self::Unknown(document)),
        }
    }
}

// === impl BuilderAttributes ===

impl BuilderAttributes {
    /// Attributes with a description, the usual cancel task, and no condition: run on passed.
    pub fn described(description: impl Into<String>) -> Self {
        Self {
            description: description.into(),
            cancel_builder: Some(Box::new(Builder::kill_all_children())),
            ..Self::default()
        }
    }
}

impl Default for BuilderAttributes {
    fn default() -> Self {
        Self {
            exit_code: -1,
            conditions: Vec::new(),
            description: String::new(),
            cancel_builder: None,
        }
    }
}

// === impl RunIf ===

impl RunIf {
    /// Whether a builder with these conditions runs in a job whose result so far is `result`.
    pub fn allows(conditions: &[Self], result: JobResult) -> bool {
        if conditions.is_empty() {
            return result == JobResult::Passed;
        }
        conditions.iter().any(|condition| match condition {
            Self::Passed => result == JobResult::Passed,
            Self::Failed => result == JobResult::Failed,
            Self::Any => true,
            Self::Unknown => false,
        })
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RunIfOnWire {
    status: String,
    config_errors: ConfigErrors,
}

impl From<RunIfOnWire> for RunIf {
    fn from(wire: RunIfOnWire) -> Self {
        match wire.status.as_str() {
            "passed" => Self::Passed,
            "failed" => Self::Failed,
            "any" => Self::Any,
            _ => Self::Unknown,
        }
    }
}

impl From<RunIf> for RunIfOnWire {
    fn from(condition: RunIf) -> Self {
        let status = match condition {
            RunIf::Passed => "passed",
            RunIf::Failed => "failed",
            RunIf::Any => "any",
            RunIf::Unknown => "unknown",
        };
        Self {
            status: status.to_owned(),
            config_errors: ConfigErrors::new(),
        }
    }
}

// === impl BuilderForKillAllChildTask ===

impl Default for BuilderForKillAllChildTask {
    fn default() -> Self {
        Self {
            current_process: NoMembers {},
            cancel_attempted: false,
            attributes: BuilderAttributes {
                description: "Kills child processes".to_owned(),
                cancel_builder: Some(Box::new(Builder::null())),
                ..BuilderAttributes::default()
            },
        }
    }
}

// === impl NullBuilder ===

impl Default for NullBuilder {
    fn default() -> Self {
        Self {
            attributes: BuilderAttributes {
                description: "NULL".to_owned(),
                ..BuilderAttributes::default()
            },
        }
    }
}
