//! The passed runs of a stage, which are the revisions of a dependency on it.

use jiff::Timestamp;
use journeyman_protocol::revision::Modification;
use sqlx::SqliteConnection;

use crate::database::DatabaseError;
use crate::pipelines::definition::DependencyMaterial;

/// A run of a stage that has passed.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Pass {
    pub pipeline: String,
    pub counter: i64,
    pub label: String,
    pub stage: String,
    pub stage_counter: i64,
    /// Milliseconds since the epoch.
    pub completed_at: i64,
}

impl Pass {
    /// The revision: `pipeline/counter/stage/counter`.
    #[must_use]
    pub fn locator(&self) -> String {
        format!(
            "{}/{}/{}/{}",
            self.pipeline, self.counter, self.stage, self.stage_counter
        )
    }

    /// Where it stands among the passes of its stage.
    #[must_use]
    pub fn place(&self) -> Place {
        (self.counter, self.stage_counter)
    }

    /// As a modification of a run's revisions.
    #[must_use]
    pub fn modification(&self) -> Modification {
        Modification {
            revision: self.locator(),
            pipeline_label: Some(self.label.clone()),
            modified_time: Timestamp::from_millisecond(self.completed_at).ok(),
            id: -1,
            ..Modification::default()
        }
    }
}

/// Counters of the pipeline's run and of the stage's.
pub type Place = (i64, i64);

/// Where a revision stands among the passes of its stage.
#[must_use]
pub fn place_of(revision: &str) -> Option<Place> {
    let mut parts = revision.split('/').skip(1);
    let counter = parts.next()?.parse().ok()?;
    let stage_counter = parts.nth(1)?.parse().ok()?;
    Some((counter, stage_counter))
}

/// The passes of the stage that is depended on, older than one and up to another, newest first.
pub async fn passes(
    connection: &mut SqliteConnection,
    material: &DependencyMaterial,
    after: Option<Place>,
    to: Option<Place>,
    limit: i64,
) -> Result<Vec<Pass>, DatabaseError> {
    let after = after.unwrap_or((0, 0));
    let to = to.unwrap_or((i64::MAX, i64::MAX));
    Ok(sqlx::query_as(
        "SELECT pipeline_runs.pipeline, pipeline_runs.counter, pipeline_runs.label, \
         stages.name AS stage, stages.counter AS stage_counter, stages.completed_at \
         FROM pipeline_runs JOIN stages ON stages.run_id = pipeline_runs.id \
         WHERE lower(pipeline_runs.pipeline) = lower($1) AND lower(stages.name) = lower($2) \
         AND stages.state = 'Passed' AND stages.completed_at IS NOT NULL \
         AND pipeline_runs.counter >= $3 AND pipeline_runs.counter <= $5 \
         AND (pipeline_runs.counter, stages.counter) > ($3, $4) \
         AND (pipeline_runs.counter, stages.counter) <= ($5, $6) \
         ORDER BY pipeline_runs.counter DESC, stages.counter DESC LIMIT $7",
    )
    .bind(&material.pipeline)
    .bind(&material.stage)
    .bind(after.0)
    .bind(after.1)
    .bind(to.0)
    .bind(to.1)
    .bind(limit)
    .fetch_all(connection)
    .await?)
}
