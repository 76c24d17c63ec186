//! Releases: the versions of launcher and agent that our own server wants its agents to run.
//!
//! GoCD has nothing like it. A machine's launcher says what runs there and how its last upgrade
//! went ([`MachineReport`]) and hears what should run there ([`Answer`]): one call, repeated for
//! ever, each time with the whole truth, so that no single answer or report matters. Readers skip
//! members they do not know.

use std::fmt;

use serde::{Deserialize, Serialize};

/// `POST` of a [`MachineReport`]; answered with an [`Answer`].
///
/// With the headers of the remoting API (`X-Agent-GUID` and token) once the agent is registered;
/// without them a machine only hears what is offered to all.
pub const RELEASE_PATH: &str = "/admin/journeyman/release";
/// The one [`Manifest::format`] there is.
pub const MANIFEST_FORMAT: u32 = 1;
/// What an agent's manifest must have among its [`Manifest::protocols`] for this launcher to be able
/// to hand over to it and to watch it: see [`crate::launcher`].
pub const LAUNCHER_PROTOCOL: &str = "launcher-1";

/// Exit status of [`EntryPoints::take_over`] for what may be otherwise next time, such as a full
/// disk (`EX_TEMPFAIL` of sysexits).
pub const TAKE_OVER_LATER: i32 = 75;

/// What an agent's machine says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MachineReport {
    /// [`Manifest::platform`] of the packages it can use.
    pub platform: String,
    /// Version of the bootstrapper, which never changes by itself.
    pub bootstrapper: Option<String>,
    /// The launcher that speaks.
    pub launcher: Option<Build>,
    /// The agent that `current` leads to.
    pub agent: Option<Build>,
    /// The agent it would go back to.
    pub previous: Option<Build>,
    /// The last upgrade, under way or ended.
    pub upgrade: Option<Upgrade>,
    /// Packages that failed here and are not tried again.
    pub bad: Vec<BadBuild>,
    /// State files that could not be read and were set aside, by name.
    pub set_aside: Vec<String>,
}

/// One build of a component.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Build {
    /// Version for people.
    pub version: String,
    /// Build sequence: of two builds the greater is the newer, whatever their versions say.
    #[serde(default)]
    pub build: u64,
    /// SHA-256 of the package in lower-case hex; empty where it is not known.
    #[serde(default)]
    pub sha256: String,
}

/// A build that failed on a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BadBuild {
    /// Which one.
    pub build: Build,
    /// Launcher or agent.
    pub component: Component,
    /// What happened, for people.
    pub reason: String,
}

/// How an upgrade of a machine goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Upgrade {
    /// What is replaced.
    pub component: Component,
    /// By what.
    pub to: Build,
    /// What ran before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Build>,
    /// How far it has come.
    pub state: UpgradeState,
    /// With [`UpgradeState::Failed`] and [`UpgradeState::RolledBack`]: where and why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The steps of an upgrade. The first two are known to the server alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum UpgradeState {
    /// Offered to the machine, which has not begun.
    Requested,
    /// Will be offered later, within the duration of a rollout.
    Scheduled,
    /// The package comes over the wire.
    Downloading,
    /// Checksum and signature are checked.
    Verifying,
    /// It is unpacked beside the others.
    Unpacking,
    /// The new version was called and does its part.
    HandedOver,
    /// `current` leads to the new version.
    Switched,
    /// It runs and is watched.
    Probation,
    /// It has proved itself.
    Done,
    /// It failed its probation and the one before runs again.
    RolledBack,
    /// It failed before it ran; the one before never stopped.
    Failed,
}

/// What an agent's machine should run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Answer {
    /// Nothing when nothing is offered to this machine: what runs there stays.
    pub release: Option<Release>,
}

/// Launcher and agent, and where to get them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// The launcher.
    pub launcher: ComponentRelease,
    /// The agent.
    pub agent: ComponentRelease,
    /// The bootstrapper, which is offered and never forced: an operator may take it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrapper: Option<ComponentRelease>,
    /// An administrator wants this release even where a newer one runs.
    #[serde(default)]
    pub downgrade: bool,
}

/// A version of a component and where to get it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ComponentRelease {
    /// What is in the package.
    pub manifest: Manifest,
    /// Where the package is.
    pub package: PackageRef,
}

