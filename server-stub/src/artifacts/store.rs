//! Where artifacts are, and what is known about them.

use std::{
    collections::HashSet,
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

/// Puts files and folders to their places among a job's artifacts. What is in the way is an error.
/// All of it is lasting when [`Self::finish`] has returned.
pub(super) struct Placing<'a> {
    root: &'a Path,
    /// Folders in which there is something new.
    changed: HashSet<PathBuf>,
}

impl<'a> Placing<'a> {
    /// `root` is the folder of the job's artifacts, which may be missing.
    pub(super) fn new(root: &'a Path) -> Self {
        Self {
            root,
            changed: HashSet::new(),
        }
    }

    /// Where a file of a job goes, its folders made.
    pub(super) fn place(&mut self, segments: &[String]) -> Result<PathBuf, PlaceError> {
        let shown = || segments.join("/");
        if console::is_console(segments) {
            return Err(PlaceError::Reserved(shown()));
        }
        let (name, folders) = segments
            .split_last()
            .ok_or_else(|| PlaceError::IsFolder("/".to_owned()))?;
        let folder = self.folder(folders)?;
        let path = folder.join(name);
        self.changed.insert(folder);
        if path.is_dir() {
            return Err(PlaceError::IsFolder(shown()));
        }
        Ok(path)
    }

    /// Makes the folders below the root.
    pub(super) fn folder(&mut self, segments: &[String]) -> Result<PathBuf, PlaceError> {
        let io = |source| PlaceError::Io {
            path: segments.join("/"),
            source,
        };
        let mut path = self.root.to_path_buf();
        if !path.is_dir() {
            fs::create_dir_all(&path).map_err(io)?;
            self.changed.extend(path.parent().map(Path::to_owned));
        }
        for segment in segments {
            let parent = path.clone();
            path.push(segment);
            match fs::create_dir(&path) {
                Ok(()) => {
                    self.changed.insert(parent);
                }
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

    /// Moves a finished file, whose content is lasting, over an earlier one: an upload may be
    /// repeated.
    pub(super) fn move_in(&mut self, from: &Path, segments: &[String]) -> Result<(), PlaceError> {
        let to = self.place(segments)?;
        fs::rename(from, to).map_err(|source| PlaceError::Io {
            path: segments.join("/"),
            source,
        })
    }

    /// Makes what was put lasting.
    pub(super) fn finish(self) -> Result<(), PlaceError> {
        let changed = self.changed.iter();
        durable::sync_all(changed.map(PathBuf::as_path)).map_err(|source| PlaceError::Io {
            path: "/".to_owned(),
            source,
        })
    }
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
