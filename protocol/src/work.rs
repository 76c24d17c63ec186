//! What a server answers to `get_work`.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::{
    artifact::{ArtifactPlan, ArtifactStore},
    builder::Builder,
    document::Document,
    environment::EnvironmentVariableContext,
    job::JobIdentifier,
    revision::MaterialRevisions,
    wire,
};

/// The answer to `get_work`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type")]
pub enum Work {
    /// Nothing to do now.
    NoWork,
    /// Nothing to do: the agent is disabled.
    DeniedAgentWork {
        /// The agent.
        #[serde(default)]
        uuid: String,
    },
    /// The agent lost its registration just now.
    UnregisteredAgentWork {
        /// Why, for a log.
        message: String,
        /// The agent.
        uuid: String,
    },
    /// A job. This document is its only copy: if it gets lost, so does the job.
    BuildWork(Box<BuildWork>),
    /// Something that this version does not know.
    #[serde(untagged)]
    Unknown(Document),
}

/// A job to run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildWork {
    /// The job.
    pub assignment: BuildAssignment,
    /// Charset of the console log and of what tasks print, as a canonical name such as `UTF-8`.
    #[serde(default = "utf8")]
    pub console_log_charset: String,
}

/// All an agent needs to know about a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BuildAssignment {
    /// Whether to check out materials at all.
    pub fetch_materials: bool,
    /// Whether to empty the working directory first.
    pub clean_working_directory: bool,
    /// The tasks, in order.
    pub builders: Vec<Builder>,
    /// What to publish.
    pub artifact_plans: Vec<ArtifactPlan>,
    /// The stores that external artifact plans name.
    pub artifact_stores: Vec<ArtifactStore>,
    /// `pipelines/<pipelineName>`, relative to the agent's directory.
    #[serde(with = "wire::file")]
    pub build_working_directory: PathBuf,
    /// Which job it is.
    pub job_identifier: JobIdentifier,
    /// Environment variables from the server.
    pub initial_context: EnvironmentVariableContext,
    /// What to check out.
    pub material_revisions: MaterialRevisions,
    /// User who triggered the job, or `changes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approver: Option<String>,
}

/// Finds the job in an answer to `get_work` that could not be read as [`Work`], so that an agent
/// can at least report it as failed.
pub fn find_job(body: &[u8]) -> Option<JobIdentifier> {
    let mut document: Value = serde_json::from_slice(body).ok()?;
    let job = document.pointer_mut("/assignment/jobIdentifier")?.take();
    serde_json::from_value(job).ok()
}

// === impl Work ===

impl<'de> Deserialize<'de> for Work {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let document = Document::deserialize(deserializer)?;
        match document.kind.as_str() {
            "NoWork" => Ok(Self::NoWork),
            "DeniedAgentWork" => document
                .read()
                .map(|Refused { uuid, .. }| Self::DeniedAgentWork { uuid }),
            "UnregisteredAgentWork" => document
                .read()
                .map(|Refused { message, uuid }| Self::UnregisteredAgentWork { message, uuid }),
            "BuildWork" => document.read().map(Self::BuildWork),
            _ => Ok(Self::Unknown(document)),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Refused {
    message: String,
    uuid: String,
}

// === impl BuildWork ===

fn utf8() -> String {
    "UTF-8".to_owned()
}
