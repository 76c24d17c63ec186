//! All pipelines at a glance: with the runs that are active, and the latest.

use std::collections::{HashMap, HashSet};

use serde_json::json;
use sqlx::SqliteConnection;

use crate::App;
use crate::database::DatabaseError;
use crate::pipelines::definition::{Approval, TrackingTool};
use crate::pipelines::outline::{self, Outline, RunOutline};
use crate::pipelines::{location, store};
use crate::scheduling::run::StageRow;
use crate::scheduling::state::{self, PipelineState};
use crate::scheduling::{self, view};
use crate::users::{Actor, Role};

/// What somebody may see of all pipelines.
#[derive(Clone, Debug)]
pub struct Dashboard {
    /// Groups with their pipelines, both in order.
    pub groups: Vec<Members>,
    /// Environments with the pipelines in them that the viewer may see.
    pub environments: Vec<Members>,
    /// By group, then by their place in it.
    pub pipelines: Vec<Card>,
}

/// A name with the pipelines under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    pub name: String,
    pub pipelines: Vec<String>,
    /// Whether the viewer administers it.
    pub can_administer: bool,
}

/// A pipeline.
#[derive(Clone, Debug)]
pub struct Card {
    pub name: String,
    pub group: String,
    pub state: PipelineState,
    pub tracking_tool: Option<TrackingTool>,
    /// The template that its stages are from.
    pub template: Option<String>,
    /// The repository that defines it, and its address without credentials.
    pub repository: String,
    pub repository_url: String,
    /// What the viewer may do.
    pub role: Role,
    /// Newest first.
    pub runs: Vec<CardRun>,
    /// When something of what is shown changed last; milliseconds since the epoch.
    pub updated_at: i64,
}

/// A run of a pipeline.
#[derive(Clone, Debug)]
pub struct CardRun {
    pub counter: i64,
    pub label: String,
    pub trigger_message: String,
    pub approver: String,
    pub forced: bool,
    pub scheduled_at: i64,
    pub stages: Vec<CardStage>,
}

/// A stage of a run.
#[derive(Clone, Debug)]
pub struct CardStage {
    pub name: String,
    pub approval: Approval,
    /// Its latest run here; none before it has run.
    pub row: Option<StageRow>,
    /// Before it has run here: its latest run in an earlier run of the pipeline.
    pub previous: Option<PreviousStage>,
    /// Whether the viewer is among those who may run it.
    pub can_operate: bool,
}

/// The latest run of a stage in an earlier run of its pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviousStage {
    pub run_counter: i64,
    pub counter: i64,
    pub state: String,
}

/// A row of `pipeline_runs`, without the materials.
#[derive(sqlx::FromRow)]
struct RunRow {
    id: i64,
    pipeline: String,
    counter: i64,
    label: String,
    approver: String,
    trigger_message: String,
    trigger_forced: bool,
    scheduled_at: i64,
    definition: String,
}

