//! Which revisions of its materials a job is built from.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{document::Opaque, material::Material, wire};

/// Every material of a pipeline with its modifications.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MaterialRevisions {
    /// One per material, in the order of the pipeline's configuration.
    pub revisions: Vec<MaterialRevision>,
}

/// A material and what is new in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MaterialRevision {
    /// The material.
    pub material: Material,
    /// Newest first: the first is what to check out.
    #[serde(default)]
    pub modifications: Vec<Modification>,
    /// Whether this material triggered the pipeline.
    #[serde(default)]
    pub changed: bool,
}

/// A commit, or a run of an upstream pipeline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Modification {
    /// Author.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_name: Option<String>,
    /// Commit message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Address of the author.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email_address: Option<String>,
    /// Commit; for a dependency `pipeline/counter/stage/stageCounter`.
    pub revision: String,
    /// JSON text from a package or SCM plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub additional_data: Option<String>,
    /// The same, taken apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub additional_data_map: Option<BTreeMap<String, String>>,
    /// When it was made.
    #[serde(with = "wire::date", skip_serializing_if = "Option::is_none")]
    pub modified_time: Option<Timestamp>,
    /// Always empty in work: the server strips it.
    pub files: Vec<ModifiedFile>,
    /// The material as the server's database has it; of no use to an agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub material_instance: Option<Opaque>,
    /// For a dependency: label of the upstream run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pipeline_label: Option<String>,
    /// For a dependency: number of the upstream run in the server's database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pipeline_id: Option<i64>,
    /// Number in the server's database.
    pub id: i64,
}

/// A file touched by a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ModifiedFile {
    /// [`Modification::id`].
    pub modification_id: i64,
    /// Path of the file.
    pub file_name: String,
    /// Folder of the file; absent or empty if `file_name` has it all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder_name: Option<String>,
    /// What happened to it.
    pub action: ModifiedAction,
    /// Number in the server's database.
    pub id: i64,
}

/// What happened to a file. A name that is not known is read as Unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModifiedAction {
    /// It is new.
    Added,
    /// Its content changed.
    Modified,
    /// It is gone.
    Deleted,
    /// None of these.
    #[default]
    #[serde(other)]
    Unknown,
}

// === impl MaterialRevision ===

impl MaterialRevision {
    /// What to check out; absent only if there are no modifications.
    pub fn newest(&self) -> Option<&Modification> {
        self.modifications.first()
    }

    /// The oldest modification that the pipeline has not yet seen.
    pub fn oldest(&self) -> Option<&Modification> {
        self.modifications.last()
    }
}

// === impl ModifiedAction ===

impl fmt::Display for ModifiedAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Added => "added",
            Self::Modified => "modified",
            Self::Deleted => "deleted",
            Self::Unknown => "unknown",
        })
    }
}
