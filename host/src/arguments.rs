//! The arguments that say which server to talk to and how to trust it: GoCD's single-dash ones
//! (`-serverUrl`) and `--kebab-case`, the same for launcher and agent.

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use thiserror::Error;
use url::{Host, Url};

use crate::trust::{Fingerprint, certificates_in};

/// Environment variable whose words are appended to the arguments, as in GoCD's images.
pub const MORE_ARGUMENTS: &str = "AGENT_BOOTSTRAPPER_ARGS";
/// Environment variable with the server's URL, as in GoCD's images.
pub const SERVER_URL: &str = "GO_SERVER_URL";
/// The same for elastic agents; it wins over [`SERVER_URL`].
pub const ELASTIC_SERVER_URL: &str = "GO_EA_SERVER_URL";

/// Exit code for arguments that no retry makes better.
pub const EXIT_BAD_ARGUMENTS: u8 = 64;

/// GoCD's names that are not simply camel case for the kebab-case ones.
const GOCD_NAMES: [&str; 7] = [
    "server-url",
    "ssl-verification-mode",
    "root-cert-file",
    "ssl-certificate-file",
    "ssl-private-key-file",
    "ssl-private-key-passphrase-file",
    "help",
];

/// Which server to talk to and how. Flatten into a command line that is given
/// [`of_process`]'s words.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(next_help_heading = "Connection (GoCD's -camelCase names are taken as well)")]
pub struct ConnectionArguments {
    /// The server's URL, which ends in /go [env: GO_EA_SERVER_URL or GO_SERVER_URL]
    #[arg(long, value_name = "URL", overrides_with = "server_url")]
    pub server_url: Option<String>,
    /// What to check of an HTTPS server's certificate
    #[arg(
        long,
        value_name = "MODE",
        value_enum,
        default_value_t,
        ignore_case = true,
        overrides_with = "ssl_verification_mode"
    )]
    pub ssl_verification_mode: VerificationMode,
    /// Trust only servers whose certificate is signed by one in this file (PEM or DER)
    #[arg(long, value_name = "FILE", overrides_with = "root_cert_file")]
    pub root_cert_file: Option<PathBuf>,
    /// Show this certificate (PEM, with its chain) to the server or a proxy before it
    #[arg(long, value_name = "FILE", overrides_with = "ssl_certificate_file")]
    pub ssl_certificate_file: Option<PathBuf>,
    /// Private key (PEM) of --ssl-certificate-file
    #[arg(long, value_name = "FILE", overrides_with = "ssl_private_key_file")]
    pub ssl_private_key_file: Option<PathBuf>,
    /// File with the pass phrase of --ssl-private-key-file
    #[arg(
        long,
        value_name = "FILE",
        overrides_with = "ssl_private_key_passphrase_file"
    )]
    pub ssl_private_key_passphrase_file: Option<PathBuf>,
    /// Trust the server that shows a self-signed or root certificate with this SHA-256 fingerprint
    #[arg(long, value_name = "SHA256", overrides_with = "server_fingerprint")]
    pub server_fingerprint: Option<String>,
    /// Allow http:// to other machines: token and jobs' secrets can then be read on the way
    #[arg(long, overrides_with = "allow_plain_http")]
    pub allow_plain_http: bool,
}

/// What is checked of an HTTPS server's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum VerificationMode {
    /// Chain and host name.
    #[default]
    #[value(name = "FULL")]
    Full,
    /// Chain only.
    #[value(name = "NO_VERIFY_HOST")]
    NoVerifyHost,
    /// Nothing.
    #[value(name = "NONE")]
    None,
}

/// Arguments that were found to make sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionSettings {
    /// The server's URL without a slash at its end: `http://ci.example.com:8153/go`.
    pub server_url: Url,
    /// What to check of the server's certificate.
    pub verification: VerificationMode,
    /// Only these roots are trusted.
    pub root_cert_file: Option<PathBuf>,
    /// Client certificate for mutual TLS with a proxy.
    pub identity: Option<IdentityFiles>,
    /// Certificate that the server's chain must have.
    pub fingerprint: Option<Fingerprint>,
    /// Whether `http://` may leave this machine.
    pub allow_plain_http: bool,
}

/// Files of a client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// Certificate with its chain.
    pub certificate: PathBuf,
    /// Private key.
    pub key: PathBuf,
    /// Pass phrase of the key.
    pub passphrase: Option<PathBuf>,
}

/// What is wrong with the arguments, all at once.
#[derive(Debug, Error)]
pub struct InvalidArguments {
    /// One sentence each.
    pub problems: Vec<String>,
}

