//! The calls of the API.

use http::Method;

use super::Call;
use super::answers::*;
use super::own::*;
use super::runs::*;

const XML: &str = "application/xml";

fn get(path: &'static str, version: u32, summary: &'static str) -> Call {
    Call::new(Method::GET, path, version, summary)
}

fn post(path: &'static str, version: u32, summary: &'static str) -> Call {
    Call::new(Method::POST, path, version, summary)
}

fn put(path: &'static str, version: u32, summary: &'static str) -> Call {
    Call::new(Method::PUT, path, version, summary)
}

fn patch(path: &'static str, version: u32, summary: &'static str) -> Call {
    Call::new(Method::PATCH, path, version, summary)
}

fn delete(path: &'static str, version: u32, summary: &'static str) -> Call {
    Call::new(Method::DELETE, path, version, summary)
}

/// Every call.
pub(super) fn all() -> impl Iterator<Item = Call> {
    server()
        .into_iter()
        .chain(users())
        .chain(agents())
        .chain(configuration())
        .chain(pipelines())
        .chain(stages_and_jobs())
        .chain(views())
        .chain(files())
        .chain(own())
}

fn server() -> Vec<Call> {
    vec![
        get("/go/api/openapi.json", 0, "This description").answers_any(),
        get(
            "/go/api/version",
            1,
            "The version of GoCD whose API this is",
        )
        .answers::<Version>(),
        get(
            "/go/api/v1/ready",
            0,
            "Whether the server can do its work; 503 if not",
        )
        .answers_any(),
        get("/metrics", 0, "Figures for Prometheus").answers_text("application/openmetrics-text"),
        get("/go/api/v1/health", 0, "Whether the server answers").answers::<Health>(),
        get(
            "/go/api/server_health_messages",
            1,
            "What is wrong just now",
        )
        .answers_list::<HealthMessage>(),
        get(
            "/go/api/auth/permissions",
            1,
            "What the caller may see and change",
        )
        .answers::<Permissions>(),
        get(
            "/go/api/admin/config/server/default_job_timeout",
            1,
            "Minutes of silence after which a job is cancelled",
        )
        .answers::<DefaultJobTimeout>(),
        post(
            "/go/api/admin/config/server/default_job_timeout",
            1,
            "Set it; 0 is never",
        )
        .takes::<DefaultJobTimeout>()
        .answers::<DefaultJobTimeout>(),
        put(
            "/go/api/admin/config/server/default_job_timeout",
            1,
            "Set it; 0 is never",
        )
        .takes::<DefaultJobTimeout>()
        .answers::<DefaultJobTimeout>(),
        post(
            "/go/api/admin/maintenance_mode/enable",
            1,
            "Keep the server still: nothing is scheduled or handed out",
        )
        .with_status(204)
        .answers_nothing(),
        post(
            "/go/api/admin/maintenance_mode/disable",
            1,
            "End the maintenance",
        )
        .with_status(204)
        .answers_nothing(),
        get(
            "/go/api/admin/maintenance_mode/info",
            1,
            "Whether there is maintenance, and what is still under way",
        )
        .answers::<MaintenanceInfo>(),
        post("/go/api/backups", 2, "Make a backup of the server")
            .with_status(202)
            .answers_nothing(),
        get(
            "/go/api/backups/{id}",
            2,
            "What came of a backup, by its number or `running`",
        )
        .answers::<Backup>(),
        post(
            "/go/api/admin/encrypt",
            1,
            "Encrypt a value for pipeline files",
        )
        .takes::<ToEncrypt>()
        .answers::<Encrypted>(),
    ]
}

