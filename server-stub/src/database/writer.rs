//! The one connection that writes, and how many transactions share one commit.
//!
//! A commit waits for the disk, which would allow a few hundred a second. So those that come close
//! together are one transaction for SQLite: each is a savepoint of its own, which it can undo by
//! itself, and has committed when the whole has. Nobody waits for others to come: whoever has
//! finished queues once more, behind those that wait already, and the first of them to have its turn
//! commits for all.

use std::{
    ops::{Deref, DerefMut},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::{
    runtime::Handle,
    sync::{Mutex, OwnedMappedMutexGuard, OwnedMutexGuard},
    task::JoinError,
};

use crate::users::audit;

/// How long one waits for its turn. Nothing takes so long; what does is a fault that should be seen.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whoever wants to write queues here, and has its turn in the order of coming.
#[derive(Clone)]
pub(super) struct Writer {
    /// None once the database is closed.
    turn: Arc<Mutex<Option<Turn>>>,
    /// How many wait for it and have not begun.
    waiting: Arc<AtomicUsize>,
}

/// What the one whose turn it is has for itself.
struct Turn {
    connection: SqliteConnection,
    batch: Batch,
}

/// The transaction of SQLite that is open, or would be next.
#[derive(Default)]
struct Batch {
    open: bool,
    /// Whether a part was begun and neither finished nor undone. The first is the transaction
    /// itself, each other a savepoint.
    begun: bool,
    /// How many parts are finished and wait for the commit.
    finished: usize,
    /// Set at the end: nothing when it was committed, or why it was undone.
    outcome: Arc<OnceLock<Option<String>>>,
}

/// A transaction that may write. Dropped without [`Self::commit`] it is undone.
pub struct Write {
    turn: OwnedMappedMutexGuard<Option<Turn>, Turn>,
    writer: Writer,
}

// === impl Writer ===

impl Writer {
    pub(super) async fn open(options: &SqliteConnectOptions) -> sqlx::Result<Self> {
        let turn = Turn {
            connection: options.connect().await?,
            batch: Batch::default(),
        };
        Ok(Self {
            turn: Arc::new(Mutex::new(Some(turn))),
            waiting: Arc::default(),
        })
    }

    pub(super) async fn write(&self) -> sqlx::Result<Write> {
        let coming = Coming::new(&self.waiting);
        let turn = tokio::time::timeout(PATIENCE, self.turn()).await;
        let mut turn = turn.map_err(|_| sqlx::Error::PoolTimedOut)??;
        drop(coming);
        let writer = self.clone();
        // A caller who goes away in the middle would leave it unknown how far it came.
        let begun = tokio::spawn(async move {
            turn.begin().await?;
            Ok(Write { turn, writer })
        });
        ended(begun.await)
    }

    /// Commits what is finished, undoes what is not, and closes the connection.
    pub(super) async fn close(&self) {
        if let Some(mut turn) = self.turn.lock().await.take() {
            let _ = turn.commit().await;
            let _ = turn.connection.close().await;
        }
    }

    async fn turn(&self) -> sqlx::Result<OwnedMappedMutexGuard<Option<Turn>, Turn>> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        OwnedMutexGuard::try_map(turn, Option::as_mut).map_err(|_| sqlx::Error::PoolClosed)
    }
}

/// One that waits, until it goes away or has its turn.
struct Coming<'a>(&'a AtomicUsize);

impl<'a> Coming<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a task came to.
fn ended<T>(task: Result<sqlx::Result<T>, JoinError>) -> sqlx::Result<T> {
    task.unwrap_or_else(|error| Err(sqlx::Error::Protocol(error.to_string())))
}

// === impl Turn ===

impl Turn {
    async fn run(&mut self, statements: &'static str) -> sqlx::Result<()> {
        let done = sqlx::raw_sql(statements).execute(&mut self.connection);
        done.await.map(drop)
    }

    async fn begin(&mut self) -> sqlx::Result<()> {
        self.undo_begun().await;
        let statement = if self.batch.open {
            "SAVEPOINT part"
        } else {
            "BEGIN IMMEDIATE"
        };
        self.batch.open = true;
        self.batch.begun = true;
        let begun = self.run(statement).await;
        if let Err(error) = &begun {
            self.undo(error).await;
        }
        begun
    }

    /// Keeps what was begun for the next commit.
    async fn finish(&mut self) -> sqlx::Result<()> {
        self.batch.begun = false;
        if self.batch.finished > 0
            && let Err(error) = self.run("RELEASE part").await
        {
            // SQLite has undone all of it by itself: the disk is full, for one.
            self.undo(&error).await;
            return Err(error);
        }
        self.batch.finished += 1;
        Ok(())
    }

    /// Undoes what was begun by somebody who has gone away.
    async fn undo_begun(&mut self) {
        if !std::mem::take(&mut self.batch.begun) {
            return;
        }
        let undone = match self.batch.finished {
            0 => Err(sqlx::Error::Protocol("nobody has finished".to_owned())),
            _ => self.run("ROLLBACK TO part; RELEASE part").await,
        };
        if let Err(error) = undone {
            self.undo(&error).await;
        }
    }

    async fn commit(&mut self) -> sqlx::Result<()> {
        self.undo_begun().await;
        if !self.batch.open {
            return Ok(());
        }
        let committed = self.run("COMMIT").await;
        match &committed {
            Ok(()) => {
                let batch = std::mem::take(&mut self.batch);
                let _ = batch.outcome.set(None);
            }
            Err(error) => self.undo(error).await,
        }
        committed
    }

