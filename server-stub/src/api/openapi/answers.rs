//! What calls about the server and its configuration take and answer.
//!
//! These types are only described, never made: handlers write what they answer themselves.

#![expect(dead_code, reason = "they describe what handlers read and write")]

use std::collections::HashMap;

use serde_json::Value;
use utoipa::ToSchema;

#[derive(ToSchema)]
pub(super) struct Backup {
    _links: Links,
    time: String,
    path: String,
    /// `IN_PROGRESS`, `COMPLETED`, `ERROR` or `ABORTED`.
    status: String,
    progress_status: Option<String>,
    message: String,
    user: UserSummary,
}

#[derive(ToSchema)]
pub(super) struct UserSummary {
    _links: Links,
    login_name: String,
}

#[derive(ToSchema)]
pub(super) struct MaintenanceInfo {
    _links: Links,
    is_maintenance_mode: bool,
    metadata: MaintenanceMetadata,
    /// What is under way; in maintenance only.
    attributes: Option<MaintenanceAttributes>,
}

#[derive(ToSchema)]
pub(super) struct MaintenanceMetadata {
    updated_by: String,
    updated_on: String,
}

#[derive(ToSchema)]
pub(super) struct MaintenanceAttributes {
    has_running_systems: bool,
    running_systems: RunningSystems,
}

#[derive(ToSchema)]
pub(super) struct RunningSystems {
    material_update_in_progress: Vec<Value>,
    building_jobs: Vec<MaintenanceJob>,
    scheduled_jobs: Vec<MaintenanceJob>,
}

#[derive(ToSchema)]
pub(super) struct MaintenanceJob {
    pipeline_name: String,
    pipeline_counter: i64,
    stage_name: String,
    stage_counter: String,
    name: String,
    state: String,
    scheduled_date: String,
    agent_uuid: Option<String>,
}

/// What was done, or why it was not.
#[derive(ToSchema)]
pub(super) struct Message {
    message: String,
}

#[derive(ToSchema)]
pub(super) struct Link {
    href: String,
}

/// Addresses of the same thing, of its description, and of others like it.
#[derive(ToSchema)]
pub(super) struct Links {
    #[schema(rename = "self")]
    own: Option<Link>,
    doc: Option<Link>,
    find: Option<Link>,
}

#[derive(ToSchema)]
pub(super) struct Version {
    _links: Links,
    version: String,
    build_number: String,
    git_sha: String,
    full_version: String,
    commit_url: String,
}

#[derive(ToSchema)]
pub(super) struct Health {
    health: String,
}

#[derive(ToSchema)]
pub(super) struct HealthMessage {
    message: String,
    detail: String,
    /// `ERROR` or `WARNING`.
    level: String,
    time: String,
}

#[derive(ToSchema)]
pub(super) struct Names {
    view: Vec<String>,
    administer: Vec<String>,
}

/// By kind: `environment`, `config_repo`.
#[derive(ToSchema)]
pub(super) struct Permissions {
    permissions: HashMap<String, Names>,
}

#[derive(ToSchema)]
pub(super) struct ToEncrypt {
    value: String,
}

#[derive(ToSchema)]
pub(super) struct Encrypted {
    _links: Links,
    encrypted_value: String,
}

#[derive(ToSchema)]
pub(super) struct DefaultJobTimeout {
    _links: Option<Links>,
    /// Minutes; 0 is never.
    default_job_timeout: String,
}

// --- users

#[derive(ToSchema)]
pub(super) struct CurrentUser {
    _links: Links,
    login_name: String,
    display_name: String,
    enabled: bool,
    email: Option<String>,
    email_me: bool,
    checkin_aliases: Vec<String>,
}

#[derive(ToSchema)]
pub(super) struct UserChange {
    email: Option<String>,
    email_me: Option<bool>,
    checkin_aliases: Option<Vec<String>>,
}

#[derive(ToSchema)]
pub(super) struct User {
    _links: Links,
    login_name: String,
    display_name: String,
    enabled: bool,
    email: Option<String>,
    email_me: bool,
    checkin_aliases: Vec<String>,
    is_admin: bool,
    roles: Vec<Value>,
}

#[derive(ToSchema)]
pub(super) struct EmbeddedUsers {
    users: Vec<User>,
}

#[derive(ToSchema)]
pub(super) struct Users {
    _links: Links,
    _embedded: EmbeddedUsers,
}

#[derive(ToSchema)]
pub(super) struct AccessToken {
    _links: Links,
    id: i64,
    description: String,
    username: String,
    revoked: bool,
    revoke_cause: Option<String>,
    revoked_by: Option<String>,
    revoked_at: Option<String>,
    created_at: String,
    last_used_at: Option<String>,
    revoked_because_user_deleted: bool,
    /// Only when it is made.
    token: Option<String>,
}

#[derive(ToSchema)]
pub(super) struct EmbeddedTokens {
    access_tokens: Vec<AccessToken>,
}

