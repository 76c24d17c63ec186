//! Stages of a pipeline.

use crate::pipelines::definition::{Approval, Job, Operators, Stage};
use crate::pipelines::names;
use crate::pipelines::yaml::Value;
use crate::users::{Role, store};

use super::job::{self, Around};
use super::section::{Place, Report};

pub(super) fn read_all(
    pipeline: &str,
    place: &Place<'_>,
    version: u32,
    report: &mut Report<'_>,
) -> Vec<Stage> {
    if !matches!(place.node.value, Value::List(_)) {
        place.expected(report, "a list of stages");
        return Vec::new();
    }
    let items = place.list(report);
    if items.is_empty() {
        place.wrong(report, "a pipeline needs a list of at least one stage");
    }
    let mut stages: Vec<Stage> = Vec::new();
    for item in items {
        let Some((key, place)) = item.single(report, "a stage") else {
            continue;
        };
        report.check_key(key, &place, names::check_name(&key.text));
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
        if let Some(stage) = read(&key.text, &place, &around, report) {
            stages.push(stage);
        }
    }
    stages
}

fn read(
    name: &str,
    place: &Place<'_>,
    around: &Around<'_>,
    report: &mut Report<'_>,
) -> Option<Stage> {
    let mut section = place.section(report)?;
    let approval = section.get("approval");
    let (approval, operators) = approval
        .and_then(|place| read_approval(&place, report))
        .unwrap_or((Approval::Success, Operators::default()));
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
        operators,
        fetch_materials,
        clean_workspace,
        keep_artifacts,
        variables,
        jobs,
    })
}

fn read_jobs(place: &Place<'_>, around: &Around<'_>, report: &mut Report<'_>) -> Vec<Job> {
    let entries = place.named(report);
    if entries.is_empty() && matches!(place.node.value, Value::Map(_)) {
        place.wrong(report, "a stage needs at least one job");
    }
    let mut jobs: Vec<Job> = Vec::new();
    for (key, place) in entries {
        report.check_key(key, &place, names::check_job_name(&key.text));
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

/// Whether a user may be called so. Who the users are only the server knows.
fn is_user_name(name: &str) -> bool {
    store::valid_name(name).is_ok()
}

/// Whether it is a role of this server: it has no others.
fn is_role(name: &str) -> bool {
    name.to_lowercase().parse::<Role>().is_ok()
}

fn read_approval(place: &Place<'_>, report: &mut Report<'_>) -> Option<(Approval, Operators)> {
    let mut operators = Operators::default();
    let (place, only_on_success) = match &place.node.value {
        Value::Text(_) => (place.clone(), false),
        Value::Map(_) => {
            let mut section = place.section(report)?;
            let mut names = |name, is_known: fn(&str) -> bool, why: &str| {
                let place = section.get(name);
                let items = place.map(|place| place.list(report)).unwrap_or_default();
                let mut names = Vec::with_capacity(items.len());
                for item in items {
                    let Some(name) = item.text(report) else {
                        continue;
                    };
                    if !is_known(&name) {
                        let message = format!("`{name}` lets nobody run the stage: {why}");
                        report.warn(item.node.at, &item.path, message);
                    }
                    names.push(name);
                }
                names
            };
            operators = Operators {
                users: names("users", is_user_name, "no user can be called so"),
                roles: names(
                    "roles",
                    is_role,
                    "the roles are `view`, `operate` and `admin`",
                ),
            };
            let only_on_success = section.boolean(report, "allow_only_on_success", false);
            let kind = section.required(report, "type");
            section.close(report);
            (kind?, only_on_success)
        }
        Value::Absent | Value::List(_) => {
            place.expected(report, "`success`, `manual` or a map with a `type`");
            return None;
        }
    };
    let text = place.text(report)?;
    match text.as_str() {
        "auto" | "success" => Some((Approval::Success, operators)),
        "manual" if only_on_success => Some((Approval::ManualOnSuccess, operators)),
        "manual" => Some((Approval::Manual, operators)),
        _ => {
            let message = format!("`{text}` is none of `success`, `auto` and `manual`");
            place.wrong(report, message);
            None
        }
    }
}
