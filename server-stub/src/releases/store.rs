//! The packages that were added, in the blob folder under their checksums, and the releases that
//! they make up.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use journeyman_protocol::release::{
    Build, Component, ComponentRelease, Manifest, PackageRef, Signature,
};
use ring::digest;
use sqlx::SqliteConnection;
use tempfile::NamedTempFile;

use super::{Folder, manifest, offers};
use crate::{
    App,
    database::DatabaseError,
    durable,
    hex::hex,
    pipelines::store::{decode, encode},
};

/// Signatures of a package at most.
const MOST_SIGNATURES: usize = 16;
/// Bytes of an Ed25519 signature.
const SIGNATURE_LENGTH: usize = 64;

/// What the releases of a running server share.
#[derive(Debug, Default)]
pub struct Releases {
    pub folder: Folder,
    /// Held while packages come and go.
    turn: tokio::sync::Mutex<()>,
}

/// Why the store was not changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Manifest(#[from] manifest::ManifestError),
    #[error("cannot use {}; check that the data folder can be written and has space", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "release {release} has another {} for {platform} already, with the checksum {known}: a release never \
         changes. Build the new one with a greater build sequence, or delete release {release} first",
        component.as_str()
    )]
    Conflict {
        release: String,
        component: Component,
        platform: String,
        known: String,
    },
    #[error("there is no release {0}; `releases list` shows all")]
    UnknownRelease(String),
    #[error("there is no package with the checksum {0}; add it first")]
    UnknownPackage(String),
    #[error("release {0} is offered: withdraw it before it is deleted")]
    Offered(String),
    #[error("release {release} is in the folder {}: take its files out of there before it is deleted", folder.display())]
    InFolder { release: String, folder: PathBuf },
    #[error("a signature cannot be used: {0}; sign the package with `journeyman-package sign`")]
    Signature(String),
}

/// Who adds a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An administrator.
    Admin,
    /// The folder of `--releases`.
    Folder,
}

/// A version and build sequence.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Release {
    /// `<version>-<build>`.
    pub id: String,
    pub version: String,
    pub build: i64,
    /// Milliseconds since the epoch.
    pub added_at: i64,
}

/// A component of a release for a platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    pub release: String,
    pub manifest: Manifest,
    pub sha256: String,
    pub size: u64,
    pub signatures: Vec<Signature>,
    /// Whether it came from the folder of `--releases` and nowhere else.
    pub from_folder: bool,
}

/// A package on its way in.
#[derive(Debug)]
pub struct Measured {
    incoming: NamedTempFile,
    pub manifest: Manifest,
    sha256: String,
    size: u64,
}

/// What adding a package came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    pub package: Package,
    /// Whether it, or one of its signatures, is new.
    pub changed: bool,
}

/// Reads a package in a temporary file of the blob folder, and flushes it. `name` is what people
/// call it.
///
/// # Errors
///
/// It is no package, or cannot be read.
pub async fn measure(
    app: &App,
    incoming: NamedTempFile,
    name: PathBuf,
) -> Result<Measured, StoreError> {
    let paths = app.paths.clone();
    blocking(move || {
        let failed = |source| StoreError::File {
            path: incoming.path().to_path_buf(),
            source,
        };
        let open = || File::open(incoming.path()).map_err(failed);
        let manifest = manifest::read(&name, &open()?)?;
        let (sha256, size) = digest(open()?).map_err(failed)?;
        // Before the transaction that adds it, which keeps all others waiting.
        if !paths.package(&sha256).is_file() {
            incoming.as_file().sync_all().map_err(failed)?;
        }
        Ok(Measured {
            incoming,
            manifest,
            sha256,
            size,
        })
    })
    .await
}

