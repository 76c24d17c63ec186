//! What has changed between two runs of a pipeline.

use std::collections::{BTreeMap, HashSet};

use futures_util::TryStreamExt as _;
use journeyman_protocol::material::Material;
use journeyman_protocol::revision::{MaterialRevisions, Modification};
use sqlx::SqliteConnection;

use crate::App;
use crate::database::DatabaseError;
use crate::jobs::StageLocator;
use crate::pipelines::store::{self, decode};
use crate::scheduling::{natural_order, trigger};
use crate::users::Actor;

/// What is new in a run, compared with an earlier one.
#[derive(Clone, Debug)]
pub struct Comparison {
    pub pipeline: String,
    /// The earlier run; 0 for the time before the first.
    pub from: i64,
    pub to: i64,
    /// Whether one of them was made between two others, of older revisions.
    pub is_bisect: bool,
    /// Repositories first, then pipelines that were waited for.
    pub changes: Vec<Change>,
}

/// What is new in a material.
#[derive(Clone, Debug)]
pub struct Change {
    pub material: Material,
    pub fingerprint: String,
    /// Newest first.
    pub modifications: Vec<Modification>,
}

/// Why runs could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("there is no run {pipeline}/{counter}")]
    UnknownRun { pipeline: String, counter: i64 },
}

/// Runs of an upstream pipeline that came in.
struct Upstream {
    /// The newest run that was in already.
    from: i64,
    to: i64,
}

/// Compares two runs, in whichever order they are named; a run with itself: with the one before
/// it. What is new in pipelines upstream is part of it, as far as the actor may see them.
///
/// # Errors
///
/// See [`CompareError`].
pub async fn between(
    app: &App,
    pipeline: &str,
    from: i64,
    to: i64,
    actor: &Actor,
) -> Result<Comparison, CompareError> {
    let (from, to) = match from.cmp(&to) {
        std::cmp::Ordering::Less => (from, to),
        std::cmp::Ordering::Equal => (from - 1, to),
        std::cmp::Ordering::Greater => (to, from),
    };
    let connection = app.database.readers().acquire().await;
    let mut connection = connection.map_err(DatabaseError::from)?;
    let mut name = pipeline.to_owned();
    let mut is_bisect = false;
    for counter in [from, to].into_iter().filter(|counter| *counter != 0) {
        let order: f64;
        (name, order) = run_name(&mut connection, pipeline, counter).await?;
        is_bisect |= natural_order::is_between(order);
    }
    let mut changes: Vec<Change> = Vec::new();
    let mut looked_at = HashSet::from([name.to_lowercase()]);
    let mut waiting = vec![(name.clone(), from, to)];
    while let Some((pipeline, from, to)) = waiting.pop() {
        let upstreams = collect(&mut connection, &pipeline, from, to, &mut changes).await?;
        for (upstream, Upstream { from, to }) in upstreams {
            if from < to
                && looked_at.insert(upstream.clone())
                && is_seen(&mut connection, &upstream, actor).await?
            {
                waiting.push((upstream, from, to));
            }
        }
    }
    let is_upstream = |change: &Change| matches!(change.material, Material::DependencyMaterial(_));
    changes.sort_by_key(is_upstream);
    for change in &mut changes {
        let mut all = std::mem::take(&mut change.modifications);
        all.sort_by_key(|one| std::cmp::Reverse(one.modified_time));
        change.modifications = all;
    }
    Ok(Comparison {
        pipeline: name,
        from,
        to,
        is_bisect,
        changes,
    })
}

/// The pipeline's name as the run has it, and the run's place among the others.
async fn run_name(
    connection: &mut SqliteConnection,
    pipeline: &str,
    counter: i64,
) -> Result<(String, f64), CompareError> {
    let found: Option<(String, f64)> = sqlx::query_as(
        "SELECT pipeline, natural_order FROM pipeline_runs WHERE lower(pipeline) = lower($1) AND counter = $2",
    )
    .bind(pipeline)
    .bind(counter)
    .fetch_optional(connection)
    .await
    .map_err(DatabaseError::from)?;
    found.ok_or_else(|| CompareError::UnknownRun {
        pipeline: pipeline.to_owned(),
        counter,
    })
}

/// Adds what is new in the runs after `from` up to `to`; answers which runs came in from upstream.
async fn collect(
    connection: &mut SqliteConnection,
    pipeline: &str,
    from: i64,
    to: i64,
    changes: &mut Vec<Change>,
) -> Result<BTreeMap<String, Upstream>, DatabaseError> {
    let mut upstreams: BTreeMap<String, Upstream> = BTreeMap::new();
    let mut rows = sqlx::query_as::<_, (i64, String)>(
        "SELECT counter, material_revisions FROM pipeline_runs \
         WHERE lower(pipeline) = lower($1) AND counter BETWEEN $2 AND $3 ORDER BY counter DESC",
    )
    .bind(pipeline)
    .bind(from)
    .bind(to)
    .fetch(connection);
    while let Some((counter, revisions)) = rows.try_next().await? {
        let what = format!("the materials of {pipeline}/{counter}");
        let revisions: MaterialRevisions = decode(&what, &revisions)?;
        for revision in revisions.revisions {
            if let (Material::DependencyMaterial(_), Some(newest)) =
                (&revision.material, revision.newest())
                && let Some(run) = StageLocator::parse(&newest.revision)
            {
                let known = upstreams
                    .entry(run.pipeline.to_lowercase())
                    .or_insert(Upstream {
                        from: run.counter - 1,
                        to: run.counter,
                    });
                known.to = known.to.max(run.counter);
                known.from = match counter == from {
                    true => run.counter,
                    false => known.from.min(run.counter - 1),
                };
            }
            if counter != from && revision.changed {
                add(changes, revision.material, revision.modifications);
            }
        }
    }
    Ok(upstreams)
}

fn add(changes: &mut Vec<Change>, material: Material, modifications: Vec<Modification>) {
    let fingerprint = trigger::fingerprint(&material);
    let place = changes
        .iter()
        .position(|one| one.fingerprint == fingerprint)
        .unwrap_or_else(|| {
            changes.push(Change {
                material,
                fingerprint,
                modifications: Vec::new(),
            });
            changes.len() - 1
        });
    let known = &mut changes[place].modifications;
    for modification in modifications {
        if known
            .iter()
            .all(|one| one.revision != modification.revision)
        {
            known.push(modification);
        }
    }
}

async fn is_seen(
    connection: &mut SqliteConnection,
    pipeline: &str,
    actor: &Actor,
) -> Result<bool, DatabaseError> {
    let pipeline = store::pipeline(connection, pipeline).await?;
    Ok(pipeline.is_some_and(|pipeline| actor.sees(&pipeline.group)))
}
