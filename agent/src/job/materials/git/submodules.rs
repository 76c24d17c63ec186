//! Submodules whose URL is relative to that of the repository they are in: they have its
//! credentials.

use std::path::{Component, Path};

use super::{
    config::{self, ConfigError, ConfigFile},
    url::RepositoryUrl,
};

/// A submodule that is reached with the credentials of its superproject.
pub(super) struct Sibling {
    name: String,
    pub(super) url: RepositoryUrl,
}

/// The submodules with a relative URL, once they are in the checkout's configuration. None are
/// when the superproject has no credentials.
///
/// # Errors
/// A configuration file cannot be read.
pub(super) fn siblings(dir: &Path, url: &RepositoryUrl) -> Result<Vec<Sibling>, ConfigError> {
    if url.login().is_none() {
        return Ok(Vec::new());
    }
    let modules = ConfigFile::read(&dir.join(".gitmodules"))?;
    let relative = modules.submodules();
    let config = ConfigFile::read(&dir.join(".git/config"))?;
    Ok(config
        .submodules()
        .into_iter()
        .filter(|(name, _)| {
            relative.iter().any(|(relative, url)| {
                *relative == *name && (url.starts_with("./") || url.starts_with("../"))
            })
        })
        .filter_map(|(name, resolved)| {
            let url = url.sibling(resolved)?;
            Some(Sibling {
                name: name.to_owned(),
                url,
            })
        })
        .collect())
}

/// Leaves the credentials where GoCD's way leaves them: jobs that push rely on it.
///
/// # Errors
/// A configuration file cannot be changed.
pub(super) fn keep_credentials(dir: &Path, siblings: &[Sibling]) -> Result<(), ConfigError> {
    if siblings.is_empty() {
        return Ok(());
    }
    let values: Vec<_> = siblings
        .iter()
        .map(|sibling| {
            let name = format!("submodule.{}.url", sibling.name);
            (name, sibling.url.for_config())
        })
        .collect();
    config::set(&dir.join(".git/config"), &values)?;
    for sibling in siblings {
        // Git takes no such names, so none should be here; but they come from the repository.
        let normal = |part| matches!(part, Component::Normal(_));
        if !Path::new(&sibling.name).components().all(normal) {
            continue;
        }
        let file = dir.join(".git/modules").join(&sibling.name).join("config");
        if file.is_file() {
            let origin = "remote.origin.url".to_owned();
            config::set(&file, &[(origin, sibling.url.for_config())])?;
        }
    }
    Ok(())
}
