//! Runs that changes start.
//!
//! Whether a pipeline is to run is read from the database alone: the revisions there are now, against
//! those of its last run. So nothing is lost when the server is killed, and what comes while a pipeline
//! is paused, locked or busy is found when it is free. What is remembered here is only which
//! pipelines are worth a look; at start, and every so often, all of them are.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::SqliteConnection;
use tokio::sync::Notify;

use super::state::{self, PipelineState};
use super::trigger::{self, Cause, Options, TriggerError};
use super::{revisions, run, wire};
use crate::App;
use crate::answer::Chain;
use crate::database::DatabaseError;
use crate::health::{self, Level};
use crate::pipelines::definition::{Approval, Pipeline};
use crate::pipelines::store;

/// All pipelines are looked at this often, whether or not anything is known to have changed.
const IDLE: Duration = Duration::from_secs(60);

/// Between two looks, so that many changes at once are one look.
const PAUSE: Duration = Duration::from_millis(50);

/// What health messages about revisions that do not fit begin with.
const FAN_IN: &str = "fan-in:";

/// Which pipelines are worth a look.
#[derive(Default)]
pub struct Production {
    due: Mutex<Due>,
    wake: Notify,
}

#[derive(Default)]
struct Due {
    all: bool,
    /// In lower case.
    pipelines: BTreeSet<String>,
    fingerprints: BTreeSet<String>,
    /// Pipelines that are being triggered by hand or by a timer just now.
    being_triggered: BTreeSet<String>,
}

impl Production {
    fn due(&self) -> MutexGuard<'_, Due> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark(&self, mark: impl FnOnce(&mut Due)) {
        mark(&mut self.due());
        self.wake.notify_one();
    }
}

/// Says that a material has new revisions.
pub fn material_changed(app: &App, fingerprint: &str) {
    let fingerprint = fingerprint.to_owned();
    app.production.mark(|due| {
        due.fingerprints.insert(fingerprint);
    });
}

/// Says that pipelines were added, changed or removed.
pub fn configuration_changed(app: &App) {
    app.production.mark(|due| due.all = true);
}

/// Keeps changes from starting a run of a pipeline while somebody else does.
pub(super) struct BeingTriggered<'a> {
    app: &'a App,
    pipeline: String,
}

impl<'a> BeingTriggered<'a> {
    /// None if somebody does already.
    pub(super) fn begin(app: &'a App, pipeline: &str) -> Option<Self> {
        let pipeline = pipeline.to_lowercase();
        let begun = app
            .production
            .due()
            .being_triggered
            .insert(pipeline.clone());
        begun.then_some(Self { app, pipeline })
    }
}

impl Drop for BeingTriggered<'_> {
    fn drop(&mut self) {
        let pipeline = std::mem::take(&mut self.pipeline);
        self.app.production.mark(|due| {
            due.being_triggered.remove(&pipeline);
            due.pipelines.insert(pipeline);
        });
    }
}