fn users() -> Vec<Call> {
    const OWN: &str = "/go/api/current_user/access_tokens";
    const ONE: &str = "/go/api/current_user/access_tokens/{id}";
    const REVOKE: &str = "/go/api/current_user/access_tokens/{id}/revoke";
    vec![
        get("/go/api/current_user", 1, "Who the caller is").answers::<CurrentUser>(),
        patch(
            "/go/api/current_user",
            1,
            "Change what the caller says about themselves",
        )
        .takes::<UserChange>()
        .answers::<CurrentUser>(),
        get("/go/api/users", 3, "All users").answers::<Users>(),
        get("/go/api/users/{login}", 3, "One user").answers::<User>(),
        get(OWN, 1, "The caller's access tokens").answers::<AccessTokens>(),
        post(OWN, 1, "Make an access token")
            .takes::<NewToken>()
            .answers::<AccessToken>(),
        get(ONE, 1, "One of the caller's access tokens").answers::<AccessToken>(),
        post(REVOKE, 1, "Revoke one of the caller's access tokens")
            .may_take::<Revocation>()
            .answers::<AccessToken>(),
        get("/go/api/admin/access_tokens", 1, "All access tokens").answers::<AccessTokens>(),
        get("/go/api/admin/access_tokens/{id}", 1, "One access token").answers::<AccessToken>(),
        post(
            "/go/api/admin/access_tokens/{id}/revoke",
            1,
            "Revoke an access token",
        )
        .may_take::<Revocation>()
        .answers::<AccessToken>(),
    ]
}

fn agents() -> Vec<Call> {
    vec![
        get("/go/api/agents", 7, "All agents").answers::<Agents>(),
        patch("/go/api/agents", 7, "Change several agents").takes::<AgentsChange>(),
        delete("/go/api/agents", 7, "Forget several agents").takes::<Uuids>(),
        get("/go/api/agents/{uuid}", 7, "One agent").answers::<Agent>(),
        patch("/go/api/agents/{uuid}", 7, "Change an agent")
            .takes::<AgentChange>()
            .answers::<Agent>(),
        delete("/go/api/agents/{uuid}", 7, "Forget an agent"),
        post(
            "/go/api/agents/{uuid}/kill_running_tasks",
            7,
            "Kill the tasks of a cancelled job",
        )
        .with_status(202)
        .answers_nothing(),
        get(
            "/go/api/agents/{uuid}/job_run_history",
            1,
            "The jobs an agent has done",
        )
        .answers::<AgentHistory>(),
        get(
            "/go/api/agents/{uuid}/job_run_history/{offset}",
            1,
            "The same, as old releases had it",
        )
        .answers::<AgentHistory>(),
    ]
}

