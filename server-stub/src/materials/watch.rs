//! When each git material is looked at: every so often, at once when somebody says that it has
//! changed, ever more rarely while that fails.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::in_use::{self, InUse};
use super::poll;
use crate::answer::Chain;
use crate::database::DatabaseError;
use crate::pipelines::definition::GitMaterial;
use crate::{App, health};

/// So many looks at a time, as long as they are swift.
const SWIFT: usize = 4;
/// A look that takes longer than this stands no longer in the way of others.
const SWIFTNESS: Duration = Duration::from_secs(5);
/// So many slow ones at a time.
const SLOW: usize = 32;

/// The longest time between two looks at a material that fails, in milliseconds.
const LONGEST_PAUSE: i64 = 60 * 60 * 1000;

/// The configuration is read again after this time, whether or not anybody says that it changed,
/// and the clock is looked at again.
const IDLE: Duration = Duration::from_secs(30);

/// When which material is due. In memory: a server that starts looks at all of them.
pub struct Materials {
    entries: Mutex<HashMap<String, Entry>>,
    wake: Notify,
    /// Whether there may be other materials than those that were read.
    changed: AtomicBool,
    swift: Semaphore,
    slow: Semaphore,
}

#[derive(Default)]
struct Entry {
    /// Milliseconds since the epoch.
    due: i64,
    failures: u32,
    busy: bool,
    /// Somebody says that it has changed.
    asked: bool,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Default for Materials {
    fn default() -> Self {
        Self {
            entries: Mutex::default(),
            wake: Notify::new(),
            changed: AtomicBool::new(false),
            swift: Semaphore::new(SWIFT),
            slow: Semaphore::new(SLOW),
        }
    }
}

impl Materials {
    fn entries(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held while a material is looked at.
    pub(super) fn turn(&self, fingerprint: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut entries = self.entries();
        Arc::clone(&entries.entry(fingerprint.to_owned()).or_default().turn)
    }

    /// Has these looked at now, however they are configured and however often they have failed.
    pub fn ask(&self, fingerprints: impl IntoIterator<Item = String>) {
        let mut entries = self.entries();
        for fingerprint in fingerprints {
            entries.entry(fingerprint).or_default().asked = true;
        }
        drop(entries);
        self.wake.notify_one();
    }

    /// Says that pipelines have changed.
    pub fn configuration_changed(&self) {
        self.changed.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Takes what is due and marks it busy; answers that, and how long nothing else is due.
    fn take_due(
        &self,
        all: &[InUse],
        now: i64,
        automatic: bool,
    ) -> (Vec<(String, GitMaterial)>, Option<i64>) {
        let mut entries = self.entries();
        let known: BTreeSet<&str> = all.iter().map(|one| one.fingerprint.as_str()).collect();
        entries.retain(|fingerprint, entry| {
            // Its turn may be somebody's who triggers by hand.
            known.contains(fingerprint.as_str()) || entry.busy || Arc::strong_count(&entry.turn) > 1
        });
        let (mut due, mut next) = (Vec::new(), None);
        for one in all {
            let Some(git) = one.git() else { continue };
            let entry = entries.entry(one.fingerprint.clone()).or_default();
            if entry.busy {
                continue;
            }
            let polled = automatic && git.auto_update;
            if entry.asked || (polled && entry.due <= now) {
                entry.asked = false;
                entry.busy = true;
                due.push((one.fingerprint.clone(), git.clone()));
            } else if polled {
                let pause = entry.due - now;
                next = Some(next.map_or(pause, |next: i64| next.min(pause)));
            }
        }
        (due, next)
    }

    /// The fingerprints of those that are looked at just now.
    pub(crate) fn busy(&self) -> Vec<String> {
        let entries = self.entries();
        let busy = entries.iter().filter(|(_, entry)| entry.busy);
        busy.map(|(fingerprint, _)| fingerprint.clone()).collect()
    }

    fn done(&self, fingerprint: &str, well: bool, now: i64, interval: Duration) {
        let interval = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
        let mut entries = self.entries();
        let entry = entries.entry(fingerprint.to_owned()).or_default();
        entry.busy = false;
        entry.failures = if well { 0 } else { entry.failures + 1 };
        entry.due = now.saturating_add(pause(interval, entry.failures));
        drop(entries);
        self.wake.notify_one();
    }
}

/// The time until the next look, in milliseconds: twice as long for each failure.
fn pause(interval: i64, failures: u32) -> i64 {
    let longer = interval.saturating_mul(1 << failures.min(16));
    longer.min(LONGEST_PAUSE.max(interval))
}

/// Looks at every material when it is due, until the server stops.
pub async fn watch(app: Arc<App>) {
    let mut all = Vec::new();
    let mut read_at = None;
    loop {
        let changed = app.materials.changed.swap(false, Ordering::Relaxed);
        let old = read_at.is_none_or(|at: Instant| at.elapsed() >= IDLE);
        if changed || old {
            match read(&app).await {
                Ok(read) => all = read,
                Err(error) => {
                    tracing::error!(error = %Chain(&error), "cannot tell which materials there are");
                }
            }
            read_at = Some(Instant::now());
        }
        let pause = start_due(&app, &all);
        tokio::select! {
            () = app.stopping.cancelled() => return,
            () = app.materials.wake.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Reads which materials there are.
async fn read(app: &App) -> Result<Vec<InUse>, DatabaseError> {
    let mut connection = app.database.readers().acquire().await?;
    let all = in_use::list(&mut connection).await?;
    let known: BTreeSet<&str> = all.iter().map(|one| one.fingerprint.as_str()).collect();
    health::keep_only(app, poll::HEALTH, |fingerprint| known.contains(fingerprint));
    Ok(all)
}

/// Says that what was not done in maintenance can be done.
pub fn wake(app: &App) {
    app.materials.wake.notify_one();
}

/// Starts looking at what is due; answers how long nothing else is.
fn start_due(app: &Arc<App>, all: &[InUse]) -> Duration {
    if app.maintenance.is_on() {
        return IDLE;
    }
    let automatic = app.configuration.automatic_runs;
    let (due, next) = app.materials.take_due(all, app.now_ms(), automatic);
    for (fingerprint, material) in due {
        let own = Arc::clone(app);
        app.tasks.spawn(async move {
            let well = tokio::select! {
                () = own.stopping.cancelled() => return,
                well = look(&own, &material) => well,
            };
            let interval = own.configuration.material_interval;
            own.metrics.material_polled(well);
            own.materials
                .done(&fingerprint, well, own.now_ms(), interval);
        });
    }
    let next = next.and_then(|next| u64::try_from(next).ok());
    next.map_or(IDLE, |next| Duration::from_millis(next).min(IDLE))
}

/// Looks at one as soon as not too many others are looked at; answers whether that went well.
async fn look(app: &App, material: &GitMaterial) -> bool {
    let materials = &app.materials;
    // Neither semaphore is ever closed.
    let swift = materials.swift.acquire().await;
    let mut looking = std::pin::pin!(poll::poll(app, material));
    let outcome = tokio::select! {
        outcome = &mut looking => return outcome.is_ok(),
        () = tokio::time::sleep(SWIFTNESS) => tokio::select! {
            outcome = &mut looking => return outcome.is_ok(),
            slow = materials.slow.acquire() => {
                drop(swift);
                let outcome = looking.await;
                drop(slow);
                outcome
            }
        }
    };
    outcome.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_material_that_fails_is_looked_at_ever_more_rarely() {
        let table = [
            (60_000, 0, 60_000),
            (60_000, 1, 120_000),
            (60_000, 3, 480_000),
            (60_000, 6, LONGEST_PAUSE),
            (60_000, u32::MAX, LONGEST_PAUSE),
            (2 * LONGEST_PAUSE, 1, 2 * LONGEST_PAUSE),
        ];
        for (interval, failures, expected) in table {
            assert_eq!(pause(interval, failures), expected, "{interval} {failures}");
        }
    }
}