#[derive(ToSchema)]
pub(super) struct AccessTokens {
    _links: Links,
    _embedded: EmbeddedTokens,
}

#[derive(ToSchema)]
pub(super) struct NewToken {
    description: Option<String>,
}

#[derive(ToSchema)]
pub(super) struct Revocation {
    revoke_cause: Option<String>,
}

// --- agents

#[derive(ToSchema)]
pub(super) struct Origin {
    /// `gocd` or `config-repo`.
    #[schema(rename = "type")]
    kind: String,
    _links: Links,
}

#[derive(ToSchema)]
pub(super) struct AgentEnvironment {
    name: String,
    origin: Origin,
}

#[derive(ToSchema)]
pub(super) struct BuildLinks {
    job: Link,
    stage: Link,
    pipeline: Link,
}

#[derive(ToSchema)]
pub(super) struct BuildDetails {
    _links: BuildLinks,
    pipeline_name: String,
    stage_name: String,
    job_name: String,
}

#[derive(ToSchema)]
pub(super) struct Agent {
    _links: Links,
    uuid: String,
    hostname: String,
    ip_address: String,
    sandbox: String,
    operating_system: String,
    /// `Pending`, `Enabled` or `Disabled`.
    agent_config_state: String,
    /// `Idle`, `Building`, `LostContact`, `Missing` or `Unknown`.
    agent_state: String,
    agent_version: String,
    agent_bootstrapper_version: String,
    environments: Vec<AgentEnvironment>,
    /// `Idle`, `Building`, `Cancelled` or `Unknown`.
    build_state: String,
    /// Bytes, or `unknown`.
    free_space: Value,
    resources: Option<Vec<String>>,
    elastic_agent_id: Option<String>,
    elastic_plugin_id: Option<String>,
    build_details: Option<BuildDetails>,
    /// What its machine says of releases; GoCD has no such field.
    journeyman: Option<Value>,
}

#[derive(ToSchema)]
pub(super) struct EmbeddedAgents {
    agents: Vec<Agent>,
}

#[derive(ToSchema)]
pub(super) struct Agents {
    _links: Links,
    _embedded: EmbeddedAgents,
}

#[derive(ToSchema)]
pub(super) struct AgentChange {
    hostname: Option<String>,
    agent_config_state: Option<String>,
    /// A list, or one text with commas.
    resources: Option<Value>,
    environments: Option<Value>,
}

#[derive(ToSchema)]
pub(super) struct ListChange {
    add: Option<Vec<String>>,
    remove: Option<Vec<String>>,
}

#[derive(ToSchema)]
pub(super) struct Operations {
    environments: Option<ListChange>,
    resources: Option<ListChange>,
}

#[derive(ToSchema)]
pub(super) struct AgentsChange {
    uuids: Vec<String>,
    operations: Option<Operations>,
    agent_config_state: Option<String>,
}

#[derive(ToSchema)]
pub(super) struct Uuids {
    uuids: Vec<String>,
}

#[derive(ToSchema)]
pub(super) struct DatedState {
    state_change_time: String,
    state: String,
}

#[derive(ToSchema)]
pub(super) struct DoneJob {
    job_state_transitions: Vec<DatedState>,
    job_name: String,
    stage_name: String,
    stage_counter: String,
    pipeline_name: String,
    pipeline_counter: i64,
    result: String,
    rerun: bool,
}

#[derive(ToSchema)]
pub(super) struct Pagination {
    page_size: i64,
    offset: i64,
    total: i64,
}

#[derive(ToSchema)]
pub(super) struct AgentHistory {
    _links: Links,
    uuid: String,
    jobs: Vec<DoneJob>,
    pagination: Pagination,
}

// --- configuration

#[derive(ToSchema)]
pub(super) struct Named {
    _links: Option<Links>,
    name: String,
}

#[derive(ToSchema)]
pub(super) struct Variable {
    secure: bool,
    name: String,
    value: Option<String>,
    encrypted_value: Option<String>,
}

#[derive(ToSchema)]
pub(super) struct Environment {
    _links: Links,
    name: String,
    pipelines: Vec<Named>,
    environment_variables: Vec<Variable>,
}

#[derive(ToSchema)]
pub(super) struct EmbeddedEnvironments {
    environments: Vec<Environment>,
}

#[derive(ToSchema)]
pub(super) struct Environments {
    _links: Links,
    _embedded: EmbeddedEnvironments,
}

#[derive(ToSchema)]
pub(super) struct PipelineOrigin {
    _links: Links,
    #[schema(rename = "type")]
    kind: String,
    id: String,
}

/// A material, a task, or a tracking tool; the attributes depend on the type.
#[derive(ToSchema)]
pub(super) struct Typed {
    #[schema(rename = "type")]
    kind: String,
    attributes: HashMap<String, Value>,
}

