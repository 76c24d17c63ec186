//! Talking to another repository: who logs in, and what git says when it does not work.

use std::{env, path::PathBuf, time::Instant};

use git2::{
    Cred, CredentialType, ErrorClass, ErrorCode, FetchOptions, ProxyOptions, RemoteCallbacks,
};

use super::{
    super::credentials::{PASSWORD, USER},
    Failure,
};

/// libgit2 asks again for as long as it is given something.
const MOST_ATTEMPTS: usize = 6;
/// The keys that ssh looks for.
const KEYS: [&str; 4] = ["id_rsa", "id_ecdsa", "id_ed25519", "id_dsa"];

/// What the program was told by its environment, in the way git is told.
#[derive(Clone, Default)]
pub(super) struct Settings {
    entries: Vec<(String, String)>,
    user: String,
    password: String,
}

impl Settings {
    pub(super) fn of_process() -> Self {
        let variable = |name: &str| env::var(name).unwrap_or_default();
        let count = variable("GIT_CONFIG_COUNT").parse().unwrap_or(0);
        let entries = (0..count).map(|number: usize| {
            (
                variable(&format!("GIT_CONFIG_KEY_{number}")),
                variable(&format!("GIT_CONFIG_VALUE_{number}")),
            )
        });
        Self {
            entries: entries.collect(),
            user: variable(USER),
            password: variable(PASSWORD),
        }
    }

    pub(super) fn add(&mut self, setting: &str) {
        let (key, value) = setting.split_once('=').unwrap_or((setting, "true"));
        self.entries.push((key.to_owned(), value.to_owned()));
    }

    #[cfg(test)]
    pub(super) fn with_login(mut self, user: &str, password: &str) -> Self {
        self.user = user.to_owned();
        self.password = password.to_owned();
        self
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        let entry = self.entries.iter().rfind(|(name, _)| name == key);
        entry.map(|(_, value)| value.as_str())
    }

    /// The address to go to for a URL.
    pub(super) fn instead_of(&self, url: &str) -> String {
        let longest = self
            .entries
            .iter()
            .filter_map(|(key, value)| {
                let base = key.strip_prefix("url.")?.strip_suffix(".insteadOf")?;
                let rest = url.strip_prefix(value.as_str())?;
                Some((value.len(), format!("{base}{rest}")))
            })
            .max_by_key(|(length, _)| *length);
        longest.map_or_else(|| url.to_owned(), |(_, url)| url)
    }

    /// Who logs in at an address: only at one that we were given credentials for.
    fn login(&self, url: &str) -> Option<(&str, Option<&str>)> {
        if self.get(&format!("credential.{url}.helper")).is_some() {
            return Some((&self.user, Some(&self.password)));
        }
        self.get(&format!("credential.{url}.username"))
            .map(|user| (user, None))
    }

    pub(super) fn callbacks(&self, url: &str) -> RemoteCallbacks<'static> {
        let mut callbacks = RemoteCallbacks::new();
        let login = self
            .login(url)
            .map(|(user, password)| (user.to_owned(), password.map(ToOwned::to_owned)));
        let mut attempts = 0;
        callbacks.credentials(move |url, user, allowed| {
            attempts += 1;
            credentials(url, login.as_ref(), user, allowed, attempts)
        });
        callbacks
    }

    pub(super) fn options(&self, url: &str) -> FetchOptions<'static> {
        let mut options = FetchOptions::new();
        options.remote_callbacks(self.callbacks(url));
        options.proxy_options(proxy());
        options
    }
}

/// The proxy that is configured, or that the environment names.
pub(super) fn proxy() -> ProxyOptions<'static> {
    let mut proxy = ProxyOptions::new();
    proxy.auto();
    proxy
}