/// A package to download.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PackageRef {
    /// Relative to the server's base URL.
    pub url: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of the package in lower-case hex.
    pub sha256: String,
    /// Signatures of [`signed_text`]; one by a key the machine trusts is enough.
    #[serde(default)]
    pub signatures: Vec<Signature>,
}

/// A signature of a package, in the file `<package>.sig` as [`Signatures`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Signature {
    /// Id of the key: the first 16 digits of the SHA-256 of the public key.
    pub key: String,
    /// Ed25519, base64.
    pub signature: String,
}

/// The content of the file `<package>.sig`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Signatures {
    /// By any number of keys.
    pub signatures: Vec<Signature>,
}

/// What is in a package, which carries this document itself too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// [`MANIFEST_FORMAT`]; a reader must refuse another one.
    pub format: u32,
    /// What the package is.
    pub component: Component,
    /// Version for people, for example `0.1.0`.
    pub version: String,
    /// Build sequence: of two builds the greater is the newer, whatever their versions say.
    pub build: u64,
    /// Operating system and processor, for example `linux-x86_64`.
    pub platform: String,
    /// What it speaks, for example [`LAUNCHER_PROTOCOL`].
    #[serde(default)]
    pub protocols: Vec<String>,
    /// Format of the state that it keeps, and the oldest one that it can migrate. Both 0 for a
    /// component that keeps none.
    #[serde(default)]
    pub state: StateFormats,
    /// How to start it.
    pub entry_points: EntryPoints,
    /// Every file in the package.
    pub files: Vec<ReleaseFile>,
    /// Ids of release keys that no machine trusts any more once it has verified this package with
    /// another key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retired_keys: Vec<String>,
}

/// Formats of the state that an agent keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StateFormats {
    /// The one it writes.
    pub written: u32,
    /// The oldest one it can migrate.
    pub oldest: u32,
}

/// The parts of Journeyman that a release consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Component {
    /// Keeps the agent up to date and running.
    Launcher,
    /// Runs jobs.
    Agent,
    /// Keeps a launcher running. It is copied by an operator and never replaced by us.
    Bootstrapper,
}

/// How to start a component. This, and what is said at each of them, never changes: the version that
/// runs knows nothing else of the one that comes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EntryPoints {
    /// Runs it. `{bootstrapper_version}`, `{launcher_version}` and `{release}` (the name of its
    /// folder in `releases/`) are replaced; the arguments of the connection follow.
    pub start: EntryPoint,
    /// Of an agent: called in the working directory once it is unpacked, with the name of its folder
    /// in `releases/` as the last argument. Checks that it can run here, makes its own state out of
    /// a copy of that of the release before, and switches the link `current` to its folder; then
    /// exits with 0. With any other status nothing has changed, and the last line on standard error
    /// says why: with [`TAKE_OVER_LATER`] it is called again later, with any other never again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub take_over: Option<EntryPoint>,
}

/// A program of a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EntryPoint {
    /// Program, relative to the root of the package.
    pub path: String,
    /// Arguments before all others.
    #[serde(default)]
    pub args: Vec<String>,
}

/// A file of a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseFile {
    /// Relative to the root of the package, with forward slashes.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Unix permission bits, for example 493, which is 0755.
    pub mode: u32,
    /// SHA-256 of the content in lower-case hex.
    pub sha256: String,
}

/// What a signature of a package signs.
pub fn signed_text(package_sha256: &str) -> String {
    format!("journeyman package 1\n{package_sha256}\n")
}

// === impl ComponentRelease ===

impl ComponentRelease {
    /// Which build it is.
    pub fn build(&self) -> Build {
        Build {
            version: self.manifest.version.clone(),
            build: self.manifest.build,
            sha256: self.package.sha256.clone(),
        }
    }
}

// === impl Build ===

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (build {})", self.version, self.build)
    }
}

// === impl UpgradeState ===

impl UpgradeState {
    /// Whether the upgrade has ended.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::RolledBack | Self::Failed)
    }

    /// The name for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Scheduled => "scheduled",
            Self::Downloading => "downloading",
            Self::Verifying => "verifying",
            Self::Unpacking => "unpacking",
            Self::HandedOver => "handed over",
            Self::Switched => "switched",
            Self::Probation => "probation",
            Self::Done => "done",
            Self::RolledBack => "rolled back",
            Self::Failed => "failed",
        }
    }
}

// === impl Component ===

impl Component {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Launcher => "launcher",
            Self::Agent => "agent",
            Self::Bootstrapper => "bootstrapper",
        }
    }
}