#[derive(ToSchema)]
pub(super) struct Timer {
    spec: String,
    only_on_changes: bool,
}

#[derive(ToSchema)]
pub(super) struct Authorization {
    users: Vec<String>,
    roles: Vec<String>,
}

#[derive(ToSchema)]
pub(super) struct Approval {
    #[schema(rename = "type")]
    kind: String,
    allow_only_on_success: bool,
    authorization: Authorization,
}

#[derive(ToSchema)]
pub(super) struct Tab {
    name: String,
    path: String,
}

#[derive(ToSchema)]
pub(super) struct ConfiguredArtifact {
    #[schema(rename = "type")]
    kind: String,
    source: String,
    destination: String,
}

#[derive(ToSchema)]
pub(super) struct ConfiguredJob {
    name: String,
    /// None, a number, or `all`.
    run_instance_count: Value,
    /// Minutes.
    timeout: Option<i64>,
    environment_variables: Vec<Variable>,
    resources: Vec<String>,
    tasks: Vec<Typed>,
    tabs: Vec<Tab>,
    artifacts: Vec<ConfiguredArtifact>,
}

#[derive(ToSchema)]
pub(super) struct ConfiguredStage {
    name: String,
    fetch_materials: bool,
    clean_working_directory: bool,
    never_cleanup_artifacts: bool,
    approval: Approval,
    environment_variables: Vec<Variable>,
    jobs: Vec<ConfiguredJob>,
}

#[derive(ToSchema)]
pub(super) struct PipelineConfig {
    _links: Links,
    label_template: String,
    lock_behavior: String,
    name: String,
    template: Option<String>,
    group: String,
    display_order_weight: i64,
    origin: PipelineOrigin,
    parameters: Vec<Value>,
    environment_variables: Vec<Variable>,
    materials: Vec<Typed>,
    stages: Vec<ConfiguredStage>,
    tracking_tool: Option<Typed>,
    timer: Option<Timer>,
}

#[derive(ToSchema)]
pub(super) struct GroupAuthorization {
    view: Authorization,
    operate: Authorization,
    admins: Authorization,
}

#[derive(ToSchema)]
pub(super) struct Group {
    _links: Links,
    name: String,
    authorization: GroupAuthorization,
    pipelines: Vec<Named>,
}

#[derive(ToSchema)]
pub(super) struct EmbeddedGroups {
    groups: Vec<Group>,
}

#[derive(ToSchema)]
pub(super) struct Groups {
    _links: Links,
    _embedded: EmbeddedGroups,
}

#[derive(ToSchema)]
pub(super) struct Rule {
    directive: String,
    action: String,
    #[schema(rename = "type")]
    kind: String,
    resource: String,
}

#[derive(ToSchema)]
pub(super) struct Revision {
    revision: String,
}

#[derive(ToSchema)]
pub(super) struct ParseInfo {
    error: Option<String>,
    latest_parsed_modification: Option<Revision>,
    good_modification: Option<Revision>,
    checked_at: Option<String>,
}

#[derive(ToSchema)]
pub(super) struct ConfigRepo {
    _links: Links,
    id: String,
    plugin_id: String,
    material: Typed,
    configuration: Vec<Value>,
    rules: Vec<Rule>,
    material_update_in_progress: bool,
    parse_info: ParseInfo,
}

#[derive(ToSchema)]
pub(super) struct NewConfigRepo {
    id: Option<String>,
    plugin_id: Option<String>,
    material: Typed,
    configuration: Option<Vec<Value>>,
    rules: Option<Vec<Value>>,
}

#[derive(ToSchema)]
pub(super) struct EmbeddedConfigRepos {
    config_repos: Vec<ConfigRepo>,
}

#[derive(ToSchema)]
pub(super) struct ConfigRepos {
    _links: Links,
    _embedded: EmbeddedConfigRepos,
}

#[derive(ToSchema)]
pub(super) struct ConfigRepoStatus {
    in_progress: bool,
}

#[derive(ToSchema)]
pub(super) struct DefinedGroup {
    name: String,
    pipelines: Vec<Named>,
}

#[derive(ToSchema)]
pub(super) struct Definitions {
    environments: Vec<Named>,
    groups: Vec<DefinedGroup>,
}

#[derive(ToSchema)]
pub(super) struct Preflight {
    errors: Vec<String>,
    valid: bool,
}

#[derive(ToSchema)]
pub(super) struct UsedMaterial {
    #[schema(rename = "type")]
    kind: String,
    fingerprint: String,
    attributes: HashMap<String, Value>,
}

#[derive(ToSchema)]
pub(super) struct EmbeddedMaterials {
    materials: Vec<UsedMaterial>,
}

#[derive(ToSchema)]
pub(super) struct Materials {
    _links: Links,
    _embedded: EmbeddedMaterials,
}

#[derive(ToSchema)]
pub(super) struct Repository {
    repository_url: String,
}
