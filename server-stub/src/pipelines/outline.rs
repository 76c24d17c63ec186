//! The parts of definitions that lists of many pipelines show. Reading no more than them is several
//! times faster than reading the whole.

use serde::Deserialize;
use sqlx::SqliteConnection;

use super::definition::{Approval, Operators, TrackingTool};
use super::store::decode;
use crate::database::DatabaseError;

/// A pipeline in a list.
#[derive(Clone, Debug, Deserialize)]
pub struct Outline {
    pub name: String,
    pub group: String,
    display_order: i64,
    #[serde(default)]
    pub tracking_tool: Option<TrackingTool>,
    #[serde(default)]
    pub template: Option<String>,
    pub stages: Vec<StageOutline>,
    materials: Vec<MaterialOutline>,
    /// The id of the repository that defines it.
    #[serde(skip)]
    pub repository: String,
}

/// A stage in a list.
#[derive(Clone, Debug, Deserialize)]
pub struct StageOutline {
    pub name: String,
    pub approval: Approval,
    #[serde(default)]
    pub operators: Operators,
}

/// A material; only dependencies have these fields.
#[derive(Clone, Debug, Deserialize)]
struct MaterialOutline {
    #[serde(default)]
    pipeline: Option<String>,
}

/// What a run was started from, in a list.
#[derive(Clone, Debug, Deserialize)]
pub struct RunOutline {
    pub pipeline: Outline,
}

/// All pipelines, by group, then by their place in it, then by name.
///
/// # Errors
///
/// The database could not be read.
pub async fn all(connection: &mut SqliteConnection) -> Result<Vec<Outline>, DatabaseError> {
    let rows: Vec<(String, String)> = sqlx::query_as("SELECT repo_id, definition FROM pipelines")
        .fetch_all(connection)
        .await?;
    let mut outlines = Vec::with_capacity(rows.len());
    for (repository, definition) in rows {
        let outline: Outline = decode("a pipeline", &definition)?;
        outlines.push(Outline {
            repository,
            ..outline
        });
    }
    outlines.sort_by_cached_key(|one| {
        let (group, name) = (one.group.to_lowercase(), one.name.to_lowercase());
        (group, one.display_order, name)
    });
    Ok(outlines)
}

impl Outline {
    /// The pipelines that this one depends on; the letter case is the file's.
    pub fn upstreams(&self) -> impl Iterator<Item = &str> {
        let materials = self.materials.iter();
        materials.filter_map(|material| material.pipeline.as_deref())
    }
}
