//! With which revisions of its materials a pipeline would run now, by what is in the database.

use std::collections::HashSet;

use jiff::Timestamp;
use journeyman_protocol::revision::{MaterialRevision, MaterialRevisions, Modification};
use ring::digest;
use sqlx::SqliteConnection;

use super::fan_in::{self, Agreement};
use super::passes::{Pass, passes, place_of};
use super::run::Run;
use super::trigger::TriggerError;
use super::wire;
use crate::database::DatabaseError;
use crate::hex::hex;
use crate::materials::{self, MODIFICATIONS_OF_A_RUN};
use crate::pipelines::definition::{DependencyMaterial, GitMaterial, Material, Pipeline};

/// What a run is made with.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) revisions: MaterialRevisions,
    /// A digest of which revision of which material it is.
    pub(super) built: String,
}

/// Finds the revision of every material: that which is chosen for its fingerprint, else the newest
/// that fits to the others, with everything that is new since the last run.
///
/// # Errors
///
/// There is none for one of them, or none that fits.
pub(super) async fn resolve(
    connection: &mut SqliteConnection,
    pipeline: &Pipeline,
    last: Option<&Run>,
    chosen: &[(String, String)],
) -> Result<Resolved, TriggerError> {
    let fingerprints: Vec<String> = pipeline
        .materials
        .iter()
        .map(wire::fingerprint_of)
        .collect();
    if let Some((unknown, _)) = chosen.iter().find(|(one, _)| !fingerprints.contains(one)) {
        return Err(TriggerError::UnknownMaterial {
            pipeline: pipeline.name.clone(),
            fingerprint: unknown.clone(),
        });
    }
    let choice = |fingerprint: &String| {
        let mut all = chosen.iter();
        all.find_map(|(one, revision)| (one == fingerprint).then_some(revision.as_str()))
    };
    let all = || pipeline.materials.iter().zip(&fingerprints);
    let free = || all().filter(|(_, fingerprint)| choice(fingerprint).is_none());
    let dependencies: Vec<_> = free().filter_map(|(one, _)| one.dependency()).collect();
    let direct = free().filter(|(one, _)| one.git().is_some());
    let direct: HashSet<String> = direct.map(|(_, fingerprint)| fingerprint.clone()).collect();
    let agreement = fan_in::agree(connection, &dependencies, &direct).await?;
    let (agreed, built_upstream) = match agreement {
        Agreement::Found { passes, revisions } => (passes, revisions),
        Agreement::NotPassed(index) => {
            let missing = dependencies.get(index).copied();
            return Err(not_passed(missing));
        }
        Agreement::None => {
            return Err(TriggerError::NoAgreement {
                pipeline: pipeline.name.clone(),
            });
        }
    };
    let mut agreed = agreed.into_iter();
    let mut revisions = Vec::with_capacity(pipeline.materials.len());
    for (material, fingerprint) in all() {
        let before = before(last, fingerprint);
        let modifications = match (material, choice(fingerprint)) {
            (Material::Git(git), chosen) => {
                let newest = match (chosen, built_upstream.get(fingerprint)) {
                    (Some(chosen), _) => {
                        chosen_commit(connection, git, fingerprint, chosen).await?
                    }
                    (None, Some(pinned)) => pinned.clone(),
                    (None, None) => head(connection, git, fingerprint).await?,
                };
                commits_since(connection, fingerprint, before, newest).await?
            }
            (Material::Dependency(dependency), Some(chosen)) => {
                let newest = chosen_pass(connection, dependency, chosen).await?;
                passes_since(connection, dependency, before, newest).await?
            }
            (Material::Dependency(dependency), None) => {
                let newest = agreed.next().ok_or_else(|| not_passed(Some(dependency)))?;
                passes_since(connection, dependency, before, newest).await?
            }
        };
        let newest = modifications.first().map(|one| one.revision.as_str());
        revisions.push(MaterialRevision {
            changed: newest != before,
            material: wire::on_wire(material),
            modifications,
        });
    }
    let built = digest_of(&fingerprints, &revisions);
    Ok(Resolved {
        revisions: MaterialRevisions { revisions },
        built,
    })
}

