//! What a pipeline is, after reading: plain data, kept as JSON with the pipeline and with each of
//! its runs, so that a run goes on with the definition it was started from.

use serde::{Deserialize, Serialize};

use super::names;

/// One pipeline of a configuration repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pipeline {
    pub name: String,
    pub group: String,
    /// Position within the group on the pages; -1 when none was given.
    pub display_order: i64,
    /// Names each run; see [`super::label`]. GoCD's default is the counter alone.
    pub label_template: String,
    /// Whether one run keeps others from starting.
    #[serde(default, skip_serializing_if = "LockBehavior::is_none")]
    pub lock_behavior: LockBehavior,
    /// When runs start by the clock, besides by changes and by people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timer: Option<Timer>,
    /// Where texts such as `BUG-7` in commit messages lead to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracking_tool: Option<TrackingTool>,
    pub variables: Vec<Variable>,
    /// In the order of the file; names are unique, letter case aside.
    pub materials: Vec<Material>,
    /// The template that the stages are from, as the pipeline writes its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    pub stages: Vec<Stage>,
}

impl Pipeline {
    /// The materials that are checked out.
    pub fn git_materials(&self) -> impl Iterator<Item = &GitMaterial> {
        self.materials.iter().filter_map(Material::git)
    }

    /// The stages of other pipelines that this one waits for. Each pipeline stands here once.
    pub fn dependencies(&self) -> impl Iterator<Item = &DependencyMaterial> {
        self.materials.iter().filter_map(Material::dependency)
    }
}

/// Whether a run locks its pipeline: while it is locked no other run starts. Stages of the run that
/// holds the lock may run; a stage of an older run may not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LockBehavior {
    /// No run locks. GoCD's default.
    #[default]
    None,
    /// Locks when a run starts; the end of its last stage unlocks, whatever the result. A run that
    /// fails before, or waits for a person, keeps the lock until a person takes it away.
    LockOnFailure,
    /// Locks when a run starts; unlocks as soon as the run rests: its last stage has ended, a stage
    /// has ended without passing, or the next stage waits for a person.
    UnlockWhenFinished,
}

impl LockBehavior {
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }

    /// The name in files and in GoCD's answers.
    #[must_use]
    pub fn wire_name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::LockOnFailure => "lockOnFailure",
            Self::UnlockWhenFinished => "unlockWhenFinished",
        }
    }
}

/// Starts runs by the clock, as `timer` and with the revisions known by then. Times that pass while
/// the server is down, or the pipeline is paused or locked, are not made up for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// A Quartz cron expression of six or seven fields, seconds first, in the server's time zone.
    /// Checked when it was read.
    pub spec: String,
    /// Whether nothing starts when there is no change since the last run. Default false.
    pub only_on_changes: bool,
}

/// Makes links of what commit messages mention.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackingTool {
    /// An address with `${ID}` in it.
    pub link: String,
    /// A Java regular expression whose first group is the ID. Not checked: treat one that cannot be
    /// used as one that matches nothing.
    pub regex: String,
}

/// An environment variable. A secure one is masked on the console and shown nowhere.
///
/// The value of a secure one may be encrypted (`AES:<iv>:<text>`, both base64) and stays so in the
/// definition; it is decrypted for the agent that gets it.
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

/// What a pipeline is built from.
// Untagged, because documents of earlier versions are those of git materials without a tag. No
// document of one kind has the keys of the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Material {
    Git(GitMaterial),
    Dependency(DependencyMaterial),
}

impl Material {
    /// Its name in the pipeline; unique there, letter case aside.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Git(git) => &git.name,
            Self::Dependency(dependency) => &dependency.name,
        }
    }

    #[must_use]
    pub fn git(&self) -> Option<&GitMaterial> {
        match self {
            Self::Git(git) => Some(git),
            Self::Dependency(_) => None,
        }
    }

    #[must_use]
    pub fn dependency(&self) -> Option<&DependencyMaterial> {
        match self {
            Self::Git(_) => None,
            Self::Dependency(dependency) => Some(dependency),
        }
    }
}

/// A git repository that a pipeline builds.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitMaterial {
    pub name: String,
    /// May hold credentials; [`super::location::without_credentials`] for anything that is shown.
    pub url: String,
    /// A branch, or a refspec such as `refs/pull/7/head:pr7`. GoCD's default is `master`.
    pub branch: String,
    /// Folder under the pipeline's working directory; the directory itself when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// Whether agents fetch as little history as they can. Default false.
    #[serde(default)]
    pub shallow_clone: bool,
    /// Whether the server polls it. Default true; else only a webhook, a notification or a trigger
    /// makes it look.
    #[serde(default = "yes")]
    pub auto_update: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Plain, or encrypted as a secure [`Variable`] may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Which changes start a run.
    #[serde(default, skip_serializing_if = "Filter::is_none")]
    pub filter: Filter,
}

fn yes() -> bool {
    true
}

impl std::fmt::Debug for GitMaterial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GitMaterial")
            .field("name", &self.name)
            .field("url", &super::location::without_credentials(&self.url))
            .field("branch", &self.branch)
            .field("destination", &self.destination)
            .field("filter", &self.filter)
            .finish_non_exhaustive()
    }
}

