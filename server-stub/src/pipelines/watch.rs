//! When each configuration repository is looked at: every so often, and at once when somebody says
//! that it has changed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::repositories::{self, RepositoryError};
use crate::App;
use crate::answer::Chain;
use crate::database::DatabaseError;

/// So many looks at a time.
const AT_ONCE: usize = 8;

/// How long it takes to see that somebody else is done with a repository.
const BUSY: Duration = Duration::from_millis(100);

/// What is being looked at.
pub struct Looks {
    /// Repositories that somebody says have changed, and whose look has not begun yet.
    asked: Mutex<BTreeSet<String>>,
    at_once: Semaphore,
}

impl Default for Looks {
    fn default() -> Self {
        Self {
            asked: Mutex::default(),
            at_once: Semaphore::new(AT_ONCE),
        }
    }
}

/// Has a repository looked at now; if somebody looks at it already, then once more.
pub fn look_soon(app: &Arc<App>, id: &str) {
    // At its end all are looked at.
    if app.maintenance.is_on() {
        return;
    }
    let asked = &app.looks.asked;
    let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
    if asked.insert(id.to_owned()) {
        start(app, id, true);
    }
}

/// Looks at every repository, again and again, until the server stops.
pub async fn watch(app: Arc<App>) {
    let mut ticks = tokio::time::interval(app.configuration.repository_interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = app.stopping.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if app.maintenance.is_on() {
            continue;
        }
        match all(&app).await {
            Ok(ids) => ids.iter().for_each(|id| start(&app, id, false)),
            Err(error) => {
                tracing::error!(error = %Chain(&error), "cannot look at the configuration repositories");
            }
        }
    }
}

async fn all(app: &App) -> Result<Vec<String>, DatabaseError> {
    let mut connection = app.database.readers().acquire().await?;
    let repos = repositories::list(&mut connection).await?;
    Ok(repos.into_iter().map(|repo| repo.id).collect())
}

/// Looks at one, each on its own: one that hangs is in nobody's way.
fn start(app: &Arc<App>, id: &str, asked: bool) {
    let (own, id) = (Arc::clone(app), id.to_owned());
    app.tasks.spawn(async move {
        let outcome = tokio::select! {
            () = own.stopping.cancelled() => return,
            outcome = look(&own, &id, asked) => outcome,
        };
        if let Err(error) = outcome {
            tracing::error!(repository = id, error = %Chain(&error), "cannot look at a configuration repository");
        }
    });
}

async fn look(app: &App, id: &str, asked: bool) -> Result<(), RepositoryError> {
    let begin = || {
        let asked = &app.looks.asked;
        asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id);
    };
    // Never closed.
    let _permit = app.looks.at_once.acquire().await;
    loop {
        match repositories::take_turn(app, id).await {
            Ok(turn) => {
                begin();
                repositories::look(app, turn).await?;
                return Ok(());
            }
            Err(RepositoryError::Busy { .. }) if asked => tokio::time::sleep(BUSY).await,
            Err(RepositoryError::Busy { .. }) => return Ok(()),
            Err(error) => {
                begin();
                return match error {
                    RepositoryError::Unknown { .. } => Ok(()),
                    error => Err(error),
                };
            }
        }
    }
}
