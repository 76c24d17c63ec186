//! Bringing the sources of a job to its working directory.

mod cleanup;
mod git;
mod hg;
mod p4;
mod place;
mod scm;
mod svn;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod url;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use journeyman_protocol::{
    console::Tag,
    material::{Material, PluggableScmMaterial},
    revision::{MaterialRevision, MaterialRevisions},
};
use thiserror::Error;

pub use git::builtin as built_in_git;
pub(crate) use {cleanup::delete_content, place::is_of_pipeline};

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
    /// The agent's host name, as the server knows it.
    pub(crate) host_name: String,
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
        | Material::HgMaterial(_)
        | Material::SvnMaterial(_)
        | Material::P4Material(_)
        | Material::DependencyMaterial(_)
        | Material::PackageMaterial(_) => return None,
        Material::PluggableSCMMaterial(scm) => {
            let what = match plugin_id(scm) {
                Some(id) => format!("the plugin `{id}`"),
                None => format!("the plugin of the SCM `{}`", scm.scm_id),
            };
            format!("it needs {what}, and plugins run in GoCD's Java agent only")
        }
        Material::TfsMaterial(_) => {
            "it needs Microsoft's TFS library for Java, which only GoCD's Java agent has".to_owned()
        }
        Material::Unknown(_) => "this version of the agent does not know it".to_owned(),
    };
    Some(format!(
        "[go] This agent cannot check out a material of the kind {}: {why}.",
        material.kind()
    ))
}

fn plugin_id(scm: &PluggableScmMaterial) -> Option<&str> {
    let id = scm.scm.as_ref()?.0.pointer("/plugin/id")?.as_str()?;
    Some(id).filter(|id| !id.is_empty())
}

/// The variables that an agent adds to those of the server: the client of each Perforce material.
/// `base` is the pipeline's folder, absolute.
pub(crate) fn variables(
    revisions: &MaterialRevisions,
    base: &Path,
    host_name: &str,
) -> Vec<(String, String)> {
    let of_one = |revision: &MaterialRevision| {
        let Material::P4Material(p4) = &revision.material else {
            return None;
        };
        let folder = p4.scm.folder.as_deref().unwrap_or_default();
        let name = match &p4.scm.attributes.name {
            Some(name) if !name.as_str().is_empty() => name.as_str(),
            _ => folder,
        };
        let suffix: String = name
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() {
                    c.to_ascii_uppercase()
                } else {
                    '_'
                }
            })
            .collect();
        let variable = match suffix.as_str() {
            "" => "GO_P4_CLIENT".to_owned(),
            suffix => format!("GO_P4_CLIENT_{suffix}"),
        };
        Some((
            variable,
            p4::client_name(host_name, &place::written(base, folder)),
        ))
    };
    revisions.revisions.iter().filter_map(of_one).collect()
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
    let material = &revision.material;
    if !is_checked_out(material) {
        return Ok(());
    }
    // Asked at each one: what an earlier material has brought may be a link.
    place::resolve(folder(material).unwrap_or_default(), context)?;
    let newest = || {
        revision
            .newest()
            .ok_or_else(|| MaterialError::new(format!("The {} has no revision.", material.kind())))
    };
    match material {
        Material::GitMaterial(material) => git::update(material, revision, context),
        Material::HgMaterial(material) => hg::update(material, newest()?, context),
        Material::SvnMaterial(material) => svn::update(material, newest()?, context),
        Material::P4Material(material) => p4::update(material, newest()?, context),
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
    folder.filter(|folder| !folder.trim().is_empty())
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
