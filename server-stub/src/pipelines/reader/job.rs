//! Jobs, their artifacts and tasks.

use crate::pipelines::definition::{
    Action, Artifact, ArtifactKind, Fetch, Job, RunIf, Stage, Task,
};
use crate::pipelines::names;

use super::section::{Place, Report, Section};

/// The keys of a job that this server does not have yet. `properties` is not among them: GoCD
/// itself ignores it.
const NOT_YET: [&str; 2] = ["elastic_profile_id", "tabs"];

/// Up to this version of the format a job without tasks got one that does nothing.
const LAST_VERSION_WITH_EMPTY_JOBS: u32 = 10;

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
        tasks: read_tasks(section, around, report),
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

fn read_tasks(
    section: &mut Section<'_>,
    around: &Around<'_>,
    report: &mut Report<'_>,
) -> Vec<Task> {
    let items = section.get("tasks").map(|place| place.list(report));
    match items {
        Some(items) if !items.is_empty() => items
            .iter()
            .filter_map(|item| read_task(item, around, report))
            .collect(),
        _ if around.version <= LAST_VERSION_WITH_EMPTY_JOBS => vec![Task {
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

fn read_task(item: &Place<'_>, around: &Around<'_>, report: &mut Report<'_>) -> Option<Task> {
    let (key, place) = item.single(report, "a task")?;
    if key.text == "script" {
        return Some(Task {
            action: Action::Script(place.text(report)?),
            run_if: RunIf::Passed,
            on_cancel: None,
        });
    }
    let is_fetch = key.text == "fetch";
    if !is_fetch && !is_exec(&key.text, &place, report) {
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
    let (action, on_cancel) = if is_fetch {
        (read_fetch(&mut section, around, report), None)
    } else {
        let on_cancel = section
            .get("on_cancel")
            .and_then(|place| read_on_cancel(&place, report));
        (read_exec(&mut section, report), on_cancel)
    };
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

fn read_fetch(
    section: &mut Section<'_>,
    around: &Around<'_>,
    report: &mut Report<'_>,
) -> Option<Action> {
    if let Some(place) = section.get("artifact_origin")
        && place.text(report).is_some_and(|origin| origin != "gocd")
    {
        place.wrong(
            report,
            "only artifacts of the `gocd` origin are supported yet",
        );
    }
    if let Some(place) = section.get("pipeline")
        && place
            .text(report)
            .is_some_and(|name| !name.is_empty() && !name.eq_ignore_ascii_case(around.pipeline))
    {
        place.wrong(
            report,
            "fetching from another pipeline is not supported yet",
        );
    }
    let stage_place = section.required(report, "stage");
    let job_place = section.required(report, "job");
    let is_file = section.boolean(report, "is_file", false);
    let mut path = |place: Option<Place<'_>>| {
        let place = place?;
        let text = place.text(report)?.replace('\\', "/");
        report.check(&place, names::check_inside(&text));
        Some(text)
    };
    let destination = path(section.get("destination")).unwrap_or_default();
    let source = section.get("source");
    let is_there = source.is_some();
    let source = path(source);
    if !is_there {
        report.wrong(section.at, &section.path, "`source` is missing");
    }
    let stage = stage_place.as_ref()?.text(report)?;
    let job = job_place.as_ref()?.text(report)?;
    // Case does not count in names; what is sent is how they are defined.
    let from = around
        .earlier
        .iter()
        .find(|known| known.name.eq_ignore_ascii_case(&stage));
    let Some(from) = from else {
        let message = format!("there is no stage `{stage}` before this one");
        stage_place?.wrong(report, message);
        return None;
    };
    let mut jobs = from.jobs.iter();
    let Some(known) = jobs.find(|known| known.name.eq_ignore_ascii_case(&job)) else {
        let message = format!("the stage `{}` has no job `{job}`", from.name);
        job_place?.wrong(report, message);
        return None;
    };
    Some(Action::Fetch(Fetch {
        stage: from.name.clone(),
        job: known.name.clone(),
        source: source?,
        is_file,
        destination,
    }))
}

fn is_exec(kind: &str, place: &Place<'_>, report: &mut Report<'_>) -> bool {
    match kind {
        "exec" => true,
        "ant" | "nant" | "rake" | "plugin" => {
            place.wrong(
                report,
                format!("tasks of kind `{kind}` are not supported yet"),
            );
            false
        }
        _ => {
            let message =
                format!("`{kind}` is no kind of task here: `exec`, `script` and `fetch` are");
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