fn configuration() -> Vec<Call> {
    const ENVIRONMENT: &str = "/go/api/admin/environments/{name}";
    const PIPELINE: &str = "/go/api/admin/pipelines/{pipeline}";
    const REPO: &str = "/go/api/admin/config_repos/{id}";
    vec![
        get("/go/api/admin/environments", 3, "All environments").answers::<Environments>(),
        post(
            "/go/api/admin/environments",
            3,
            "Refused: files define environments",
        )
        .takes::<Named>(),
        get(ENVIRONMENT, 3, "One environment").answers::<Environment>(),
        put(ENVIRONMENT, 3, "Refused: files define environments").takes::<Named>(),
        patch(ENVIRONMENT, 3, "Refused: files define environments").takes::<Named>(),
        delete(ENVIRONMENT, 3, "Refused: files define environments"),
        post(
            "/go/api/admin/pipelines",
            11,
            "Refused: files define pipelines",
        )
        .takes::<Named>(),
        get(PIPELINE, 11, "A pipeline as it is defined").answers::<PipelineConfig>(),
        put(PIPELINE, 11, "Refused: files define pipelines").takes::<Named>(),
        delete(PIPELINE, 11, "Refused: files define pipelines"),
        get(
            "/go/api/admin/pipeline_groups",
            1,
            "All groups of pipelines",
        )
        .answers::<Groups>(),
        get("/go/api/admin/pipeline_groups/{group}", 1, "One group").answers::<Group>(),
        get(
            "/go/api/config/pipeline_groups",
            1,
            "Groups, as old releases had it",
        )
        .answers_list::<OldGroup>(),
        get(
            "/go/api/admin/export/pipelines/{pipeline}",
            1,
            "A pipeline as a file that could define it",
        )
        .answers_text("application/x-yaml"),
        get(
            "/go/api/admin/config_repos",
            4,
            "All configuration repositories",
        )
        .answers::<ConfigRepos>(),
        post(
            "/go/api/admin/config_repos",
            4,
            "Add a configuration repository",
        )
        .takes::<NewConfigRepo>()
        .answers::<ConfigRepo>(),
        get(REPO, 4, "One configuration repository").answers::<ConfigRepo>(),
        put(REPO, 4, "Change a configuration repository, with If-Match")
            .takes::<NewConfigRepo>()
            .answers::<ConfigRepo>(),
        delete(
            REPO,
            4,
            "Remove a configuration repository and its pipelines",
        ),
        get(
            "/go/api/admin/config_repos/{id}/status",
            4,
            "Whether it is being looked at",
        )
        .answers::<ConfigRepoStatus>(),
        get(
            "/go/api/admin/config_repos/{id}/definitions",
            4,
            "What it defines",
        )
        .answers::<Definitions>(),
        post(
            "/go/api/admin/config_repos/{id}/trigger_update",
            4,
            "Look at it now",
        )
        .with_status(201),
        get(
            "/go/api/config/materials",
            2,
            "What pipelines are built from",
        )
        .answers::<Materials>(),
        get("/go/api/materials", 2, "The same, as old releases had it").answers::<Materials>(),
        get(
            "/go/api/materials/{fingerprint}/modifications",
            2,
            "What was seen of a material, newest first",
        )
        .answers::<Modifications>(),
        post(
            "/go/api/admin/materials/git/notify",
            2,
            "A repository has changed",
        )
        .takes::<Repository>()
        .with_status(202),
        post(
            "/go/api/webhooks/{host}/notify",
            0,
            "A repository has changed, says its host",
        )
        .takes_bytes()
        .with_status(202),
        post(
            "/go/api/webhooks/{host}/config_repos/{id}",
            0,
            "A configuration repository has changed, says its host",
        )
        .takes_bytes()
        .with_status(202),
        post(
            "/go/api/admin/config_repo_ops/preflight",
            1,
            "Check pipeline files before they are committed",
        )
        .takes_files()
        .answers::<Preflight>(),
    ]
}

fn pipelines() -> Vec<Call> {
    vec![
        get(
            "/go/api/pipelines/{pipeline}/status",
            1,
            "Whether it is paused, locked, free",
        )
        .answers::<PipelineStatus>(),
        post("/go/api/pipelines/{pipeline}/pause", 1, "Pause it").may_take::<Pause>(),
        post("/go/api/pipelines/{pipeline}/unpause", 1, "End the pause"),
        post(
            "/go/api/pipelines/{pipeline}/unlock",
            1,
            "Take away the lock",
        ),
        post(
            "/go/api/pipelines/{pipeline}/releaseLock",
            1,
            "The same, as old releases had it",
        ),
        post("/go/api/pipelines/{pipeline}/schedule", 1, "Start a run")
            .may_take::<Schedule>()
            .with_status(202)
            .answers::<Scheduled>(),
        get(
            "/go/api/pipelines/{pipeline}/trigger_options",
            1,
            "What can be chosen for a run",
        )
        .answers::<TriggerOptions>(),
        get(
            "/go/api/pipelines/{pipeline}/history",
            1,
            "Its runs, newest first",
        )
        .answers::<Runs>(),
        get(
            "/go/api/pipelines/{pipeline}/history/{offset}",
            1,
            "The same, as old releases had it",
        )
        .answers::<Runs>(),
        get("/go/api/pipelines/{pipeline}/{counter}", 1, "One run").answers::<Run>(),
        get(
            "/go/api/pipelines/{pipeline}/instance/{counter}",
            1,
            "The same, as old releases had it",
        )
        .answers::<Run>(),
        post(
            "/go/api/pipelines/{pipeline}/{counter}/comment",
            1,
            "Put a comment to a run",
        )
        .takes::<Comment>(),
        get(
            "/go/api/pipelines/{pipeline}/compare/{from}/{to}",
            2,
            "What changed between two runs",
        )
        .answers::<Comparison>(),
    ]
}