    /// Undoes everything since the last commit.
    async fn undo(&mut self, why: &sqlx::Error) {
        let batch = std::mem::take(&mut self.batch);
        let _ = batch.outcome.set(Some(why.to_string()));
        // It fails when SQLite has undone it by itself.
        let _ = self.run("ROLLBACK").await;
    }
}

// === impl Write ===

impl Write {
    /// Returns when what was written is lasting, and with the first changes of a person's request
    /// the row of the audit log that tells of them: neither is there without the other.
    ///
    /// # Errors
    ///
    /// It was undone.
    pub async fn commit(mut self) -> sqlx::Result<()> {
        let tells = audit::accompany(&mut self).await?;
        // Goes on when the caller goes away: others may wait for this commit.
        let committed = tokio::spawn(async move {
            self.turn.finish().await?;
            if self.writer.waiting.load(Ordering::Relaxed) == 0 {
                return self.turn.commit().await;
            }
            let outcome = Arc::clone(&self.turn.batch.outcome);
            let writer = self.writer.clone();
            drop(self);
            let mut turn = writer.turn().await?;
            match outcome.get() {
                None => turn.commit().await,
                Some(None) => Ok(()),
                Some(Some(why)) => Err(sqlx::Error::Protocol(format!(
                    "it was undone together with another: {why}"
                ))),
            }
        });
        let committed = ended(committed.await);
        if tells && committed.is_err() {
            audit::undone();
        }
        committed
    }
}

impl Drop for Write {
    fn drop(&mut self) {
        if self.turn.batch.begun
            && let Ok(runtime) = Handle::try_current()
        {
            // Whoever comes next does it as well, but nobody may come for a while.
            let writer = self.writer.clone();
            runtime.spawn(async move {
                if let Ok(mut turn) = writer.turn().await {
                    turn.undo_begun().await;
                }
            });
        }
    }
}

impl Deref for Write {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.turn.connection
    }
}

impl DerefMut for Write {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.turn.connection
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::database::{Database, setting, store_setting};

    async fn database() -> (tempfile::TempDir, Database) {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("journeyman.db")).await;
        (folder, database.unwrap())
    }

    async fn value(database: &Database, name: &str) -> Option<String> {
        let mut connection = database.readers().acquire().await.unwrap();
        setting(&mut connection, name).await.unwrap()
    }

    #[tokio::test]
    async fn those_that_come_together_share_a_commit_and_each_is_there_when_it_returns() {
        let (_folder, database) = database().await;
        let mut first = database.write().await.unwrap();
        let others = join_all((0..20).map(|number| {
            let database = database.clone();
            async move {
                let mut write = database.write().await.unwrap();
                let name = format!("n{number}");
                store_setting(&mut write, &name, "1").await.unwrap();
                if number % 5 == 0 {
                    drop(write);
                    return;
                }
                write.commit().await.unwrap();
                assert_eq!(value(&database, &name).await.as_deref(), Some("1"));
            }
        }));
        let first = async {
            store_setting(&mut first, "first", "1").await.unwrap();
            first.commit().await.unwrap();
        };
        tokio::join!(others, first);
        for number in 0..20 {
            let stored = value(&database, &format!("n{number}")).await;
            assert_eq!(stored.is_some(), number % 5 != 0, "{number}");
        }
    }

    #[tokio::test]
    async fn one_whose_caller_went_away_holds_nobody_up() {
        let (folder, database) = database().await;
        let mut left = database.write().await.unwrap();
        store_setting(&mut left, "left", "1").await.unwrap();
        drop(left);
        // Nobody comes, and still the file can be written by another program.
        let path = folder.path().join("journeyman.db");
        let other = SqliteConnectOptions::new().filename(path);
        let mut other = other.connect().await.unwrap();
        sqlx::raw_sql("BEGIN IMMEDIATE; COMMIT")
            .execute(&mut other)
            .await
            .unwrap();
        let mut finished = database.write().await.unwrap();
        store_setting(&mut finished, "finished", "1").await.unwrap();
        let waiting = tokio::spawn({
            let database = database.clone();
            async move { database.write().await.map(drop) }
        });
        // It waits, so that the first has to queue again, and goes away there.
        while finished.writer.waiting.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        let commit = tokio::spawn(finished.commit());
        commit.abort();
        waiting.await.unwrap().unwrap();
        let _ = commit.await;
        let write = database.write().await.unwrap();
        write.commit().await.unwrap();
        assert_eq!(value(&database, "left").await, None);
    }

    #[tokio::test]
    async fn what_is_undone_together_is_not_said_to_be_done() {
        let (_folder, database) = database().await;
        let mut first = database.write().await.unwrap();
        store_setting(&mut first, "first", "1").await.unwrap();
        let second = tokio::spawn({
            let database = database.clone();
            async move {
                let mut write = database.write().await.unwrap();
                // As SQLite does by itself when the disk is full.
                sqlx::raw_sql("ROLLBACK")
                    .execute(&mut *write)
                    .await
                    .unwrap();
                write.commit().await
            }
        });
        while first.writer.waiting.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        let first = first.commit().await.unwrap_err().to_string();
        assert!(first.contains("together with another"), "{first}");
        second.await.unwrap().unwrap_err();
        assert_eq!(value(&database, "first").await, None);
        // And it goes on.
        let mut write = database.write().await.unwrap();
        store_setting(&mut write, "next", "1").await.unwrap();
        write.commit().await.unwrap();
        assert_eq!(value(&database, "next").await.as_deref(), Some("1"));
    }
}
