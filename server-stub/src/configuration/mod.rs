//! What can be set, where it is set, and the data folder's layout.
//!
//! [`Settings`] is the only list: what is a flag there is an environment variable and a key of the
//! configuration file as well.

mod file;
mod layers;
mod provider;
mod settings;
#[cfg(test)]
mod tests;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use secrecy::SecretString;
use url::Url;

use crate::pipelines::git;

pub use layers::{Effective, Origin, Problem, effective, without_environment};
pub use provider::{GroupRole, NewUsers, Provider};
pub use settings::{LogFormat, Settings};

const DAY: Duration = Duration::from_secs(24 * 3600);
const MIB: u64 = 1024 * 1024;

/// GoCD's own ports, tried first.
pub const DEFAULT_HTTP_PORT: u16 = 8153;
pub const DEFAULT_HTTPS_PORT: u16 = 8154;

/// What the rest of the server sees of its configuration.
#[derive(Debug, Clone)]
pub struct Configuration {
    pub listen: IpAddr,
    /// Names for the server's certificate besides the machine's own.
    pub hostnames: Vec<String>,
    /// Where people and tools reach the server, when that is not where it listens.
    pub site_url: Option<Url>,
    /// Silence after which an agent is lost. GoCD: 300 s.
    pub agent_timeout: Duration,
    /// Time between two looks at each configuration repository. GoCD: 60 s.
    pub repository_interval: Duration,
    /// Time between two looks at each git material of a pipeline. GoCD: 60 s.
    pub material_interval: Duration,
    /// The longest a look at a git repository may take.
    pub fetch_limit: Duration,
    /// Whether changes, timers and passed stages upstream start runs.
    pub automatic_runs: bool,
    /// Silence of a console after which its job is cancelled, for jobs that do not say. None: never.
    pub job_timeout: Option<Duration>,
    /// What signs or accompanies the calls of webhooks.
    pub webhook_secret: Option<SecretString>,
    /// Who vouches for people besides their passwords.
    pub provider: Option<Provider>,
    /// Silence after which a pending agent is forgotten. GoCD: 300 s.
    pub pending_timeout: Duration,
    /// Life of an agent's client certificate.
    pub certificate_life: Duration,
    /// The longest a `get_work` call may be held.
    pub longest_wait: Duration,
    /// Free space that uploads must leave. GoCD: 100 MiB.
    pub space_reserve: u64,
    pub retention: Retention,
}

/// How long consoles and artifacts are kept. Nothing set: for ever.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retention {
    /// Those of older runs go.
    pub age: Option<Duration>,
    /// Those of all but so many runs of each pipeline go.
    pub runs: Option<u32>,
    /// While less than so many bytes are free, those of the oldest runs go.
    pub free_space: Option<u64>,
}

impl Configuration {
    /// The configuration that the settings ask for, but for secrets.
    pub fn from_settings(settings: &Settings) -> Self {
        let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
        let none_if_zero = |number: u32| (number > 0).then_some(number);
        Self {
            listen: settings.listen,
            hostnames: settings.hostname.clone(),
            site_url: settings.site_url.clone(),
            agent_timeout: seconds(settings.agent_timeout),
            repository_interval: seconds(settings.repository_interval),
            material_interval: seconds(settings.material_interval),
            automatic_runs: !settings.no_automatic_runs,
            job_timeout: none_if_zero(settings.job_timeout)
                .map(|minutes| Duration::from_secs(u64::from(minutes) * 60)),
            certificate_life: settings
                .certificate_life
                .map_or(DAY * settings.certificate_days, seconds),
            space_reserve: u64::from(settings.space_reserve) * MIB,
            retention: Retention {
                age: none_if_zero(settings.retention_days).map(|days| DAY * days),
                runs: none_if_zero(settings.retention_runs),
                free_space: none_if_zero(settings.retention_free_space)
                    .map(|size| u64::from(size) * MIB),
            },
            ..Self::default()
        }
    }
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            listen: IpAddr::from([127, 0, 0, 1]),
            hostnames: Vec::new(),
            site_url: None,
            agent_timeout: Duration::from_secs(300),
            repository_interval: Duration::from_secs(60),
            material_interval: Duration::from_secs(60),
            fetch_limit: git::PATIENCE,
            automatic_runs: true,
            job_timeout: None,
            webhook_secret: None,
            provider: None,
            pending_timeout: Duration::from_secs(300),
            certificate_life: 90 * DAY,
            longest_wait: Duration::from_secs(20),
            space_reserve: 100 * MIB,
            retention: Retention::default(),
        }
    }
}

