//! Flags over the environment over the file over defaults.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fmt, fs, io,
    path::{Path, PathBuf},
};

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches as _, parser::ValueSource};
use secrecy::SecretString;

use super::{
    Configuration, Settings,
    file::{self, Position},
    provider,
};

/// The file that is read if no other is named.
const DEFAULT_FILE: &str = "server.toml";
/// Says what is logged, in many Rust programs.
const RUST_LOG: &str = "RUST_LOG";

/// Where a value comes from; the later wins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    File { path: PathBuf, line: usize },
    Environment(String),
    Flag,
}

/// One thing that is wrong with what was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem(String);

/// The settings in force.
#[derive(Debug)]
pub struct Effective {
    pub settings: Settings,
    /// What was set, without secrets, and what is so by default.
    given: Layer,
}

#[derive(Debug, Clone)]
struct Given {
    values: Vec<OsString>,
    origin: Origin,
}

type Layer = BTreeMap<String, Given>;

/// The settings of a program that was started with these flags, in an environment.
///
/// # Errors
///
/// Everything that is wrong.
pub fn effective(
    flags: &ArgMatches,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Effective, Vec<Problem>> {
    let command = table();
    let known: Vec<&Arg> = command.get_arguments().collect();
    let mut problems = Vec::new();
    let mut given = from_environment(&known, environment);
    given.extend(from_flags(&known, flags));
    given.retain(|name, one| match check(&command, name, one) {
        Ok(()) => true,
        Err(problem) => {
            problems.push(problem);
            false
        }
    });
    for (name, one) in from_file(&command, &known, &given, &mut problems) {
        given.entry(name).or_insert(one);
    }
    problems.extend(settle_secrets(&known, &mut given));
    if !problems.is_empty() {
        return Err(problems);
    }
    let wrong = |error: clap::Error| vec![Problem(first_line(&error))];
    let arguments = given.iter().flat_map(|(name, one)| as_flags(name, one));
    let matches = command
        .clone()
        .try_get_matches_from(arguments)
        .map_err(wrong)?;
    let settings = Settings::from_arg_matches(&matches).map_err(wrong)?;
    for (name, one) in &mut given {
        if is_secret(&known, name) {
            one.values.clear();
        }
    }
    for arg in &known {
        let (Some(name), Some(values)) = (arg.get_long(), matches.get_raw(arg.get_id().as_str()))
        else {
            continue;
        };
        given.entry(name.to_owned()).or_insert_with(|| Given {
            values: values.map(OsStr::to_owned).collect(),
            origin: Origin::Default,
        });
    }
    Ok(Effective { settings, given })
}

/// The settings' flags alone. The environment is a layer of ours, for the sake of its errors.
fn table() -> Command {
    without_environment(Settings::augment_args(
        Command::new("settings").no_binary_name(true),
    ))
}

/// A command whose flags come from the command line only.
pub fn without_environment(command: Command) -> Command {
    command.mut_args(|arg| arg.env(None::<&str>))
}

fn from_flags(known: &[&Arg], flags: &ArgMatches) -> Layer {
    let mut layer = Layer::new();
    for arg in known {
        let id = arg.get_id().as_str();
        let typed = flags.value_source(id) == Some(ValueSource::CommandLine);
        if let (true, Some(name), Some(values)) = (typed, arg.get_long(), flags.get_raw(id)) {
            let given = Given {
                values: values.map(OsStr::to_owned).collect(),
                origin: Origin::Flag,
            };
            layer.insert(name.to_owned(), given);
        }
    }
    layer
}

/// A variable that is empty is one that is not set.
fn from_environment(known: &[&Arg], environment: impl Fn(&str) -> Option<OsString>) -> Layer {
    let read = |name: &str| environment(name).filter(|value| !value.is_empty());
    let mut layer = Layer::new();
    for arg in known {
        let Some(name) = arg.get_long() else { continue };
        let mut variable = variable(name);
        let mut value = read(&variable);
        if value.is_none() && name == "log" {
            RUST_LOG.clone_into(&mut variable);
            value = read(&variable);
        }
        if let Some(value) = value {
            let given = Given {
                values: vec![value],
                origin: Origin::Environment(variable),
            };
            layer.insert(name.to_owned(), given);
        }
    }
    layer
}

/// The environment variable of a setting.
pub(super) fn variable(name: &str) -> String {
    format!("JOURNEYMAN_{}", name.replace('-', "_").to_uppercase())
}

/// What the file says: the one that is named, or the one in the data folder if there is one.
fn from_file(
    command: &Command,
    known: &[&Arg],
    given: &Layer,
    problems: &mut Vec<Problem>,
) -> Layer {
    let path_of = |name: &str| Some(PathBuf::from(given.get(name)?.values.first()?));
    let named = path_of("config");
    let path = named.clone().unwrap_or_else(|| {
        let default = || {
            let data = known.iter().find(|arg| arg.get_long() == Some("data"))?;
            Some(PathBuf::from(data.get_default_values().first()?))
        };
        let data = path_of("data").or_else(default).unwrap_or_default();
        data.join(DEFAULT_FILE)
    });
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => {
            return Layer::new();
        }
        Err(error) => {
            problems.push(Problem(format!(
                "cannot read the configuration file {}: {error}",
                path.display()
            )));
            return Layer::new();
        }
    };
    let here = |at: Position, message: &str| {
        Problem(format!(
            "{}:{}:{}: {message}",
            path.display(),
            at.line,
            at.column
        ))
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    let (entries, wrong) = file::read(&text, folder, known);
    problems.extend(wrong.iter().map(|(at, message)| here(*at, message)));
    let mut layer = Layer::new();
    for entry in entries {
        let refused = match entry.name.as_str() {
            "config" => Some("config: a configuration file cannot name another"),
            "data" if named.is_none() => Some(
                "data: this file was found in the data folder; to have it name another, give it with --config",
            ),
            _ => None,
        };
        if let Some(refused) = refused {
            problems.push(here(entry.at, refused));
            continue;
        }
        let one = Given {
            values: entry.values,
            origin: Origin::File {
                path: path.clone(),
                line: entry.at.line,
            },
        };
        match check(command, &entry.name, &one) {
            Ok(()) => {
                layer.insert(entry.name, one);
            }
            Err(Problem(message)) => problems.push(here(entry.at, &message)),
        }
    }
    layer
}

/// Whether a value is one that its setting takes.
fn check(command: &Command, name: &str, given: &Given) -> Result<(), Problem> {
    let checked = command.clone().try_get_matches_from(as_flags(name, given));
    let Err(error) = checked else { return Ok(()) };
    let message = if is_secret(&command.get_arguments().collect::<Vec<_>>(), name) {
        format!("{name}: this is no text")
    } else {
        format!("{name}: {}", first_line(&error))
    };
    Err(Problem(match &given.origin {
        Origin::Environment(variable) => format!("the environment variable {variable}: {message}"),
        _ => message,
    }))
}

fn as_flags<'a>(name: &'a str, given: &'a Given) -> impl Iterator<Item = OsString> + 'a {
    given.values.iter().map(move |value| {
        let mut flag = OsString::from(format!("--{name}="));
        flag.push(value);
        flag
    })
}

/// What clap says, without what it says of usage.
fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// Of a secret and the file that holds it, the one with the stronger origin counts.
fn settle_secrets(known: &[&Arg], given: &mut Layer) -> Vec<Problem> {
    let mut problems = Vec::new();
    for name in secrets(known) {
        let file = format!("{name}-file");
        let (Some(text), Some(path)) = (given.get(name), given.get(&file)) else {
            continue;
        };
        let (text_rank, path_rank) = (text.origin.rank(), path.origin.rank());
        if text_rank == path_rank {
            problems.push(Problem(format!(
                "{name} and {file} are both set ({}): leave one out",
                text.origin
            )));
        } else if text_rank > path_rank {
            given.remove(&file);
        } else {
            given.remove(name);
        }
    }
    problems
}

/// The names of settings that are secrets.
pub(super) fn secrets<'a>(known: &[&'a Arg]) -> Vec<&'a str> {
    known
        .iter()
        .filter(|arg| is_of_secret(arg))
        .filter_map(|arg| arg.get_long())
        .collect()
}