fn credentials(
    url: &str,
    login: Option<&(String, Option<String>)>,
    user: Option<&str>,
    allowed: CredentialType,
    attempt: usize,
) -> Result<Cred, git2::Error> {
    let nobody = || git2::Error::new(ErrorCode::User, ErrorClass::Callback, "nobody to ask");
    let refused = || git2::Error::new(ErrorCode::Auth, ErrorClass::Http, "refused");
    if attempt > MOST_ATTEMPTS {
        return Err(refused());
    }
    let name = login.map_or(user, |(user, _)| Some(user)).unwrap_or("git");
    if allowed.contains(CredentialType::USERNAME) {
        return Cred::username(name);
    }
    if allowed.contains(CredentialType::USER_PASS_PLAINTEXT) {
        return match login {
            Some((user, Some(password))) if attempt == 1 => {
                Cred::userpass_plaintext(user, password)
            }
            Some((_, Some(_))) => Err(refused()),
            // A token in the place of the user needs no password.
            Some((user, None)) if attempt == 1 => Cred::userpass_plaintext(user, ""),
            // Helpers that are programs of their own work without git.
            _ if attempt <= 2 => git2::Config::open_default()
                .and_then(|config| {
                    Cred::credential_helper(&config, url, login.map(|(user, _)| &**user))
                })
                .map_err(|_| nobody()),
            _ => Err(refused()),
        };
    }
    if allowed.contains(CredentialType::SSH_KEY) {
        let agent = env::var_os("SSH_AUTH_SOCK").is_some();
        if attempt == 1 && agent {
            return Cred::ssh_key_from_agent(name);
        }
        let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        let number = attempt - if agent { 2 } else { 1 };
        let mut keys = KEYS.iter().map(|key| home.join(".ssh").join(key));
        let key = keys.by_ref().filter(|key| key.exists()).nth(number);
        if let Some(key) = key {
            return Cred::ssh_key(name, None, &key, None);
        }
    }
    Err(refused())
}

/// What git says when it cannot reach a repository.
pub(super) fn failure(error: &git2::Error, url: &str, begun: Instant) -> Failure {
    let text = error.message();
    let is_http = url.starts_with("http://") || url.starts_with("https://");
    if is_http {
        let shown = format!("{}/", url.trim_end_matches('/'));
        let said = match (error.class(), error.code()) {
            (_, ErrorCode::Auth) => format!("Authentication failed for '{shown}'"),
            (ErrorClass::Callback, ErrorCode::User) => {
                let (scheme, rest) = url.split_once("://").unwrap_or_default();
                let host = rest.split('/').next().unwrap_or_default();
                format!(
                    "could not read Username for '{scheme}://{host}': No such device or address"
                )
            }
            (ErrorClass::Http, _) if text.contains("404") => {
                format!("repository '{shown}' not found")
            }
            (ErrorClass::Os | ErrorClass::Net, _) if text.contains("connect") => format!(
                "unable to access '{shown}': Failed to connect to {} port {} after {} ms: \
                 Couldn't connect to server",
                host(url).0,
                host(url).1,
                begun.elapsed().as_millis()
            ),
            (ErrorClass::Net, _) if text.contains("resolve") => format!(
                "unable to access '{shown}': Could not resolve host: {}",
                host(url).0
            ),
            (ErrorClass::Http, _) if text.contains("content-type") => format!(
                "unable to access '{shown}': the server has only the old, plain form of git over \
                 HTTP; install git on this machine for it"
            ),
            _ => format!("unable to access '{shown}': {text}"),
        };
        return Failure::Fatal(said);
    }
    let what = match local_path(url) {
        Some(path) => format!("'{path}' does not appear to be a git repository"),
        None => text.to_owned(),
    };
    Failure::Fatal(format!(
        "{what}\nfatal: Could not read from remote repository.\n\n\
         Please make sure you have the correct access rights\nand the repository exists."
    ))
}

/// Host and port of an http address.
fn host(url: &str) -> (String, u16) {
    let otherwise = if url.starts_with("https") { 443 } else { 80 };
    url::Url::parse(url).map_or_else(
        |_| (String::new(), otherwise),
        |url| {
            let host = url.host_str().unwrap_or_default().to_owned();
            (host, url.port().unwrap_or(otherwise))
        },
    )
}

/// The folder that a URL means, if it is on this machine.
pub(super) fn local_path(url: &str) -> Option<&str> {
    if let Some(path) = url.strip_prefix("file://") {
        return Some(path);
    }
    let is_elsewhere = url.contains("://")
        || url
            .split_once(':')
            .is_some_and(|(host, _)| !host.contains('/'));
    (!is_elsewhere).then_some(url)
}
