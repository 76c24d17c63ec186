//! Runs that start by the clock.
//!
//! A time that passes while the server is down, or the pipeline cannot run, is not made up for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::trigger::{Cause, Options, TriggerError, trigger};
use crate::App;
use crate::answer::Chain;
use crate::database::DatabaseError;
use crate::pipelines::cron::Schedule;
use crate::pipelines::store;

/// How often the clock is looked at.
const TICK: Duration = Duration::from_secs(1);

/// How often the pipelines are read, in looks at the clock.
const READ_EVERY: u32 = 15;

/// Starts runs by the clock, until the server stops.
pub async fn watch(app: Arc<App>) {
    if !app.configuration.automatic_runs {
        return;
    }
    let mut timers = Timers::new(&app);
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    for tick in (0..READ_EVERY).cycle() {
        tokio::select! {
            () = app.stopping.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if tick == 0
            && let Err(error) = timers.read(&app).await
        {
            tracing::error!(error = %Chain(&error), "cannot read which pipelines have timers");
        }
        for pipeline in timers.due(app.clock.now()) {
            let started = start(Arc::clone(&app), pipeline);
            app.tasks.spawn(started);
        }
    }
}

/// The timers of all pipelines.
struct Timers {
    zone: TimeZone,
    /// Up to when the clock was looked at.
    seen: Timestamp,
    /// By pipeline: the expression, and what it means.
    all: HashMap<String, (String, Schedule)>,
}

impl Timers {
    fn new(app: &App) -> Self {
        Self {
            zone: TimeZone::system(),
            seen: app.clock.now(),
            all: HashMap::new(),
        }
    }

    /// Reads the timers there are.
    async fn read(&mut self, app: &App) -> Result<(), DatabaseError> {
        let mut connection = app.database.readers().acquire().await?;
        let mut old = std::mem::take(&mut self.all);
        for stored in store::pipelines(&mut connection).await? {
            let pipeline = stored.pipeline;
            let Some(timer) = pipeline.timer else {
                continue;
            };
            let known = old.remove(&pipeline.name);
            let schedule = match known.filter(|(spec, _)| *spec == timer.spec) {
                Some((_, schedule)) => schedule,
                None => match Schedule::parse(&timer.spec) {
                    Ok(schedule) => schedule,
                    Err(error) => {
                        tracing::error!(pipeline = pipeline.name, error, "cannot read a timer");
                        continue;
                    }
                },
            };
            self.all.insert(pipeline.name, (timer.spec, schedule));
        }
        Ok(())
    }

    /// The pipelines whose time has come since the last call. Several times of one are one.
    fn due(&mut self, now: Timestamp) -> Vec<String> {
        let seen = std::mem::replace(&mut self.seen, now);
        let is_due = |schedule: &Schedule| {
            let next = schedule.next(seen, &self.zone);
            next.is_some_and(|next| next <= now)
        };
        let due = self
            .all
            .iter()
            .filter(|(_, (_, schedule))| is_due(schedule));
        due.map(|(pipeline, _)| pipeline.clone()).collect()
    }
}

async fn start(app: Arc<App>, pipeline: String) {
    let options = Options {
        cause: Cause::Timer,
        overrides: Vec::new(),
        materials: Vec::new(),
        update_materials: false,
    };
    match trigger(&app, &pipeline, &options).await {
        Ok(counter) => tracing::info!(pipeline, counter, "a run was started by its timer"),
        Err(error @ TriggerError::Database(_)) => {
            tracing::error!(pipeline, error = %Chain(&error), "a timer could not start a run");
        }
        Err(error) => {
            let reason = Chain(&error);
            tracing::info!(pipeline, %reason, "a timer has started nothing");
        }
    }
}