/// The words of this process's command line after the program's name, then those of
/// [`MORE_ARGUMENTS`], in a form clap understands.
pub fn of_process() -> Vec<OsString> {
    let more = env::var(MORE_ARGUMENTS).unwrap_or_default();
    normalise(
        env::args_os()
            .skip(1)
            .chain(shell_words(&more).into_iter().map(OsString::from)),
    )
}

/// Words as a shell separates them, with its quotes and backslashes. GoCD's images leave that to a
/// shell; nothing is expanded here.
fn shell_words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => {
                let next = characters.next();
                word.get_or_insert_default().extend(next);
            }
            (None, blank) if blank.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

/// Turns GoCD's `-serverUrl` into `--server-url`; everything else stays. A word such as `-fooBar`
/// that is no option of GoCD's becomes `--foo-bar`, so that the complaint about it is clear.
pub fn normalise(words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    words
        .into_iter()
        .map(|word| normalised(&word).map_or(word, OsString::from))
        .collect()
}

fn normalised(word: &OsStr) -> Option<String> {
    let name = word.to_str()?.strip_prefix('-')?;
    if name.len() < 2 || !name.starts_with(|first: char| first.is_ascii_alphabetic()) {
        return None;
    }
    let (name, value) = match name.split_once('=') {
        Some((name, value)) => (name, format!("={value}")),
        None => (name, String::new()),
    };
    // `-serverURL` is meant to be `-serverUrl`.
    let plain = |text: &str| text.replace(['-', '_'], "").to_ascii_lowercase();
    if let Some(known) = GOCD_NAMES.iter().find(|known| plain(known) == plain(name)) {
        return Some(format!("--{known}{value}"));
    }
    let mut kebab = String::from("--");
    for character in name.chars() {
        if character.is_ascii_uppercase() {
            kebab.push('-');
        }
        kebab.push(character.to_ascii_lowercase());
    }
    Some(kebab + &value)
}

impl ConnectionArguments {
    /// Checks the arguments, with the server's URL from the environment if it was not given.
    ///
    /// # Errors
    /// All problems at once.
    pub fn validate(&self) -> Result<ConnectionSettings, InvalidArguments> {
        let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
        self.validate_with(variable(ELASTIC_SERVER_URL).or_else(|| variable(SERVER_URL)))
    }

    fn validate_with(
        &self,
        url_of_environment: Option<String>,
    ) -> Result<ConnectionSettings, InvalidArguments> {
        let mut problems = Vec::new();
        let server_url = self.server_url.clone().or(url_of_environment);
        let server_url = server_url
            .ok_or_else(|| {
                "no server URL: give --server-url (or GO_SERVER_URL in the environment), for \
                 example --server-url https://ci.example.com:8154/go"
                    .to_owned()
            })
            .and_then(|text| parse_server_url(&text, self.allow_plain_http))
            .map_err(|problem| problems.push(problem))
            .ok();
        let fingerprint = self.server_fingerprint.as_deref().and_then(|text| {
            text.parse::<Fingerprint>()
                .map_err(|error| problems.push(format!("--server-fingerprint: {error}")))
                .ok()
        });
        if let Some(path) = &self.root_cert_file {
            problems.extend(read_problem("--root-cert-file", path).or_else(|| {
                certificates_in(path)
                    .err()
                    .map(|error| format!("--root-cert-file: {error}"))
            }));
        }
        for (name, path) in [
            ("--ssl-certificate-file", &self.ssl_certificate_file),
            ("--ssl-private-key-file", &self.ssl_private_key_file),
            (
                "--ssl-private-key-passphrase-file",
                &self.ssl_private_key_passphrase_file,
            ),
        ] {
            problems.extend(path.as_deref().and_then(|path| read_problem(name, path)));
        }
        match server_url {
            Some(server_url) if problems.is_empty() => Ok(ConnectionSettings {
                server_url,
                verification: self.ssl_verification_mode,
                root_cert_file: absolute(self.root_cert_file.as_deref()),
                identity: self.identity(),
                fingerprint,
                allow_plain_http: self.allow_plain_http,
            }),
            _ => Err(InvalidArguments { problems }),
        }
    }

    /// GoCD: a client certificate is used only when both certificate and key are given.
    fn identity(&self) -> Option<IdentityFiles> {
        Some(IdentityFiles {
            certificate: absolute(self.ssl_certificate_file.as_deref())?,
            key: absolute(self.ssl_private_key_file.as_deref())?,
            passphrase: absolute(self.ssl_private_key_passphrase_file.as_deref()),
        })
    }
}