/// All that the actor may see.
///
/// # Errors
///
/// The database could not be read.
pub async fn of(app: &App, actor: &Actor) -> Result<Dashboard, DatabaseError> {
    let mut connection = app.database.readers().acquire().await?;
    let connection = &mut *connection;
    let mut outlines = outline::all(connection).await?;
    outlines.retain(|one| actor.sees(&one.group));
    let mut states = state::states(connection).await?;
    let urls = repository_urls(connection).await?;
    let environments = store::environments(connection).await?;
    let mut runs = runs_by_pipeline(connection, &outlines, actor).await?;

    let mut groups: Vec<Members> = Vec::new();
    let mut cards = Vec::with_capacity(outlines.len());
    for one in outlines {
        let role = actor.rights.in_group(&one.group).unwrap_or(Role::View);
        let (group, name) = (one.group.clone(), one.name.clone());
        match groups.last_mut() {
            Some(last) if last.name.eq_ignore_ascii_case(&group) => last.pipelines.push(name),
            _ => groups.push(Members {
                name: group,
                pipelines: vec![name],
                can_administer: role == Role::Admin,
            }),
        }
        let key = one.name.to_lowercase();
        let state = states.remove(&key).unwrap_or_default();
        let runs = runs.remove(&key).unwrap_or_default();
        cards.push(Card {
            updated_at: updated_at(&state, &runs),
            repository_url: urls.get(&one.repository).cloned().unwrap_or_default(),
            name: one.name,
            group: one.group,
            tracking_tool: one.tracking_tool,
            template: one.template,
            repository: one.repository,
            state,
            role,
            runs,
        });
    }
    let seen: HashMap<String, &str> = cards
        .iter()
        .map(|card| (card.name.to_lowercase(), card.name.as_str()))
        .collect();
    let environments = environments.into_iter().map(|environment| {
        let pipelines = environment.pipelines.iter();
        let pipelines = pipelines.filter_map(|name| seen.get(&name.to_lowercase()));
        Members {
            name: environment.name,
            pipelines: pipelines.map(|name| (*name).to_owned()).collect(),
            can_administer: actor.rights.is_admin(),
        }
    });
    let environments = environments.filter(|one| !one.pipelines.is_empty() || one.can_administer);
    Ok(Dashboard {
        environments: environments.collect(),
        groups,
        pipelines: cards,
    })
}

fn updated_at(state: &PipelineState, runs: &[CardRun]) -> i64 {
    let paused_at = state.pause.as_ref().map(|pause| pause.at);
    let times = runs.iter().flat_map(|run| {
        let rows = run.stages.iter().filter_map(|stage| stage.row.as_ref());
        let of_rows = rows.map(|row| row.completed_at.unwrap_or(row.scheduled_at));
        of_rows.chain([run.scheduled_at])
    });
    times.chain(paused_at).max().unwrap_or_default()
}

async fn repository_urls(
    connection: &mut SqliteConnection,
) -> Result<HashMap<String, String>, DatabaseError> {
    let rows: Vec<(String, String)> = sqlx::query_as("SELECT id, url FROM config_repos")
        .fetch_all(connection)
        .await?;
    let shown = |(id, url): (String, String)| (id, location::without_credentials(&url));
    Ok(rows.into_iter().map(shown).collect())
}

/// The runs to show of each pipeline, newest first, by its name in lower case.
async fn runs_by_pipeline(
    connection: &mut SqliteConnection,
    outlines: &[Outline],
    actor: &Actor,
) -> Result<HashMap<String, Vec<CardRun>>, DatabaseError> {
    let rows: Vec<RunRow> = sqlx::query_as(
        "SELECT id, pipeline, counter, label, approver, trigger_message, trigger_forced, \
         scheduled_at, definition FROM pipeline_runs WHERE id IN ( \
         SELECT (SELECT id FROM pipeline_runs WHERE lower(pipeline) = lower(pipelines.name) \
                 ORDER BY counter DESC LIMIT 1) FROM pipelines \
         UNION SELECT run_id FROM stages WHERE completed_at IS NULL \
         UNION SELECT id FROM pipeline_runs WHERE waiting_stage IS NOT NULL) \
         ORDER BY counter DESC",
    )
    .fetch_all(&mut *connection)
    .await?;
    let seen: HashSet<String> = outlines.iter().map(|one| one.name.to_lowercase()).collect();
    let rows: Vec<RunRow> = rows
        .into_iter()
        .filter(|row| seen.contains(&row.pipeline.to_lowercase()))
        .collect();
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let mut stages = latest_stages(connection, &ids).await?;

    let mut runs: HashMap<String, Vec<(i64, CardRun)>> = HashMap::new();
    for row in rows {
        let what = format!("the definition of {}/{}", row.pipeline, row.counter);
        let definition: RunOutline = store::decode(&what, &row.definition)?;
        let group = definition.pipeline.group;
        let operates = actor.rights.in_group(&group) >= Some(Role::Operate);
        let of_stage = |stage: outline::StageOutline| CardStage {
            row: stages.remove(&(row.id, stage.name.clone())),
            previous: None,
            can_operate: operates && scheduling::may_run(&stage.operators, &group, actor),
            name: stage.name,
            approval: stage.approval,
        };
        let run = CardRun {
            stages: definition
                .pipeline
                .stages
                .into_iter()
                .map(of_stage)
                .collect(),
            counter: row.counter,
            label: row.label,
            trigger_message: row.trigger_message,
            approver: row.approver,
            forced: row.trigger_forced,
            scheduled_at: row.scheduled_at,
        };
        let of_pipeline = runs.entry(row.pipeline.to_lowercase()).or_default();
        of_pipeline.push((row.id, run));
    }
    let mut previous = previous_stages(connection, &runs).await?;
    for (pipeline, runs) in &mut runs {
        for (id, run) in runs {
            for stage in run.stages.iter_mut().filter(|stage| stage.row.is_none()) {
                let key = (pipeline.clone(), stage.name.to_lowercase(), *id);
                stage.previous = previous.remove(&key);
            }
        }
    }
    let without_ids = |(pipeline, runs): (String, Vec<(i64, CardRun)>)| {
        (pipeline, runs.into_iter().map(|(_, run)| run).collect())
    };
    Ok(runs.into_iter().map(without_ids).collect())
}

