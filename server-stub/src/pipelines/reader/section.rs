//! Walking a document: what a key must be, and where it stands when it is not.

use std::fmt;

use super::links::{Link, Target};
use crate::pipelines::cipher::{self, Cipher};
use crate::pipelines::definition::Variable;
use crate::pipelines::yaml::{Key, Node, Position, Value};

/// One thing wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub file: String,
    pub at: Position,
    /// Keys from the root to the value, such as `pipelines.app.stages[0].build`.
    pub path: String,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file, self.at)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// Problems of one file; whoever has more will have to come back anyway.
const MAX_PROBLEMS: usize = 200;

/// What was found in one file.
pub(super) struct Report<'f> {
    file: &'f str,
    cipher: Option<&'f Cipher>,
    pub(super) problems: Vec<Problem>,
    /// What is read but has no effect.
    pub(super) warnings: Vec<Problem>,
    /// What only other files and repositories can tell to be right.
    pub(super) links: Vec<Link>,
}

impl<'f> Report<'f> {
    pub(super) fn new(file: &'f str, cipher: Option<&'f Cipher>) -> Self {
        Self {
            file,
            cipher,
            problems: Vec::new(),
            warnings: Vec::new(),
            links: Vec::new(),
        }
    }

    /// An empty report of another file.
    pub(super) fn of_file<'o>(&self, file: &'o str) -> Report<'o>
    where
        'f: 'o,
    {
        Report::new(file, self.cipher)
    }

    /// Adds what was found in another file, with some words to each problem.
    pub(super) fn take_in(&mut self, mut other: Report<'_>, words: &str) {
        for problem in &mut other.problems {
            problem.message.push_str(words);
        }
        self.problems.append(&mut other.problems);
        self.warnings.append(&mut other.warnings);
        self.links.append(&mut other.links);
    }

    pub(super) fn file(&self) -> &str {
        self.file
    }

    pub(super) fn wrong(&mut self, at: Position, path: &str, message: impl Into<String>) {
        match self.problems.len() {
            MAX_PROBLEMS => {
                let message = format!("there are more than {MAX_PROBLEMS} problems in this file");
                self.problems.push(self.problem(at, "", message));
            }
            0..MAX_PROBLEMS => self.problems.push(self.problem(at, path, message.into())),
            _ => {}
        }
    }

    pub(super) fn warn(&mut self, at: Position, path: &str, message: impl Into<String>) {
        if self.warnings.len() < MAX_PROBLEMS {
            self.warnings.push(self.problem(at, path, message.into()));
        }
    }

    fn problem(&self, at: Position, path: &str, message: String) -> Problem {
        Problem {
            file: self.file.to_owned(),
            at,
            path: path.to_owned(),
            message,
        }
    }

    pub(super) fn link(&mut self, at: Position, path: &str, pipeline: &str, target: Target) {
        self.links.push(Link {
            file: self.file.to_owned(),
            at,
            path: path.to_owned(),
            pipeline: pipeline.to_owned(),
            target,
        });
    }

    /// Adds the problem if a value is not one that this server can decrypt.
    pub(super) fn check_encrypted(&mut self, place: &Place<'_>, value: &str) {
        let outcome = match self.cipher {
            Some(cipher) => cipher.decrypt(value).map(drop),
            None => cipher::check_form(value),
        };
        self.check(place, outcome.map_err(|error| error.to_string()));
    }

    /// Adds the problem if the check failed.
    pub(super) fn check(&mut self, place: &Place<'_>, outcome: Result<(), String>) {
        if let Err(message) = outcome {
            self.wrong(place.node.at, &place.path, message);
        }
    }

    /// Adds the problem, which the name of the value has, if the check failed.
    pub(super) fn check_key(&mut self, key: &Key, place: &Place<'_>, outcome: Result<(), String>) {
        if let Err(message) = outcome {
            self.wrong(key.at, &place.path, message);
        }
    }
}

/// A value and the way to it.
#[derive(Clone)]
pub(super) struct Place<'n> {
    pub(super) node: &'n Node,
    pub(super) path: String,
}

