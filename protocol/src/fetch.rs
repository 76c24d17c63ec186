//! Fetch tasks: builders that bring in what another job has published.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    artifact::{ArtifactStore, ConfigurationProperty},
    builder::BuilderAttributes,
    document::Document,
    job::JobIdentifier,
    wire,
};

/// Fetches artifacts of another job from the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FetchArtifactBuilder {
    /// The job that published the artifacts.
    pub job_identifier: JobIdentifier,
    /// File or folder among the artifacts, for the console.
    #[serde(default)]
    pub srcdir: String,
    /// Folder to fetch to, relative to the pipeline's folder, for the console.
    #[serde(default)]
    pub dest: String,
    /// What to fetch and where to put it.
    pub handler: FetchHandler,
    /// Where to put the checksums.
    pub checksum_file_handler: ChecksumFileHandler,
    /// What every builder has.
    #[serde(flatten)]
    pub attributes: BuilderAttributes,
}

/// Fetches an artifact from an artifact store, through a plugin.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FetchPluggableArtifactBuilder {
    /// The job that published the artifact.
    pub job_identifier: JobIdentifier,
    /// Name of the artifact in that job.
    pub artifact_id: String,
    /// Where to put the metadata that the publishing job left at the server.
    #[serde(with = "wire::file")]
    pub metadata_file_dest: PathBuf,
    /// Where to put the checksums.
    pub checksum_file_handler: ChecksumFileHandler,
    /// The store.
    pub artifact_store: ArtifactStore,
    /// What the plugin wants to know about this fetch.
    pub configuration: Vec<ConfigurationProperty>,
    /// `pluggable-artifact-metadata/<pluginId>.json`, among the artifacts of the job.
    pub metadata_file_location_on_server: String,
    /// What every builder has.
    #[serde(flatten)]
    pub attributes: BuilderAttributes,
}

/// What to fetch and where to put it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type")]
pub enum FetchHandler {
    /// A file.
    FileHandler(FileHandler),
    /// A folder, downloaded as a zip.
    DirHandler(DirHandler),
    /// A kind that this version does not know.
    #[serde(untagged)]
    Unknown(Document),
}

/// Fetches one file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FileHandler {
    /// Where to write the file, relative to the agent's directory.
    #[serde(with = "wire::file")]
    pub artifact: PathBuf,
    /// Path among the job's artifacts, and key in its checksum file.
    pub src_file: String,
    /// Always empty in work, but the Java agent needs it.
    pub checksum_validation_publisher: ChecksumValidationPublisher,
}

/// Fetches one folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DirHandler {
    /// The folder among the job's artifacts.
    pub src_file: String,
    /// Folder that it is put into, relative to the agent's directory.
    #[serde(with = "wire::file")]
    pub dest_on_agent: PathBuf,
    /// Always empty in work, but the Java agent needs it.
    pub checksum_validation_publisher: ChecksumValidationPublisher,
}

/// Where to put the checksums of the fetched job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ChecksumFileHandler {
    /// `pipelines/<pipeline>/<dest>/<upstreamPipeline>_<stage>_<job>_md5.checksum`.
    #[serde(with = "wire::file")]
    pub checksum_file: PathBuf,
}

/// State of the Java agent's checksum verification that happens to be on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ChecksumValidationPublisher {
    /// Files without a checksum.
    pub md5_not_found_paths: Vec<String>,
    /// Files with another checksum.
    pub md5_mismatch_paths: Vec<String>,
    /// Whether there was no checksum file at all.
    pub md5_checksum_file_was_not_found: bool,
}

// === impl FetchHandler ===

impl<'de> Deserialize<'de> for FetchHandler {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let document = Document::deserialize(deserializer)?;
        match document.kind.as_str() {
            "FileHandler" => document.read().map(Self::FileHandler),
            "DirHandler" => document.read().map(Self::DirHandler),
            _ => Ok(Self::Unknown(document)),
        }
    }
}
