//! Releases: the versions of launcher and agent that our own server wants its agents to run.
//!
//! GoCD has nothing like it. Readers skip members they do not know, so that later versions can
//! add signatures and probation.

use serde::{Deserialize, Serialize};

/// `GET`, with the query parameter [`PLATFORM`]: a [`Release`] as JSON.
pub const RELEASE_PATH: &str = "/admin/journeyman/release";
/// Query parameter of [`RELEASE_PATH`]: [`Manifest::platform`].
pub const PLATFORM: &str = "platform";
/// The one [`Manifest::format`] there is.
pub const MANIFEST_FORMAT: u32 = 1;

/// What an agent's machine should run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// The launcher.
    pub launcher: ComponentRelease,
    /// The agent.
    pub agent: ComponentRelease,
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
    /// Number of the build; of two builds the greater is the newer.
    pub build: u64,
    /// Operating system and processor, for example `linux-x86_64`.
    pub platform: String,
    /// How to start it.
    pub entry_point: EntryPoint,
    /// Every file in the package.
    pub files: Vec<ReleaseFile>,
}

/// The parts of Journeyman that are replaced on a running machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Component {
    /// Keeps the agent up to date and running.
    Launcher,
    /// Runs jobs.
    Agent,
}

/// How to start a component.
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

// === impl Component ===

impl Component {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Launcher => "launcher",
            Self::Agent => "agent",
        }
    }
}