fn is_secret(known: &[&Arg], name: &str) -> bool {
    let named = known.iter().find(|arg| arg.get_long() == Some(name));
    named.is_some_and(|arg| is_of_secret(arg))
}

fn is_of_secret(arg: &Arg) -> bool {
    arg.get_value_parser().type_id() == std::any::TypeId::of::<SecretString>()
}

// === impl Effective ===

impl Effective {
    /// Every setting that has a value, in the order of the table: name, value and origin. Secrets are
    /// not shown.
    pub fn shown(&self) -> Vec<(String, String, Origin)> {
        let command = table();
        let mut rows = Vec::new();
        for arg in command.get_arguments() {
            let Some(name) = arg.get_long() else { continue };
            let Some(given) = self.given.get(name) else {
                continue;
            };
            let value = if is_of_secret(arg) {
                "(hidden)".to_owned()
            } else {
                let values = given.values.iter().map(|value| value.to_string_lossy());
                values.collect::<Vec<_>>().join(",")
            };
            rows.push((name.to_owned(), value, given.origin.clone()));
        }
        rows
    }

    /// The configuration with its secrets.
    ///
    /// # Errors
    ///
    /// A file that should hold one cannot be read, or is empty.
    pub fn configuration(&self) -> Result<Configuration, Problem> {
        let settings = &self.settings;
        Ok(Configuration {
            webhook_secret: secret(
                "webhook-secret",
                settings.webhook_secret.as_ref(),
                settings.webhook_secret_file.as_deref(),
            )?,
            provider: provider::of(settings)?,
            ..Configuration::from_settings(settings)
        })
    }

