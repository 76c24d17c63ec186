//! Materials as GoCD's agents and API know them.

use journeyman_protocol::{
    material::{
        DependencyMaterial, GitMaterial, IgnoredFiles, Material as WireMaterial, MaterialAttributes,
    },
    name::CaseInsensitiveString,
    secret::Secret,
};
use ring::digest;

use crate::hex::hex;
use crate::pipelines::definition::{self, Filter, Material};

/// A material for an agent. Its password stays as encrypted as it is.
#[must_use]
pub fn on_wire(material: &Material) -> WireMaterial {
    match material {
        Material::Git(git) => git_on_wire(git),
        Material::Dependency(dependency) => dependency_on_wire(dependency),
    }
}

fn dependency_on_wire(dependency: &definition::DependencyMaterial) -> WireMaterial {
    WireMaterial::DependencyMaterial(DependencyMaterial {
        pipeline_name: CaseInsensitiveString::new(&dependency.pipeline),
        stage_name: CaseInsensitiveString::new(&dependency.stage),
        ignore_for_scheduling: dependency.ignore_for_scheduling,
        attributes: MaterialAttributes {
            name: Some(CaseInsensitiveString::new(&dependency.name)),
            ..MaterialAttributes::of_type("DependencyMaterial")
        },
    })
}

fn git_on_wire(material: &definition::GitMaterial) -> WireMaterial {
    let mut git = GitMaterial::new(&material.url, &material.branch);
    git.shallow_clone = material.shallow_clone;
    git.scm.folder = material.destination.clone();
    git.scm.auto_update = material.auto_update;
    git.scm.user_name = material.username.clone();
    git.scm.password = material.password.as_deref().map(Secret::from);
    if material.username.is_some() || material.password.is_some() {
        git.scm.secret_params_for_password = Some(Vec::new());
    }
    let (patterns, inverted) = match &material.filter {
        Filter::None => (&[][..], false),
        Filter::Ignore(patterns) => (&patterns[..], false),
        Filter::Includes(patterns) => (&patterns[..], true),
    };
    if !patterns.is_empty() {
        let pattern = |pattern: &String| IgnoredFiles {
            pattern: pattern.clone(),
            ..IgnoredFiles::default()
        };
        git.scm.filter = Some(patterns.iter().map(pattern).collect());
        git.scm.invert_filter = inverted;
    }
    git.scm.attributes.name = Some(CaseInsensitiveString::new(&material.name));
    WireMaterial::GitMaterial(git)
}

/// The lower-case hex SHA-256 by which GoCD's API names a material.
#[must_use]
pub fn fingerprint(material: &WireMaterial) -> String {
    let text = material.fingerprint_text().unwrap_or_default();
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    hex(digest.as_ref())
}

/// The fingerprint of a material of a pipeline.
#[must_use]
pub fn fingerprint_of(material: &Material) -> String {
    fingerprint(&on_wire(material))
}

/// The fingerprint of a git material of a pipeline.
#[must_use]
pub fn fingerprint_of_git(material: &definition::GitMaterial) -> String {
    fingerprint(&git_on_wire(material))
}
