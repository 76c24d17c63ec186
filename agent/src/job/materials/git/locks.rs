//! Lock files of a git that was killed. No other git works in a pipeline's folder: the agent has
//! one job at a time, and ends every process of a job with it.

use std::{fs, io, path::Path};

/// Parts of a repository that are large and have no locks, or none that hinder a checkout.
const SKIPPED: [&str; 4] = ["objects", "logs", "hooks", "lfs"];

/// Removes what would make git say for ever that another one is running.
pub(super) fn remove_stale(repository: &Path) {
    if let Err(error) = sweep(repository) {
        tracing::warn!(%error, folder = %repository.display(), "Stale locks may be left");
    }
}

fn sweep(folder: &Path) -> io::Result<()> {
    for item in fs::read_dir(folder)? {
        let item = item?;
        let name = item.file_name();
        let kind = item.file_type()?;
        if kind.is_dir() {
            if !SKIPPED.iter().any(|skipped| name == *skipped) {
                sweep(&item.path())?;
            }
        } else if Path::new(&name)
            .extension()
            .is_some_and(|end| end == "lock")
        {
            tracing::warn!(file = %item.path().display(), "Removing a lock that a killed git left");
            fs::remove_file(item.path())?;
        }
    }
    Ok(())
}