fn stages_and_jobs() -> Vec<Call> {
    const STAGE: &str = "/go/api/stages/{pipeline}/{counter}/{stage}/{stage_counter}";
    vec![
        post(
            "/go/api/stages/{pipeline}/{counter}/{stage}/run",
            2,
            "Run a stage, or run it again",
        )
        .with_status(202),
        post(
            "/go/run/{pipeline}/{counter}/{stage}",
            2,
            "The same, as old releases had it",
        )
        .with_status(202),
        get(STAGE, 3, "One run of a stage").answers::<Stage>(),
        post(
            "/go/api/stages/{pipeline}/{counter}/{stage}/{stage_counter}/cancel",
            3,
            "Cancel a stage",
        ),
        post(
            "/go/api/stages/{pipeline}/{counter}/{stage}/{stage_counter}/run-failed-jobs",
            3,
            "Run the jobs again that failed",
        )
        .with_status(202),
        post(
            "/go/api/stages/{pipeline}/{counter}/{stage}/{stage_counter}/run-selected-jobs",
            3,
            "Run some jobs again",
        )
        .takes::<JobNames>()
        .with_status(202),
        get(
            "/go/api/stages/{pipeline}/{stage}/history",
            3,
            "The runs of a stage, newest first",
        )
        .answers::<Stages>(),
        get(
            "/go/api/stages/{pipeline}/{stage}/history/{offset}",
            3,
            "The same, as old releases had it",
        )
        .answers::<Stages>(),
        get(
            "/go/api/stages/{pipeline}/{stage}/instance/{counter}/{stage_counter}",
            3,
            "One run of a stage, as old releases had it",
        )
        .answers::<Stage>(),
        post(
            "/go/api/stages/{pipeline}/{stage}/cancel",
            3,
            "Cancel the newest run of a stage, as old releases had it",
        ),
        get(
            "/go/api/jobs/{pipeline}/{counter}/{stage}/{stage_counter}/{job}",
            1,
            "One run of a job",
        )
        .answers::<Job>(),
        get(
            "/go/api/jobs/{pipeline}/{stage}/{job}/history",
            1,
            "The runs of a job, newest first",
        )
        .answers::<Jobs>(),
        get(
            "/go/api/jobs/{pipeline}/{stage}/{job}/history/{offset}",
            1,
            "The same, as old releases had it",
        )
        .answers::<Jobs>(),
    ]
}

fn views() -> Vec<Call> {
    let feed = |path, summary| get(path, 0, summary).answers_text(XML);
    vec![
        get(
            "/go/api/dashboard",
            4,
            "All pipelines with their latest runs",
        )
        .answers::<Dashboard>(),
        feed(
            "/go/cctray.xml",
            "States of stages and jobs, for build monitors",
        ),
        get(
            "/go/pipelines/value_stream_map/{pipeline}/{counter}",
            0,
            "What a run was made of and what came of it; JSON with .json behind the counter",
        )
        .answers_any(),
        feed("/go/api/feed/pipelines.xml", "All pipelines"),
        feed("/go/api/pipelines.xml", "The same, as old releases had it"),
        feed(
            "/go/api/feed/pipelines/{pipeline}/stages.xml",
            "Stages that ended, newest first",
        ),
        feed(
            "/go/api/pipelines/{pipeline}/stages.xml",
            "The same, as old releases had it",
        ),
        feed(
            "/go/api/feed/pipelines/{pipeline}/{run}",
            "One run; .xml stands behind its counter",
        ),
        feed(
            "/go/api/feed/pipelines/{pipeline}/{counter}/{stage}/{stage_run}",
            "One run of a stage; .xml stands behind its counter",
        ),
        feed(
            "/go/api/feed/pipelines/{pipeline}/{counter}/{stage}/{stage_counter}/{job}",
            "One run of a job; .xml stands behind its name",
        ),
        feed(
            "/go/api/feed/materials/{pipeline}/{counter}/{fingerprint}",
            "What a material of a run was at; .xml stands behind the fingerprint",
        ),
        feed(
            "/go/api/feed/jobs/scheduled.xml",
            "Jobs that wait for an agent",
        ),
        feed(
            "/go/api/jobs/scheduled.xml",
            "The same, as old releases had it",
        ),
    ]
}

