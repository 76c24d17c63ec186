//! Jobs, their artifacts and tasks.

use crate::pipelines::definition::{Action, Artifact, ArtifactKind, Job, RunIf, Task};
use crate::pipelines::names;

use super::section::{Place, Report, Section};

/// The keys of a job that this server does not have yet. `properties` is not among them: GoCD
/// itself ignores it.
const NOT_YET: [&str; 2] = ["elastic_profile_id", "tabs"];

/// Up to this version of the format a job without tasks got one that does nothing.
const LAST_VERSION_WITH_EMPTY_JOBS: u32 = 10;

pub(super) fn read(
    name: &str,
    section: &mut Section<'_>,
    version: u32,
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
    let timeout = section
        .get("timeout")
        .and_then(|place| place.integer::<u32>(report))
        .filter(|minutes| *minutes > 0);
    if let Some(place) = section.get("run_instances")
        && let Some(count) = place.text(report)
        && count != "1"
    {
        place.wrong(report, "`run_instances` other than 1 is not supported yet");
    }
    section.not_yet(report, &NOT_YET);
    section.get("properties");
    Job {
        name: name.to_owned(),
        resources,
        timeout,
        variables: section.variables(report),
        artifacts: read_artifacts(section, report),
        tasks: read_tasks(section, version, report),
    }
}

fn read_artifacts(section: &mut Section<'_>, report: &mut Report<'_>) -> Vec<Artifact> {
    let Some(place) = section.get("artifacts") else {
        return Vec::new();
    };
    let mut artifacts = Vec::new();
    for item in place.list(report) {
        let Some((key, place)) = item.single(report, "an artifact") else {
            continue;
        };
        let kind = match key.text.as_str() {
            "build" => ArtifactKind::Build,
            "test" => ArtifactKind::Test,
            "external" => {
                place.wrong(report, "artifacts of kind `external` are not supported yet");
                continue;
            }
            other => {
                let message = format!("`{other}` is no kind of artifact: `build` and `test` are");
                place.wrong(report, message);
                continue;
            }
        };
        let Some(mut section) = place.section(report) else {
            continue;
        };
        let source = section.required(report, "source");
        let destination = section.get("destination");
        section.close(report);
        let mut path = |place: &Option<Place<'_>>| {
            let place = place.as_ref()?;
            let text = place.text(report)?;
            report.check(place, names::check_inside(&text));
            Some(text)
        };
        let destination = path(&destination).unwrap_or_default();
        if let Some(source) = path(&source) {
            artifacts.push(Artifact {
                kind,
                source,
                destination,
            });
        }
    }
    artifacts
}

fn read_tasks(section: &mut Section<'_>, version: u32, report: &mut Report<'_>) -> Vec<Task> {
    let items = section.get("tasks").map(|place| place.list(report));
    match items {
        Some(items) if !items.is_empty() => items
            .iter()
            .filter_map(|item| read_task(item, report))
            .collect(),
        _ if version <= LAST_VERSION_WITH_EMPTY_JOBS => vec![Task {
            action: Action::Exec {
                command: "echo".to_owned(),
                arguments: Vec::new(),
                working_directory: None,
            },
            run_if: RunIf::Passed,
            on_cancel: None,
        }],
        _ => {
            report.wrong(section.at, &section.path, "a job needs at least one task");
            Vec::new()
        }
    }
}

fn read_task(item: &Place<'_>, report: &mut Report<'_>) -> Option<Task> {
    let (key, place) = item.single(report, "a task")?;
    if key.text == "script" {
        return Some(Task {
            action: Action::Script(place.text(report)?),
            run_if: RunIf::Passed,
            on_cancel: None,
        });
    }
    if !is_exec(&key.text, &place, report) {
        return None;
    }
    let mut section = place.section(report)?;
    let run_if = section.get("run_if").and_then(|place| {
        let text = place.text(report)?;
        match text.to_ascii_lowercase().as_str() {
            "passed" => Some(RunIf::Passed),
            "failed" => Some(RunIf::Failed),
            "any" => Some(RunIf::Any),
            _ => {
                let message = format!("`{text}` is none of `passed`, `failed` and `any`");
                place.wrong(report, message);
                None
            }
        }
    });
    let on_cancel = section
        .get("on_cancel")
        .and_then(|place| read_on_cancel(&place, report));
    let action = read_exec(&mut section, report);
    section.close(report);
    Some(Task {
        action: action?,
        run_if: run_if.unwrap_or(RunIf::Passed),
        on_cancel,
    })
}

fn read_on_cancel(place: &Place<'_>, report: &mut Report<'_>) -> Option<Action> {
    let (key, place) = place.single(report, "the task of `on_cancel`")?;
    if key.text == "script" {
        return place.text(report).map(Action::Script);
    }
    if !is_exec(&key.text, &place, report) {
        return None;
    }
    let mut section = place.section(report)?;
    if let Some(nested) = section.get("on_cancel") {
        nested.wrong(report, "a task of `on_cancel` cannot have one itself");
    }
    // The cancel task always runs; the key is legal and has no effect.
    section.get("run_if");
    let action = read_exec(&mut section, report);
    section.close(report);
    action
}

fn is_exec(kind: &str, place: &Place<'_>, report: &mut Report<'_>) -> bool {
    match kind {
        "exec" => true,
        "fetch" | "ant" | "nant" | "rake" | "plugin" => {
            place.wrong(
                report,
                format!("tasks of kind `{kind}` are not supported yet"),
            );
            false
        }
        _ => {
            let message = format!("`{kind}` is no kind of task: `exec` and `script` are");
            place.wrong(report, message);
            false
        }
    }
}

fn read_exec(section: &mut Section<'_>, report: &mut Report<'_>) -> Option<Action> {
    let place = section.required(report, "command");
    let command = place.as_ref().and_then(|place| place.text(report));
    let arguments = section
        .get("arguments")
        .map(|place| place.texts(report))
        .unwrap_or_default();
    let directory = section.get("working_directory");
    let working_directory = directory.as_ref().and_then(|place| place.text(report));
    if let (Some(place), Some(path)) = (&directory, &working_directory) {
        report.check(place, names::check_inside(path));
    }
    let command = command?;
    let nul = command.contains('\0') || arguments.iter().any(|word| word.contains('\0'));
    if let Some(place) = place
        && (command.trim().is_empty() || nul)
    {
        place.wrong(report, "the command is blank or holds a NUL character");
    }
    Some(Action::Exec {
        command,
        arguments,
        working_directory,
    })
}
