//! From `*.gocd.yaml` to definitions.
//!
//! All problems of all files are reported at once, each with file, line, the keys that lead to it
//! and what is wrong. What needs a plugin is a problem as well, never silently dropped: a job that
//! runs without its elastic agent is worse than an error.
//! Keys that mean nothing to GoCD either are only warned about, as GoCD ignores them.

mod job;
pub mod links;
mod material;
mod parameters;
mod pipeline;
mod section;
mod stage;
mod task;
pub mod template;
#[cfg(test)]
mod tests;

pub use section::Problem;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use links::Target;
use ring::digest::{SHA256, digest};
use section::{Place, Report, Section};
use template::{Others, Templates, is_template_file};

use super::cipher::Cipher;
use super::definition::{Configuration, Environment, Pipeline, TemplateFile};
use super::names;
use super::yaml::{self, Key, Value};
use crate::hex::hex;

/// Versions of the format that can be read.
const OLDEST_VERSION: u32 = 1;
const NEWEST_VERSION: u32 = 11;

/// The configuration repository that the files come from; what `type: configrepo` stands for.
#[derive(Clone)]
pub struct Home {
    pub url: String,
    pub branch: String,
    /// Whether encrypted values can be decrypted is checked if there is a key.
    pub cipher: Option<Arc<Cipher>>,
    /// What other repositories have.
    pub templates: Others,
}

/// One file of a revision.
#[derive(Clone, Debug)]
pub struct Source {
    /// Path within the repository.
    pub path: String,
    pub text: String,
}

impl Source {
    /// A file by its content.
    ///
    /// # Errors
    ///
    /// It is too long, or no text.
    pub fn new(path: String, content: Vec<u8>) -> Result<Self, Problem> {
        if content.len() > yaml::MAX_FILE_BYTES {
            return Err(Self::too_long(path));
        }
        match String::from_utf8(content) {
            Ok(text) => Ok(Self { path, text }),
            Err(error) => {
                let good = error.utf8_error().valid_up_to();
                let before = &error.as_bytes()[..good];
                let line = before.split(|byte| *byte == b'\n').count();
                let column = before
                    .iter()
                    .rev()
                    .take_while(|byte| **byte != b'\n')
                    .count()
                    + 1;
                Err(Problem {
                    file: path,
                    at: yaml::Position { line, column },
                    path: String::new(),
                    message: "this is no UTF-8 text".to_owned(),
                })
            }
        }
    }

    /// What is wrong with a file that need not be read to tell.
    #[must_use]
    pub fn too_long(path: String) -> Problem {
        Problem {
            file: path,
            at: yaml::Position { line: 1, column: 1 },
            path: String::new(),
            message: format!("the file has more than {} bytes", yaml::MAX_FILE_BYTES),
        }
    }
}

/// Whether a file of this name holds pipelines (GoCD's default patterns) or templates.
#[must_use]
pub fn is_configuration_file(name: &str) -> bool {
    name.ends_with(".gocd.yaml") || name.ends_with(".gocd.yml") || is_template_file(name)
}

/// What reading a whole revision came to.
#[derive(Debug)]
pub struct Reading {
    /// Absent when there is any problem: one bad file leaves the last good revision in force.
    pub configuration: Option<Configuration>,
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
    /// What only other repositories can tell to be right; [`links::check`] tells whether it is.
    pub links: Vec<links::Link>,
}

/// Reads all files of one revision of a configuration repository.
pub fn read(files: &[Source], home: &Home) -> Reading {
    let mut found = Found::default();
    let mut problems = Vec::new();
    let mut warnings = Vec::new();
    let mut links = Vec::new();
    let mut templates = Templates::read(files, home, &mut found, &mut problems, &mut warnings);
    for file in files {
        if is_template_file(&file.path) {
            found.configuration.templates.push(TemplateFile {
                path: file.path.clone(),
                sha256: hex(digest(&SHA256, file.text.as_bytes()).as_ref()),
                content: file.text.clone(),
            });
            continue;
        }
        let mut report = Report::new(&file.path, home.cipher.as_deref());
        read_file(&file.text, home, &mut templates, &mut found, &mut report);
        problems.append(&mut report.problems);
        warnings.append(&mut report.warnings);
        links.append(&mut report.links);
    }
    sort(&mut problems);
    let configuration = problems.is_empty().then_some(found.configuration);
    Reading {
        configuration,
        problems,
        warnings,
        links,
    }
}

/// By file and line.
fn sort(problems: &mut [Problem]) {
    problems.sort_by(|a, b| (&a.file, a.at).cmp(&(&b.file, b.at)));
}

/// What the files read so far have in common.
#[derive(Default)]
struct Found {
    configuration: Configuration,
    version: Option<(u32, String)>,
    /// File and line where each pipeline was defined, by its name in lower case.
    pipelines: HashMap<String, (String, usize)>,
    /// The environment of each pipeline, by its name in lower case.
    environment_of: HashMap<String, String>,
}

