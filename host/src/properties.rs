//! Settings by GoCD's property names: `-Dname=value` words of `AGENT_STARTUP_ARGS`, and the header
//! `GoCD-Agent-Extra-Properties` of a GoCD server.

use std::{
    collections::BTreeMap,
    env,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Environment variable with the words that GoCD hands to the agent's JVM.
pub const STARTUP_ARGUMENTS: &str = "AGENT_STARTUP_ARGS";
/// More such words, as GoCD's images append them.
pub const MORE_STARTUP_ARGUMENTS: &str = "GOCD_AGENT_JVM_OPTS";
/// Property: what launcher and agent say goes to their own standard error as well.
pub const CONSOLE_TO_OWN_OUTPUT: &str = "go.console.stdout";
/// The words for the JVM of bootstrapper and launcher, as in GoCD's images.
pub const BOOTSTRAPPER_ARGUMENTS: &str = "AGENT_BOOTSTRAPPER_JVM_ARGS";
/// Answer header of GoCD's download endpoints.
pub const EXTRA_PROPERTIES_HEADER: &str = "GoCD-Agent-Extra-Properties";

/// Named values, as a JVM's system properties.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Properties {
    values: BTreeMap<String, String>,
}

/// What the server has set in this process, as GoCD's agent sets its JVM's system properties.
static FROM_SERVER: Mutex<Properties> = Mutex::new(Properties::new());

/// The header could not be read; GoCD drops all of it then.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum ExtraPropertiesError {
    /// Not base64.
    #[error("the value of {EXTRA_PROPERTIES_HEADER} is not base64")]
    NotBase64,
    /// Not UTF-8 inside.
    #[error("the value of {EXTRA_PROPERTIES_HEADER} is not UTF-8 text in base64")]
    NotText,
    /// An entry is no `key=value`.
    #[error("an entry of {EXTRA_PROPERTIES_HEADER} has no `=`: `{0}`")]
    NoValue(String),
}

impl Properties {
    /// None at all.
    pub const fn new() -> Self {
        Self {
            values: BTreeMap::new(),
        }
    }

    /// The properties of this process now: the `-Dname=value` words of [`STARTUP_ARGUMENTS`] and
    /// [`MORE_STARTUP_ARGUMENTS`], and over them what [`Properties::set_in_process`] has set.
    pub fn of_process() -> Self {
        let mut properties = Self::of_variables(&[STARTUP_ARGUMENTS, MORE_STARTUP_ARGUMENTS]);
        properties.extend(Self::from_server());
        properties
    }

    /// The properties of a launcher: those for GoCD's bootstrapper, and over them the agent's.
    pub fn of_launcher() -> Self {
        Self::of_variables(&[
            BOOTSTRAPPER_ARGUMENTS,
            STARTUP_ARGUMENTS,
            MORE_STARTUP_ARGUMENTS,
        ])
    }

    fn of_variables(names: &[&str]) -> Self {
        let words: Vec<String> = names
            .iter()
            .filter_map(|name| env::var(name).ok())
            .collect();
        Self::from_startup_arguments(&words.join(" "))
    }

    /// Sets these in this process from now on, beside those that were set before.
    pub fn set_in_process(self) {
        let mut properties = FROM_SERVER.lock().unwrap_or_else(PoisonError::into_inner);
        properties.extend(self);
    }

    /// What was set in this process.
    pub fn from_server() -> Self {
        let properties = FROM_SERVER.lock().unwrap_or_else(PoisonError::into_inner);
        properties.clone()
    }

    /// As words for [`STARTUP_ARGUMENTS`] or [`MORE_STARTUP_ARGUMENTS`].
    pub fn to_startup_arguments(&self) -> String {
        let words: Vec<String> = self
            .iter()
            .map(|(name, value)| format!("-D{name}={value}").replace(' ', "%20"))
            .collect();
        words.join(" ")
    }

    /// The `-Dname=value` words among others (GoCD: split on spaces, then `%20` stands for a
    /// space). A word without `=` sets an empty value; of several for a name the last counts, as
    /// in a JVM.
    pub fn from_startup_arguments(words: &str) -> Self {
        let mut values = BTreeMap::new();
        for word in words.split(' ') {
            let word = word.replace("%20", " ");
            if let Some(definition) = word.trim().strip_prefix("-D") {
                let (name, value) = definition.split_once('=').unwrap_or((definition, ""));
                values.insert(name.to_owned(), value.to_owned());
            }
        }
        Self { values }
    }

