//! What the calls take and answer that GoCD does not have.

#![expect(dead_code, reason = "they describe what handlers read and write")]

use serde_json::Value;
use utoipa::ToSchema;

use super::answers::{Link, Links};
use super::runs::PageLinks;

#[derive(ToSchema)]
pub(super) struct AuditEntry {
    id: i64,
    /// Milliseconds since the epoch.
    at: i64,
    actor: String,
    address: String,
    action: String,
    status: i64,
    detail: String,
}

#[derive(ToSchema)]
pub(super) struct Audit {
    _links: Option<PageLinks>,
    entries: Vec<AuditEntry>,
}

#[derive(ToSchema)]
pub(super) struct Grant {
    /// `view`, `operate` or `admin`.
    role: String,
    /// `*` is all groups.
    group: Option<String>,
}

#[derive(ToSchema)]
pub(super) struct Account {
    name: String,
    roles: Vec<Grant>,
    /// `here`, `file` or `none`.
    password: String,
    /// Whether the OpenID provider vouches for the user.
    sign_in: bool,
}

#[derive(ToSchema)]
pub(super) struct Accounts {
    users: Vec<Account>,
}

#[derive(ToSchema)]
pub(super) struct SetAccount {
    password: Option<String>,
    roles: Option<Vec<Grant>>,
    /// Whether the OpenID provider vouches for the user.
    sign_in: Option<bool>,
    /// Only make a user who is not there yet.
    new: Option<bool>,
}

#[derive(ToSchema)]
pub(super) struct ArtifactSummary {
    path: String,
    size: i64,
    sha256: String,
    url: String,
}

#[derive(ToSchema)]
pub(super) struct StateChange {
    state: String,
    /// Milliseconds since the epoch.
    at: i64,
}

#[derive(ToSchema)]
pub(super) struct JobSummary {
    id: i64,
    stage: String,
    stage_counter: i64,
    name: String,
    state: String,
    result: String,
    agent: Option<String>,
    transitions: Vec<StateChange>,
    artifacts: Vec<ArtifactSummary>,
    page: String,
}

#[derive(ToSchema)]
pub(super) struct RunSummary {
    pipeline: String,
    counter: i64,
    label: String,
    state: String,
    active: bool,
    trigger_message: String,
    /// Milliseconds since the epoch.
    scheduled_at: i64,
    jobs: Vec<JobSummary>,
    waiting: Vec<String>,
    page: String,
}

#[derive(ToSchema)]
pub(super) struct PipelineSummary {
    name: String,
    group: String,
    repository: String,
    latest: Option<RunSummary>,
}

#[derive(ToSchema)]
pub(super) struct Package {
    component: String,
    platform: String,
    size: i64,
    sha256: String,
    signed_by: Vec<String>,
    from_folder: bool,
}

#[derive(ToSchema)]
pub(super) struct AddedPackage {
    component: String,
    platform: String,
    size: i64,
    sha256: String,
    signed_by: Vec<String>,
    from_folder: bool,
    release: String,
    changed: bool,
}

#[derive(ToSchema)]
pub(super) struct Offer {
    id: i64,
    to: String,
    from_folder: bool,
    over_seconds: i64,
    downgrade: bool,
    stop_at_percent: i64,
    /// Milliseconds since the epoch.
    started_at: i64,
    ended_at: Option<i64>,
    end: Option<String>,
    end_reason: Option<String>,
    asked: i64,
    done: i64,
    failed: i64,
}

#[derive(ToSchema)]
pub(super) struct Release {
    _links: Links,
    id: String,
    version: String,
    build: i64,
    /// Milliseconds since the epoch.
    added_at: i64,
    offered: bool,
    status: String,
    /// Machines that run it.
    running: Value,
    /// Machines by the state of their upgrade.
    states: Value,
    packages: Vec<Package>,
    offers: Vec<Offer>,
    /// Only of one release.
    machines: Option<Vec<Value>>,
}

#[derive(ToSchema)]
pub(super) struct EmbeddedReleases {
    releases: Vec<Release>,
}

#[derive(ToSchema)]
pub(super) struct ReleasesLinks {
    #[schema(rename = "self")]
    own: Link,
}

#[derive(ToSchema)]
pub(super) struct Releases {
    _links: ReleasesLinks,
    _embedded: EmbeddedReleases,
}

#[derive(ToSchema)]
pub(super) struct NewOffer {
    to: Option<String>,
    over: Option<String>,
    downgrade: Option<bool>,
    stop_at: Option<String>,
}

#[derive(ToSchema)]
pub(super) struct Offered {
    message: String,
    warnings: Vec<String>,
    offer: Offer,
}

#[derive(ToSchema)]
pub(super) struct Withdrawal {
    /// The id of one offer; all when it is left out.
    offer: Option<i64>,
}

#[derive(ToSchema)]
pub(super) struct Signatures {
    signatures: Vec<Value>,
}

#[derive(ToSchema)]
pub(super) struct Pin {
    reason: Option<String>,
}
