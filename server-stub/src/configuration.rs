//! The flags and environment variables of `journeyman-server serve`, and the data folder's layout.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::Args;
use secrecy::SecretString;

/// GoCD's own ports, tried first.
pub const DEFAULT_HTTP_PORT: u16 = 8153;
pub const DEFAULT_HTTPS_PORT: u16 = 8154;

/// Flags of `serve`, as typed.
#[derive(Args, Debug, Clone)]
pub struct ServeArguments {
    /// Folder of the database, consoles, artifacts and certificates; made when missing.
    #[arg(
        long,
        env = "JOURNEYMAN_DATA",
        default_value = "journeyman-server",
        value_name = "DIR"
    )]
    pub data: PathBuf,

    /// Address to listen on. Other machines reach any but loopback; have people use HTTPS then.
    #[arg(
        long,
        env = "JOURNEYMAN_LISTEN",
        default_value = "127.0.0.1",
        value_name = "ADDRESS"
    )]
    pub listen: IpAddr,

    /// Port for HTTP; 0 is any free one. Default: 8153, or the next free one.
    #[arg(long, env = "JOURNEYMAN_HTTP_PORT", value_name = "PORT")]
    pub http_port: Option<u16>,

    /// Port for HTTPS; 0 is any free one. Default: 8154, or the next free one.
    #[arg(long, env = "JOURNEYMAN_HTTPS_PORT", value_name = "PORT")]
    pub https_port: Option<u16>,

    /// A further name of this server for its certificate, and the one it calls itself. Repeatable.
    #[arg(
        long = "hostname",
        env = "JOURNEYMAN_HOSTNAMES",
        value_delimiter = ',',
        value_name = "NAME"
    )]
    pub hostnames: Vec<String>,

    /// An agent that registers with this key is enabled at once. Stored, so it need not be repeated.
    #[arg(
        long,
        env = "JOURNEYMAN_AUTO_REGISTER_KEY",
        hide_env_values = true,
        value_name = "KEY"
    )]
    pub auto_register_key: Option<SecretString>,

    /// A file that holds the auto-register key, so that no process listing shows it.
    #[arg(
        long,
        env = "JOURNEYMAN_AUTO_REGISTER_KEY_FILE",
        value_name = "FILE",
        conflicts_with = "auto_register_key"
    )]
    pub auto_register_key_file: Option<PathBuf>,

    /// A file that holds the password of the user `admin`, whom the first start makes; later starts do
    /// not look at it. Without it one is made up and shown once. Also as a text:
    /// JOURNEYMAN_ADMIN_PASSWORD.
    #[arg(long, env = "JOURNEYMAN_ADMIN_PASSWORD_FILE", value_name = "FILE")]
    pub admin_password_file: Option<PathBuf>,

    /// A file with further users, as `htpasswd -B` writes it: NAME:HASH, a line each. What they may do
    /// says `journeyman-server users role`.
    #[arg(long, env = "JOURNEYMAN_PASSWORD_FILE", value_name = "FILE")]
    pub password_file: Option<PathBuf>,

    /// Everybody on this machine may do everything without a login. Only on a loopback address.
    #[arg(long, env = "JOURNEYMAN_NO_LOGIN")]
    pub no_login: bool,

    /// Folder with packages that are offered to all agents, also when they are replaced there by older
    /// ones. Default: `releases` in the data folder.
    #[arg(long, env = "JOURNEYMAN_RELEASES", value_name = "DIR")]
    pub releases: Option<PathBuf>,

    /// Seconds of silence after which an agent is lost and its job goes to another.
    #[arg(
        long,
        env = "JOURNEYMAN_AGENT_TIMEOUT",
        default_value_t = 300,
        value_name = "SECONDS"
    )]
    pub agent_timeout: u32,

    /// Seconds between two looks at each configuration repository.
    #[arg(
        long,
        env = "JOURNEYMAN_REPOSITORY_INTERVAL",
        default_value_t = 60,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub repository_interval: u32,

    /// Seconds between two looks at each git material of a pipeline.
    #[arg(
        long,
        env = "JOURNEYMAN_MATERIAL_INTERVAL",
        default_value_t = 60,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub material_interval: u32,

    /// Start no run but those that people ask for: materials are not polled, timers and passed
    /// stages upstream start nothing. For a copy of a server that was made from a backup.
    #[arg(long, env = "JOURNEYMAN_NO_AUTOMATIC_RUNS")]
    pub no_automatic_runs: bool,

    /// Days an agent's client certificate is valid.
    #[arg(
        long,
        env = "JOURNEYMAN_CERTIFICATE_DAYS",
        default_value_t = 90,
        value_name = "DAYS",
        value_parser = clap::value_parser!(u32).range(1..=3650)
    )]
    pub certificate_days: u32,

    /// The same in seconds, to see renewals happen.
    #[arg(
        long,
        value_name = "SECONDS",
        hide = true,
        conflicts_with = "certificate_days"
    )]
    pub certificate_life: Option<u32>,
}

/// What the rest of the server sees of its configuration.
#[derive(Debug, Clone)]
pub struct Configuration {
    pub listen: IpAddr,
    /// Names for the server's certificate besides the machine's own.
    pub hostnames: Vec<String>,
    /// Silence after which an agent is lost. GoCD: 300 s.
    pub agent_timeout: Duration,
    /// Time between two looks at each configuration repository. GoCD: 60 s.
    pub repository_interval: Duration,
    /// Time between two looks at each git material of a pipeline. GoCD: 60 s.
    pub material_interval: Duration,
    /// Whether changes, timers and passed stages upstream start runs.
    pub automatic_runs: bool,
    /// Silence after which a pending agent is forgotten. GoCD: 300 s.
    pub pending_timeout: Duration,
    /// Life of an agent's client certificate.
    pub certificate_life: Duration,
    /// The longest a `get_work` call may be held.
    pub longest_wait: Duration,
    /// Free space that uploads must leave. GoCD: 100 MiB.
    pub space_reserve: u64,
}

impl Configuration {
    /// The configuration that the flags ask for.
    pub fn from_arguments(arguments: &ServeArguments) -> Self {
        Self {
            listen: arguments.listen,
            hostnames: arguments.hostnames.clone(),
            agent_timeout: Duration::from_secs(u64::from(arguments.agent_timeout)),
            repository_interval: Duration::from_secs(u64::from(arguments.repository_interval)),
            material_interval: Duration::from_secs(u64::from(arguments.material_interval)),
            automatic_runs: !arguments.no_automatic_runs,
            certificate_life: Duration::from_secs(
                arguments
                    .certificate_life
                    .map_or(u64::from(arguments.certificate_days) * 24 * 3600, u64::from),
            ),
            ..Self::default()
        }
    }
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            listen: IpAddr::from([127, 0, 0, 1]),
            hostnames: Vec::new(),
            agent_timeout: Duration::from_secs(300),
            repository_interval: Duration::from_secs(60),
            material_interval: Duration::from_secs(60),
            automatic_runs: true,
            pending_timeout: Duration::from_secs(300),
            certificate_life: Duration::from_secs(90 * 24 * 3600),
            longest_wait: Duration::from_secs(20),
            space_reserve: 100 * 1024 * 1024,
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
