//! Pipelines and their stages.

use crate::pipelines::definition::{Approval, Job, Pipeline, Stage};
use crate::pipelines::label;
use crate::pipelines::names;

use super::section::{Place, Report, Section};
use super::{
    Home,
    job::{self, Around},
    material,
};

/// Shown for a pipeline whose place in its group was not given.
const NO_ORDER: i64 = -1;

pub(super) fn read(
    name: &str,
    place: &Place<'_>,
    home: &Home,
    version: u32,
    report: &mut Report<'_>,
) -> Option<Pipeline> {
    report.check(place, names::check_name(name));
    let mut section = place.section(report)?;
    let group = section.required(report, "group");
    let group = group.and_then(|place| {
        let group = place.text(report)?;
        report.check(&place, names::check_name(&group));
        Some(group)
    });
    let display_order = section
        .get("display_order")
        .and_then(|place| place.integer(report))
        .unwrap_or(NO_ORDER);
    read_neutral(&mut section, report);
    section.not_yet(
        report,
        &["tracking_tool", "timer", "parameters", "template"],
    );
    let variables = section.variables(report);
    let materials_place = section.required(report, "materials");
    let materials = materials_place
        .as_ref()
        .map(|place| material::read_all(place, home, report))
        .unwrap_or_default();
    if let Some(place) = materials_place.as_ref().filter(|_| materials.is_empty())
        && report.problems.is_empty()
    {
        place.wrong(report, "a pipeline needs at least one material");
    }
    let template = section.get("label_template");
    let label_template = template
        .as_ref()
        .and_then(|place| place.text(report))
        .unwrap_or_else(|| label::DEFAULT_TEMPLATE.to_owned());
    if let Some(place) = &template {
        report.check(place, label::check(&label_template, &materials, &variables));
    }
    let stages = match section.required(report, "stages") {
        Some(place) => read_stages(name, &place, version, report),
        None => Vec::new(),
    };
    section.close(report);
    Some(Pipeline {
        name: name.to_owned(),
        group: group?,
        display_order,
        label_template,
        variables,
        materials,
        stages,
    })
}

/// Locks do not exist yet; saying so in the file is fine.
fn read_neutral(section: &mut Section<'_>, report: &mut Report<'_>) {
    if let Some(place) = section.get("lock_behavior")
        && let Some(text) = place.text(report)
    {
        match text.as_str() {
            "none" => {}
            "lockOnFailure" | "unlockWhenFinished" => {
                place.wrong(
                    report,
                    format!("`lock_behavior: {text}` is not supported yet"),
                );
            }
            _ => place.wrong(
                report,
                format!("`{text}` is none of `none`, `lockOnFailure` and `unlockWhenFinished`"),
            ),
        }
    }
    if let Some(place) = section.get("locking")
        && place.boolean(report) == Some(true)
    {
        place.wrong(report, "`locking` is not supported yet");
    }
}

fn read_stages(
    pipeline: &str,
    place: &Place<'_>,
    version: u32,
    report: &mut Report<'_>,
) -> Vec<Stage> {
    let items = place.list(report);
    if items.is_empty() {
        place.wrong(report, "a pipeline needs a list of at least one stage");
    }
    let mut stages: Vec<Stage> = Vec::new();
    for item in items {
        let Some((key, place)) = item.single(report, "a stage") else {
            continue;
        };
        report.check(&place, names::check_name(&key.text));
        if stages
            .iter()
            .any(|known| known.name.eq_ignore_ascii_case(&key.text))
        {
            let message = format!("two stages have the name `{}`", key.text);
            place.wrong(report, message);
        }
        let around = Around {
            pipeline,
            earlier: &stages,
            version,
        };
        if let Some(stage) = read_stage(&key.text, &place, &around, report) {
            stages.push(stage);
        }
    }
    stages
}

fn read_stage(
    name: &str,
    place: &Place<'_>,
    around: &Around<'_>,
    report: &mut Report<'_>,
) -> Option<Stage> {
    let mut section = place.section(report)?;
    let approval = section
        .get("approval")
        .and_then(|place| read_approval(&place, report))
        .unwrap_or(Approval::Success);
    let fetch_materials = section.boolean(report, "fetch_materials", true);
    let clean_workspace = section.boolean(report, "clean_workspace", false);
    let keep_artifacts = section.boolean(report, "keep_artifacts", false);
    let (variables, jobs) = match section.get("jobs") {
        Some(jobs) => (section.variables(report), read_jobs(&jobs, around, report)),
        None if section.get("tasks").is_some() => {
            // The only job is written right into the stage and has the stage's name.
            report.check(place, names::check_job_name(name));
            (
                Vec::new(),
                vec![job::read(name, &mut section, around, report)],
            )
        }
        None => {
            place.wrong(report, "a stage needs `jobs`, or `tasks` for a single job");
            (Vec::new(), Vec::new())
        }
    };
    section.close(report);
    Some(Stage {
        name: name.to_owned(),
        approval,
        fetch_materials,
        clean_workspace,
        keep_artifacts,
        variables,
        jobs,
    })
}

fn read_jobs(place: &Place<'_>, around: &Around<'_>, report: &mut Report<'_>) -> Vec<Job> {
    let entries = place.named(report);
    if entries.is_empty() {
        place.wrong(report, "a stage needs at least one job");
    }
    let mut jobs: Vec<Job> = Vec::new();
    for (key, place) in entries {
        report.check(&place, names::check_job_name(&key.text));
        if jobs
            .iter()
            .any(|known| known.name.eq_ignore_ascii_case(&key.text))
        {
            let message = format!("two jobs have the name `{}`", key.text);
            place.wrong(report, message);
        }
        if let Some(mut section) = place.section(report) {
            jobs.push(job::read(&key.text, &mut section, around, report));
            section.close(report);
        }
    }
    jobs
}

fn read_approval(place: &Place<'_>, report: &mut Report<'_>) -> Option<Approval> {
    use crate::pipelines::yaml::Value;
    let (place, only_on_success) = match &place.node.value {
        Value::Text(_) => (place.clone(), false),
        _ => {
            let mut section = place.section(report)?;
            section.not_yet(report, &["users", "roles"]);
            let only_on_success = section.boolean(report, "allow_only_on_success", false);
            let kind = section.required(report, "type");
            section.close(report);
            (kind?, only_on_success)
        }
    };
    let text = place.text(report)?;
    match text.as_str() {
        "auto" | "success" => Some(Approval::Success),
        "manual" if only_on_success => Some(Approval::ManualOnSuccess),
        "manual" => Some(Approval::Manual),
        _ => {
            let message = format!("`{text}` is none of `success`, `auto` and `manual`");
            place.wrong(report, message);
            None
        }
    }
}