/// Starts what changes start, until the server stops.
pub async fn watch(app: Arc<App>) {
    if !app.configuration.automatic_runs {
        return;
    }
    let mut changed = app.state_changed.subscribe();
    let mut seen = Seen::default();
    configuration_changed(&app);
    loop {
        tokio::select! {
            () = app.stopping.cancelled() => return,
            () = app.production.wake.notified() => {}
            () = changed.raised() => {}
            () = tokio::time::sleep(IDLE) => configuration_changed(&app),
        }
        if app.maintenance.is_on() {
            // What is due stays so.
            continue;
        }
        tokio::select! {
            () = app.stopping.cancelled() => return,
            outcome = look(&app, &mut seen) => if let Err(error) = outcome {
                tracing::error!(error = %Chain(&error), "cannot look for changes to build");
                // Nothing is lost: what was due is found again.
                configuration_changed(&app);
                tokio::time::sleep(PAUSE * 20).await;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What of the database was seen, to find out which pipelines something has happened to.
#[derive(Default)]
struct Seen {
    /// Stages that ended at `ended_at`, in milliseconds since the epoch, by their ids.
    ended: BTreeSet<i64>,
    ended_at: i64,
    states: HashMap<String, PipelineState>,
    pipelines: Vec<Pipeline>,
}

impl Seen {
    /// The pipelines that a stage has ended in since the last call, and those that were paused,
    /// locked or freed.
    async fn news(
        &mut self,
        connection: &mut SqliteConnection,
    ) -> Result<(BTreeSet<String>, BTreeSet<String>), DatabaseError> {
        if self.ended_at == 0 {
            // All pipelines are looked at then.
            let last = sqlx::query_scalar("SELECT COALESCE(MAX(completed_at), 1) FROM stages");
            self.ended_at = last.fetch_one(&mut *connection).await?;
        }
        let rows: Vec<(i64, i64, String)> = sqlx::query_as(
            "SELECT stages.id, stages.completed_at, lower(pipeline_runs.pipeline) FROM stages \
             JOIN pipeline_runs ON pipeline_runs.id = stages.run_id WHERE stages.completed_at >= $1",
        )
        .bind(self.ended_at)
        .fetch_all(&mut *connection)
        .await?;
        let mut ended = BTreeSet::new();
        for (id, at, pipeline) in rows {
            if at > self.ended_at {
                self.ended_at = at;
                self.ended.clear();
            }
            if at < self.ended_at || self.ended.insert(id) {
                ended.insert(pipeline);
            }
        }
        let states = state::states(connection).await?;
        let names = states.keys().chain(self.states.keys());
        let changed = names.filter(|name| states.get(*name) != self.states.get(*name));
        let changed = changed.cloned().collect();
        self.states = states;
        Ok((ended, changed))
    }

    /// The names of the pipelines that are worth a look.
    fn worth_a_look(&self, due: &Due, ended: &BTreeSet<String>) -> Vec<String> {
        let worth = |pipeline: &&Pipeline| {
            let name = pipeline.name.to_lowercase();
            due.all
                || due.pipelines.contains(&name)
                || ended.contains(&name)
                || pipeline.materials.iter().any(|material| {
                    let upstream = material.dependency().map(|one| one.pipeline.to_lowercase());
                    upstream.is_some_and(|upstream| ended.contains(&upstream))
                        || (!due.fingerprints.is_empty()
                            && due.fingerprints.contains(&wire::fingerprint_of(material)))
                })
        };
        let all = self.pipelines.iter().filter(worth);
        all.map(|pipeline| pipeline.name.clone()).collect()
    }
}

/// Looks at all pipelines that are worth it.
async fn look(app: &App, seen: &mut Seen) -> Result<(), DatabaseError> {
    let (due, names) = {
        let mut connection = app.database.readers().acquire().await?;
        let (ended, changed) = seen.news(&mut connection).await?;
        let due = {
            let mut due = app.production.due();
            let being_triggered = due.being_triggered.clone();
            let mut taken = std::mem::take(&mut *due);
            due.being_triggered = being_triggered;
            taken.pipelines.extend(changed);
            taken
        };
        if due.all {
            let all = store::pipelines(&mut connection).await?;
            seen.pipelines = all.into_iter().map(|one| one.pipeline).collect();
        }
        let names = seen.worth_a_look(&due, &ended);
        (due, names)
    };
    if due.all {
        let mut names = seen.pipelines.iter().map(|one| one.name.to_lowercase());
        let known: BTreeSet<String> = names.by_ref().collect();
        health::keep_only(app, FAN_IN, |name| known.contains(name));
    }
    for name in names {
        if let Err(error) = consider(app, &name).await {
            tracing::error!(pipeline = name, error = %Chain(&error), "cannot look for changes to build");
        }
    }
    Ok(())
}

/// Starts a run of a pipeline if there is something new to build, and nothing is in the way.
///
/// # Errors
///
/// The database could not be used; what is to be built is found again.
pub(super) async fn consider(app: &App, name: &str) -> Result<Option<i64>, DatabaseError> {
    if app
        .production
        .due()
        .being_triggered
        .contains(&name.to_lowercase())
    {
        // Whoever triggers it has it looked at afterwards.
        return Ok(None);
    }
    let mut connection = app.database.readers().acquire().await?;
    let Some(pipeline) = store::pipeline(&mut connection, name).await? else {
        return Ok(None);
    };
    let first = pipeline.stages.first();
    if first.is_none_or(|stage| stage.approval != Approval::Success) {
        return Ok(None);
    }
    match trigger::check_free(&mut connection, &pipeline).await {
        Ok(()) => {}
        Err(TriggerError::Database(error)) => return Err(error),
        Err(_) => return Ok(None),
    }
    let last = run::runs_of(&mut connection, &pipeline.name, None, 1).await?;
    let last = last.into_iter().next();
    let resolved = revisions::resolve(&mut connection, &pipeline, last.as_ref(), &[]).await;
    let key = format!("{FAN_IN}{}", pipeline.name.to_lowercase());
    let resolved = match resolved {
        Ok(resolved) => {
            health::clear(app, &key);
            resolved
        }
        Err(TriggerError::Database(error)) => return Err(error),
        Err(error @ TriggerError::NoAgreement { .. }) => {
            let message = format!(
                "{} is not run: no revisions of its materials fit together",
                pipeline.name
            );
            health::raise(app, &key, Level::Error, message, error.to_string());
            return Ok(None);
        }
        // Something is still to come: a first look at a repository, a first passed run upstream.
        Err(_) => return Ok(None),
    };
    let starts = revisions::start_a_run(&mut connection, &pipeline, last.as_ref(), &resolved);
    if !starts.await? {
        return Ok(None);
    }
    drop(connection);
    let options = Options {
        cause: Cause::Changes,
        overrides: Vec::new(),
        materials: Vec::new(),
        update_materials: false,
    };
    let last = last.map(|run| run.id);
    match trigger::start(app, &pipeline, last, resolved, &options).await {
        Ok(Some(counter)) => {
            tracing::info!(
                pipeline = pipeline.name,
                counter,
                "a run was started by changes"
            );
            Ok(Some(counter))
        }
        // What it was looked up for is no longer so: whoever has changed that has it looked at again.
        Ok(None) => Ok(None),
        Err(TriggerError::Database(error)) => Err(error),
        Err(_) => Ok(None),
    }
}