impl<'n> Place<'n> {
    pub(super) fn wrong(&self, report: &mut Report<'_>, message: impl Into<String>) {
        report.wrong(self.node.at, &self.path, message);
    }

    pub(super) fn expected(&self, report: &mut Report<'_>, what: &str) {
        self.wrong(
            report,
            format!("{what} is needed here, not {}", self.node.kind()),
        );
    }

    pub(super) fn text(&self, report: &mut Report<'_>) -> Option<String> {
        match &self.node.value {
            Value::Text(text) => Some(text.clone()),
            _ => {
                self.expected(report, "text");
                None
            }
        }
    }

    pub(super) fn boolean(&self, report: &mut Report<'_>) -> Option<bool> {
        let text = self.text(report)?;
        match text.as_str() {
            "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
                Some(true)
            }
            "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off"
            | "OFF" => Some(false),
            _ => {
                self.wrong(
                    report,
                    format!("`{text}` is neither true nor false (yes, no, on and off do as well)"),
                );
                None
            }
        }
    }

    pub(super) fn integer<T: std::str::FromStr>(&self, report: &mut Report<'_>) -> Option<T> {
        let text = self.text(report)?;
        // Rust takes a sign before it; files are decimal digits only.
        let number = text.parse().ok().filter(|_| !text.starts_with('+'));
        if number.is_none() {
            self.wrong(report, format!("`{text}` is no number that fits here"));
        }
        number
    }

    /// The items of a list; lists within it are flattened at any depth, which is what makes
    /// anchors of lists useful.
    pub(super) fn list(&self, report: &mut Report<'_>) -> Vec<Place<'n>> {
        let mut items = Vec::new();
        match &self.node.value {
            Value::List(_) => self.flatten(&mut items),
            _ => self.expected(report, "a list"),
        }
        items
    }

    fn flatten(&self, items: &mut Vec<Place<'n>>) {
        let Value::List(nodes) = &self.node.value else {
            return;
        };
        for node in nodes {
            let place = Place {
                node,
                path: format!("{}[{}]", self.path, items.len()),
            };
            if matches!(node.value, Value::List(_)) {
                Place {
                    node,
                    path: self.path.clone(),
                }
                .flatten(items);
            } else {
                items.push(place);
            }
        }
    }

    pub(super) fn texts(&self, report: &mut Report<'_>) -> Vec<String> {
        let items = self.list(report);
        items.iter().filter_map(|item| item.text(report)).collect()
    }

    /// The entries of a map with names of the user's choice.
    pub(super) fn named(&self, report: &mut Report<'_>) -> Vec<(&'n Key, Place<'n>)> {
        let Value::Map(entries) = &self.node.value else {
            self.expected(report, "a map");
            return Vec::new();
        };
        let place = |key: &Key, node| Place {
            node,
            path: join(&self.path, &key.text),
        };
        entries
            .iter()
            .map(|(key, node)| (key, place(key, &**node)))
            .collect()
    }

    /// A map of exactly one entry, which is how stages, tasks and artifacts are written in lists.
    pub(super) fn single(
        &self,
        report: &mut Report<'_>,
        what: &str,
    ) -> Option<(&'n Key, Place<'n>)> {
        let mut entries = self.named(report);
        match entries.len() {
            1 => entries.pop(),
            0 if !matches!(self.node.value, Value::Map(_)) => None,
            count => {
                let message = format!("{what} is written as one key, not {count}");
                self.wrong(report, message);
                None
            }
        }
    }

    /// What stands for a map without keys.
    pub(super) fn empty_section(&self) -> Section<'n> {
        Section {
            entries: &[],
            at: self.node.at,
            path: self.path.clone(),
            known: Vec::new(),
        }
    }

    /// A map whose keys are GoCD's.
    pub(super) fn section(&self, report: &mut Report<'_>) -> Option<Section<'n>> {
        match &self.node.value {
            Value::Map(entries) => Some(Section {
                entries,
                at: self.node.at,
                path: self.path.clone(),
                known: Vec::new(),
            }),
            _ => {
                self.expected(report, "a map");
                None
            }
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// A map of which each key is taken once; what is left over at the end has no meaning.
pub(super) struct Section<'n> {
    entries: &'n [(Key, std::sync::Arc<Node>)],
    pub(super) at: Position,
    pub(super) path: String,
    known: Vec<&'static str>,
}

impl<'n> Section<'n> {
    /// The value of a key; a key with nothing after it counts as absent.
    pub(super) fn get(&mut self, name: &'static str) -> Option<Place<'n>> {
        self.known.push(name);
        self.entries
            .iter()
            .find(|(key, node)| key.text == name && !matches!(node.value, Value::Absent))
            .map(|(key, node)| Place {
                node,
                path: join(&self.path, &key.text),
            })
    }

    pub(super) fn text(&mut self, report: &mut Report<'_>, name: &'static str) -> Option<String> {
        self.get(name)?.text(report)
    }

    pub(super) fn boolean(
        &mut self,
        report: &mut Report<'_>,
        name: &'static str,
        default: bool,
    ) -> bool {
        self.get(name)
            .and_then(|place| place.boolean(report))
            .unwrap_or(default)
    }

    /// Like [`Self::get`], and a problem when it is not there.
    pub(super) fn required(
        &mut self,
        report: &mut Report<'_>,
        name: &'static str,
    ) -> Option<Place<'n>> {
        let found = self.get(name);
        if found.is_none() {
            report.wrong(self.at, &self.path, format!("`{name}` is missing"));
        }
        found
    }

    /// Keys that mean something, though nobody asks for their values.
    pub(super) fn known(&mut self, names: &[&'static str]) {
        self.known.extend(names);
    }

    /// Plain and secure variables, in the order of the file.
    pub(super) fn variables(&mut self, report: &mut Report<'_>) -> Vec<Variable> {
        let mut variables: Vec<Variable> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for (name, secure) in [("environment_variables", false), ("secure_variables", true)] {
            let Some(place) = self.get(name) else {
                continue;
            };
            for (key, place) in place.named(report) {
                if key.text.trim().is_empty() || key.text.contains(['=', '\0']) {
                    place.wrong(
                        report,
                        "a variable's name is neither blank nor has it a `=`",
                    );
                    continue;
                }
                if !seen.insert(key.text.as_str()) {
                    let message = format!("the variable `{}` is defined twice", key.text);
                    place.wrong(report, message);
                    continue;
                }
                // Here alone nothing after the key is a value: the empty one.
                let value = match &place.node.value {
                    Value::Absent => Some(String::new()),
                    _ => place.text(report),
                };
                let Some(value) = value else { continue };
                if secure {
                    check_secure(&place, &value, report);
                }
                if value.contains('\0') {
                    place.wrong(report, "a variable cannot hold a NUL character");
                }
                variables.push(Variable {
                    name: key.text.clone(),
                    value,
                    secure,
                });
            }
        }
        variables
    }

    /// Says what has been read in vain. GoCD ignores such keys, so they are no error.
    pub(super) fn close(&self, report: &mut Report<'_>) {
        for (key, _) in self.entries {
            if !self.known.contains(&key.text.as_str()) {
                report.warn(
                    key.at,
                    &join(&self.path, &key.text),
                    format!("`{}` has no meaning here and is ignored", key.text),
                );
            }
        }
    }
}

/// A plain value is taken and masked on the console; whoever reads the repository can read it, so
/// it is said.
fn check_secure(place: &Place<'_>, value: &str, report: &mut Report<'_>) {
    if cipher::is_encrypted(value) {
        report.check_encrypted(place, value);
    } else if value.starts_with("DES:") {
        place.wrong(
            report,
            "values encrypted with DES are not supported; `journeyman-server encrypt` makes new ones",
        );
    } else if value.contains("{{SECRET:") {
        place.wrong(
            report,
            "references to secret stores need a plugin, which this server does not run",
        );
    } else {
        report.warn(
            place.node.at,
            &place.path,
            "the value is masked on consoles, but readable in the repository",
        );
    }
}