impl ConnectionSettings {
    /// The arguments again, for a child process: `--kebab-case`, absolute paths, no secrets.
    pub fn to_arguments(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["--server-url".into(), self.base_url().into()];
        let mut add = |name: &str, value: &OsStr| {
            words.push(name.into());
            words.push(value.into());
        };
        add(
            "--ssl-verification-mode",
            self.verification.to_string().as_ref(),
        );
        if let Some(path) = &self.root_cert_file {
            add("--root-cert-file", path.as_ref());
        }
        if let Some(identity) = &self.identity {
            add("--ssl-certificate-file", identity.certificate.as_ref());
            add("--ssl-private-key-file", identity.key.as_ref());
            if let Some(path) = &identity.passphrase {
                add("--ssl-private-key-passphrase-file", path.as_ref());
            }
        }
        if let Some(fingerprint) = &self.fingerprint {
            add("--server-fingerprint", fingerprint.to_string().as_ref());
        }
        if self.allow_plain_http {
            words.push("--allow-plain-http".into());
        }
        words
    }

    /// The server's URL as text, without a slash at its end.
    pub fn base_url(&self) -> &str {
        self.server_url.as_str().trim_end_matches('/')
    }
}

impl fmt::Display for VerificationMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "FULL",
            Self::NoVerifyHost => "NO_VERIFY_HOST",
            Self::None => "NONE",
        })
    }
}

impl fmt::Display for InvalidArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.as_slice() {
            [only] => f.write_str(only),
            several => {
                f.write_str("the arguments cannot be used:")?;
                several
                    .iter()
                    .try_for_each(|problem| write!(f, "\n  - {problem}"))
            }
        }
    }
}

