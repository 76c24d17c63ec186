//! Tasks of a job.

use crate::pipelines::definition::{Action, Build, BuildTool, Fetch, RunIf, Task};
use crate::pipelines::names;
use crate::pipelines::yaml::Value;

use super::job::Around;
use super::links::Target;
use super::section::{Place, Report, Section};

/// Up to this version of the format a job without tasks got one that does nothing.
const LAST_VERSION_WITH_EMPTY_JOBS: u32 = 10;

/// The plugin that GoCD brings along for scripts; its tasks are the same as `script`.
const SCRIPT_PLUGIN: &str = "script-executor";

pub(super) fn read_all(
    section: &mut Section<'_>,
    around: &Around<'_>,
    report: &mut Report<'_>,
) -> Vec<Task> {
    let place = section.get("tasks");
    let is_list = |place: &Place<'_>| matches!(place.node.value, Value::List(_));
    let items = place.as_ref().map(|place| place.list(report));
    match items {
        Some(items) if !items.is_empty() => items
            .iter()
            .filter_map(|item| read(item, around, report))
            .collect(),
        // What is no list has been complained about.
        Some(_) if !place.as_ref().is_some_and(is_list) => Vec::new(),
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

fn read(item: &Place<'_>, around: &Around<'_>, report: &mut Report<'_>) -> Option<Task> {
    let (key, place) = item.single(report, "a task")?;
    let kind = key.text.as_str();
    if kind == "script" {
        return Some(Task {
            action: read_script(&place, report)?,
            run_if: RunIf::Passed,
            on_cancel: None,
        });
    }
    let mut section = section_of(kind, &place, report)?;
    let run_if = section
        .get("run_if")
        .and_then(|place| read_run_if(&place, report));
    let takes_cancel = matches!(kind, "exec" | "ant" | "nant" | "rake");
    let on_cancel = if takes_cancel {
        let place = section.get("on_cancel");
        place.and_then(|place| read_on_cancel(&place, report))
    } else {
        None
    };
    let action = match kind {
        "exec" => read_exec(&mut section, report),
        "fetch" => read_fetch(&mut section, around, report),
        "plugin" => read_plugin(&mut section, report),
        _ => read_build(kind, &mut section, report),
    };
    section.close(report);
    Some(Task {
        action: action?,
        run_if: run_if.unwrap_or(RunIf::Passed),
        on_cancel,
    })
}

/// The keys of a task of a known kind. `rake:` with nothing after it is a whole task.
fn section_of<'n>(kind: &str, place: &Place<'n>, report: &mut Report<'_>) -> Option<Section<'n>> {
    match kind {
        "ant" | "nant" | "rake" if matches!(place.node.value, Value::Absent) => {
            Some(place.empty_section())
        }
        "exec" | "ant" | "nant" | "rake" | "fetch" | "plugin" => place.section(report),
        _ => {
            let message = format!(
                "`{kind}` is no kind of task: `exec`, `script`, `fetch`, `ant`, `nant` and `rake` are"
            );
            place.wrong(report, message);
            None
        }
    }
}

fn read_run_if(place: &Place<'_>, report: &mut Report<'_>) -> Option<RunIf> {
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
}

fn read_on_cancel(place: &Place<'_>, report: &mut Report<'_>) -> Option<Action> {
    let (key, place) = place.single(report, "the task of `on_cancel`")?;
    let kind = key.text.as_str();
    if kind == "script" {
        return read_script(&place, report);
    }
    if kind == "fetch" {
        place.wrong(report, "nothing can be fetched on cancel");
        return None;
    }
    let mut section = section_of(kind, &place, report)?;
    if let Some(nested) = section.get("on_cancel") {
        nested.wrong(report, "a task of `on_cancel` cannot have one itself");
    }
    // The cancel task always runs; the key is legal and has no effect.
    section.get("run_if");
    let action = match kind {
        "exec" => read_exec(&mut section, report),
        "plugin" => read_plugin(&mut section, report),
        _ => read_build(kind, &mut section, report),
    };
    section.close(report);
    action
}

fn read_script(place: &Place<'_>, report: &mut Report<'_>) -> Option<Action> {
    let text = place.text(report)?;
    if text.trim().is_empty() || text.contains('\0') {
        place.wrong(report, "the script is blank or holds a NUL character");
    }
    Some(Action::Script(text))
}

fn read_exec(section: &mut Section<'_>, report: &mut Report<'_>) -> Option<Action> {
    let place = section.required(report, "command");
    let command = place.as_ref().and_then(|place| place.text(report));
    let arguments = section
        .get("arguments")
        .map(|place| place.texts(report))
        .unwrap_or_default();
    let working_directory = read_inside(section, "working_directory", report);
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

fn read_build(kind: &str, section: &mut Section<'_>, report: &mut Report<'_>) -> Option<Action> {
    let tool = match kind {
        "ant" => BuildTool::Ant,
        "nant" => BuildTool::Nant {
            path: section
                .get("nant_path")
                .and_then(|place| plain(&place, report)),
        },
        _ => BuildTool::Rake,
    };
    let build_file = section.get("build_file");
    let build_file = build_file.and_then(|place| {
        let text = plain(&place, report)?;
        // The agent splits the arguments again, and would do it in the middle of the name.
        if text.contains('"') {
            place.wrong(report, "the name of a build file has no quotation mark");
        }
        Some(text)
    });
    let target = section
        .get("target")
        .and_then(|place| plain(&place, report));
    Some(Action::Build(Build {
        tool,
        build_file,
        target,
        working_directory: read_inside(section, "working_directory", report),
    }))
}

/// A text without what no program can be given.
fn plain(place: &Place<'_>, report: &mut Report<'_>) -> Option<String> {
    let text = place.text(report)?;
    if text.contains('\0') {
        place.wrong(report, "a NUL character cannot stand here");
    }
    Some(text)
}

fn read_inside(
    section: &mut Section<'_>,
    name: &'static str,
    report: &mut Report<'_>,
) -> Option<String> {
    let place = section.get(name)?;
    let path = place.text(report)?;
    report.check(&place, names::check_inside(&path));
    Some(path)
}

/// Plugins are not run, but GoCD's own for scripts is what `script` is short for.
fn read_plugin(section: &mut Section<'_>, report: &mut Report<'_>) -> Option<Action> {
    let configuration = section.required(report, "configuration");
    let options = section.get("options");
    section.get("secure_options");
    let place = configuration?;
    let mut configuration = place.section(report)?;
    let id_place = configuration.required(report, "id");
    configuration.get("version");
    let id = id_place.as_ref()?.text(report)?;
    if id != SCRIPT_PLUGIN {
        let message =
            format!("tasks of kind `plugin` are not supported: this server does not run `{id}`");
        id_place.as_ref()?.wrong(report, message);
        return None;
    }
    let Some(options) = options else {
        place.wrong(report, "`options` with a `script` are missing");
        return None;
    };
    let mut options = options.section(report)?;
    if let Some(kind) = options.get("shtype")
        && kind.text(report).is_some_and(|kind| kind != "sh")
    {
        kind.wrong(
            report,
            "scripts run in `sh`; another shell is started by a task of kind `exec`",
        );
    }
    let script = options.required(report, "script");
    options.close(report);
    read_script(&script?, report)
}

fn read_fetch(
    section: &mut Section<'_>,
    around: &Around<'_>,
    report: &mut Report<'_>,
) -> Option<Action> {
    if let Some(place) = section.get("artifact_origin") {
        match place.text(report)?.as_str() {
            "gocd" => {}
            "external" => {
                place.wrong(
                    report,
                    "artifacts of the origin `external` need a plugin, which this server does not run",
                );
                section.known(&[
                    "artifact_id",
                    "configuration",
                    "source",
                    "job",
                    "stage",
                    "pipeline",
                ]);
                return None;
            }
            other => {
                let message = format!("`{other}` is neither `gocd` nor `external`");
                place.wrong(report, message);
            }
        }
    }
    let pipeline = section.get("pipeline");
    let stage_place = section.required(report, "stage");
    let job_place = section.required(report, "job");
    let is_file = section.boolean(report, "is_file", false);
    let source = section.required(report, "source");
    let destination = section.get("destination");
    let mut path = |place: Option<Place<'_>>| {
        let place = place?;
        let text = place.text(report)?.replace('\\', "/");
        report.check(&place, names::check_inside(&text));
        Some(text)
    };
    let destination = path(destination).unwrap_or_default();
    let source = path(source);
    let ancestors = match &pipeline {
        Some(place) => read_ancestors(place, around, report)?,
        None => Vec::new(),
    };
    let stage = stage_place.as_ref().and_then(|place| place.text(report));
    let job = job_place.as_ref().and_then(|place| place.text(report));
    let mut fetch = Fetch {
        ancestors,
        stage: stage?,
        job: job?,
        source: source?,
        is_file,
        destination,
    };
    if let Some(place) = pipeline.filter(|_| !fetch.ancestors.is_empty()) {
        let target = Target::Artifacts(fetch.clone());
        report.link(place.node.at, &place.path, around.pipeline, target);
        return Some(Action::Fetch(fetch));
    }
    // Case does not count in names; what is sent is how they are defined.
    let mut earlier = around.earlier.iter();
    let Some(from) = earlier.find(|known| known.name.eq_ignore_ascii_case(&fetch.stage)) else {
        let message = format!("there is no stage `{}` before this one", fetch.stage);
        stage_place?.wrong(report, message);
        return None;
    };
    let mut jobs = from.jobs.iter();
    let Some(job) = jobs.find_map(|known| known.fetched_as(&fetch.job)) else {
        let message = format!("the stage `{}` has no job `{}`", from.name, fetch.job);
        job_place?.wrong(report, message);
        return None;
    };
    fetch.stage.clone_from(&from.name);
    fetch.job = job;
    Some(Action::Fetch(fetch))
}

/// `further/nearer`; nothing for the pipeline itself.
fn read_ancestors(
    place: &Place<'_>,
    around: &Around<'_>,
    report: &mut Report<'_>,
) -> Option<Vec<String>> {
    let text = place.text(report)?;
    if text.is_empty() || text.eq_ignore_ascii_case(around.pipeline) {
        return Some(Vec::new());
    }
    let ancestors: Vec<String> = text.split('/').map(|one| one.trim().to_owned()).collect();
    for name in &ancestors {
        report.check(place, names::check_name(name));
    }
    Some(ancestors)
}