fn not_passed(dependency: Option<&DependencyMaterial>) -> TriggerError {
    let text = |of: fn(&DependencyMaterial) -> String| dependency.map(of).unwrap_or_default();
    TriggerError::Upstream {
        material: text(|one| one.name.clone()),
        upstream: text(|one| format!("{}/{}", one.pipeline, one.stage)),
    }
}

/// The revision of a material that the last run was made with.
pub(super) fn of_last_run<'r>(
    last: Option<&'r Run>,
    fingerprint: &str,
) -> Option<&'r Modification> {
    let mut known = last?.revisions.revisions.iter();
    known
        .find(|one| wire::fingerprint(&one.material) == fingerprint)?
        .newest()
}

fn before<'r>(last: Option<&'r Run>, fingerprint: &str) -> Option<&'r str> {
    of_last_run(last, fingerprint).map(|one| one.revision.as_str())
}

/// The newest revision of a material that is known, whatever it fits to.
pub(super) async fn newest(
    connection: &mut SqliteConnection,
    material: &Material,
) -> Result<Option<Modification>, DatabaseError> {
    match material {
        Material::Git(git) => {
            let head = materials::head(connection, &wire::fingerprint_of_git(git)).await?;
            Ok(head.map(on_wire))
        }
        Material::Dependency(dependency) => {
            let newest = passes(connection, dependency, None, None, 1).await?;
            Ok(newest.first().map(Pass::modification))
        }
    }
}

fn digest_of(fingerprints: &[String], revisions: &[MaterialRevision]) -> String {
    let revision = |one: &MaterialRevision| one.newest().map(|one| one.revision.clone());
    let mut lines: Vec<String> = fingerprints
        .iter()
        .zip(revisions)
        .map(|(fingerprint, one)| format!("{fingerprint}={}", revision(one).unwrap_or_default()))
        .collect();
    // The order in which a pipeline has its materials is not what it is built from.
    lines.sort_unstable();
    let digest = digest::digest(&digest::SHA256, lines.join("\n").as_bytes());
    hex(digest.as_ref())
}

async fn head(
    connection: &mut SqliteConnection,
    git: &GitMaterial,
    fingerprint: &str,
) -> Result<Modification, TriggerError> {
    let head = materials::head(connection, fingerprint).await?;
    let head = head.ok_or_else(|| TriggerError::NotSeen {
        material: git.name.clone(),
    })?;
    Ok(on_wire(head))
}

async fn chosen_commit(
    connection: &mut SqliteConnection,
    git: &GitMaterial,
    fingerprint: &str,
    revision: &str,
) -> Result<Modification, TriggerError> {
    let found = materials::find(connection, fingerprint, revision).await?;
    let found = found.ok_or_else(|| TriggerError::UnknownRevision {
        material: git.name.clone(),
        revision: revision.to_owned(),
    })?;
    Ok(on_wire(found))
}

async fn chosen_pass(
    connection: &mut SqliteConnection,
    dependency: &DependencyMaterial,
    revision: &str,
) -> Result<Pass, TriggerError> {
    let unknown = || TriggerError::UnknownRevision {
        material: dependency.name.clone(),
        revision: revision.to_owned(),
    };
    let place = place_of(revision).ok_or_else(unknown)?;
    let found = passes(connection, dependency, None, Some(place), 1).await?;
    let found = found.into_iter().next();
    let same = |pass: &Pass| pass.locator().eq_ignore_ascii_case(revision);
    found.filter(same).ok_or_else(unknown)
}

/// A commit and what came before it, down to the one of the last run.
async fn commits_since(
    connection: &mut SqliteConnection,
    fingerprint: &str,
    before: Option<&str>,
    newest: Modification,
) -> Result<Vec<Modification>, DatabaseError> {
    let Some(before) = before.filter(|before| *before != newest.revision) else {
        return Ok(vec![newest]);
    };
    let places = (
        materials::find(connection, fingerprint, before).await?,
        materials::find(connection, fingerprint, &newest.revision).await?,
    );
    if let (Some(before), Some(to)) = places
        && before.position < to.position
    {
        let (after, to) = (Some(before.position), to.position);
        let found =
            materials::between(connection, fingerprint, after, to, MODIFICATIONS_OF_A_RUN).await?;
        return Ok(found.into_iter().map(on_wire).collect());
    }
    Ok(vec![newest])
}

