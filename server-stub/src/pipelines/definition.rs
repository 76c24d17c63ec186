//! What a pipeline is, after reading: plain data, kept as JSON with the pipeline and with each of
//! its runs, so that a run goes on with the definition it was started from.

use serde::{Deserialize, Serialize};

/// One pipeline of a configuration repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pipeline {
    pub name: String,
    pub group: String,
    /// Position within the group on the pages; -1 when none was given.
    pub display_order: i64,
    pub label_template: String,
    pub variables: Vec<Variable>,
    pub materials: Vec<Material>,
    pub stages: Vec<Stage>,
}

/// An environment variable. A secure one is masked on the console and shown nowhere.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    pub name: String,
    pub value: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secure: bool,
}

impl std::fmt::Debug for Variable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = if self.secure { "********" } else { &self.value };
        write!(f, "{}={value}", self.name)
    }
}

/// A git repository that a pipeline builds.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Material {
    pub name: String,
    /// May hold credentials; [`super::location::without_credentials`] for anything that is shown.
    pub url: String,
    pub branch: String,
    /// Folder under the pipeline's working directory; the directory itself when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    #[serde(default)]
    pub shallow_clone: bool,
    #[serde(default = "yes")]
    pub auto_update: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

fn yes() -> bool {
    true
}

impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Material")
            .field("name", &self.name)
            .field("url", &super::location::without_credentials(&self.url))
            .field("branch", &self.branch)
            .field("destination", &self.destination)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    pub name: String,
    pub approval: Approval,
    pub fetch_materials: bool,
    pub clean_workspace: bool,
    pub keep_artifacts: bool,
    pub variables: Vec<Variable>,
    pub jobs: Vec<Job>,
}

/// What starts a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Approval {
    /// The stage before it has passed.
    Success,
    /// A person says so, after the stage before it has ended.
    Manual,
    /// A person says so, and the stage before it has passed.
    ManualOnSuccess,
}

impl Approval {
    /// The name in GoCD's answers.
    #[must_use]
    pub fn wire_name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Manual | Self::ManualOnSuccess => "manual",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    pub name: String,
    pub resources: Vec<String>,
    /// Minutes without console output; absent means the server's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u32>,
    pub variables: Vec<Variable>,
    pub artifacts: Vec<Artifact>,
    pub tasks: Vec<Task>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    pub kind: ArtifactKind,
    pub source: String,
    pub destination: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArtifactKind {
    Build,
    Test,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    pub action: Action,
    pub run_if: RunIf,
    /// What a cancel runs in place of ending the job's processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_cancel: Option<Action>,
}

/// What a task does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// A program started directly: no shell, no word splitting.
    Exec {
        command: String,
        arguments: Vec<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        working_directory: Option<String>,
    },
    /// A text that `/bin/sh -c` runs in the pipeline's working directory.
    Script(String),
    /// Brings in what a job of an earlier stage of the same run has published.
    Fetch(Fetch),
}

/// What is fetched from where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    pub stage: String,
    pub job: String,
    /// Path among the job's artifacts.
    pub source: String,
    /// Whether it is a file, and not a folder.
    pub is_file: bool,
    /// Folder below the pipeline's working directory; empty for that itself.
    pub destination: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunIf {
    Passed,
    Failed,
    Any,
}

/// One repository's part of an environment: the same name may stand in several repositories.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    pub name: String,
    pub variables: Vec<Variable>,
    pub pipelines: Vec<String>,
}

/// Everything one revision of a configuration repository defines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    pub pipelines: Vec<Pipeline>,
    pub environments: Vec<Environment>,
}
