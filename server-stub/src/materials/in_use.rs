//! The materials of the pipelines that are defined.

use sqlx::SqliteConnection;

use crate::database::DatabaseError;
use crate::pipelines::definition::{DependencyMaterial, GitMaterial, Material};
use crate::pipelines::{location, store};
use crate::scheduling::wire;

/// A material, and who has it.
#[derive(Clone, Debug)]
pub struct InUse {
    pub fingerprint: String,
    pub kind: Kind,
    /// Name and group of each pipeline that has it.
    pub pipelines: Vec<(String, String)>,
}

/// What it is: the settings that the first pipeline has for it.
#[derive(Clone, Debug)]
pub enum Kind {
    Git(GitMaterial),
    Dependency(DependencyMaterial),
}

impl InUse {
    #[must_use]
    pub fn git(&self) -> Option<&GitMaterial> {
        match &self.kind {
            Kind::Git(git) => Some(git),
            Kind::Dependency(_) => None,
        }
    }
}

/// Every material once, in the order in which pipelines have it.
pub async fn list(connection: &mut SqliteConnection) -> Result<Vec<InUse>, DatabaseError> {
    let mut all: Vec<InUse> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for stored in store::pipelines(connection).await? {
        let pipeline = stored.pipeline;
        for material in pipeline.materials {
            let fingerprint = wire::fingerprint_of(&material);
            let user = (pipeline.name.clone(), pipeline.group.clone());
            let place = *places.entry(fingerprint.clone()).or_insert(all.len());
            match all.get_mut(place) {
                Some(known) => {
                    known.pipelines.push(user);
                    known.join(material);
                }
                None => all.push(InUse {
                    fingerprint,
                    kind: match material {
                        Material::Git(git) => Kind::Git(git),
                        Material::Dependency(dependency) => Kind::Dependency(dependency),
                    },
                    pipelines: vec![user],
                }),
            }
        }
    }
    Ok(all)
}

impl InUse {
    /// Credentials and polling are no part of what makes materials the same: it is polled if one
    /// pipeline wants that, and with a password if one has it.
    fn join(&mut self, other: Material) {
        if let (Kind::Git(git), Material::Git(other)) = (&mut self.kind, other) {
            git.auto_update |= other.auto_update;
            if git.password.is_none() && other.password.is_some() {
                git.username = other.username;
                git.password = other.password;
            }
        }
    }
}

/// The git materials whose repository has one of these addresses, in whatever form they are
/// written.
#[must_use]
pub fn by_address<'m>(all: &'m [InUse], addresses: &[String]) -> Vec<&'m InUse> {
    let wanted: Vec<String> = addresses.iter().map(|one| location::place(one)).collect();
    let here = |one: &&InUse| {
        one.git()
            .is_some_and(|git| wanted.contains(&location::place(&git.url)))
    };
    all.iter().filter(here).collect()
}
