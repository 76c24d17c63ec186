//! Runs that start by the clock.
//!
//! A time that passes while the server is down, or the pipeline cannot run, is not made up for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::trigger::{Cause, Options, TriggerError, trigger};
use crate::App;
use crate::answer::Chain;
use crate::database::DatabaseError;
use crate::pipelines::cron::Schedule;
use crate::pipelines::store;

/// How often the clock is looked at.
const TICK: Duration = Duration::from_secs(1);

/// A clock that goes back by less is corrected: times that were seen are not seen again. One that goes
/// back by more was wrong.
const LARGEST_CORRECTION: SignedDuration = SignedDuration::from_hours(1);

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
        let due = timers.due(app.clock.now());
        if app.maintenance.is_on() {
            continue;
        }
        for pipeline in due {
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

    /// The pipelines whose time has come since the last call. Several times of one are one, and what
    /// has come does not come again when the clock is put back a little.
    fn due(&mut self, now: Timestamp) -> Vec<String> {
        let back = self.seen.duration_since(now);
        if !back.is_negative() && back < LARGEST_CORRECTION {
            return Vec::new();
        }
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

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    /// Timers that have looked at the clock at `seen`.
    fn timers(zone: TimeZone, seen: &str, all: &[(&str, &str)]) -> Timers {
        let all = all.iter().map(|(name, spec)| {
            let schedule = Schedule::parse(spec).unwrap();
            ((*name).to_owned(), ((*spec).to_owned(), schedule))
        });
        Timers {
            zone,
            seen: at(seen),
            all: all.collect(),
        }
    }

    fn due(timers: &mut Timers, now: &str) -> Vec<String> {
        let mut due = timers.due(at(now));
        due.sort();
        due
    }

    const NIGHTLY: (&str, &str) = ("nightly", "0 30 2 * * ?");
    const HOURLY: (&str, &str) = ("hourly", "0 0 * * * ?");

    #[test]
    fn a_time_comes_once() {
        let mut timers = timers(TimeZone::UTC, "2026-11-21T02:00:00.5Z", &[NIGHTLY, HOURLY]);
        for (now, expected) in [
            ("2026-11-21T02:29:59.9Z", &[][..]),
            ("2026-11-21T02:30:00Z", &["nightly"]),
            ("2026-11-21T02:30:00.9Z", &[]),
            ("2026-11-21T02:30:01Z", &[]),
            ("2026-11-21T03:00:00.2Z", &["hourly"]),
            ("2026-11-22T02:30:00Z", &["hourly", "nightly"]),
        ] {
            assert_eq!(due(&mut timers, now), expected, "{now}");
        }
    }

    #[test]
    fn a_clock_that_jumps_neither_doubles_nor_stops_a_timer() {
        let mut timers = timers(TimeZone::UTC, "2026-11-21T02:29:00Z", &[NIGHTLY]);
        for (now, expected) in [
            ("2026-11-21T02:30:00.1Z", &["nightly"][..]),
            // Corrected by less than a second, and by minutes.
            ("2026-11-21T02:29:59.8Z", &[]),
            ("2026-11-21T02:30:00.8Z", &[]),
            ("2026-11-21T01:45:00Z", &[]),
            ("2026-11-21T02:30:00.3Z", &[]),
            ("2026-11-21T02:31:00Z", &[]),
            // Forward over two nights: once.
            ("2026-11-23T12:00:00Z", &["nightly"]),
            // It was wrong by days, and is right again.
            ("2026-11-21T02:32:00Z", &[]),
            ("2026-11-22T02:29:59Z", &[]),
            ("2026-11-22T02:30:00Z", &["nightly"]),
        ] {
            assert_eq!(due(&mut timers, now), expected, "{now}");
        }
    }

    #[test]
    fn daylight_saving_neither_loses_nor_doubles_a_day() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let mut timers = timers(zone, "2026-03-28T12:00:00Z", &[NIGHTLY]);
        let mut runs = Vec::new();
        // Two nights without and with an hour too much or too little, looked at every ten minutes.
        for (from, to) in [
            ("2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z"),
            ("2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z"),
        ] {
            timers.seen = at(from);
            let mut now = at(from);
            while now < at(to) {
                now += SignedDuration::from_mins(10);
                if !timers.due(now).is_empty() {
                    runs.push(now.to_string());
                }
            }
        }
        assert_eq!(
            runs,
            [
                // Half past two does not exist: an hour later by the clock on the wall.
                "2026-03-29T01:30:00Z",
                "2026-03-30T00:30:00Z",
                "2026-10-25T00:30:00Z",
                "2026-10-26T01:30:00Z",
            ]
        );
    }
}