/// Adds a package. One that is there already keeps its place and gets the signatures that it lacks.
///
/// # Errors
///
/// See [`StoreError`]; nothing has changed then.
pub async fn add(
    app: &App,
    measured: Measured,
    signatures: Vec<Signature>,
    origin: Origin,
) -> Result<Added, StoreError> {
    check_signatures(&signatures)?;
    let Measured {
        incoming,
        manifest,
        sha256,
        size,
    } = measured;
    let _turn = app.releases.turn.lock().await;
    let now = app.now_ms();
    let release = format!("{}-{}", manifest.version, manifest.build);
    let mut write = app.database.write().await?;
    let of_release = packages_of(&mut write, &release).await?;
    let same_place = of_release.iter().find(|known| {
        known.manifest.component == manifest.component
            && known.manifest.platform == manifest.platform
    });
    let mut replaced = None;
    match same_place {
        Some(known) if known.sha256 == sha256 => {
            let known = known.clone();
            let to = app.paths.package(&sha256);
            if !to.is_file() {
                move_in(incoming, to).await?;
            }
            let changed = merge(&mut write, known, signatures, origin).await?;
            write.commit().await.map_err(DatabaseError::from)?;
            return Ok(changed);
        }
        Some(known) if origin == Origin::Admin || of_release.iter().any(|one| !one.from_folder) => {
            return Err(StoreError::Conflict {
                release,
                component: manifest.component,
                platform: manifest.platform,
                known: known.sha256.clone(),
            });
        }
        Some(known) => {
            remove(&mut write, &known.sha256).await?;
            replaced = Some(known.sha256.clone());
        }
        None => {}
    }
    let package = Package {
        release,
        manifest,
        sha256,
        size,
        signatures,
        from_folder: origin == Origin::Folder,
    };
    insert(&mut write, &package, now).await?;
    // The bytes are there before anything speaks of them; what a crash leaves without a row is
    // removed at the next start.
    move_in(incoming, app.paths.package(&package.sha256)).await?;
    write.commit().await.map_err(DatabaseError::from)?;
    if let Some(sha256) = replaced {
        forget(&app.paths.package(&sha256));
    }
    tracing::info!(
        release = package.release,
        component = package.manifest.component.as_str(),
        platform = package.manifest.platform,
        sha256 = package.sha256,
        "a package was added"
    );
    app.state_changed.raise();
    Ok(Added {
        package,
        changed: true,
    })
}

/// Adds signatures to a package that is there.
///
/// # Errors
///
/// See [`StoreError`]; nothing has changed then.
pub async fn sign(
    app: &App,
    sha256: &str,
    signatures: Vec<Signature>,
) -> Result<Added, StoreError> {
    check_signatures(&signatures)?;
    let mut write = app.database.write().await?;
    let known = package(&mut write, sha256)
        .await?
        .ok_or_else(|| StoreError::UnknownPackage(sha256.to_owned()))?;
    let origin = if known.from_folder {
        Origin::Folder
    } else {
        Origin::Admin
    };
    let added = merge(&mut write, known, signatures, origin).await?;
    write.commit().await.map_err(DatabaseError::from)?;
    Ok(added)
}

/// Deletes a release with its packages.
///
/// # Errors
///
/// It is offered, or in the folder of `--releases`, or not there.
pub async fn delete(app: &App, id: &str) -> Result<(), StoreError> {
    let _turn = app.releases.turn.lock().await;
    let mut write = app.database.write().await?;
    if find(&mut write, id).await?.is_none() {
        return Err(StoreError::UnknownRelease(id.to_owned()));
    }
    let packages = packages_of(&mut write, id).await?;
    let checksums: Vec<&str> = packages.iter().map(|one| one.sha256.as_str()).collect();
    for offer in offers::active(&mut write).await? {
        let content = offer.content.iter().flatten();
        if offer.release == id
            || content
                .into_iter()
                .any(|one| checksums.contains(&one.as_str()))
        {
            return Err(StoreError::Offered(id.to_owned()));
        }
    }
    if app.releases.folder.holds(&checksums) {
        return Err(StoreError::InFolder {
            release: id.to_owned(),
            folder: app.paths.releases.clone(),
        });
    }
    sqlx::query("DELETE FROM releases WHERE id = $1")
        .bind(id)
        .execute(&mut *write)
        .await
        .map_err(DatabaseError::from)?;
    write.commit().await.map_err(DatabaseError::from)?;
    for sha256 in checksums {
        forget(&app.paths.package(sha256));
    }
    tracing::info!(release = id, "a release was deleted");
    app.state_changed.raise();
    Ok(())
}

