//! Jobs, what they publish and how often they run.

use crate::pipelines::definition::{Artifact, ArtifactKind, Instances, Job, Stage, Tab};
use crate::pipelines::names;

use super::section::{Place, Report, Section};
use super::task;

/// Up to this version of the format a job may have `properties`; since then they mean nothing.
const LAST_VERSION_WITH_PROPERTIES: u32 = 6;

/// More jobs from one definition are taken for a mistake.
const MAX_INSTANCES: u32 = 1000;

/// Characters of a tab's name.
const MAX_TAB_NAME: usize = 15;

/// The folder among a job's artifacts that belongs to the server.
const RESERVED: &str = "cruise-output";

/// What a job's tasks may refer to.
pub(super) struct Around<'a> {
    pub(super) pipeline: &'a str,
    /// The stages before the job's own.
    pub(super) earlier: &'a [Stage],
    pub(super) version: u32,
}

pub(super) fn read(
    name: &str,
    section: &mut Section<'_>,
    around: &Around<'_>,
    report: &mut Report<'_>,
) -> Job {
    let mut resources = Vec::new();
    if let Some(place) = section.get("resources") {
        for item in place.list(report) {
            if let Some(resource) = item.text(report) {
                report.check(&item, names::check_resource(&resource));
                resources.push(resource.trim().to_owned());
            }
        }
    }
    // 0 is what is meant when nothing is said: a file cannot say "never".
    let timeout = section
        .get("timeout")
        .and_then(|place| place.integer::<u32>(report))
        .filter(|minutes| *minutes > 0);
    let instances = read_instances(section, report);
    if let Some(place) = section.get("elastic_profile_id") {
        place.wrong(
            report,
            "`elastic_profile_id` needs a plugin for elastic agents, which this server does not run",
        );
    }
    if let Some(place) = section.get("properties")
        && around.version <= LAST_VERSION_WITH_PROPERTIES
    {
        report.warn(
            place.node.at,
            &place.path,
            "`properties` are no longer kept by any server and are ignored",
        );
    }
    Job {
        name: name.to_owned(),
        resources,
        timeout,
        instances,
        variables: section.variables(report),
        tabs: read_tabs(section, report),
        artifacts: read_artifacts(section, report),
        tasks: task::read_all(section, around, report),
    }
}

fn read_instances(section: &mut Section<'_>, report: &mut Report<'_>) -> Instances {
    let Some(place) = section.get("run_instances") else {
        return Instances::One;
    };
    let Some(text) = place.text(report) else {
        return Instances::One;
    };
    match text.parse::<u32>() {
        _ if text == "all" => Instances::All,
        Ok(0 | 1) => Instances::One,
        Ok(count) if count <= MAX_INSTANCES => Instances::Count(count),
        Ok(_) => {
            place.wrong(report, format!("at most {MAX_INSTANCES} instances can run"));
            Instances::One
        }
        Err(_) => {
            place.wrong(report, format!("`{text}` is neither a number nor `all`"));
            Instances::One
        }
    }
}

fn read_tabs(section: &mut Section<'_>, report: &mut Report<'_>) -> Vec<Tab> {
    let Some(place) = section.get("tabs") else {
        return Vec::new();
    };
    let mut tabs: Vec<Tab> = Vec::new();
    for (key, place) in place.named(report) {
        report.check_key(key, &place, names::check_name(&key.text));
        if key.text.len() > MAX_TAB_NAME {
            let message = format!("the name of a tab has at most {MAX_TAB_NAME} characters");
            place.wrong(report, message);
        }
        if tabs
            .iter()
            .any(|known| known.name.eq_ignore_ascii_case(&key.text))
        {
            place.wrong(report, format!("two tabs have the name `{}`", key.text));
        }
        if let Some(path) = place.text(report) {
            report.check(&place, names::check_inside(&path));
            tabs.push(Tab {
                name: key.text.clone(),
                path,
            });
        }
    }
    tabs
}

fn read_artifacts(section: &mut Section<'_>, report: &mut Report<'_>) -> Vec<Artifact> {
    let Some(place) = section.get("artifacts") else {
        return Vec::new();
    };
    let items = place.list(report);
    items
        .iter()
        .filter_map(|item| read_artifact(item, report))
        .collect()
}

fn read_artifact(item: &Place<'_>, report: &mut Report<'_>) -> Option<Artifact> {
    let (key, place) = item.single(report, "an artifact")?;
    let kind = match key.text.as_str() {
        "build" => ArtifactKind::Build,
        "test" => ArtifactKind::Test,
        "external" => {
            place.wrong(
                report,
                "artifacts of kind `external` need a plugin, which this server does not run",
            );
            return None;
        }
        other => {
            let message = format!("`{other}` is no kind of artifact: `build` and `test` are");
            place.wrong(report, message);
            return None;
        }
    };
    let mut section = place.section(report)?;
    let source = section.required(report, "source");
    let destination = section.get("destination");
    section.close(report);
    let mut path = |place: &Option<Place<'_>>| {
        let place = place.as_ref()?;
        let text = place.text(report)?;
        report.check(place, names::check_inside(&text));
        Some(text)
    };
    let destination_text = path(&destination).unwrap_or_default();
    let source_text = path(&source)?;
    if source_text.trim().is_empty()
        && let Some(place) = source
    {
        place.wrong(report, "`source` is blank");
    }
    let mut parts = destination_text
        .split('/')
        .filter(|part| !matches!(*part, "" | "."));
    if parts.next() == Some(RESERVED)
        && let Some(place) = destination
    {
        let message = format!("`{RESERVED}` is kept for what the server itself puts there");
        place.wrong(report, message);
    }
    Some(Artifact {
        kind,
        source: source_text,
        destination: destination_text,
    })
}