    /// The value of `GoCD-Agent-Extra-Properties`.
    ///
    /// # Errors
    /// Any flaw makes the whole header invalid, as in GoCD.
    pub fn from_extra_header(value: &str) -> Result<Self, ExtraPropertiesError> {
        let bytes = STANDARD
            .decode(value.trim())
            .map_err(|_| ExtraPropertiesError::NotBase64)?;
        let text = String::from_utf8(bytes).map_err(|_| ExtraPropertiesError::NotText)?;
        let mut values = BTreeMap::new();
        for entry in text.split(' ').filter(|entry| !entry.is_empty()) {
            // GoCD splits at every `=` and takes the first two parts, so a second one cuts.
            let mut parts = entry.split('=');
            let name = parts.next().unwrap_or_default().replace("%20", " ");
            let Some(value) = parts.next() else {
                return Err(ExtraPropertiesError::NoValue(entry.to_owned()));
            };
            values.entry(name).or_insert(value.replace("%20", " "));
        }
        Ok(Self { values })
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// All names with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Takes the other's values, also over own ones.
    pub fn extend(&mut self, other: Self) {
        self.values.extend(other.values);
    }

    /// A value that is a number of milliseconds; a warning if it is no such number.
    pub fn millis(&self, name: &str) -> Option<Duration> {
        self.parse(name).map(Duration::from_millis)
    }

    /// A value that is a number of seconds; a warning if it is no such number.
    pub fn seconds(&self, name: &str) -> Option<Duration> {
        self.parse(name).map(Duration::from_secs)
    }

    /// A value that switches something. GoCD: `Y` or `true`, in any case, is on, all else off.
    pub fn is_on(&self, name: &str) -> Option<bool> {
        let value = self.get(name)?;
        Some(value.eq_ignore_ascii_case("Y") || value.eq_ignore_ascii_case("true"))
    }

    /// A value of any type that can be read from text; a warning if it cannot.
    pub fn parse<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        let value = self.get(name)?.trim();
        let parsed = value.parse().ok();
        if parsed.is_none() {
            tracing::warn!(name, value, "the property's value cannot be read; ignored");
        }
        parsed
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn header(text: &str) -> Result<Vec<(String, String)>, ExtraPropertiesError> {
        Properties::from_extra_header(&STANDARD.encode(text)).map(|properties| {
            properties
                .iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect()
        })
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn header_as_gocd_reads_it() {
        assert_eq!(
            header("a.b=1 c%20d=x%20y  e=f=g"),
            Ok(pairs(&[("a.b", "1"), ("c d", "x y"), ("e", "f")]))
        );
        assert_eq!(
            header("a.b=1 novalue"),
            Err(ExtraPropertiesError::NoValue("novalue".to_owned()))
        );
        assert_eq!(header("a=1 a=2"), Ok(pairs(&[("a", "1")])));
        assert_eq!(header("   "), Ok(pairs(&[])));
        assert_eq!(Properties::from_extra_header(""), Ok(Properties::default()));
        assert_eq!(
            Properties::from_extra_header("%%%"),
            Err(ExtraPropertiesError::NotBase64)
        );
    }

    #[test]
    fn what_the_server_says_becomes_startup_arguments() {
        let header = STANDARD.encode("a.b=1 c%20d=x%20y");
        let properties = Properties::from_extra_header(&header).unwrap();
        let words = properties.to_startup_arguments();
        assert_eq!(words, "-Da.b=1 -Dc%20d=x%20y");
        assert_eq!(Properties::from_startup_arguments(&words), properties);
    }

    #[test]
    fn what_the_server_sets_stays_set_in_the_process() {
        let set = |text: &str| {
            let header = STANDARD.encode(text);
            Properties::from_extra_header(&header)
                .unwrap()
                .set_in_process();
        };
        set("test.one=1 test.two=1");
        set("test.two=2");
        let properties = Properties::of_process();
        assert_eq!(properties.get("test.one"), Some("1"));
        assert_eq!(properties.get("test.two"), Some("2"));
    }

    #[test]
    fn startup_arguments_as_a_jvm_takes_them() {
        let properties = Properties::from_startup_arguments(
            "-Xmx256m -Dagent.ping.interval=200 -Dname=a%20b=c -Dflag  -Dagent.ping.interval=300",
        );
        assert_eq!(
            properties.millis("agent.ping.interval"),
            Some(Duration::from_millis(300))
        );
        assert_eq!(properties.get("name"), Some("a b=c"));
        assert_eq!(properties.get("flag"), Some(""));
        assert_eq!(properties.millis("name"), None);
        assert_eq!(properties.get("other"), None);
    }
}
