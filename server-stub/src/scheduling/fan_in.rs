//! Which passed runs upstream fit together: a commit that comes to a pipeline along several ways
//! must be the same on all of them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use journeyman_protocol::material::Material;
use journeyman_protocol::revision::{MaterialRevisions, Modification};
use sqlx::SqliteConnection;

use super::passes::{Pass, passes};
use super::wire;
use crate::database::DatabaseError;
use crate::materials;
use crate::pipelines::definition::DependencyMaterial;
use crate::pipelines::store::decode;

/// So often older runs are tried before there is nothing that fits. GoCD's limit.
const MOST_STEPS: usize = 100;

/// Passes of one stage that are read at a time.
const READ_AT_ONCE: i64 = 20;

/// What fits together.
#[derive(Debug)]
pub(super) enum Agreement {
    Found {
        /// One of each dependency, in order.
        passes: Vec<Pass>,
        /// The revisions of git materials that were built upstream, by fingerprint.
        revisions: HashMap<String, Modification>,
    },
    /// This dependency has no passed run yet.
    NotPassed(usize),
    /// Every combination disagrees on some material.
    None,
}

/// Finds the newest passed runs of these dependencies that agree on every git material that more
/// than one of them was built from, directly or further up, or that is one of `direct`, the
/// fingerprints of what the pipeline itself checks out.
pub(super) async fn agree(
    connection: &mut SqliteConnection,
    dependencies: &[&DependencyMaterial],
    direct: &HashSet<String>,
) -> Result<Agreement, DatabaseError> {
    let mut known = Known::default();
    let mut ways = Vec::with_capacity(dependencies.len());
    for (index, dependency) in dependencies.iter().enumerate() {
        let mut way = Way::new(dependency);
        if !way.step(connection, &mut known).await? {
            return Ok(Agreement::NotPassed(index));
        }
        ways.push(way);
    }
    for _ in 0..MOST_STEPS {
        let Some((fingerprint, revisions)) = disagreement(&ways, direct) else {
            return Ok(found(ways));
        };
        let ahead = known.newest(connection, &fingerprint, &revisions).await?;
        for way in &mut ways {
            if way.built(&fingerprint).any(|revision| *revision == ahead)
                && !way.step(connection, &mut known).await?
            {
                return Ok(Agreement::None);
            }
        }
    }
    Ok(Agreement::None)
}

fn found(ways: Vec<Way<'_>>) -> Agreement {
    let (mut passes, mut revisions) = (Vec::new(), HashMap::new());
    for way in ways {
        for (fingerprint, built) in way.here {
            revisions.extend(built.into_values().next().map(|one| (fingerprint, one)));
        }
        passes.extend(way.pass);
    }
    Agreement::Found { passes, revisions }
}

/// A material that was built in more than one revision, and these.
fn disagreement(ways: &[Way<'_>], direct: &HashSet<String>) -> Option<(String, BTreeSet<String>)> {
    let mut all: BTreeMap<&str, (usize, BTreeSet<&String>)> = BTreeMap::new();
    for way in ways {
        for (fingerprint, built) in &way.here {
            let (ways, revisions) = all.entry(fingerprint).or_default();
            *ways += 1;
            revisions.extend(built.keys());
        }
    }
    let mut all = all.into_iter();
    let (fingerprint, (_, revisions)) = all.find(|(fingerprint, (ways, revisions))| {
        let shared = *ways > 1 || direct.contains(*fingerprint);
        shared && revisions.len() > 1
    })?;
    let revisions = revisions.into_iter().cloned().collect();
    Some((fingerprint.to_owned(), revisions))
}

/// Git materials with the revisions that a run was built from, by fingerprint, then by revision.
type Built = BTreeMap<String, BTreeMap<String, Modification>>;

/// A dependency, and the passed run of it that is tried just now.
struct Way<'d> {
    dependency: &'d DependencyMaterial,
    pass: Option<Pass>,
    /// What that run was built from.
    here: Built,
    /// Older ones that were read.
    older: std::vec::IntoIter<Pass>,
}

