//! How long consoles and artifacts are kept.
//!
//! They are given up a run at a time: first the rows that speak of them go, in one transaction,
//! then the files. A crash in between leaves files that nobody speaks of, which the next pass
//! deletes. Kept are pinned runs, stages with `keep_artifacts`, runs that are active and what these
//! were made from, and of each stage the latest run that passed.

mod pass;
mod pins;
mod routes;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

pub use pass::pass;
pub use pins::{LONGEST_REASON, Pin, PinError, pin, pinned, pins_of, unpin};
pub use routes::router;

use crate::{
    App,
    answer::Chain,
    health::{self, Level},
    space,
};

/// Time between two looks at the disk.
const LOOK: Duration = Duration::from_secs(10);
/// Looks between two passes over all runs.
const LOOKS_BETWEEN_PASSES: u32 = 60;
/// What is said of the disk, by this key.
const DISK: &str = "disk";

/// Deletes what is to go, and watches the disk, until the server stops.
pub async fn watch(app: Arc<App>) {
    let mut looks: u32 = 0;
    loop {
        let low = watch_disk(&app);
        if looks.is_multiple_of(LOOKS_BETWEEN_PASSES) || low {
            match pass(&app, &app.configuration.retention).await {
                Ok(0) if low => lacks_space(&app),
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(cause = %Chain(&error), "cannot delete old consoles and artifacts; trying again");
                }
            }
        }
        looks = looks.wrapping_add(1);
        tokio::select! {
            () = app.stopping.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Says whether the disk is full, and answers whether less is free than should be.
pub fn watch_disk(app: &App) -> bool {
    let target = app.configuration.retention.free_space.unwrap_or(0);
    let reserve = app.configuration.space_reserve;
    match space::free(&app.paths.data) {
        Ok(free) if free <= reserve => {
            health::raise(
                app,
                DISK,
                Level::Error,
                "The server's disk is full.",
                format!(
                    "{} MiB are kept free in {} and no more are there: consoles, artifacts and packages are refused. \
                     Free some space, or let old ones be deleted (--retention-days, --retention-runs, \
                     --retention-free-space).",
                    reserve >> 20,
                    app.paths.data.display()
                ),
            );
            free < target
        }
        Ok(free) => {
            if free >= target {
                health::clear(app, DISK);
            }
            free < target
        }
        Err(error) => {
            health::raise(
                app,
                DISK,
                Level::Warning,
                "The server cannot find out how much space is free.",
                format!("{}: {error}", app.paths.data.display()),
            );
            false
        }
    }
}

/// There is nothing more to delete.
fn lacks_space(app: &App) {
    let free = space::free(&app.paths.data).unwrap_or(0);
    let target = app.configuration.retention.free_space.unwrap_or(0);
    if free < target && free > app.configuration.space_reserve {
        health::raise(
            app,
            DISK,
            Level::Warning,
            "The server's disk is fuller than it should be.",
            format!(
                "{} MiB should be free in {}, and everything that may be deleted was: what is left is pinned, kept or \
                 needed.",
                target >> 20,
                app.paths.data.display()
            ),
        );
    }
}
