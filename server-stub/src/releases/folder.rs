//! The folder of `--releases`: what is in it is offered to all.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use journeyman_protocol::release::{Component, Signatures};
use tempfile::NamedTempFile;

use super::{
    offers::{self, EndKind, Offer},
    rollout::Target,
    store::{self, Origin, StoreError},
};
use crate::{App, answer::Chain, database::DatabaseError};

const EXTENSION: &str = ".tar.zst";
/// The largest file of signatures that is read.
const LARGEST_SIGNATURES: u64 = 64 * 1024;

/// What is known of the folder.
#[derive(Debug, Default)]
pub struct Folder {
    /// Held while the folder is read.
    known: tokio::sync::Mutex<Option<Seen>>,
    /// The checksums of the packages in it.
    content: Mutex<Vec<String>>,
}

/// The files of the folder at one time, by name without folder and extension.
type Seen = BTreeMap<String, Files>;

/// A package and its signatures; changes whenever one of them is written or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Files {
    package: Stamp,
    signatures: Option<Stamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

/// A package in the folder that cannot be offered.
#[derive(Debug, thiserror::Error)]
enum TakeInError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the signatures in {} cannot be read: {why}; sign the package anew with `journeyman-package sign`", path.display())]
    Signatures { path: PathBuf, why: String },
    #[error("the package {} is for the {} on {}: name it {}-{}{EXTENSION}", path.display(), component.as_str(), platform, component.as_str(), platform)]
    Name {
        path: PathBuf,
        component: Component,
        platform: String,
    },
    #[error("the package {} is being written", .0.display())]
    Changing(PathBuf),
}

/// Looks whether the files of the folder have changed; if so, adds them to the store and offers
/// them. What cannot be read is logged, and its place keeps what was offered for it before.
///
/// # Errors
///
/// The database could not be used.
pub async fn refresh(app: &App) -> Result<(), DatabaseError> {
    let mut known = app.releases.folder.known.lock().await;
    let path = app.paths.releases.clone();
    let seen = tokio::task::spawn_blocking(move || look(&path))
        .await
        .map_err(|error| DatabaseError::content("the folder of releases", error))?;
    let seen = match seen {
        Ok(seen) => seen,
        Err(error) => {
            let path = app.paths.releases.display();
            tracing::error!(%path, %error, "cannot read the folder of releases: what it offered stays");
            return Ok(());
        }
    };
    if known.as_ref() == Some(&seen) {
        return Ok(());
    }
    let settled = take_in_all(app, &seen).await?;
    *known = settled.then_some(seen);
    Ok(())
}

/// Answers whether all files were read to their end as they were seen.
async fn take_in_all(app: &App, seen: &Seen) -> Result<bool, DatabaseError> {
    let mut settled = true;
    let mut content = Vec::new();
    let mut unreadable = Vec::new();
    for (name, files) in seen {
        match take_in(app, name, *files).await {
            Ok(package) => content.push(package),
            Err(TakeInError::Store(StoreError::Database(error))) => return Err(error),
            Err(error) => {
                settled &= !error.is_passing();
                tracing::error!(cause = %Chain(&error), "a package in the folder of releases is not offered");
                unreadable.push(name.clone());
            }
        }
    }
    let mut write = app.database.write().await?;
    let last = offers::last_of_folder(&mut write).await?;
    if let Some(last) = &last {
        for package in offers::packages(&mut write, last).await? {
            let manifest = &package.manifest;
            let name = format!("{}-{}", manifest.component.as_str(), manifest.platform);
            if unreadable.contains(&name) {
                content.push(package);
            }
        }
    }
    let mut checksums: Vec<String> = content.iter().map(|one| one.sha256.clone()).collect();
    checksums.sort();
    checksums.dedup();
    let same = |last: &&Offer| last.content.as_ref() == Some(&checksums);
    let stands = last.as_ref().filter(same).is_some_and(|last| {
        // An offer that was ended on purpose is not made again for the same files.
        let kind = last.end.as_ref().map(|end| end.kind);
        !matches!(kind, Some(EndKind::Replaced | EndKind::Removed))
    });
    *app.releases.folder.content() = checksums.clone();
    if stands {
        return Ok(settled);
    }
    let (kind, reason) = if content.is_empty() {
        (
            EndKind::Removed,
            "its files were taken out of the folder of releases",
        )
    } else {
        (
            EndKind::Replaced,
            "other files came into the folder of releases",
        )
    };
    if let Some(last) = last.filter(|last| last.end.is_none()) {
        offers::end(&mut write, last.id, kind, reason, app.now_ms()).await?;
        tracing::info!(
            release = last.release,
            offer = last.id,
            reason,
            "an offer has ended"
        );
    }
    let agents = content.iter().max_by_key(|one| {
        (
            one.manifest.component == Component::Agent,
            one.manifest.build,
        )
    });
    let made = match agents {
        None => None,
        Some(package) => {
            let offer = Offer {
                id: 0,
                release: package.release.clone(),
                content: Some(checksums),
                target: Target::All,
                duration_ms: 0,
                downgrade: true,
                stop_at: offers::STOP_AT,
                started_at: app.now_ms(),
                end: None,
            };
            Some(offers::insert(&mut write, offer).await?)
        }
    };
    write.commit().await?;
    app.state_changed.raise();
    if let Some(offer) = made {
        offers::announce(app, &offer);
    }
    Ok(settled)
}

