//! Maintenance: the server keeps still, so that its machine or its repositories can be worked on.
//!
//! No repository is looked at, nothing is scheduled, no job is handed out, and people's changes are
//! refused but for those that make it quieter. What runs goes on, and its end is recorded. It is in
//! the database, and so over only when somebody says so.

#[cfg(test)]
mod tests;

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicBool, Ordering},
};

use serde::{Deserialize, Serialize};
use sqlx::SqliteConnection;

use crate::{
    App,
    database::{self, DatabaseError},
    health::{self, Level},
    materials,
    pipelines::{repositories, watch},
    scheduling::{self, production},
};

/// Where it is kept among the settings.
const SETTING: &str = "maintenance";
/// What is said of it in the messages about the server's health.
const HEALTH: &str = "maintenance";

/// Whether there is maintenance, and who has begun or ended it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub on: bool,
    pub by: String,
    /// Milliseconds since the epoch; when the server was started if nobody ever changed it.
    pub at: i64,
}

/// The state, for those who ask often.
#[derive(Debug)]
pub struct Maintenance {
    on: AtomicBool,
    state: RwLock<State>,
}

impl Maintenance {
    /// As it was when the server ended.
    pub(crate) async fn open(
        connection: &mut SqliteConnection,
        now: i64,
    ) -> Result<Self, DatabaseError> {
        let state = read(connection).await?.unwrap_or_else(|| State {
            on: false,
            by: "admin".to_owned(),
            at: now,
        });
        Ok(Self {
            on: AtomicBool::new(state.on),
            state: RwLock::new(state),
        })
    }

    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    pub fn state(&self) -> State {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.clone()
    }
}

async fn read(connection: &mut SqliteConnection) -> Result<Option<State>, DatabaseError> {
    let stored = database::setting(connection, SETTING).await?;
    let state = stored.map(|text| serde_json::from_str(&text)).transpose();
    state.map_err(|error| DatabaseError::content("whether there is maintenance", error))
}

/// Whether there is maintenance, as a transaction sees it.
pub(crate) async fn is_on(connection: &mut SqliteConnection) -> Result<bool, DatabaseError> {
    Ok(read(connection).await?.is_some_and(|state| state.on))
}

/// Says at start that there is maintenance, if there is.
pub(crate) fn tell(app: &App) {
    let state = app.maintenance.state();
    if !state.on {
        return health::clear(app, HEALTH);
    }
    health::raise(
        app,
        HEALTH,
        Level::Warning,
        format!("The server is in maintenance: {} has begun it.", state.by),
        "No repository is looked at, nothing is scheduled and no job is handed out. Jobs that run go on. \
         `journeyman-server maintenance off` ends it.",
    );
}

/// Begins or ends maintenance; answers whether that was a change.
///
/// # Errors
///
/// The database could not be used; it is as before then.
pub async fn switch(app: &Arc<App>, on: bool, by: &str) -> Result<bool, DatabaseError> {
    let mut write = app.database.write().await?;
    if is_on(&mut write).await? == on {
        return Ok(false);
    }
    let state = State {
        on,
        by: by.to_owned(),
        at: app.now_ms(),
    };
    let text = serde_json::json!(state).to_string();
    database::store_setting(&mut write, SETTING, &text).await?;
    write.commit().await?;
    *app.maintenance
        .state
        .write()
        .unwrap_or_else(PoisonError::into_inner) = state;
    app.maintenance.on.store(on, Ordering::Relaxed);
    tell(app);
    app.state_changed.raise();
    if !on {
        scheduling::try_again(app).await?;
        production::configuration_changed(app);
        materials::wake(app);
        let mut connection = app.database.readers().acquire().await?;
        for repo in repositories::list(&mut connection).await? {
            watch::look_soon(app, &repo.id);
        }
        app.work_changed.raise();
    }
    Ok(true)
}