/// All releases, the newest build first.
pub async fn list(connection: &mut SqliteConnection) -> Result<Vec<Release>, DatabaseError> {
    Ok(
        sqlx::query_as("SELECT * FROM releases ORDER BY build DESC, added_at DESC, id")
            .fetch_all(connection)
            .await?,
    )
}

/// One release.
pub async fn find(
    connection: &mut SqliteConnection,
    id: &str,
) -> Result<Option<Release>, DatabaseError> {
    Ok(sqlx::query_as("SELECT * FROM releases WHERE id = $1")
        .bind(id)
        .fetch_optional(connection)
        .await?)
}

/// The packages of a release, by component and platform.
pub async fn packages_of(
    connection: &mut SqliteConnection,
    release: &str,
) -> Result<Vec<Package>, DatabaseError> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT release_id, sha256, size, manifest, signatures, from_folder FROM packages \
         WHERE release_id = $1 ORDER BY component DESC, platform",
    )
    .bind(release)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(Package::try_from).collect()
}

/// One package.
pub async fn package(
    connection: &mut SqliteConnection,
    sha256: &str,
) -> Result<Option<Package>, DatabaseError> {
    let row: Option<Row> = sqlx::query_as(
        "SELECT release_id, sha256, size, manifest, signatures, from_folder FROM packages \
         WHERE sha256 = $1",
    )
    .bind(sha256)
    .fetch_optional(connection)
    .await?;
    row.map(Package::try_from).transpose()
}

/// Removes what a crash has left in the blob folder: packages that no release has.
///
/// # Errors
///
/// The database could not be read, or the folder not be made.
pub async fn tidy(app: &App) -> Result<(), StoreError> {
    let folder = app.paths.packages();
    let failed = |source| StoreError::File {
        path: folder.clone(),
        source,
    };
    fs::create_dir_all(&folder).map_err(failed)?;
    let mut connection = app
        .database
        .readers()
        .acquire()
        .await
        .map_err(DatabaseError::from)?;
    let known: Vec<String> = sqlx::query_scalar("SELECT sha256 FROM packages")
        .fetch_all(&mut *connection)
        .await
        .map_err(DatabaseError::from)?;
    for entry in fs::read_dir(&folder).map_err(failed)?.flatten() {
        let name = entry.file_name();
        if !known.iter().any(|sha256| name.to_str() == Some(sha256)) {
            forget(&entry.path());
        }
    }
    Ok(())
}

/// A row of the table `packages`.
#[derive(sqlx::FromRow)]
struct Row {
    release_id: String,
    sha256: String,
    size: i64,
    manifest: String,
    signatures: String,
    from_folder: i64,
}

