//! Waiting for a condition instead of sleeping and hoping.

use std::{
    env, thread,
    time::{Duration, Instant},
};

/// How long a condition may take to come true: the seconds in `JOURNEYMAN_TEST_PATIENCE`,
/// default 60. Generous, because it is only ever used up by a failing test.
pub fn patience() -> Duration {
    let seconds = env::var("JOURNEYMAN_TEST_PATIENCE").ok();
    Duration::from_secs(seconds.and_then(|text| text.parse().ok()).unwrap_or(60))
}

/// Waits until `condition` is true; panics with `what` when patience ends.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}

/// Waits until `look` finds something and returns it; panics with `what` when patience ends.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            start.elapsed() < patience(),
            "after {} s still not: {what}",
            patience().as_secs()
        );
        thread::sleep(Duration::from_millis(10));
    }
}
