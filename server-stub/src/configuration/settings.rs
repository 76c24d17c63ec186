//! The one table of settings.

use std::{net::IpAddr, path::PathBuf};

use clap::{ArgAction, Args, ValueEnum};
use secrecy::SecretString;
use tracing_subscriber::EnvFilter;
use url::Url;

use super::provider::{self, GroupRole, NewUsers};

/// Everything that can be set. A field is a flag (`--http-port`), an environment variable
/// (`JOURNEYMAN_HTTP_PORT`) and a key of the configuration file (`http-port`), in this order of
/// precedence. Each secret has a twin whose name ends in `-file`.
#[derive(Args, Debug, Clone)]
#[group(id = "settings")]
pub struct Settings {
    /// The configuration file (TOML): the long names of these flags are its keys, relative paths in
    /// it start at its folder. Default: `server.toml` in the data folder, if it is there.
    #[arg(long, env = "JOURNEYMAN_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

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
        value_name = "ADDRESS",
        help_heading = "Network"
    )]
    pub listen: IpAddr,

    /// Port for HTTP; 0 is any free one. Default: 8153, or the next free one.
    #[arg(
        long,
        env = "JOURNEYMAN_HTTP_PORT",
        value_name = "PORT",
        help_heading = "Network"
    )]
    pub http_port: Option<u16>,

    /// Port for HTTPS; 0 is any free one. Default: 8154, or the next free one.
    #[arg(
        long,
        env = "JOURNEYMAN_HTTPS_PORT",
        value_name = "PORT",
        help_heading = "Network"
    )]
    pub https_port: Option<u16>,

    /// A further name of this server for its certificate, and the one it calls itself. Repeatable;
    /// a list in the file, separated by commas in the environment.
    #[arg(
        long,
        env = "JOURNEYMAN_HOSTNAME",
        value_delimiter = ',',
        value_name = "NAME",
        help_heading = "Network"
    )]
    pub hostname: Vec<String>,

    /// Where people and tools reach the server, up to and without /go, when a proxy is in front of it.
    #[arg(
        long,
        env = "JOURNEYMAN_SITE_URL",
        value_name = "URL",
        value_parser = site_url,
        help_heading = "Network"
    )]
    pub site_url: Option<Url>,

    /// The secret that GitHub, GitLab and Gitea prove their webhooks with. Default: the one that the first
    /// start writes to `webhook.secret` in the data folder.
    #[arg(
        long,
        env = "JOURNEYMAN_WEBHOOK_SECRET",
        hide_env_values = true,
        value_name = "SECRET",
        help_heading = "Network"
    )]
    pub webhook_secret: Option<SecretString>,

    /// A file that holds it, so that no process listing shows it.
    #[arg(
        long,
        env = "JOURNEYMAN_WEBHOOK_SECRET_FILE",
        value_name = "FILE",
        help_heading = "Network"
    )]
    pub webhook_secret_file: Option<PathBuf>,

    /// The password of the user `admin`, whom the first start makes; later starts do not look at it.
    /// Without it one is made up and shown once.
    #[arg(
        long,
        env = "JOURNEYMAN_ADMIN_PASSWORD",
        hide_env_values = true,
        value_name = "PASSWORD",
        help_heading = "People"
    )]
    pub admin_password: Option<SecretString>,

    /// A file that holds it, so that no process listing shows it.
    #[arg(
        long,
        env = "JOURNEYMAN_ADMIN_PASSWORD_FILE",
        value_name = "FILE",
        help_heading = "People"
    )]
    pub admin_password_file: Option<PathBuf>,

    /// A file with further users, as `htpasswd -B` writes it: NAME:HASH, a line each. What they may do
    /// says `journeyman-server users role`.
    #[arg(
        long,
        env = "JOURNEYMAN_PASSWORD_FILE",
        value_name = "FILE",
        help_heading = "People"
    )]
    pub password_file: Option<PathBuf>,

    /// An OpenID Connect provider that people can sign in with besides their passwords: its issuer, as it
    /// writes itself. This server's address there is URL/go/auth/signed_in; set --site-url for it.
    #[arg(
        long,
        env = "JOURNEYMAN_OIDC_ISSUER",
        value_name = "URL",
        value_parser = provider::issuer,
        help_heading = "People"
    )]
    pub oidc_issuer: Option<String>,

    /// What this server is called at the provider.
    #[arg(
        long,
        env = "JOURNEYMAN_OIDC_CLIENT_ID",
        value_name = "ID",
        help_heading = "People"
    )]
    pub oidc_client_id: Option<String>,

    /// What it proves itself with there. Without one it is a public client.
    #[arg(
        long,
        env = "JOURNEYMAN_OIDC_CLIENT_SECRET",
        hide_env_values = true,
        value_name = "SECRET",
        help_heading = "People"
    )]
    pub oidc_client_secret: Option<SecretString>,

    /// A file that holds it, so that no process listing shows it.
    #[arg(
        long,
        env = "JOURNEYMAN_OIDC_CLIENT_SECRET_FILE",
        value_name = "FILE",
        help_heading = "People"
    )]
    pub oidc_client_secret_file: Option<PathBuf>,

    /// What the login page calls the provider. Default: its host.
    #[arg(
        long,
        env = "JOURNEYMAN_OIDC_NAME",
        value_name = "NAME",
        help_heading = "People"
    )]
    pub oidc_name: Option<String>,

    /// What the provider is asked for besides `openid`. Repeatable; a list in the file.
    #[arg(
        long,
        env = "JOURNEYMAN_OIDC_SCOPE",
        value_delimiter = ',',
        default_value = "profile,email",
        value_name = "SCOPE",
        help_heading = "People"
    )]
    pub oidc_scope: Vec<String>,

    /// The claim that is the name of the user.
    #[arg(
        long,
        env = "JOURNEYMAN_OIDC_USER_CLAIM",
        default_value = "preferred_username",
        value_name = "CLAIM",
        help_heading = "People"
    )]
    pub oidc_user_claim: String,

    /// The claim that lists somebody's groups at the provider.
    #[arg(
        long,
        env = "JOURNEYMAN_OIDC_GROUPS_CLAIM",
        default_value = "groups",
        value_name = "CLAIM",
        help_heading = "People"
    )]
    pub oidc_groups_claim: String,

    /// What people in a group at the provider may do. With any of these each sign-in sets the roles of
    /// who signs in, in place of all others; without, they are given with `journeyman-server users
    /// role`. Repeatable; a list in the file.
    #[arg(
        long,
        env = "JOURNEYMAN_OIDC_ROLE",
        value_delimiter = ',',
        value_name = "GROUP=ROLE[:PIPELINES]",
        help_heading = "People"
    )]
    pub oidc_role: Vec<GroupRole>,

    /// What becomes of somebody whom the provider knows and this server does not.
    #[arg(
        long,
        env = "JOURNEYMAN_OIDC_NEW_USERS",
        value_enum,
        default_value_t = NewUsers::Refuse,
        value_name = "WHAT",
        help_heading = "People"
    )]
    pub oidc_new_users: NewUsers,

    /// Everybody on this machine may do everything without a login. Only on a loopback address.
    #[arg(
        long,
        env = "JOURNEYMAN_NO_LOGIN",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = false,
        default_missing_value = "true",
        hide_default_value = true,
        hide_possible_values = true,
        value_name = "BOOL",
        help_heading = "People"
    )]
    pub no_login: bool,

    /// An agent that registers with this key is enabled at once. Stored, so it need not be repeated.
    #[arg(
        long,
        env = "JOURNEYMAN_AUTO_REGISTER_KEY",
        hide_env_values = true,
        value_name = "KEY",
        help_heading = "Agents"
    )]
    pub auto_register_key: Option<SecretString>,

    /// A file that holds it, so that no process listing shows it.
    #[arg(
        long,
        env = "JOURNEYMAN_AUTO_REGISTER_KEY_FILE",
        value_name = "FILE",
        help_heading = "Agents"
    )]
    pub auto_register_key_file: Option<PathBuf>,

    /// Folder with packages that are offered to all agents, also when they are replaced there by older
    /// ones. Default: `releases` in the data folder.
    #[arg(
        long,
        env = "JOURNEYMAN_RELEASES",
        value_name = "DIR",
        help_heading = "Agents"
    )]
    pub releases: Option<PathBuf>,

    /// Seconds of silence after which an agent is lost and its job goes to another.
    #[arg(
        long,
        env = "JOURNEYMAN_AGENT_TIMEOUT",
        default_value_t = 300,
        value_name = "SECONDS",
        help_heading = "Agents"
    )]
    pub agent_timeout: u32,

    /// Days an agent's client certificate is valid.
    #[arg(
        long,
        env = "JOURNEYMAN_CERTIFICATE_DAYS",
        default_value_t = 90,
        value_name = "DAYS",
        value_parser = clap::value_parser!(u32).range(1..=3650),
        help_heading = "Agents"
    )]
    pub certificate_days: u32,

    /// The same in seconds, to see renewals happen.
    #[arg(
        long,
        env = "JOURNEYMAN_CERTIFICATE_LIFE",
        value_name = "SECONDS",
        hide = true,
        help_heading = "Agents"
    )]
    pub certificate_life: Option<u32>,

    /// Seconds between two looks at each configuration repository.
    #[arg(
        long,
        env = "JOURNEYMAN_REPOSITORY_INTERVAL",
        default_value_t = 60,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u32).range(1..),
        help_heading = "Pipelines"
    )]
    pub repository_interval: u32,

    /// Seconds between two looks at each git material of a pipeline.
    #[arg(
        long,
        env = "JOURNEYMAN_MATERIAL_INTERVAL",
        default_value_t = 60,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u32).range(1..),
        help_heading = "Pipelines"
    )]
    pub material_interval: u32,

    /// Start no run but those that people ask for: materials are not polled, timers and passed
    /// stages upstream start nothing. For a copy of a server that was made from a backup.
    #[arg(
        long,
        env = "JOURNEYMAN_NO_AUTOMATIC_RUNS",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = false,
        default_missing_value = "true",
        hide_default_value = true,
        hide_possible_values = true,
        value_name = "BOOL",
        help_heading = "Pipelines"
    )]
    pub no_automatic_runs: bool,

    /// Minutes of silence of a console after which its job is cancelled, for jobs that do not say; 0 is
    /// never. What is set over REST counts more.
    #[arg(
        long,
        env = "JOURNEYMAN_JOB_TIMEOUT",
        default_value_t = 0,
        value_name = "MINUTES",
        help_heading = "Pipelines"
    )]
    pub job_timeout: u32,

    /// MiB that uploads must leave free on the disk.
    #[arg(
        long,
        env = "JOURNEYMAN_SPACE_RESERVE",
        default_value_t = 100,
        value_name = "MIB",
        help_heading = "Disk"
    )]
    pub space_reserve: u32,

    /// Days after which the consoles and artifacts of a run are deleted; 0 is never. Pinned runs are kept,
    /// and so are stages with `keep_artifacts`.
    #[arg(
        long,
        env = "JOURNEYMAN_RETENTION_DAYS",
        default_value_t = 0,
        value_name = "DAYS",
        help_heading = "Disk"
    )]
    pub retention_days: u32,

    /// Runs of each pipeline whose consoles and artifacts are kept, however old; those of others are
    /// deleted. 0 is all.
    #[arg(
        long,
        env = "JOURNEYMAN_RETENTION_RUNS",
        default_value_t = 0,
        value_name = "COUNT",
        help_heading = "Disk"
    )]
    pub retention_runs: u32,

    /// While fewer MiB than this are free, the consoles and artifacts of the oldest runs are deleted.
    /// 0 is never.
    #[arg(
        long,
        env = "JOURNEYMAN_RETENTION_FREE_SPACE",
        default_value_t = 0,
        value_name = "MIB",
        help_heading = "Disk"
    )]
    pub retention_free_space: u32,

    /// Form of the log, a line for each event on standard error.
    #[arg(
        long,
        env = "JOURNEYMAN_LOG_FORMAT",
        value_enum,
        default_value_t = LogFormat::Text,
        value_name = "FORMAT",
        help_heading = "Log"
    )]
    pub log_format: LogFormat,

    /// What is logged: a level (error, warn, info, debug, trace), or MODULE=LEVEL, separated by commas.
    /// RUST_LOG counts as well.
    #[arg(
        long,
        env = "JOURNEYMAN_LOG",
        default_value = "info,sqlx=warn",
        value_name = "LEVELS",
        value_parser = log_levels,
        help_heading = "Log"
    )]
    pub log: String,
}

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs: an object on each line.
    Json,
}

fn site_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("it begins with http:// or https:// and names a host".to_owned());
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err("it ends with the host or its port: /go follows by itself".to_owned());
    }
    Ok(url)
}

fn log_levels(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}
