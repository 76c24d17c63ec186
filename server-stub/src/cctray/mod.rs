//! Stages and jobs as build monitors show them.

use std::collections::{BTreeSet, HashMap};

use journeyman_protocol::job::JobResult;
use journeyman_protocol::material::Material;
use journeyman_protocol::revision::MaterialRevisions;
use serde_json::json;
use sqlx::SqliteConnection;

use crate::App;
use crate::database::DatabaseError;
use crate::history::{self, RunName};
use crate::pipelines::{outline, store};
use crate::scheduling::run::StageRow;
use crate::scheduling::view::{self, JobView};
use crate::users::Actor;

/// A stage or a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    pub pipeline: String,
    pub counter: i64,
    pub stage: String,
    pub stage_counter: i64,
    /// None for the stage itself.
    pub job: Option<String>,
    pub is_building: bool,
    /// Its last run that has ended.
    pub last: Option<LastRun>,
    /// Whose changes are in the newest run, when it has failed or will.
    pub breakers: Vec<String>,
    /// When it was scheduled; milliseconds since the epoch.
    pub scheduled_at: i64,
}

/// A run that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastRun {
    pub passed: bool,
    pub label: String,
    pub stage_counter: i64,
    /// Milliseconds since the epoch.
    pub ended_at: i64,
}

/// A run of a stage, with all that is needed to show it.
struct Found {
    run: RunName,
    row: StageRow,
    jobs: Vec<JobView>,
}

/// By pipeline and stage, in lower case.
type ByStage = HashMap<(String, String), Found>;

/// The stages that have ever run, each followed by its jobs: pipelines and jobs by name, stages in
/// their order (GoCD).
///
/// # Errors
///
/// The database could not be read.
pub async fn of(app: &App, actor: &Actor) -> Result<Vec<Project>, DatabaseError> {
    let mut connection = app.database.readers().acquire().await?;
    let connection = &mut *connection;
    let mut outlines = outline::all(connection).await?;
    outlines.retain(|one| actor.sees(&one.group));
    outlines.sort_by(|one, other| one.name.cmp(&other.name));
    let mut wanted = Vec::new();
    for one in &outlines {
        let key = |name: &str| (one.name.to_lowercase(), name.to_lowercase());
        wanted.extend(one.stages.iter().map(|stage| key(&stage.name)));
    }
    let latest = newest(connection, &wanted, "1").await?;
    let active = wanted.iter().filter(|key| {
        let found = latest.get(key);
        found.is_some_and(|found| found.row.is_active())
    });
    let active: Vec<(String, String)> = active.cloned().collect();
    let ended = newest(connection, &active, "completed_at IS NOT NULL").await?;
    let failed = latest.values().filter(|found| fails(found));
    let failed: Vec<i64> = failed.map(|found| found.row.run_id).collect();
    let breakers = breakers(connection, &failed).await?;

    let mut projects = Vec::new();
    for key in wanted {
        if let Some(found) = latest.get(&key) {
            show(found, ended.get(&key), &breakers, &mut projects);
        }
    }
    Ok(projects)
}

