//! What calls about runs of pipelines take and answer.

#![expect(dead_code, reason = "they describe what handlers read and write")]

use serde_json::Value;
use utoipa::ToSchema;

use super::answers::{Link, Links, Pagination};

/// The next and the page before, where there are any.
#[derive(ToSchema)]
pub(super) struct PageLinks {
    next: Option<Link>,
    previous: Option<Link>,
}

#[derive(ToSchema)]
pub(super) struct PipelineStatus {
    paused: bool,
    paused_cause: String,
    paused_by: String,
    locked: bool,
    schedulable: bool,
}

#[derive(ToSchema)]
pub(super) struct Pause {
    pause_cause: Option<String>,
}

#[derive(ToSchema)]
pub(super) struct Comment {
    comment: String,
}

#[derive(ToSchema)]
pub(super) struct GivenVariable {
    name: String,
    value: Option<String>,
    encrypted_value: Option<String>,
    secure: Option<bool>,
}

#[derive(ToSchema)]
pub(super) struct GivenRevision {
    fingerprint: String,
    revision: String,
}

#[derive(ToSchema)]
pub(super) struct Schedule {
    environment_variables: Option<Vec<GivenVariable>>,
    materials: Option<Vec<GivenRevision>>,
    update_materials_before_scheduling: Option<bool>,
}

#[derive(ToSchema)]
pub(super) struct Scheduled {
    message: String,
    /// Of the run that was made; GoCD does not say.
    counter: i64,
}

#[derive(ToSchema)]
pub(super) struct TriggerLinks {
    #[schema(rename = "self")]
    own: Link,
    doc: Link,
    schedule: Link,
}

#[derive(ToSchema)]
pub(super) struct TriggerVariable {
    name: String,
    secure: bool,
    /// Not of a secure one.
    value: Option<String>,
}

/// The newest revision that was seen, and the one of the last run.
#[derive(ToSchema)]
pub(super) struct TriggerRevision {
    /// RFC 3339.
    date: Option<String>,
    user: Option<String>,
    comment: Option<String>,
    revision: Option<String>,
    last_run_revision: Option<String>,
}

#[derive(ToSchema)]
pub(super) struct TriggerMaterial {
    name: Option<String>,
    fingerprint: String,
    #[schema(rename = "type")]
    kind: String,
    description: String,
    folder: Option<String>,
    revision: TriggerRevision,
}

#[derive(ToSchema)]
pub(super) struct TriggerOptions {
    _links: TriggerLinks,
    variables: Vec<TriggerVariable>,
    materials: Vec<TriggerMaterial>,
}

#[derive(ToSchema)]
pub(super) struct Material {
    name: Option<String>,
    fingerprint: String,
    #[schema(rename = "type")]
    kind: String,
    description: String,
}

#[derive(ToSchema)]
pub(super) struct Modification {
    revision: Option<String>,
    /// Milliseconds since the epoch.
    modified_time: Option<i64>,
    user_name: Option<String>,
    comment: Option<String>,
    email_address: Option<String>,
}

#[derive(ToSchema)]
pub(super) struct MaterialRevision {
    changed: bool,
    material: Material,
    modifications: Vec<Modification>,
}

#[derive(ToSchema)]
pub(super) struct BuildCause {
    trigger_message: String,
    trigger_forced: bool,
    approver: String,
    material_revisions: Vec<MaterialRevision>,
}

#[derive(ToSchema)]
pub(super) struct BriefJob {
    name: String,
    /// Milliseconds since the epoch.
    scheduled_date: i64,
    state: String,
    result: String,
}

#[derive(ToSchema)]
pub(super) struct RunStage {
    result: String,
    status: String,
    rerun_of_counter: Option<i64>,
    name: String,
    counter: String,
    scheduled: bool,
    approval_type: String,
    approved_by: Option<String>,
    cancelled_by: Option<String>,
    operate_permission: bool,
    can_run: bool,
    jobs: Vec<BriefJob>,
}

/// A run of a pipeline.
#[derive(ToSchema)]
pub(super) struct Run {
    name: String,
    counter: i64,
    label: String,
    natural_order: f64,
    can_run: bool,
    preparing_to_schedule: bool,
    comment: Option<String>,
    /// Milliseconds since the epoch.
    scheduled_date: i64,
    build_cause: BuildCause,
    stages: Vec<RunStage>,
}

#[derive(ToSchema)]
pub(super) struct Runs {
    _links: Option<PageLinks>,
    pipelines: Vec<Run>,
    pagination: Option<Pagination>,
}

#[derive(ToSchema)]
pub(super) struct JobState {
    state: String,
    /// Milliseconds since the epoch.
    state_change_time: i64,
}

#[derive(ToSchema)]
pub(super) struct Job {
    name: String,
    state: String,
    result: String,
    original_job_id: Option<i64>,
    /// Milliseconds since the epoch.
    scheduled_date: i64,
    rerun: bool,
    agent_uuid: Option<String>,
    pipeline_name: Option<String>,
    pipeline_counter: Option<i64>,
    stage_name: Option<String>,
    stage_counter: Option<String>,
    job_state_transitions: Vec<JobState>,
}