/// GoCD: http or https, and the path ends in `/go`.
fn parse_server_url(text: &str, allow_plain_http: bool) -> Result<Url, String> {
    let trimmed = text.trim().trim_end_matches('/');
    let url = Url::parse(trimmed)
        .map_err(|error| format!("the server URL `{text}` is no URL: {error}"))?;
    let Some(host) = url.host() else {
        return Err(format!("the server URL `{text}` names no host"));
    };
    if !url.username().is_empty() || url.password().is_some() {
        // The text is not repeated: it holds a password.
        return Err("the server URL must not hold a user or password".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() || !url.path().ends_with("/go") {
        return Err(format!("the server URL `{text}` does not end in /go"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if allow_plain_http || is_loopback(&host) => Ok(url),
        "http" => Err(format!(
            "the server URL `{text}` is plain HTTP to another machine, where the agent's token and \
             the jobs' secrets can be read on the way: use https://, or say --allow-plain-http if \
             that is meant"
        )),
        other => Err(format!(
            "the server URL `{text}` has the scheme {other}: it must begin with https:// or http://"
        )),
    }
}

/// Whether a host is this machine, by its address or the name that always means it.
pub fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
        Host::Domain(name) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}

fn read_problem(name: &str, path: &Path) -> Option<String> {
    File::open(path)
        .and_then(|mut file| file.read(&mut [0]))
        .err()
        .map(|error| format!("{name}: cannot read {}: {error}", path.display()))
}

fn absolute(path: Option<&Path>) -> Option<PathBuf> {
    path.map(|path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use pretty_assertions::assert_eq;

    use super::*;

    #[derive(Parser, Debug)]
    struct Command {
        #[command(flatten)]
        connection: ConnectionArguments,
    }

    fn parse(words: &[&str]) -> Result<ConnectionArguments, clap::Error> {
        let words = normalise(words.iter().map(OsString::from));
        Command::try_parse_from(std::iter::once(OsString::from("x")).chain(words))
            .map(|command| command.connection)
    }

    fn problems(words: &[&str]) -> String {
        parse(words)
            .unwrap()
            .validate_with(None)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn words_of_the_environment_are_separated_as_by_a_shell() {
        assert_eq!(
            shell_words(" -rootCertFile '/a b/ca.pem'\t-x \"it's\" y\\ z '' \"q\\\"q\" "),
            [
                "-rootCertFile",
                "/a b/ca.pem",
                "-x",
                "it's",
                "y z",
                "",
                "q\"q"
            ]
        );
        assert!(shell_words("  ").is_empty());
    }

    #[test]
    fn gocd_names_and_kebab_case_mean_the_same() {
        let gocd = parse(&[
            "-serverUrl",
            "http://localhost:8153/go",
            "-sslVerificationMode",
            "NO_VERIFY_HOST",
        ])
        .unwrap();
        let kebab = parse(&[
            "--server-url=http://localhost:8153/go",
            "--ssl-verification-mode=no_verify_host",
        ])
        .unwrap();
        assert_eq!(gocd, kebab);
        assert_eq!(gocd.ssl_verification_mode, VerificationMode::NoVerifyHost);
        for (gocd, kebab) in [
            ("-rootCertFile", "--root-cert-file"),
            ("-sslCertificateFile", "--ssl-certificate-file"),
            ("-sslPrivateKeyFile", "--ssl-private-key-file"),
            (
                "-sslPrivateKeyPassphraseFile",
                "--ssl-private-key-passphrase-file",
            ),
            ("-serverURL", "--server-url"),
            ("-help", "--help"),
            ("-fooBar=1", "--foo-bar=1"),
            ("--server-url", "--server-url"),
            ("-h", "-h"),
            ("-", "-"),
            ("run", "run"),
        ] {
            assert_eq!(normalise([gocd.into()]), [OsString::from(kebab)]);
        }
    }

    #[test]
    fn unknown_arguments_are_named() {
        let error = parse(&["-serverUrls", "x"]).unwrap_err().to_string();
        assert!(error.contains("--server-urls"), "{error}");
        assert!(error.contains("--server-url"), "{error}");
    }

    #[test]
    fn the_last_of_a_repeated_argument_counts() {
        let words = ["-serverUrl", "http://a/go", "--server-url", "https://b/go"];
        assert_eq!(
            parse(&words).unwrap().server_url.as_deref(),
            Some("https://b/go")
        );
    }

    #[test]
    fn good_urls_pass() {
        for (given, base) in [
            (
                "https://ci.example.com:8154/go/",
                "https://ci.example.com:8154/go",
            ),
            ("http://127.0.0.1:8153/go", "http://127.0.0.1:8153/go"),
            ("http://[::1]:8153/go", "http://[::1]:8153/go"),
            ("http://localhost/go", "http://localhost/go"),
            (
                "https://ci.example.com/ci/go",
                "https://ci.example.com/ci/go",
            ),
        ] {
            let settings = parse(&["--server-url", given]).unwrap();
            assert_eq!(settings.validate_with(None).unwrap().base_url(), base);
        }
        let allowed = [
            "--server-url",
            "http://ci.example.com/go",
            "--allow-plain-http",
        ];
        parse(&allowed).unwrap().validate_with(None).unwrap();
    }

    #[test]
    fn bad_urls_are_explained() {
        for (given, expected) in [
            ("ci.example.com", "no URL"),
            ("ftp://ci.example.com/go", "scheme ftp"),
            ("https://ci.example.com/", "/go"),
            ("https://ci.example.com/go?x=1", "/go"),
            ("http://ci.example.com/go", "--allow-plain-http"),
            ("http://127.0.0.1.example.com/go", "--allow-plain-http"),
        ] {
            let text = problems(&["--server-url", given]);
            assert!(text.contains(expected), "{given}: {text}");
        }
        let text = problems(&["--server-url", "https://me:hunter2@ci.example.com/go"]);
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn all_problems_come_at_once() {
        let text = problems(&[
            "-rootCertFile",
            "/no/such/file",
            "-sslPrivateKeyFile",
            "/no/such/key",
            "--server-fingerprint",
            "abc",
        ]);
        for expected in ["--server-url", "/no/such/file", "/no/such/key", "64"] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }

    #[test]
    fn settings_survive_being_handed_to_a_child() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let file = file.to_str().unwrap();
        let fingerprint = "ab".repeat(32);
        let words = [
            "--server-url",
            "https://ci.example.com/go/",
            "-sslCertificateFile",
            file,
            "-sslPrivateKeyFile",
            file,
            "--server-fingerprint",
            &fingerprint,
            "--allow-plain-http",
        ];
        let settings = parse(&words).unwrap().validate_with(None).unwrap();
        let again: Vec<_> = settings.to_arguments();
        let again: Vec<_> = again.iter().map(|word| word.to_str().unwrap()).collect();
        let again = parse(&again).unwrap().validate_with(None).unwrap();
        assert_eq!(again.base_url(), settings.base_url());
        assert_eq!(again, settings);
    }

    #[test]
    fn the_environment_helps_out() {
        let settings = ConnectionArguments::default()
            .validate_with(Some("http://localhost:8153/go".to_owned()))
            .unwrap();
        assert_eq!(settings.base_url(), "http://localhost:8153/go");
    }
}
