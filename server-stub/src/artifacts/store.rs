//! Where artifacts are, and what is known about them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use http::StatusCode;
use sqlx::SqliteConnection;

use crate::{App, answer::Refusal, console, database::DatabaseError, durable, jobs::LocatorError};

/// The file of MD5 sums among a job's files.
pub(super) const CHECKSUMS: [&str; 2] = ["cruise-output", "md5.checksum"];

/// An artifact that is stored.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct StoredArtifact {
    /// Relative to the job's artifacts, with forward slashes.
    pub path: String,
    /// Bytes.
    pub size: i64,
    /// SHA-256 in lower-case hex.
    pub sha256: String,
}

/// A job's artifacts, by path.
///
/// # Errors
///
/// The database could not be read.
pub async fn stored(
    connection: &mut SqliteConnection,
    build_id: i64,
) -> Result<Vec<StoredArtifact>, DatabaseError> {
    Ok(
        sqlx::query_as("SELECT path, size, sha256 FROM artifacts WHERE job_id = $1 ORDER BY path")
            .bind(build_id)
            .fetch_all(connection)
            .await?,
    )
}

pub(super) async fn remember(
    app: &App,
    build_id: i64,
    artifacts: &[StoredArtifact],
) -> Result<(), DatabaseError> {
    let mut write = app.database.write().await?;
    for artifact in artifacts {
        sqlx::query(
            "INSERT INTO artifacts (job_id, path, size, sha256) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (job_id, path) DO UPDATE SET size = excluded.size, sha256 = excluded.sha256",
        )
        .bind(build_id)
        .bind(&artifact.path)
        .bind(artifact.size)
        .bind(&artifact.sha256)
        .execute(&mut *write)
        .await?;
    }
    write.commit().await?;
    app.state_changed.raise();
    Ok(())
}

/// Why a file is not put where it should go.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlaceError {
    #[error("a file named `{0}` is there already")]
    Exists(String),
    #[error("`{0}` is a folder")]
    IsFolder(String),
    #[error("`{0}` is written by the server itself")]
    Reserved(String),
    #[error("cannot write the artifact `{path}`")]
    Io {
        path: String,
        #[source]
        source: io::Error,
    },
}

/// Where a file of a job goes, its folders made. What is in the way is an error.
pub(super) fn place(root: &Path, segments: &[String]) -> Result<PathBuf, PlaceError> {
    let shown = segments.join("/");
    if console::is_console(segments) {
        return Err(PlaceError::Reserved(shown));
    }
    let (name, folders) = segments
        .split_last()
        .ok_or_else(|| PlaceError::IsFolder("/".to_owned()))?;
    Ok(folder(root, folders)?.join(name))
}

/// Makes the folders below `root`, which may be missing itself.
pub(super) fn folder(root: &Path, segments: &[String]) -> Result<PathBuf, PlaceError> {
    let io = |source| PlaceError::Io {
        path: segments.join("/"),
        source,
    };
    let mut path = root.to_path_buf();
    if !path.is_dir() {
        fs::create_dir_all(&path).map_err(io)?;
        path.parent()
            .map_or(Ok(()), durable::sync_folder)
            .map_err(io)?;
    }
    for segment in segments {
        let parent = path.clone();
        path.push(segment);
        match fs::create_dir(&path) {
            Ok(()) => durable::sync_folder(&parent).map_err(io)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if !path.is_dir() {
                    return Err(PlaceError::Exists(segments.join("/")));
                }
            }
            Err(error) => return Err(io(error)),
        }
    }
    Ok(path)
}

/// Moves a finished file to its place, over an earlier one: an upload may be repeated.
pub(super) fn move_in(from: &Path, root: &Path, segments: &[String]) -> Result<(), PlaceError> {
    let to = place(root, segments)?;
    let shown = || segments.join("/");
    if to.is_dir() {
        return Err(PlaceError::IsFolder(shown()));
    }
    let io = |source| PlaceError::Io {
        path: shown(),
        source,
    };
    fs::rename(from, &to).map_err(io)?;
    to.parent().map_or(Ok(()), durable::sync_folder).map_err(io)
}

impl From<PlaceError> for Refusal {
    fn from(error: PlaceError) -> Self {
        match error {
            PlaceError::Io { .. } => Self::internal("store an artifact", &error),
            refused => Self::text(
                StatusCode::FORBIDDEN,
                format!("cannot store the artifact: {refused}\n"),
            ),
        }
    }
}

impl From<LocatorError> for Refusal {
    fn from(error: LocatorError) -> Self {
        let status = match error {
            LocatorError::Leaves => StatusCode::FORBIDDEN,
            LocatorError::TooShort | LocatorError::NotText => StatusCode::NOT_FOUND,
        };
        Self::text(status, format!("{error}\n"))
    }
}