    /// The key that agents may be registered with.
    ///
    /// # Errors
    ///
    /// Its file cannot be read, or it is empty.
    pub fn auto_register_key(&self) -> Result<Option<SecretString>, Problem> {
        secret(
            "auto-register-key",
            self.settings.auto_register_key.as_ref(),
            self.settings.auto_register_key_file.as_deref(),
        )
    }

    /// The password of the first admin.
    ///
    /// # Errors
    ///
    /// Its file cannot be read, or it is empty.
    pub fn admin_password(&self) -> Result<Option<SecretString>, Problem> {
        secret(
            "admin-password",
            self.settings.admin_password.as_ref(),
            self.settings.admin_password_file.as_deref(),
        )
    }

    /// All secrets that cannot be read.
    pub fn unreadable(&self) -> Vec<Problem> {
        let secrets = [
            self.configuration().err(),
            self.auto_register_key().err(),
            self.admin_password().err(),
        ];
        secrets.into_iter().flatten().collect()
    }
}

/// A secret, without the line's end that an editor puts behind it.
pub(super) fn secret(
    name: &str,
    text: Option<&SecretString>,
    path: Option<&Path>,
) -> Result<Option<SecretString>, Problem> {
    use secrecy::ExposeSecret as _;
    let text = match (text, path) {
        (Some(text), _) => text.expose_secret().to_owned(),
        (None, Some(path)) => fs::read_to_string(path).map_err(|error| {
            Problem(format!(
                "{name}-file: cannot read {}: {error}",
                path.display()
            ))
        })?,
        (None, None) => return Ok(None),
    };
    let text = text.trim_end_matches(['\r', '\n']);
    if text.trim().is_empty() {
        return Err(Problem(format!(
            "{name} is empty: give one, or leave it out"
        )));
    }
    Ok(Some(SecretString::from(text)))
}

impl Origin {
    fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File { .. } => 1,
            Self::Environment(_) => 2,
            Self::Flag => 3,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::File { path, line } => write!(formatter, "{}:{line}", path.display()),
            Self::Environment(variable) => write!(formatter, "environment {variable}"),
            Self::Flag => formatter.write_str("flag"),
        }
    }
}

impl Problem {
    pub(super) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
