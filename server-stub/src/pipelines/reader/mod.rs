//! From `*.gocd.yaml` to definitions.
//!
//! All problems of all files are reported at once, each with file, line, the keys that lead to it
//! and what is wrong. What GoCD's format has and this server does not have yet is a problem as
//! well, never silently dropped: a pipeline that runs without its timer is worse than an error.
//! Keys that mean nothing to GoCD either are only warned about, as GoCD ignores them.

mod job;
mod material;
mod pipeline;
mod section;
#[cfg(test)]
mod tests;

pub use section::Problem;

use section::{Place, Report, Section};

use super::definition::{Configuration, Environment, Pipeline};
use super::names;
use super::yaml::{self, Value};

/// Versions of the format that can be read.
const OLDEST_VERSION: u32 = 1;
const NEWEST_VERSION: u32 = 11;

/// The configuration repository that the files come from; what `type: configrepo` stands for.
#[derive(Clone, Debug)]
pub struct Home {
    pub url: String,
    pub branch: String,
}

/// One file of a revision.
#[derive(Clone, Debug)]
pub struct Source {
    /// Path within the repository.
    pub path: String,
    pub text: String,
}

/// What reading a whole revision came to.
#[derive(Debug)]
pub struct Reading {
    /// Absent when there is any problem: one bad file leaves the last good revision in force.
    pub configuration: Option<Configuration>,
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
}

/// Reads all files of one revision of a configuration repository.
pub fn read(files: &[Source], home: &Home) -> Reading {
    let mut found = Found::default();
    let mut problems = Vec::new();
    let mut warnings = Vec::new();
    for file in files {
        let mut report = Report::new(&file.path);
        read_file(&file.text, home, &mut found, &mut report);
        problems.append(&mut report.problems);
        warnings.append(&mut report.warnings);
    }
    problems.sort_by(|a, b| (&a.file, a.at).cmp(&(&b.file, b.at)));
    let configuration = problems.is_empty().then_some(found.configuration);
    Reading {
        configuration,
        problems,
        warnings,
    }
}

/// What the files read so far have in common.
#[derive(Default)]
struct Found {
    configuration: Configuration,
    version: Option<(u32, String)>,
    /// Where each pipeline was defined, by its name in lower case.
    pipelines: Vec<(String, String)>,
}

fn read_file(text: &str, home: &Home, found: &mut Found, report: &mut Report<'_>) {
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
                read_pipeline(&key.text, &place, home, version, found, report);
            } else {
                read_environment(&key.text, &place, found, report);
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
    name: &str,
    place: &Place<'_>,
    home: &Home,
    version: u32,
    found: &mut Found,
    report: &mut Report<'_>,
) {
    let lower = name.to_ascii_lowercase();
    if let Some((_, file)) = found.pipelines.iter().find(|(known, _)| *known == lower) {
        let message = format!("the pipeline `{name}` is defined in {file} as well");
        place.wrong(report, message);
    } else {
        found.pipelines.push((lower, report.file().to_owned()));
    }
    let pipeline: Option<Pipeline> = pipeline::read(name, place, home, version, report);
    found.configuration.pipelines.extend(pipeline);
}

fn read_environment(name: &str, place: &Place<'_>, found: &mut Found, report: &mut Report<'_>) {
    report.check(place, names::check_name(name));
    let Some(mut section) = place.section(report) else {
        return;
    };
    let section: &mut Section<'_> = &mut section;
    section.not_yet(report, &["agents"]);
    let variables = section.variables(report);
    let mut pipelines = Vec::new();
    if let Some(place) = section.get("pipelines") {
        for item in place.list(report) {
            let Some(pipeline) = item.text(report) else {
                continue;
            };
            let elsewhere = found.configuration.environments.iter().find(|known| {
                !known.name.eq_ignore_ascii_case(name)
                    && known
                        .pipelines
                        .iter()
                        .any(|one| one.eq_ignore_ascii_case(&pipeline))
            });
            if let Some(other) = elsewhere {
                let message = format!(
                    "`{pipeline}` is in the environment `{}` already",
                    other.name
                );
                item.wrong(report, message);
            }
            pipelines.push(pipeline);
        }
    }
    section.close(report);
    let environments = &mut found.configuration.environments;
    match environments
        .iter_mut()
        .find(|known| known.name.eq_ignore_ascii_case(name))
    {
        Some(known) => {
            known.variables.extend(variables);
            known.pipelines.extend(pipelines);
        }
        None => environments.push(Environment {
            name: name.to_owned(),
            variables,
            pipelines,
        }),
    }
}