impl<'d> Way<'d> {
    fn new(dependency: &'d DependencyMaterial) -> Self {
        Self {
            dependency,
            pass: None,
            here: Built::new(),
            older: Vec::new().into_iter(),
        }
    }

    fn built(&self, fingerprint: &str) -> impl Iterator<Item = &String> {
        self.here
            .get(fingerprint)
            .into_iter()
            .flat_map(BTreeMap::keys)
    }

    /// Goes to the next older passed run; answers whether there is one.
    async fn step(
        &mut self,
        connection: &mut SqliteConnection,
        known: &mut Known,
    ) -> Result<bool, DatabaseError> {
        let mut next = self.older.next();
        if next.is_none() {
            // The last place before the one that was tried last.
            let to = self.pass.as_ref().map(|pass| {
                let (counter, stage_counter) = pass.place();
                (counter, stage_counter - 1)
            });
            let more = passes(connection, self.dependency, None, to, READ_AT_ONCE).await?;
            self.older = more.into_iter();
            next = self.older.next();
        }
        let Some(next) = next else { return Ok(false) };
        self.here = known
            .built(connection, &next.pipeline, next.counter)
            .await?;
        self.pass = Some(next);
        Ok(true)
    }
}

/// What was read of the database.
#[derive(Default)]
struct Known {
    runs: HashMap<(String, i64), MaterialRevisions>,
}

impl Known {
    /// What a run and all runs that it was made from were built from.
    async fn built(
        &mut self,
        connection: &mut SqliteConnection,
        pipeline: &str,
        counter: i64,
    ) -> Result<Built, DatabaseError> {
        let mut built = Built::new();
        let mut visited = HashSet::new();
        let mut open = vec![(pipeline.to_owned(), counter)];
        while let Some(run) = open.pop() {
            if !visited.insert(run.clone()) {
                continue;
            }
            if !self.runs.contains_key(&run) {
                let revisions = revisions_of(connection, &run.0, run.1).await?;
                self.runs.insert(run.clone(), revisions);
            }
            let revisions = self.runs.get(&run);
            for one in revisions.iter().flat_map(|all| &all.revisions) {
                let Some(newest) = one.newest() else { continue };
                match &one.material {
                    Material::DependencyMaterial(_) => open.extend(upstream(&newest.revision)),
                    material => {
                        let of_material = built.entry(wire::fingerprint(material)).or_default();
                        of_material.insert(newest.revision.clone(), newest.clone());
                    }
                }
            }
        }
        Ok(built)
    }

    /// Which of these revisions was seen last.
    async fn newest(
        &self,
        connection: &mut SqliteConnection,
        fingerprint: &str,
        revisions: &BTreeSet<String>,
    ) -> Result<String, DatabaseError> {
        let mut newest = (None, String::new());
        for revision in revisions {
            let seen = materials::find(connection, fingerprint, revision).await?;
            // What was never seen is older than what was.
            newest = newest.max((seen.map(|seen| seen.position), revision.clone()));
        }
        Ok(newest.1)
    }
}

/// The run that a dependency's revision `pipeline/counter/stage/counter` names.
fn upstream(revision: &str) -> Option<(String, i64)> {
    let mut parts = revision.split('/');
    Some((parts.next()?.to_owned(), parts.next()?.parse().ok()?))
}

async fn revisions_of(
    connection: &mut SqliteConnection,
    pipeline: &str,
    counter: i64,
) -> Result<MaterialRevisions, DatabaseError> {
    let text: Option<String> = sqlx::query_scalar(
        "SELECT material_revisions FROM pipeline_runs WHERE lower(pipeline) = lower($1) AND counter = $2",
    )
    .bind(pipeline)
    .bind(counter)
    .fetch_optional(connection)
    .await?;
    let what = || format!("the materials of {pipeline}/{counter}");
    text.map_or(Ok(MaterialRevisions::default()), |text| {
        decode(&what(), &text)
    })
}
