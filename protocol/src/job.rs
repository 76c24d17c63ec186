//! Jobs: their names, states and results.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::files::encode_path;

/// Which run of which job: pipeline, stage and job with their counters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobIdentifier {
    /// Name of the pipeline.
    pub pipeline_name: String,
    /// Run of the pipeline, from 1.
    pub pipeline_counter: i32,
    /// The run's label as people see it, for example `1.0.42`.
    pub pipeline_label: String,
    /// Name of the stage.
    pub stage_name: String,
    /// Name of the job.
    pub build_name: String,
    /// Number of the job in the server's database; 0 in fetch tasks.
    pub build_id: i64,
    /// Run of the stage, from `1`; `latest` in fetch tasks.
    pub stage_counter: String,
    /// The run this one repeats, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rerun_of_counter: Option<i32>,
}

/// Where a job is on its way. An agent reports Preparing, Building and Completing, and Completed
/// for a job it was told to ignore. A name that is not known is read as Unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum JobState {
    /// Waits for an agent.
    Scheduled,
    /// Given to an agent.
    Assigned,
    /// The agent checks out materials and sets up the environment.
    Preparing,
    /// The agent runs tasks.
    Building,
    /// The agent uploads artifacts.
    Completing,
    /// All is done, whatever the result.
    Completed,
    /// Used by the server only.
    Discontinued,
    /// Replaced by a copy, after its agent was lost.
    Rescheduled,
    /// Used by the server only.
    Paused,
    /// Used by the server only.
    Waiting,
    /// No state that we know.
    #[default]
    #[serde(other)]
    Unknown,
}

/// How a job ended. A name that is not known is read as Unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum JobResult {
    /// Every task passed, and every artifact was uploaded.
    Passed,
    /// A task or an upload failed, or the job could not be prepared.
    Failed,
    /// Broken off by a user.
    Cancelled,
    /// None yet, or none that we know.
    #[default]
    #[serde(other)]
    Unknown,
}

// === impl JobIdentifier ===

impl JobIdentifier {
    /// `pipeline/counter/stage/stageCounter/job`, encoded as a URI path. The label stands in
    /// for the counter if that is 0.
    pub fn locator(&self) -> String {
        if self.pipeline_counter == 0 {
            return encode_path(&self.display_locator());
        }
        encode_path(&self.locate_by(&self.pipeline_counter))
    }

    /// `pipeline/label/stage/stageCounter/job`, as console lines and the agents page show it.
    pub fn display_locator(&self) -> String {
        self.locate_by(&self.pipeline_label)
    }

    fn locate_by(&self, run: &dyn fmt::Display) -> String {
        let Self {
            pipeline_name,
            stage_name,
            stage_counter,
            build_name,
            ..
        } = self;
        format!("{pipeline_name}/{run}/{stage_name}/{stage_counter}/{build_name}")
    }
}

// === impl JobState ===

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

// === impl JobResult ===

impl JobResult {
    /// The lower-case name, as in run-if conditions and the line `Current job status: passed`.
    pub const fn lower_case(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for JobResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