/// Which changed files start a run. A trigger by a person or a timer does not ask the filter;
/// revisions that it holds back are built along with the next one that it lets through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// Every change does.
    #[default]
    None,
    /// A change does if some file of it matches none of these patterns.
    Ignore(Vec<String>),
    /// A change does if some file of it matches one of these patterns.
    Includes(Vec<String>),
}

impl Filter {
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// A stage of another pipeline: its newest passed run is the revision, written as
/// `pipeline/counter/stage/counter`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DependencyMaterial {
    pub name: String,
    /// The upstream pipeline, which may be defined in another repository. It and its stage existed
    /// when this was taken over; the letter case is the file's, so compare without it.
    pub pipeline: String,
    pub stage: String,
    /// Whether a new run of the stage starts nothing by itself and only joins the next run.
    /// Default false.
    #[serde(default)]
    pub ignore_for_scheduling: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    pub name: String,
    pub approval: Approval,
    /// Who may run it, by hand or once more.
    #[serde(default, skip_serializing_if = "Operators::is_everybody")]
    pub operators: Operators,
    /// Whether agents check out the materials. Default true.
    pub fetch_materials: bool,
    /// Whether agents remove what is not under version control first. Default false.
    pub clean_workspace: bool,
    /// Whether its artifacts are kept when space is made. Default false.
    pub keep_artifacts: bool,
    pub variables: Vec<Variable>,
    pub jobs: Vec<Job>,
}

/// Who may run a stage: those named here, or who has one of the roles.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operators {
    #[serde(default)]
    pub users: Vec<String>,
    #[serde(default)]
    pub roles: Vec<String>,
}

impl Operators {
    /// Nobody is named, so whoever may operate the pipeline's group may run the stage.
    #[must_use]
    pub fn is_everybody(&self) -> bool {
        self.users.is_empty() && self.roles.is_empty()
    }
}

/// What starts a stage. Of the first stage: whether changes start a run, or only a person or a
/// timer does.
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
    /// Minutes without console output, or without an agent, after which it is cancelled; never 0.
    /// Absent means the server's default, which may be never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u32>,
    /// How many times it runs side by side.
    #[serde(default, skip_serializing_if = "Instances::is_one")]
    pub instances: Instances,
    pub variables: Vec<Variable>,
    /// Artifacts that the job's page shows in tabs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tabs: Vec<Tab>,
    pub artifacts: Vec<Artifact>,
    pub tasks: Vec<Task>,
}

impl Job {
    /// The job that a task fetches from which names this one, or one of its instances, in letters of
    /// any case. How many instances there are is not asked (GoCD).
    #[must_use]
    pub fn fetched_as(&self, name: &str) -> Option<String> {
        if name.eq_ignore_ascii_case(&self.name) {
            return Some(self.name.clone());
        }
        let marker = match self.instances {
            Instances::One => return None,
            Instances::Count(_) => names::COUNTED,
            Instances::All => names::ON_ALL,
        };
        let (base, number) = names::instance(name, marker)?;
        base.eq_ignore_ascii_case(&self.name)
            .then(|| format!("{}{marker}{number}", self.name))
    }
}

/// In how many jobs a stage runs one job definition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Instances {
    /// One job under the definition's name.
    #[default]
    One,
    /// So many jobs, named `<name>-runInstance-<n>` with n from 1, on whatever agents there are.
    /// Each has `GO_JOB_RUN_INDEX` (n) and `GO_JOB_RUN_COUNT`. 1 to 1000.
    Count(u32),
    /// One job for each agent that fits when the stage starts, named `<name>-runOnAll-<n>` with n
    /// from 1 and bound to that agent. Without such an agent the stage cannot start.
    All,
}

impl Instances {
    #[must_use]
    pub fn is_one(&self) -> bool {
        *self == Self::One
    }
}

/// A tab of a job's page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tab {
    /// At most 15 characters.
    pub name: String,
    /// Path among the job's artifacts.
    pub path: String,
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
    /// Brings in what another job has published.
    Fetch(Fetch),
    /// A build tool with its own form on the wire.
    Build(Build),
}

/// A run of ant, nant or rake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    pub tool: BuildTool,
    /// The tool's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_file: Option<String>,
    /// One or several, separated by blanks; the build file's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BuildTool {
    Ant,
    Nant {
        /// Folder of the program on the agent; found on the path when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
    },
    Rake,
}

/// What is fetched from where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    /// The way to the job's pipeline: that pipeline first, then each that depends on the one before,
    /// a dependency of this pipeline last. Empty for this very run. Which run of a pipeline: the one
    /// in the dependency revision of the next. Letter case is the file's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ancestors: Vec<String>,
    /// In this run an earlier stage; else one at or before the stage that is depended on.
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
    /// Each pipeline is in one environment at most.
    pub pipelines: Vec<String>,
    /// Agents' UUIDs, in addition to those that an admin has put into the environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<String>,
}

/// Everything one revision of a configuration repository defines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    pub pipelines: Vec<Pipeline>,
    pub environments: Vec<Environment>,
    /// Files of templates, for the pipelines of all repositories.
    pub templates: Vec<TemplateFile>,
}

/// A file that holds templates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateFile {
    /// Path within the repository.
    pub path: String,
    /// SHA-256 of the content.
    pub sha256: String,
    /// The content, which may hold secrets; encrypted as a whole once the configuration is sealed.
    pub content: String,
}
