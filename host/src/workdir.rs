//! The working directory of one agent: GoCD's names where GoCD has one.

use std::{
    env, fs, io,
    io::Write,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use nix::sys::statvfs::statvfs;
use thiserror::Error;

use crate::{
    durable::{self, FileError},
    properties::Properties,
};

/// Paths in an agent's working directory. Nothing is created until [`WorkDir::prepare`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkDir {
    root: PathBuf,
    logs: PathBuf,
}

/// GoCD's property for another folder of logs than `logs/`.
const LOG_FOLDER: &str = "gocd.agent.log.dir";

/// The working directory cannot be used.
#[derive(Debug, Error)]
pub enum WorkDirError {
    /// The process was started in a folder that is gone or out of reach.
    #[error("cannot find the current folder, start in one that exists: {0}")]
    NoCurrentFolder(#[source] io::Error),
    /// Nothing can be written there.
    #[error(
        "the working directory {} cannot be written to: {source}; start the agent in a folder \
         that its user may write to, on a file system mounted for writing",
        folder.display()
    )]
    ReadOnly {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No space is left there.
    #[error(
        "the working directory {} is on a full file system: {source}; free some space (old \
         working directories are in pipelines/) and start again",
        folder.display()
    )]
    Full {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Anything else, such as a file where a folder belongs.
    #[error("the working directory cannot be prepared: {0}")]
    Other(#[from] FileError),
}

impl WorkDir {
    /// The working directory at a path.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        let logs = root.join("logs");
        Self { root, logs }
    }

    /// The folder this process was started in, as an absolute path without symbolic links. The
    /// logs are where the property says, if it does (GoCD's Linux packages: `/var/log/go-agent`).
    ///
    /// # Errors
    /// The folder no longer exists.
    pub fn current() -> Result<Self, WorkDirError> {
        env::current_dir()
            .and_then(|folder| folder.canonicalize())
            .map(Self::new)
            .map(|workdir| match Properties::of_launcher().get(LOG_FOLDER) {
                Some(folder) if !folder.is_empty() => workdir.with_logs_in(folder),
                _ => workdir,
            })
            .map_err(WorkDirError::NoCurrentFolder)
    }

    fn with_logs_in(self, folder: impl AsRef<Path>) -> Self {
        let logs = self.root.join(folder);
        Self { logs, ..self }
    }

    /// Creates the folders that every part counts on and proves that they can be written to.
    ///
    /// # Errors
    /// One message that names the folder and says what to do.
    pub fn prepare(&self) -> Result<(), WorkDirError> {
        for folder in [
            self.config(),
            self.data(),
            self.pipelines(),
            self.releases(),
        ] {
            self.create(&folder, 0o755)?;
        }
        fs::create_dir_all(&self.logs)
            .map_err(|source| FileError::new("create", &self.logs, source))?;
        self.create(&self.jobs(), 0o700)?;
        self.create(&self.config_journeyman(), 0o700)?;
        self.probe()
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Kernel lock of the launcher.
    pub fn launcher_lock(&self) -> PathBuf {
        self.root.join(".agent-bootstrapper.running")
    }

    /// Kernel lock of the agent.
    pub fn agent_lock(&self) -> PathBuf {
        self.root.join(".agent.running")
    }

    /// The launcher file that the bootstrapper starts copies of.
    pub fn launcher(&self) -> PathBuf {
        self.root.join("journeyman-launcher")
    }

    /// The launcher that the bootstrapper went back from.
    pub fn bad_launcher(&self) -> PathBuf {
        self.root.join("journeyman-launcher.bad")
    }

    /// Installed agents, one folder each.
    pub fn releases(&self) -> PathBuf {
        self.root.join("releases")
    }

    /// Link to the installed agent that runs.
    pub fn current_release(&self) -> PathBuf {
        self.root.join("current")
    }

    /// What the agents of each release keep for themselves, one folder each.
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// Temporary files.
    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// Downloads that failed verification.
    pub fn refused(&self) -> PathBuf {
        self.data().join("refused")
    }

    /// Identity and configuration.
    pub fn config(&self) -> PathBuf {
        self.root.join("config")
    }

    /// The agent's GUID.
    pub fn guid(&self) -> PathBuf {
        self.config().join("guid.txt")
    }

    /// The registration token.
    pub fn token(&self) -> PathBuf {
        self.config().join("token")
    }

    /// The cookie of the remoting API, as the oldest releases keep it, and an agent that is started
    /// by hand.
    pub fn cookie(&self) -> PathBuf {
        self.config().join("cookie")
    }

    /// What the agent registers itself with.
    pub fn autoregister(&self) -> PathBuf {
        self.config().join("autoregister.properties")
    }

    /// Key, certificate, trust and address of the secure connection.
    pub fn config_journeyman(&self) -> PathBuf {
        self.config().join("journeyman")
    }

    /// The agent's private key.
    pub fn agent_key(&self) -> PathBuf {
        self.config_journeyman().join("agent.key")
    }

    /// The agent's certificate.
    pub fn agent_certificate(&self) -> PathBuf {
        self.config_journeyman().join("agent.crt")
    }

    /// The certificates the secure connection's server is trusted by.
    pub fn trust_store(&self) -> PathBuf {
        self.config_journeyman().join("trust.pem")
    }

    /// Where the secure connection goes.
    pub fn secure_server(&self) -> PathBuf {
        self.config_journeyman().join("server.json")
    }

    /// The certificate that the configured fingerprint was last seen on.
    pub fn pinned_certificate(&self) -> PathBuf {
        self.config_journeyman().join("pinned.pem")
    }

    /// Logs.
    pub fn logs(&self) -> PathBuf {
        self.logs.clone()
    }

    /// Log of the launcher.
    pub fn launcher_log(&self) -> PathBuf {
        self.logs().join("go-agent-launcher.log")
    }

    /// Log of the agent.
    pub fn agent_log(&self) -> PathBuf {
        self.logs().join("go-agent.log")
    }

    /// What the agent's process writes to its standard output.
    pub fn agent_stdout(&self) -> PathBuf {
        self.logs().join("go-agent-stdout.log")
    }

    /// What the agent's process writes to its standard error.
    pub fn agent_stderr(&self) -> PathBuf {
        self.logs().join("go-agent-stderr.log")
    }

    /// Working directories of all pipelines.
    pub fn pipelines(&self) -> PathBuf {
        self.root.join("pipelines")
    }

    /// Folders of running jobs.
    pub fn jobs(&self) -> PathBuf {
        self.root.join("jobs")
    }

    /// Bytes that this user may still write at `pipelines/`, or at the root as long as that does
    /// not exist. GoCD: `usablespace` of the registration and the runtime info.
    ///
    /// # Errors
    /// The file system does not answer.
    pub fn usable_space(&self) -> io::Result<u64> {
        let pipelines = self.pipelines();
        let place = if pipelines.exists() {
            &pipelines
        } else {
            &self.root
        };
        let facts = statvfs(place).map_err(io::Error::from)?;
        Ok(facts.blocks_available() * facts.fragment_size())
    }

    fn create(&self, folder: &Path, mode: u32) -> Result<(), WorkDirError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(folder)
            .map_err(|source| self.classify("create", folder, source))
    }

    /// Writes a block of real bytes and flushes it: on a full file system an empty file can often
    /// still be created.
    fn probe(&self) -> Result<(), WorkDirError> {
        let data = self.data();
        durable::temporary_file(&data)
            .and_then(|mut file| {
                file.write_all(&[b'.'; 4096])?;
                file.flush()
            })
            .map_err(|source| self.classify("write to", &data, source))
    }

    fn classify(&self, action: &'static str, path: &Path, source: io::Error) -> WorkDirError {
        let folder = self.root.clone();
        match source.kind() {
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                WorkDirError::ReadOnly { folder, source }
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                WorkDirError::Full { folder, source }
            }
            _ => WorkDirError::Other(FileError::new(action, path, source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn prepare_makes_the_folders_and_keeps_secrets_closed() {
        let folder = tempfile::tempdir().unwrap();
        let workdir = WorkDir::new(folder.path());
        workdir.prepare().unwrap();
        workdir.prepare().unwrap();
        for (path, mode) in [
            (workdir.jobs(), 0o700),
            (workdir.config_journeyman(), 0o700),
        ] {
            let found = fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(found, mode);
        }
        assert_eq!(fs::read_dir(workdir.data()).unwrap().count(), 0);
        assert!(workdir.usable_space().unwrap() > 0);
    }

    #[test]
    fn logs_may_be_elsewhere() {
        let workdir = WorkDir::new("/srv/agent");
        assert_eq!(
            workdir.agent_log(),
            Path::new("/srv/agent/logs/go-agent.log")
        );
        let elsewhere = workdir.clone().with_logs_in("/var/log/go-agent");
        assert_eq!(
            elsewhere.agent_log(),
            Path::new("/var/log/go-agent/go-agent.log")
        );
        let beside = workdir.with_logs_in("my-logs");
        assert_eq!(
            beside.agent_log(),
            Path::new("/srv/agent/my-logs/go-agent.log")
        );
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("logs"), "").unwrap();
        let error = WorkDir::new(folder.path()).prepare().unwrap_err();
        assert!(error.to_string().contains("logs"), "{error}");
    }

    #[test]
    fn each_cause_has_its_advice() {
        let workdir = WorkDir::new("/srv/agent");
        let full = workdir.classify("create", Path::new("x"), io::ErrorKind::StorageFull.into());
        assert!(
            full.to_string()
                .contains("/srv/agent is on a full file system")
        );
        let closed = workdir.classify(
            "create",
            Path::new("x"),
            io::ErrorKind::ReadOnlyFilesystem.into(),
        );
        assert!(
            closed
                .to_string()
                .contains("/srv/agent cannot be written to")
        );
    }
}