fn show(
    found: &Found,
    before: Option<&Found>,
    breakers: &HashMap<i64, Vec<String>>,
    projects: &mut Vec<Project>,
) {
    let last = |of: &Found, passed: bool, ended_at: i64| LastRun {
        passed,
        label: of.run.label.clone(),
        stage_counter: of.row.counter,
        ended_at,
    };
    let of_stage = |of: &Found| {
        let ended_at = of.row.completed_at?;
        Some(last(of, of.row.state == "Passed", ended_at))
    };
    let breakers = breakers.get(&found.row.run_id).filter(|_| fails(found));
    let breakers = breakers.cloned().unwrap_or_default();
    let project = Project {
        pipeline: found.run.pipeline.clone(),
        counter: found.run.counter,
        stage: found.row.name.clone(),
        stage_counter: found.row.counter,
        job: None,
        is_building: found.row.is_active(),
        last: of_stage(found).or_else(|| before.and_then(of_stage)),
        breakers: breakers.clone(),
        scheduled_at: found.row.scheduled_at,
    };
    projects.push(project.clone());
    let mut jobs: Vec<&JobView> = found.jobs.iter().collect();
    jobs.sort_by(|one, other| one.row.name.cmp(&other.row.name));
    for job in jobs {
        let of_job = |of: &Found| {
            let mut jobs = of.jobs.iter();
            let job = jobs.find(|one| one.row.name == job.row.name)?;
            let ended = job.transitions.iter().rfind(|one| one.state == "Completed");
            Some(last(of, job.row.result == "Passed", ended?.at))
        };
        projects.push(Project {
            job: Some(job.row.name.clone()),
            // GoCD: also while it waits for an agent.
            is_building: job.row.is_active(),
            last: of_job(found).or_else(|| before.and_then(of_job)),
            breakers: match job.row.result() {
                JobResult::Failed => breakers.clone(),
                _ => Vec::new(),
            },
            scheduled_at: job.row.scheduled_at,
            ..project.clone()
        });
    }
}

/// Whether somebody broke it: a stage that was cancelled was not broken (GoCD).
fn fails(found: &Found) -> bool {
    ["Failing", "Failed"].contains(&found.row.state.as_str())
}

/// The newest run of each of some stages.
async fn newest(
    connection: &mut SqliteConnection,
    wanted: &[(String, String)],
    condition: &'static str,
) -> Result<ByStage, DatabaseError> {
    let rows: Vec<StageRow> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "SELECT stages.* FROM json_each($1) AS wanted \
         JOIN stages ON stages.id = (SELECT id FROM stages \
             WHERE pipeline = json_extract(wanted.value, '$[0]') \
             AND lower(name) = json_extract(wanted.value, '$[1]') \
             AND {condition} ORDER BY id DESC LIMIT 1)"
    )))
    .bind(json!(wanted).to_string())
    .fetch_all(&mut *connection)
    .await?;
    let run_ids: Vec<i64> = rows.iter().map(|row| row.run_id).collect();
    let names = history::run_names(connection, &run_ids).await?;
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let mut jobs = view::jobs_of_stages(connection, &ids).await?;
    let found = rows.into_iter().filter_map(|row| {
        let run = names.get(&row.run_id)?.clone();
        let key = (run.pipeline.to_lowercase(), row.name.to_lowercase());
        let jobs = jobs.remove(&row.id).unwrap_or_default();
        Some((key, Found { run, row, jobs }))
    });
    Ok(found.collect())
}

/// Whose changes are in some runs: in the materials that changed, or in all if none did.
async fn breakers(
    connection: &mut SqliteConnection,
    run_ids: &[i64],
) -> Result<HashMap<i64, Vec<String>>, DatabaseError> {
    let rows: Vec<(i64, String)> = sqlx::query_as(
        "SELECT id, material_revisions FROM pipeline_runs \
         WHERE id IN (SELECT value FROM json_each($1))",
    )
    .bind(view::id_list(run_ids))
    .fetch_all(connection)
    .await?;
    let mut breakers = HashMap::new();
    for (id, revisions) in rows {
        let revisions: MaterialRevisions = store::decode("the materials of a run", &revisions)?;
        let authors = |changed: bool| -> BTreeSet<String> {
            let commits = revisions.revisions.iter().filter(|one| {
                one.changed == changed && !matches!(one.material, Material::DependencyMaterial(_))
            });
            let commits = commits.flat_map(|one| &one.modifications);
            let names = commits.filter_map(|one| one.user_name.as_deref());
            // Without the address.
            let names = names.map(|name| name.split('<').next().unwrap_or(name).trim());
            names.map(ToOwned::to_owned).collect()
        };
        let mut all = authors(true);
        if all.is_empty() {
            all = authors(false);
        }
        breakers.insert(id, all.into_iter().collect());
    }
    Ok(breakers)
}