fn files() -> Vec<Call> {
    const PATH: &str = "/go/files/{*path}";
    vec![
        get(
            PATH,
            0,
            "An artifact; with .json behind a folder's path its list, with .zip its archive",
        )
        .answers_any(),
        post(PATH, 0, "Upload artifacts as parts of a form")
            .takes_files()
            .with_status(201)
            .answers_text("text/plain"),
        put(PATH, 0, "Append to an artifact")
            .takes_bytes()
            .answers_text("text/plain"),
        get(
            "/go/properties/{pipeline}/{counter}/{stage}/{stage_counter}/{job}",
            0,
            "Properties, which jobs have none of",
        )
        .answers_text("text/csv"),
        get(
            "/go/properties/{pipeline}/{counter}/{stage}/{stage_counter}/{job}/{name}",
            0,
            "A property, which is never there",
        )
        .answers_text("text/csv"),
    ]
}

fn own() -> Vec<Call> {
    const USER: &str = "/go/api/journeyman/users/{name}";
    const RELEASES: &str = "/go/api/admin/journeyman/releases";
    const RELEASE: &str = "/go/api/admin/journeyman/releases/{id}";
    vec![
        get("/go/api/journeyman/audit", 1, "Who changed what").answers::<Audit>(),
        get("/go/api/journeyman/users", 1, "All users and their roles").answers::<Accounts>(),
        put(USER, 1, "Make a user, or set password or roles")
            .takes::<SetAccount>()
            .answers::<Account>(),
        delete(USER, 1, "Remove a user"),
        post(
            "/go/api/journeyman/users/{name}/access_tokens",
            1,
            "Make an access token for a user",
        )
        .takes::<NewToken>()
        .answers::<AccessToken>(),
        get(
            "/go/api/journeyman/pipelines",
            0,
            "All pipelines with their latest runs",
        )
        .answers_list::<PipelineSummary>(),
        get(
            "/go/api/journeyman/runs/{pipeline}/{counter}",
            0,
            "A run with its artifacts",
        )
        .answers::<RunSummary>(),
        get(
            "/go/api/journeyman/consoles/{id}",
            0,
            "A job's console from a byte on",
        )
        .answers_text("text/plain"),
        get("/go/api/journeyman/pins", 0, "Runs that are kept").answers_any(),
        post(
            "/go/api/journeyman/runs/{pipeline}/{counter}/pin",
            0,
            "Keep a run",
        )
        .may_take::<Pin>(),
        post(
            "/go/api/journeyman/runs/{pipeline}/{counter}/unpin",
            0,
            "Keep a run no longer than others",
        ),
        get(RELEASES, 1, "All releases").answers::<Releases>(),
        get(RELEASE, 1, "One release, and the machines it is for").answers::<Release>(),
        delete(RELEASE, 1, "Delete a release"),
        post(
            "/go/api/admin/journeyman/releases/{id}/offers",
            1,
            "Offer a release to machines",
        )
        .takes::<NewOffer>()
        .with_status(201)
        .answers::<Offered>(),
        post(
            "/go/api/admin/journeyman/releases/{id}/withdraw",
            1,
            "End offers of a release",
        )
        .may_take::<Withdrawal>(),
        put(
            "/go/api/admin/journeyman/releases/packages",
            1,
            "Add a package",
        )
        .takes_bytes()
        .with_status(201)
        .answers::<AddedPackage>(),
        put(
            "/go/api/admin/journeyman/releases/packages/{sha256}/signatures",
            1,
            "Add signatures to a package",
        )
        .takes::<Signatures>()
        .answers::<AddedPackage>(),
    ]
}
