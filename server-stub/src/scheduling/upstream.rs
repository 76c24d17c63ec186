//! Which runs of other pipelines a job fetches from: those that its run was made with.

use std::collections::HashMap;

use journeyman_protocol::{
    material::Material,
    revision::{MaterialRevisions, Modification},
};
use sqlx::SqliteConnection;

use super::run::{self, Run};
use crate::database::DatabaseError;
use crate::pipelines::definition::{Action, Fetch, Job};

/// A run of a pipeline, and the run of its stage that was waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) pipeline: String,
    pub(super) counter: i64,
    pub(super) label: String,
    stage: String,
    stage_counter: String,
}

/// The runs that the tasks of a job fetch from, by their way there ([`Fetch::ancestors`]). A way
/// that the revisions do not lead along is not among them.
pub(super) type Origins = HashMap<Vec<String>, Origin>;

/// Finds the runs that a job fetches from.
pub(super) async fn origins(
    connection: &mut SqliteConnection,
    run: &Run,
    job: &Job,
) -> Result<Origins, DatabaseError> {
    let mut origins = Origins::new();
    for task in &job.tasks {
        if let Action::Fetch(Fetch { ancestors, .. }) = &task.action
            && !ancestors.is_empty()
            && !origins.contains_key(ancestors)
            && let Some(origin) = walk(connection, run, ancestors).await?
        {
            origins.insert(ancestors.clone(), origin);
        }
    }
    Ok(origins)
}

async fn walk(
    connection: &mut SqliteConnection,
    run: &Run,
    ancestors: &[String],
) -> Result<Option<Origin>, DatabaseError> {
    let mut nearer = ancestors.iter().rev();
    let Some(mut origin) = nearer.next().and_then(|name| step(&run.revisions, name)) else {
        return Ok(None);
    };
    for name in nearer {
        let above = run::find_run(connection, &origin.pipeline, origin.counter).await?;
        let Some(next) = above.and_then(|above| step(&above.revisions, name)) else {
            return Ok(None);
        };
        origin = next;
    }
    Ok(Some(origin))
}

/// The run of an upstream pipeline that revisions name.
fn step(revisions: &MaterialRevisions, upstream: &str) -> Option<Origin> {
    let mut all = revisions.revisions.iter();
    let newest = all.find_map(|one| match &one.material {
        Material::DependencyMaterial(dependency)
            if dependency
                .pipeline_name
                .as_str()
                .eq_ignore_ascii_case(upstream) =>
        {
            one.newest()
        }
        _ => None,
    })?;
    origin(newest)
}

/// A dependency's revision is `pipeline/counter/stage/counter`.
fn origin(modification: &Modification) -> Option<Origin> {
    let mut parts = modification.revision.split('/');
    let (pipeline, counter) = (parts.next()?, parts.next()?.parse().ok()?);
    let (stage, stage_counter) = (parts.next()?, parts.next()?);
    Some(Origin {
        pipeline: pipeline.to_owned(),
        counter,
        label: modification.pipeline_label.clone().unwrap_or_default(),
        stage: stage.to_owned(),
        stage_counter: stage_counter.to_owned(),
    })
}

impl Origin {
    /// The run of a stage to fetch from. Of a stage before the one that was waited for, it is the
    /// newest when the agent asks.
    pub(super) fn stage_counter(&self, stage: &str) -> String {
        if self.stage.eq_ignore_ascii_case(stage) {
            self.stage_counter.clone()
        } else {
            "latest".to_owned()
        }
    }
}