async fn passes_since(
    connection: &mut SqliteConnection,
    dependency: &DependencyMaterial,
    before: Option<&str>,
    newest: Pass,
) -> Result<Vec<Modification>, DatabaseError> {
    if let Some(before) = before.and_then(place_of)
        && before < newest.place()
    {
        let to = Some(newest.place());
        let found = passes(
            connection,
            dependency,
            Some(before),
            to,
            MODIFICATIONS_OF_A_RUN,
        )
        .await?;
        return Ok(found.iter().map(Pass::modification).collect());
    }
    Ok(vec![newest.modification()])
}

/// A commit as a modification of a run's revisions. An agent needs no files.
fn on_wire(commit: materials::Modification) -> Modification {
    Modification {
        user_name: Some(commit.user_name),
        comment: Some(commit.comment),
        email_address: Some(commit.email),
        revision: commit.revision,
        modified_time: Timestamp::from_millisecond(commit.modified_at).ok(),
        id: -1,
        ..Modification::default()
    }
}

/// Whether these revisions start a run by themselves: nothing was built yet, the materials are others
/// than those of the last run, or one of those that may start a run has changed in files that its
/// filter lets through.
pub(super) async fn start_a_run(
    connection: &mut SqliteConnection,
    pipeline: &Pipeline,
    last: Option<&Run>,
    resolved: &Resolved,
) -> Result<bool, DatabaseError> {
    let Some(last) = last else { return Ok(true) };
    let now = resolved.revisions.revisions.iter();
    let fingerprints: HashSet<String> = now.map(|one| wire::fingerprint(&one.material)).collect();
    let then = last.revisions.revisions.iter();
    if then
        .map(|one| wire::fingerprint(&one.material))
        .collect::<HashSet<_>>()
        != fingerprints
    {
        return Ok(true);
    }
    for (material, revision) in pipeline.materials.iter().zip(&resolved.revisions.revisions) {
        if !revision.changed {
            continue;
        }
        let starts = match material {
            Material::Dependency(dependency) => !dependency.ignore_for_scheduling,
            Material::Git(git) if git.filter.is_none() => true,
            Material::Git(git) => passes_filter(connection, git, last, revision).await?,
        };
        if starts {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn passes_filter(
    connection: &mut SqliteConnection,
    git: &GitMaterial,
    last: &Run,
    revision: &MaterialRevision,
) -> Result<bool, DatabaseError> {
    let fingerprint = wire::fingerprint(&revision.material);
    let newest = revision.newest().map_or("", |one| &one.revision);
    let Some(to) = materials::find(connection, &fingerprint, newest).await? else {
        return Ok(true);
    };
    let before = before(Some(last), &fingerprint).unwrap_or_default();
    let after = match materials::find(connection, &fingerprint, before).await? {
        Some(before) if before.position < to.position => before.position,
        // Only the newest commit can be compared.
        _ => to.position - 1,
    };
    let files =
        materials::files_between(connection, &fingerprint, Some(after), to.position).await?;
    // What is not known is not filtered out.
    let paths = files.known.iter().map(|file| file.path.as_str());
    Ok(files.more > 0 || git.filter.lets_through(paths))
}

/// Why a run starts, in GoCD's words: the first material that has changed and may start one.
pub(super) fn message(pipeline: &Pipeline, revisions: &MaterialRevisions) -> String {
    let may_start = |material: &Material| {
        material
            .dependency()
            .is_none_or(|one| !one.ignore_for_scheduling)
    };
    let all = || pipeline.materials.iter().zip(&revisions.revisions);
    let first = all()
        .find(|(material, one)| one.changed && may_start(material))
        .or_else(|| all().next());
    let Some((material, newest)) = first.and_then(|(one, all)| Some((one, all.newest()?))) else {
        return String::new();
    };
    match material {
        Material::Git(_) => {
            let user = newest.user_name.as_deref().unwrap_or("unknown");
            format!("modified by {user}")
        }
        Material::Dependency(_) => format!("triggered by {}", newest.revision),
    }
}
