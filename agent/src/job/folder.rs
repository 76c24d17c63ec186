//! The folder of one job, `jobs/<id>/` in the agent's working directory.

use std::path::{Path, PathBuf};

use journeyman_protocol::job::JobIdentifier;

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

    /// See [`super::spool`].
    pub fn console(&self) -> PathBuf {
        self.path.join("console")
    }
}

#[cfg(test)]
mod tests {
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
}