/// The latest run of each stage in some runs, by the run's id and the stage's name.
async fn latest_stages(
    connection: &mut SqliteConnection,
    run_ids: &[i64],
) -> Result<HashMap<(i64, String), StageRow>, DatabaseError> {
    let rows: Vec<StageRow> = sqlx::query_as(
        "SELECT * FROM stages WHERE run_id IN (SELECT value FROM json_each($1)) ORDER BY counter",
    )
    .bind(view::id_list(run_ids))
    .fetch_all(connection)
    .await?;
    // A later one takes the place of an earlier.
    let keyed = rows
        .into_iter()
        .map(|row| ((row.run_id, row.name.clone()), row));
    Ok(keyed.collect())
}

/// For stages that have not run yet: the latest run before, by pipeline, stage and run.
async fn previous_stages(
    connection: &mut SqliteConnection,
    runs: &HashMap<String, Vec<(i64, CardRun)>>,
) -> Result<HashMap<(String, String, i64), PreviousStage>, DatabaseError> {
    let mut wanted = Vec::new();
    for (pipeline, runs) in runs {
        for (id, run) in runs {
            let missing = run.stages.iter().filter(|stage| stage.row.is_none());
            wanted.extend(missing.map(|stage| json!([pipeline, stage.name.to_lowercase(), id])));
        }
    }
    let rows: Vec<(String, String, i64, i64, i64, String)> = sqlx::query_as(
        "SELECT stages.pipeline, lower(stages.name), json_extract(wanted.value, '$[2]'), \
         pipeline_runs.counter, stages.counter, stages.state FROM json_each($1) AS wanted \
         JOIN stages ON stages.id = (SELECT id FROM stages \
             WHERE pipeline = json_extract(wanted.value, '$[0]') \
             AND lower(name) = json_extract(wanted.value, '$[1]') \
             AND run_id < json_extract(wanted.value, '$[2]') ORDER BY id DESC LIMIT 1) \
         JOIN pipeline_runs ON pipeline_runs.id = stages.run_id",
    )
    .bind(serde_json::Value::from(wanted).to_string())
    .fetch_all(connection)
    .await?;
    let keyed = rows
        .into_iter()
        .map(|(pipeline, stage, run, run_counter, counter, state)| {
            let previous = PreviousStage {
                run_counter,
                counter,
                state,
            };
            ((pipeline, stage, run), previous)
        });
    Ok(keyed.collect())
}
