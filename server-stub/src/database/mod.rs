//! The database: one SQLite file, one writer at a time, any number of readers.

mod writer;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    ConnectOptions as _, Connection as _, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

pub use writer::Write;
use writer::Writer;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("migrations/sqlite");

/// How long a statement waits for another process (a backup, a curious admin) that holds the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections that read, each with a thread and a cache of its own.
const READERS: u32 = 4;

/// A statement failed.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error("a statement failed")]
    Statement(#[from] sqlx::Error),
    #[error("the database holds {what}, which this version of the server cannot read: {cause}")]
    Content { what: String, cause: String },
}

impl DatabaseError {
    /// Whether there is no space left on the disk of the database.
    pub fn is_full(&self) -> bool {
        // SQLite's own words, which stay when several writes were undone together.
        matches!(self, Self::Statement(error) if error.to_string().contains("disk is full"))
    }

    /// What was stored is not what this version stores.
    pub fn content(what: impl Into<String>, cause: impl ToString) -> Self {
        Self::Content {
            what: what.into(),
            cause: cause.to_string(),
        }
    }
}

/// The database could not be opened at start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot open the database {}; check that its folder can be written and has space", path.display())]
    Connect {
        path: PathBuf,
        #[source]
        source: sqlx::Error,
    },
    #[error("cannot bring the database {} to this version's schema", path.display())]
    Migrate {
        path: PathBuf,
        #[source]
        source: sqlx::migrate::MigrateError,
    },
}

/// Handles to the database. Cheap to clone.
#[derive(Clone)]
pub struct Database {
    readers: SqlitePool,
    /// One connection: writers queue here in order, instead of polling SQLite's lock.
    writer: Writer,
}

impl Database {
    /// Opens the database, creates it when missing, and brings it to the current schema.
    pub async fn open(path: &Path) -> Result<Self, OpenError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // With less than FULL a power cut may undo a committed assignment in WAL mode, and the
            // job would be handed out a second time.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let connect = |source| OpenError::Connect {
            path: path.to_path_buf(),
            source,
        };
        let mut first = options.connect().await.map_err(connect)?;
        MIGRATIONS
            .run(&mut first)
            .await
            .map_err(|source| OpenError::Migrate {
                path: path.to_path_buf(),
                source,
            })?;
        first.close().await.map_err(connect)?;
        let writer = Writer::open(&options).await.map_err(connect)?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            // A file does not go away between two statements, as a server may.
            .test_before_acquire(false)
            .connect_with(options)
            .await
            .map_err(connect)?;
        Ok(Self { readers, writer })
    }

    /// For statements that only read.
    pub fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// Begins a transaction that may write. It holds the write lock from the start, so that what it
    /// reads is still true when it commits. Keep it short; dropped without `commit` it is undone.
    pub async fn write(&self) -> Result<Write, DatabaseError> {
        Ok(self.writer.write().await?)
    }

    /// Closes every connection, so that the file stands alone (no `-wal` beside it).
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// The files that a database speaks of.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    pub jobs: Vec<i64>,
    /// Job and path.
    pub artifacts: Vec<(i64, String)>,
    /// Checksums.
    pub packages: Vec<String>,
}

/// Copies a database as it is at one instant, also while a server uses it, and answers what the copy
/// speaks of; inside, what is wrong with it.
pub async fn copy(from: &Path, to: &Path) -> Result<Result<Recorded, String>, DatabaseError> {
    use sqlx::{ConnectOptions as _, Connection as _};
    let options = |path: &Path| {
        SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(BUSY_TIMEOUT)
    };
    let mut source = options(from).connect().await?;
    sqlx::query("VACUUM INTO $1")
        .bind(to.to_string_lossy())
        .execute(&mut source)
        .await?;
    source.close().await?;
    if let Some(damage) = damage(to).await? {
        return Ok(Err(damage));
    }
    let mut copied = options(to).read_only(true).connect().await?;
    let recorded = Recorded {
        jobs: sqlx::query_scalar("SELECT id FROM jobs ORDER BY id")
            .fetch_all(&mut copied)
            .await?,
        artifacts: sqlx::query_as("SELECT job_id, path FROM artifacts")
            .fetch_all(&mut copied)
            .await?,
        packages: sqlx::query_scalar("SELECT sha256 FROM packages")
            .fetch_all(&mut copied)
            .await?,
    };
    copied.close().await?;
    Ok(Ok(recorded))
}

/// What SQLite finds wrong with a database that nobody uses.
pub async fn damage(path: &Path) -> Result<Option<String>, DatabaseError> {
    use sqlx::{ConnectOptions as _, Connection as _};
    let options = SqliteConnectOptions::new().filename(path).read_only(true);
    let mut connection = options.connect().await?;
    let told: String = sqlx::query_scalar("PRAGMA integrity_check(1)")
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    Ok((told != "ok").then_some(told))
}

/// The value of a setting.
pub async fn setting(
    connection: &mut SqliteConnection,
    name: &str,
) -> Result<Option<String>, DatabaseError> {
    Ok(
        sqlx::query_scalar("SELECT value FROM settings WHERE name = $1")
            .bind(name)
            .fetch_optional(connection)
            .await?,
    )
}

/// Stores a setting, over an earlier value.
pub async fn store_setting(
    connection: &mut SqliteConnection,
    name: &str,
    value: &str,
) -> Result<(), DatabaseError> {
    sqlx::query(
        "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    )
    .bind(name)
    .bind(value)
    .execute(connection)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn settings_survive_and_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journeyman.db");
        let database = Database::open(&path).await.unwrap();
        let mut write = database.write().await.unwrap();
        store_setting(&mut write, "a", "1").await.unwrap();
        store_setting(&mut write, "a", "2").await.unwrap();
        write.commit().await.unwrap();
        database.close().await;

        let database = Database::open(&path).await.unwrap();
        let mut connection = database.readers().acquire().await.unwrap();
        assert_eq!(
            setting(&mut connection, "a").await.unwrap().as_deref(),
            Some("2")
        );
        assert_eq!(setting(&mut connection, "b").await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_write_that_is_dropped_is_undone() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("journeyman.db"))
            .await
            .unwrap();
        let mut write = database.write().await.unwrap();
        store_setting(&mut write, "a", "1").await.unwrap();
        drop(write);
        let mut write = database.write().await.unwrap();
        assert_eq!(setting(&mut write, "a").await.unwrap(), None);
    }
}