/// Which port to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// This one or an error.
    Exactly(u16),
    /// This one, or the next that is free.
    From(u16),
}

impl Port {
    /// The port for a flag: what was given exactly, else the default or the next free one.
    pub fn from_flag(given: Option<u16>, default: u16) -> Self {
        given.map_or(Self::From(default), Self::Exactly)
    }
}

/// Where things are in the data folder.
#[derive(Debug, Clone)]
pub struct Paths {
    pub data: PathBuf,
    pub releases: PathBuf,
}

impl Paths {
    pub fn new(data: PathBuf, releases: Option<PathBuf>) -> Self {
        let releases = releases.unwrap_or_else(|| data.join("releases"));
        Self { data, releases }
    }

    /// The folders that the settings ask for.
    pub fn from_settings(settings: &Settings) -> Self {
        Self::new(settings.data.clone(), settings.releases.clone())
    }

    /// Held locked by the server that uses this folder.
    pub fn lock(&self) -> PathBuf {
        self.data.join("server.lock")
    }

    pub fn database(&self) -> PathBuf {
        self.data.join("journeyman.db")
    }

    pub fn trust(&self) -> PathBuf {
        self.data.join("trust")
    }

    /// Holds the auto-register key, for whoever installs agents.
    pub fn auto_register_key(&self) -> PathBuf {
        self.data.join("auto-register.key")
    }

    /// Holds the key that values in configuration files are encrypted with.
    pub fn cipher_key(&self) -> PathBuf {
        self.data.join("cipher.aes")
    }

    /// Holds what hosts of git repositories prove themselves with.
    pub fn webhook_secret(&self) -> PathBuf {
        self.data.join("webhook.secret")
    }

    /// Holds the token of commands on this machine.
    pub fn command_line_token(&self) -> PathBuf {
        self.data.join("command-line.token")
    }

    pub fn endpoints(&self) -> PathBuf {
        self.data.join("endpoints.json")
    }

    /// Clones and work trees of configuration repositories.
    pub fn repositories(&self) -> PathBuf {
        self.data.join("repositories")
    }

    pub fn consoles(&self) -> PathBuf {
        self.data.join("blobs").join("consoles")
    }

    /// The folder of all artifacts of one job.
    pub fn artifacts(&self, build_id: i64) -> PathBuf {
        self.data
            .join("blobs")
            .join("artifacts")
            .join(build_id.to_string())
    }

    /// Packages of releases, by checksum.
    pub fn packages(&self) -> PathBuf {
        self.data.join("blobs").join("packages")
    }

    /// The package with a checksum.
    pub fn package(&self, sha256: &str) -> PathBuf {
        self.packages().join(sha256)
    }

    /// Backups that a running server was asked for; a restore leaves them.
    pub fn backups(&self) -> PathBuf {
        self.data.join("backups")
    }

    /// Uploads on their way; emptied at start.
    pub fn incoming(&self) -> PathBuf {
        self.data.join("blobs").join("incoming")
    }
}

/// An address for a URL: IPv6 in brackets, "any" as loopback, because a URL must be reachable.
pub fn url_host(address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => "127.0.0.1".to_owned(),
        IpAddr::V6(ip) if ip.is_unspecified() => "[::1]".to_owned(),
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}
