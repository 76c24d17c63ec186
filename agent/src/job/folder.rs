//! The folder of one job, `jobs/<id>/` in the agent's working directory.
//!
//! A runner may be of another release than the agent that looks after it: agents are upgraded, and
//! upgrades taken back, while their jobs run. What the two have in common is only this, and it stays
//! as it is for as long as jobs may live:
//!
//! | What | Contract |
//! |---|---|
//! | the process | the first argument is `run-job`, by which it is told from the job's own processes |
//! | [`lock`](JobFolder::lock) | whether the runner lives |
//! | [`socket`](JobFolder::socket) | [`channel`](super::channel): JSON objects, one per line; what is not known is skipped |
//! | [`journal`](JobFolder::journal) | [`journal`](super::journal), with the number of its format in its first line; what is not known is skipped |
//! | [`console`](JobFolder::console) | the spool: what the server gets, from byte 0 |
//! | [`cookie`](JobFolder::cookie) | written by the agent, read by the runner before each call |
//!
//! The token is not here: `config/token` is GoCD's name for it. What the agent that starts a runner
//! writes on its standard input is no part of the contract: the runner is that agent's own program.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use journeyman_host::durable;
use journeyman_protocol::{job::JobIdentifier, secret::Secret};

/// Folder of all jobs, relative to the agent's working directory.
pub const JOBS: &str = "jobs";

/// Where the files of one job are. Paths stay as short as the given one: a Unix socket's path may
/// have 107 bytes at most, so it is always used relative to the agent's working directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFolder {
    path: PathBuf,
}

impl JobFolder {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// A new, unique folder name for a run of this job: `jobs/<buildId>-<8 hex>`. The same build
    /// may come twice, when the server thinks that its first run is lost.
    pub fn for_job(job: &JobIdentifier) -> Self {
        let unique = uuid::Uuid::new_v4().simple().to_string();
        Self::new(Path::new(JOBS).join(format!("{}-{}", job.build_id, &unique[..8])))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Held with an exclusive `flock` by the runner while it lives; its content is the runner's
    /// process id.
    pub fn lock(&self) -> PathBuf {
        self.path.join("runner.lock")
    }

    /// The runner's Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.path.join("runner.sock")
    }

    /// See [`super::journal`].
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// The agent's cookie, as text, for its owner only.
    pub fn cookie(&self) -> PathBuf {
        self.path.join("cookie")
    }

    /// Gives the runner the cookie that the agent has now. A runner without it has the one it was
    /// started with, so that a full disk is no reason to fail here.
    pub fn give_cookie(&self, cookie: &Secret) {
        if let Err(error) = self.write_cookie(cookie) {
            tracing::warn!(
                %error,
                folder = %self.path.display(),
                "The job runner does not get the agent's cookie"
            );
        }
    }

    /// Whole, but not made to last: the runner does not outlive a power cut either.
    fn write_cookie(&self, cookie: &Secret) -> io::Result<()> {
        let mut file = durable::temporary_file(&self.path)?;
        file.write_all(cookie.expose().as_bytes())?;
        file.persist(self.cookie())?;
        Ok(())
    }

    /// See [`super::spool`].
    pub fn console(&self) -> PathBuf {
        self.path.join("console")
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn names_are_unique_and_begin_with_the_build() {
        let job = JobIdentifier {
            build_id: 1234,
            ..JobIdentifier::default()
        };
        let (one, two) = (JobFolder::for_job(&job), JobFolder::for_job(&job));
        assert_ne!(one, two);
        assert!(one.path().starts_with("jobs"));
        let name = one.path().file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("1234-") && name.len() == 13, "{name}");
        assert_eq!(one.socket(), one.path().join("runner.sock"));
    }

    #[test]
    fn the_cookie_is_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let job = JobFolder::new(folder.path());
        for cookie in ["c0", "c1"] {
            job.give_cookie(&cookie.into());
            assert_eq!(fs::read_to_string(job.cookie()).unwrap(), cookie);
        }
        let mode = fs::metadata(job.cookie()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