async fn insert(
    connection: &mut SqliteConnection,
    package: &Package,
    now: i64,
) -> Result<(), DatabaseError> {
    let manifest = &package.manifest;
    sqlx::query(
        "INSERT INTO releases (id, version, build, added_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(&package.release)
    .bind(&manifest.version)
    .bind(i64::try_from(manifest.build).unwrap_or(i64::MAX))
    .bind(now)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "INSERT INTO packages (release_id, component, platform, sha256, size, manifest, signatures, \
         from_folder, added_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(&package.release)
    .bind(manifest.component.as_str())
    .bind(&manifest.platform)
    .bind(&package.sha256)
    .bind(i64::try_from(package.size).unwrap_or(i64::MAX))
    .bind(encode(manifest)?)
    .bind(encode(&package.signatures)?)
    .bind(i64::from(package.from_folder))
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

async fn remove(connection: &mut SqliteConnection, sha256: &str) -> Result<(), DatabaseError> {
    sqlx::query("DELETE FROM packages WHERE sha256 = $1")
        .bind(sha256)
        .execute(connection)
        .await?;
    Ok(())
}

/// Gives a package the signatures that it lacks. What an administrator adds too is no longer the
/// folder's to replace.
async fn merge(
    connection: &mut SqliteConnection,
    mut package: Package,
    signatures: Vec<Signature>,
    origin: Origin,
) -> Result<Added, DatabaseError> {
    let before = package.signatures.len();
    for signature in signatures {
        if !package.signatures.contains(&signature) && package.signatures.len() < MOST_SIGNATURES {
            package.signatures.push(signature);
        }
    }
    let changed = package.signatures.len() > before;
    let from_folder = package.from_folder && origin == Origin::Folder;
    if changed || from_folder != package.from_folder {
        package.from_folder = from_folder;
        sqlx::query("UPDATE packages SET signatures = $2, from_folder = $3 WHERE sha256 = $1")
            .bind(&package.sha256)
            .bind(encode(&package.signatures)?)
            .bind(i64::from(from_folder))
            .execute(connection)
            .await?;
    }
    Ok(Added { package, changed })
}

fn check_signatures(signatures: &[Signature]) -> Result<(), StoreError> {
    if signatures.len() > MOST_SIGNATURES {
        let text = format!("there are more than {MOST_SIGNATURES}");
        return Err(StoreError::Signature(text));
    }
    for signature in signatures {
        let key = &signature.key;
        if key.len() != 16 || !key.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let text = format!("{key:?} is no id of a key, which has 16 hexadecimal digits");
            return Err(StoreError::Signature(text));
        }
        let bytes = STANDARD.decode(&signature.signature);
        if !bytes.is_ok_and(|bytes| bytes.len() == SIGNATURE_LENGTH) {
            let text = format!("that of key {key} is not {SIGNATURE_LENGTH} bytes in base64");
            return Err(StoreError::Signature(text));
        }
    }
    Ok(())
}

async fn move_in(incoming: NamedTempFile, to: PathBuf) -> Result<(), StoreError> {
    blocking(move || {
        let moved = || {
            incoming.as_file().sync_all()?;
            incoming.persist(&to).map_err(|error| error.error)?;
            durable::sync_folder(to.parent().unwrap_or(Path::new(".")))
        };
        moved().map_err(|source| StoreError::File {
            path: to.clone(),
            source,
        })
    })
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| StoreError::Database(DatabaseError::content("a package", error)))?
}

/// Checksum and size of what is left of a file.
fn digest(mut file: File) -> io::Result<(String, u64)> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 256 * 1024];
    let mut size = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        size += read as u64;
        context.update(&buffer[..read]);
    }
    Ok((hex(context.finish().as_ref()), size))
}

/// Removes a file that nothing speaks of any more; a later start tries again.
fn forget(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "cannot remove a package that is not needed");
    }
}

// === impl Package ===

impl Package {
    /// The form it is offered in.
    pub fn offered(&self) -> ComponentRelease {
        ComponentRelease {
            manifest: self.manifest.clone(),
            package: PackageRef {
                url: format!("/admin/journeyman/packages/{}", self.sha256),
                size: self.size,
                sha256: self.sha256.clone(),
                signatures: self.signatures.clone(),
            },
        }
    }

    /// Which build it is.
    pub fn build(&self) -> Build {
        Build {
            version: self.manifest.version.clone(),
            build: self.manifest.build,
            sha256: self.sha256.clone(),
        }
    }

    /// Whether it is this component for this platform.
    pub fn is(&self, component: Component, platform: &str) -> bool {
        self.manifest.component == component && self.manifest.platform == platform
    }
}

impl TryFrom<Row> for Package {
    type Error = DatabaseError;

    fn try_from(row: Row) -> Result<Self, DatabaseError> {
        Ok(Self {
            manifest: decode("the manifest of a package", &row.manifest)?,
            signatures: decode("the signatures of a package", &row.signatures)?,
            release: row.release_id,
            sha256: row.sha256,
            size: u64::try_from(row.size).unwrap_or(0),
            from_folder: row.from_folder != 0,
        })
    }
}
