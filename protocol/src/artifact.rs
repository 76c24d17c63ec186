//! What a job publishes, and the stores it publishes to.

use serde::{Deserialize, Serialize};

use crate::secret::Secret;

/// One artifact a job publishes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ArtifactPlan {
    /// Merged test plans; always empty on the wire.
    pub test_artifact_plans_for_merging: Vec<ArtifactPlan>,
    /// [`JobIdentifier::build_id`](crate::job::JobIdentifier::build_id) of the job.
    pub build_id: i64,
    /// What kind of artifact it is.
    pub artifact_plan_type: ArtifactPlanType,
    /// Files and folders to publish: a pattern relative to the job's working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub src: Option<String>,
    /// Folder among the job's artifacts, empty for their root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dest: Option<String>,
    /// For an external artifact: JSON text `{"id":..,"storeId":..,"configuration":{..}}`, which
    /// may hold secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pluggable_artifact_config_json: Option<Secret>,
    /// Number in the server's database, -1 if it has none.
    pub id: i64,
}

/// Where an artifact goes. A name that is not known is read as Unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArtifactPlanType {
    /// To the server.
    File,
    /// To the server, and into the report of test results.
    Unit,
    /// To an artifact store, through a plugin.
    External,
    /// None that we know.
    #[default]
    #[serde(other)]
    Unknown,
}

/// A store outside the server, reached through a plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ArtifactStore {
    /// Name of the store.
    pub id: String,
    /// Plugin that reaches it.
    pub plugin_id: String,
    /// Address, user, password and so on, as the plugin wants them.
    pub configuration: Vec<ConfigurationProperty>,
}

/// A setting for a plugin. Nothing tells secrets from the rest, so `Debug` shows no value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfigurationProperty {
    /// Name of the setting.
    pub key: String,
    /// Value in clear text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Secret>,
}

// === impl ArtifactPlan ===

impl ArtifactPlan {
    /// A plan to publish `src` to `dest` at the server.
    pub fn file(src: impl Into<String>, dest: impl Into<String>) -> Self {
        Self {
            artifact_plan_type: ArtifactPlanType::File,
            src: Some(src.into()),
            dest: Some(dest.into()),
            id: -1,
            ..Self::default()
        }
    }

    /// A plan to publish the test results `src` to `dest` at the server.
    pub fn unit(src: impl Into<String>, dest: impl Into<String>) -> Self {
        Self {
            artifact_plan_type: ArtifactPlanType::Unit,
            ..Self::file(src, dest)
        }
    }
}