/// Adds one package to the store.
async fn take_in(app: &App, name: &str, files: Files) -> Result<store::Package, TakeInError> {
    let path = app.paths.releases.join(format!("{name}{EXTENSION}"));
    let signatures = match files.signatures {
        None => Signatures::default(),
        Some(_) => read_signatures(&signatures_of(&path))?,
    };
    let incoming = app.paths.incoming();
    let (path, copied) = tokio::task::spawn_blocking(move || {
        let copied = copy(&path, &incoming, files.package);
        (path, copied)
    })
    .await
    .map_err(|error| StoreError::Database(DatabaseError::content("a package", error)))?;
    let copied = match copied {
        Ok(Some(copied)) => copied,
        Ok(None) => return Err(TakeInError::Changing(path)),
        Err(source) => return Err(TakeInError::Read { path, source }),
    };
    let measured = store::measure(app, copied, path.clone()).await?;
    let manifest = &measured.manifest;
    if name != format!("{}-{}", manifest.component.as_str(), manifest.platform) {
        return Err(TakeInError::Name {
            path,
            component: manifest.component,
            platform: manifest.platform.clone(),
        });
    }
    let added = store::add(app, measured, signatures.signatures, Origin::Folder).await?;
    Ok(added.package)
}

/// Copies a file; nothing if it is not, or no longer, the one that was seen.
fn copy(path: &Path, into: &Path, seen: Stamp) -> io::Result<Option<NamedTempFile>> {
    let mut from = File::open(path)?;
    let mut copied = NamedTempFile::new_in(into)?;
    let before = Stamp::of(&from.metadata()?);
    io::copy(&mut from, &mut copied)?;
    let after = Stamp::of(&from.metadata()?);
    Ok((before == seen && after == seen).then_some(copied))
}

fn read_signatures(path: &Path) -> Result<Signatures, TakeInError> {
    let read = |path: &Path| {
        use io::Read as _;
        let mut text = Vec::new();
        File::open(path)?
            .take(LARGEST_SIGNATURES)
            .read_to_end(&mut text)?;
        Ok(text)
    };
    let text = read(path).map_err(|source| TakeInError::Read {
        path: path.to_path_buf(),
        source,
    })?;
    serde_json::from_slice(&text).map_err(|error| TakeInError::Signatures {
        path: path.to_path_buf(),
        why: error.to_string(),
    })
}

fn look(folder: &Path) -> io::Result<Seen> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Seen::new()),
        entries => entries?,
    };
    let mut seen = Seen::new();
    for entry in entries {
        let path = entry?.path();
        let file_name = path.file_name().and_then(|name| name.to_str());
        let Some(name) = file_name.and_then(|name| name.strip_suffix(EXTENSION)) else {
            continue;
        };
        let is_package = [
            Component::Launcher,
            Component::Agent,
            Component::Bootstrapper,
        ]
        .iter()
        .any(|component| {
            let rest = name.strip_prefix(component.as_str());
            rest.is_some_and(|rest| rest.len() > 1 && rest.starts_with('-'))
        });
        if !is_package {
            continue;
        }
        let package = match fs::metadata(&path) {
            Ok(metadata) => Stamp::of(&metadata),
            // It is being replaced, or a link to nowhere.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let signatures = fs::metadata(signatures_of(&path)).ok();
        let files = Files {
            package,
            signatures: signatures.as_ref().map(Stamp::of),
        };
        seen.insert(name.to_owned(), files);
    }
    Ok(seen)
}

fn signatures_of(package: &Path) -> PathBuf {
    let mut path = package.as_os_str().to_owned();
    path.push(".sig");
    path.into()
}

// === impl TakeInError ===

impl TakeInError {
    /// Whether the same files may be read a moment later.
    fn is_passing(&self) -> bool {
        let full = matches!(self, Self::Store(StoreError::File { .. }));
        full || matches!(self, Self::Changing(_) | Self::Read { .. })
    }
}

// === impl Folder ===

impl Folder {
    /// Whether one of these packages is in the folder.
    pub(super) fn holds(&self, checksums: &[&str]) -> bool {
        self.content()
            .iter()
            .any(|one| checksums.contains(&one.as_str()))
    }

    fn content(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Stamp ===

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}