fn read_file(
    text: &str,
    home: &Home,
    templates: &mut Templates,
    found: &mut Found,
    report: &mut Report<'_>,
) {
    let (root, faults) = yaml::parse(text);
    for fault in faults {
        report.wrong(fault.at, "", fault.message);
    }
    let Some(root) = root else { return };
    if matches!(root.value, Value::Absent) {
        report.wrong(root.at, "", "the file is empty");
        return;
    }
    let place = Place {
        node: &root,
        path: String::new(),
    };
    let mut sections = Vec::new();
    let mut version = None;
    for (key, place) in place.named(report) {
        match key.text.to_ascii_lowercase().as_str() {
            "format_version" => version = Some(place),
            "pipelines" => sections.push((true, place)),
            "environments" => sections.push((false, place)),
            "common" => {}
            _ => report.wrong(
                key.at,
                &key.text,
                "only `format_version`, `pipelines`, `environments` and `common` stand here",
            ),
        }
    }
    let version = read_version(version.as_ref(), found, report);
    for (pipelines, place) in sections {
        if matches!(place.node.value, Value::Absent) {
            continue;
        }
        for (key, place) in place.named(report) {
            if pipelines {
                read_pipeline(key, &place, home, version, templates, found, report);
            } else {
                read_environment(key, &place, found, report);
            }
        }
    }
}

fn read_version(place: Option<&Place<'_>>, found: &mut Found, report: &mut Report<'_>) -> u32 {
    let version = place.map_or(Some(OLDEST_VERSION), |place| place.integer(report));
    let Some(version) = version else {
        return NEWEST_VERSION;
    };
    let at = place.map_or(yaml::Position { line: 1, column: 1 }, |place| place.node.at);
    if !(OLDEST_VERSION..=NEWEST_VERSION).contains(&version) {
        let message =
            format!("version {version} is not known; {OLDEST_VERSION} to {NEWEST_VERSION} are");
        report.wrong(at, "format_version", message);
    }
    match &found.version {
        Some((other, file)) if *other != version => {
            let message = format!(
                "version {version} here and {other} in {file}; one repository has one version"
            );
            report.wrong(at, "format_version", message);
        }
        Some(_) => {}
        None => found.version = Some((version, report.file().to_owned())),
    }
    version
}

fn read_pipeline(
    key: &Key,
    place: &Place<'_>,
    home: &Home,
    version: u32,
    templates: &mut Templates,
    found: &mut Found,
    report: &mut Report<'_>,
) {
    let here = (report.file().to_owned(), key.at.line);
    match found.pipelines.entry(key.text.to_ascii_lowercase()) {
        Entry::Occupied(known) => {
            let (file, line) = known.get();
            let message = format!(
                "the pipeline `{}` is defined in {file}, line {line}, as well",
                key.text
            );
            report.wrong(key.at, &place.path, message);
        }
        Entry::Vacant(free) => {
            free.insert(here);
            report.link(key.at, &place.path, &key.text, Target::Definition);
        }
    }
    let pipeline: Option<Pipeline> = pipeline::read(key, place, home, version, templates, report);
    found.configuration.pipelines.extend(pipeline);
}

fn read_environment(key: &Key, place: &Place<'_>, found: &mut Found, report: &mut Report<'_>) {
    let name = &key.text;
    report.check_key(key, place, names::check_name(name));
    let Some(mut section) = place.section(report) else {
        return;
    };
    let section: &mut Section<'_> = &mut section;
    let variables = section.variables(report);
    let agents = section.get("agents");
    let agents = agents.map(|place| read_agents(&place, report));
    let mut pipelines = Vec::new();
    let list = section.get("pipelines");
    let list = list.map(|place| place.list(report));
    for item in list.unwrap_or_default() {
        let Some(pipeline) = item.text(report) else {
            continue;
        };
        report.check(&item, names::check_name(&pipeline));
        let lower = pipeline.to_ascii_lowercase();
        let other = found.environment_of.entry(lower).or_insert(name.clone());
        if !other.eq_ignore_ascii_case(name) {
            let message = format!("`{pipeline}` is in the environment `{other}` already");
            item.wrong(report, message);
        }
        let target = Target::Environment(name.clone());
        report.link(item.node.at, &item.path, &pipeline, target);
        pipelines.push(pipeline);
    }
    section.close(report);
    let part = Environment {
        name: name.clone(),
        variables,
        pipelines,
        agents: agents.unwrap_or_default(),
    };
    let environments = &mut found.configuration.environments;
    let known = environments
        .iter_mut()
        .find(|known| known.name.eq_ignore_ascii_case(name));
    let Some(known) = known else {
        environments.push(part);
        return;
    };
    for variable in &part.variables {
        if known.variables.iter().any(|one| one.name == variable.name) {
            let message = format!(
                "the variable `{}` of this environment is defined in another file as well",
                variable.name
            );
            place.wrong(report, message);
        }
    }
    known.variables.extend(part.variables);
    known.pipelines.extend(part.pipelines);
    known.agents.extend(part.agents);
}

fn read_agents(place: &Place<'_>, report: &mut Report<'_>) -> Vec<String> {
    let mut agents = Vec::new();
    for item in place.list(report) {
        let Some(uuid) = item.text(report) else {
            continue;
        };
        if uuid.trim().is_empty() || uuid.contains(char::is_control) {
            item.wrong(report, "this is no UUID of an agent");
        }
        agents.push(uuid);
    }
    agents
}