#[derive(ToSchema)]
pub(super) struct Jobs {
    _links: Option<PageLinks>,
    jobs: Vec<Job>,
    pagination: Option<Pagination>,
}

#[derive(ToSchema)]
pub(super) struct Stage {
    name: String,
    counter: i64,
    approval_type: Option<String>,
    approved_by: String,
    cancelled_by: Option<String>,
    /// Milliseconds since the epoch.
    scheduled_at: i64,
    last_transitioned_time: Option<i64>,
    result: String,
    rerun_of_counter: Option<i64>,
    fetch_materials: bool,
    clean_working_directory: bool,
    artifacts_deleted: bool,
    pipeline_name: String,
    pipeline_counter: i64,
    jobs: Vec<Job>,
}

#[derive(ToSchema)]
pub(super) struct PastStage {
    name: String,
    counter: String,
    approval_type: Option<String>,
    approved_by: String,
    cancelled_by: Option<String>,
    /// Milliseconds since the epoch.
    scheduled_at: i64,
    result: String,
    status: String,
    rerun_of_counter: Option<i64>,
    pipeline_name: String,
    pipeline_counter: i64,
    jobs: Vec<Job>,
}

#[derive(ToSchema)]
pub(super) struct Stages {
    _links: Option<PageLinks>,
    stages: Vec<PastStage>,
    pagination: Option<Pagination>,
}

#[derive(ToSchema)]
pub(super) struct JobNames {
    jobs: Vec<String>,
}

#[derive(ToSchema)]
pub(super) struct Change {
    material: Value,
    revision: Vec<Value>,
}

#[derive(ToSchema)]
pub(super) struct Comparison {
    _links: Links,
    pipeline_name: String,
    from_counter: i64,
    to_counter: i64,
    is_bisect: bool,
    changes: Vec<Change>,
}

#[derive(ToSchema)]
pub(super) struct Members {
    _links: Links,
    name: String,
    pipelines: Vec<String>,
    can_administer: bool,
    defines_pipelines: bool,
}

#[derive(ToSchema)]
pub(super) struct PauseInfo {
    paused: bool,
    paused_by: Option<String>,
    pause_reason: Option<String>,
    paused_at: Option<String>,
}

#[derive(ToSchema)]
pub(super) struct TemplateInfo {
    is_using_template: bool,
    template_name: Option<String>,
}

#[derive(ToSchema)]
pub(super) struct TrackingTool {
    regex: String,
    link: String,
}

#[derive(ToSchema)]
pub(super) struct PreviousStage {
    _links: Links,
    name: String,
    counter: String,
    status: String,
}

#[derive(ToSchema)]
pub(super) struct CardStage {
    _links: Links,
    name: String,
    counter: String,
    status: String,
    allow_only_on_success_of_previous_stage: bool,
    can_operate: bool,
    /// `auto` or `manual`.
    approval_type: String,
    approved_by: Option<String>,
    cancelled_by: Option<String>,
    scheduled_at: Option<String>,
    previous_stage: Option<PreviousStage>,
}

#[derive(ToSchema)]
pub(super) struct EmbeddedCardStages {
    stages: Vec<CardStage>,
}

#[derive(ToSchema)]
pub(super) struct CardRun {
    _links: Links,
    label: String,
    counter: i64,
    triggered_by: String,
    scheduled_at: String,
    _embedded: EmbeddedCardStages,
}

#[derive(ToSchema)]
pub(super) struct EmbeddedCardRuns {
    instances: Vec<CardRun>,
}

#[derive(ToSchema)]
pub(super) struct Card {
    _links: Links,
    name: String,
    /// Milliseconds since the epoch.
    last_updated_timestamp: i64,
    locked: bool,
    pause_info: PauseInfo,
    template_info: TemplateInfo,
    can_operate: bool,
    can_administer: bool,
    can_unlock: bool,
    can_pause: bool,
    from_config_repo: bool,
    config_repo_id: String,
    config_repo_material_url: String,
    tracking_tool: Option<TrackingTool>,
    _embedded: EmbeddedCardRuns,
}

#[derive(ToSchema)]
pub(super) struct EmbeddedDashboard {
    pipeline_groups: Vec<Members>,
    environments: Vec<Members>,
    pipelines: Vec<Card>,
}

#[derive(ToSchema)]
pub(super) struct Dashboard {
    _links: Links,
    _personalization: String,
    _embedded: EmbeddedDashboard,
}

#[derive(ToSchema)]
pub(super) struct OldStage {
    name: String,
}

#[derive(ToSchema)]
pub(super) struct OldMaterial {
    #[schema(rename = "type")]
    kind: String,
    description: String,
    fingerprint: String,
}

#[derive(ToSchema)]
pub(super) struct OldPipeline {
    name: String,
    label: String,
    materials: Vec<OldMaterial>,
    stages: Vec<OldStage>,
}

#[derive(ToSchema)]
pub(super) struct OldGroup {
    name: String,
    pipelines: Vec<OldPipeline>,
}

#[derive(ToSchema)]
pub(super) struct Modifications {
    _links: Option<PageLinks>,
    modifications: Vec<Modification>,
}
