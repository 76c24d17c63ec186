//! Bringing the sources of a job to its working directory.

mod cleanup;
mod git;
mod scm;
#[cfg(test)]
mod testing;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use journeyman_protocol::{
    console::Tag,
    material::Material,
    revision::{MaterialRevision, MaterialRevisions},
};
use thiserror::Error;

pub(crate) use cleanup::delete_content;

use super::{console::Console, containment::Children};

/// What the materials of a job need.
#[derive(Clone)]
pub(crate) struct MaterialContext {
    pub(crate) console: Console,
    pub(crate) children: Children,
    /// The agent's working directory, absolute.
    pub(crate) root: PathBuf,
    /// `pipelines/<pipeline>`, relative to it.
    pub(crate) base: PathBuf,
    /// Whether the job's cancel has begun: from then on no program is started.
    pub(crate) is_cancelled: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// A material that could not be brought up to date. The text is what the console shows.
#[derive(Debug, Error)]
#[error("{message}")]
pub(crate) struct MaterialError {
    message: String,
}

impl MaterialError {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
        }
    }
}

/// Why this agent cannot check out a material, if it cannot: said before anything of the job is
/// done.
pub(crate) fn unsupported(material: &Material) -> Option<String> {
    let why = match material {
        Material::GitMaterial(_)
        | Material::DependencyMaterial(_)
        | Material::PackageMaterial(_) => return None,
        Material::PluggableSCMMaterial(scm) => format!(
            "it needs the plugin of the SCM `{}`, and plugins run in GoCD's Java agent only",
            scm.scm_id
        ),
        Material::TfsMaterial(_) => "it needs a Java library of GoCD's own agent".to_owned(),
        Material::Unknown(_) => "this version of the agent does not know it".to_owned(),
        _ => "it is not built into this agent yet".to_owned(),
    };
    Some(format!(
        "[go] This agent cannot check out a material of the kind {}: {why}.",
        material.kind()
    ))
}

/// Brings all materials up to date, with the lines that tell of it. Blocks.
///
/// # Errors
/// The first material that fails; later ones are not tried.
pub(crate) fn update(
    revisions: &MaterialRevisions,
    context: &MaterialContext,
) -> Result<(), MaterialError> {
    let folders: Option<Vec<&str>> = revisions
        .revisions
        .iter()
        .filter(|revision| is_checked_out(&revision.material))
        .map(|revision| folder(&revision.material))
        .collect();
    // A material in the base folder itself owns all that is there.
    if let Some(folders) = folders {
        cleanup::remove_stale(&context.root, &context.base, &folders, &context.console)?;
    }
    context
        .console
        .line(Tag::Prep, "[go] Start to update materials.\n");
    for revision in &revisions.revisions {
        update_one(revision, context)?;
    }
    Ok(())
}

fn update_one(revision: &MaterialRevision, context: &MaterialContext) -> Result<(), MaterialError> {
    match &revision.material {
        Material::GitMaterial(material) => git::update(material, revision, context),
        Material::DependencyMaterial(_) | Material::PackageMaterial(_) => Ok(()),
        other => Err(MaterialError::new(unsupported(other).unwrap_or_default())),
    }
}

fn is_checked_out(material: &Material) -> bool {
    !matches!(
        material,
        Material::DependencyMaterial(_) | Material::PackageMaterial(_)
    )
}

fn folder(material: &Material) -> Option<&str> {
    let folder = match material {
        Material::PluggableSCMMaterial(scm) => scm.folder.as_deref(),
        other => other.scm().and_then(|scm| scm.folder.as_deref()),
    };
    folder.filter(|folder| !folder.is_empty())
}

/// The path with `.` and `..` worked out by its text alone, as Java's canonical paths do for
/// what does not exist. `None` when it leads above the root.
fn normalise(path: &Path) -> Option<PathBuf> {
    use std::path::Component;
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                if !normal.pop() {
                    return None;
                }
            }
            other => normal.push(other),
        }
    }
    Some(normal)
}
