//! The document an agent gets for a job.

use std::path::{Path, PathBuf};

use journeyman_protocol::{
    artifact::ArtifactPlan,
    builder::{Builder, BuilderAttributes, CommandBuilder, CommandBuilderWithArgList, RunIf},
    fetch::{ChecksumFileHandler, DirHandler, FetchArtifactBuilder, FetchHandler, FileHandler},
    job::JobIdentifier,
    material::Material,
    work::{BuildAssignment, BuildWork},
};

use super::run::{self, JobRow, Run, StageRow};
use super::upstream::Origins;
use super::variables::{self, Setting};
use crate::pipelines::cipher::Cipher;
use crate::pipelines::definition::{self, Action, ArtifactKind, Build, BuildTool, Fetch, Task};
use crate::pipelines::location;

/// The only charset consoles have here.
const CHARSET: &str = "UTF-8";

/// Where test reports go when nothing else is said. GoCD's default.
const TEST_OUTPUT: &str = "testoutput";

/// The line of ant's and nant's output that says it failed, whatever it exits with.
const BUILD_FAILED: &str = "BUILD FAILED";

/// What runs a script.
const SHELL: &str = "/bin/sh";

/// The document for a job, or what is wrong with what the run was started from. `stages` are those
/// of the run, the newest of each name last; `origins` the upstream runs that the job fetches from.
pub(super) fn document(
    run: &Run,
    stages: &[StageRow],
    origins: &Origins,
    stage_row: &StageRow,
    job_row: &JobRow,
    agent_resources: &[String],
) -> Result<BuildWork, String> {
    let (_, stage) = run
        .definition
        .stage(&stage_row.name)
        .ok_or("its stage is not in the run's definition")?;
    let job = run
        .definition
        .job(&stage_row.name, &job_row.name)
        .ok_or("it is not in the run's definition")?;
    let folder = PathBuf::from("pipelines").join(&run.pipeline);
    let known = Known {
        run,
        stages,
        origins,
    };
    let setting = Setting {
        run,
        stage_row,
        stage,
        job_row,
        job,
        agent_resources,
    };
    let plan = |artifact: &definition::Artifact| ArtifactPlan {
        build_id: job_row.id,
        ..match artifact.kind {
            ArtifactKind::Build => ArtifactPlan::file(&artifact.source, &artifact.destination),
            ArtifactKind::Test if artifact.destination.is_empty() => {
                ArtifactPlan::unit(&artifact.source, TEST_OUTPUT)
            }
            ArtifactKind::Test => ArtifactPlan::unit(&artifact.source, &artifact.destination),
        }
    };
    Ok(BuildWork {
        assignment: BuildAssignment {
            fetch_materials: stage.fetch_materials,
            clean_working_directory: stage.clean_workspace,
            builders: job
                .tasks
                .iter()
                .map(|task| builder(task, &known, &folder))
                .collect::<Result<_, _>>()?,
            artifact_plans: job.artifacts.iter().map(plan).collect(),
            artifact_stores: Vec::new(),
            job_identifier: run::identifier(run, stage_row, job_row),
            initial_context: variables::context(&setting),
            material_revisions: run.revisions.clone(),
            approver: Some(variables::trigger_user(run).to_owned()),
            build_working_directory: folder,
        },
        console_log_charset: CHARSET.to_owned(),
    })
}

/// Decrypts what the configuration has encrypted, for the agent alone: it is stored as it was.
pub(super) fn reveal(mut work: BuildWork, cipher: &Cipher) -> Result<BuildWork, String> {
    let assignment = &mut work.assignment;
    for variable in &mut assignment.initial_context.properties {
        if variable.secure
            && let Some(value) = &mut variable.value
        {
            let failed = |error| format!("the variable {}: {error}", variable.name);
            *value = cipher.reveal(value).map_err(failed)?;
        }
    }
    for revision in &mut assignment.material_revisions.revisions {
        if let Material::GitMaterial(git) = &mut revision.material
            && let Some(password) = &mut git.scm.password
        {
            let url = location::without_credentials(&git.url.url);
            let failed = |error| format!("the password of {url}: {error}");
            *password = cipher.reveal(password.expose()).map_err(failed)?.into();
        }
    }
    Ok(work)
}

/// What artifacts can be fetched from.
struct Known<'a> {
    run: &'a Run,
    stages: &'a [StageRow],
    origins: &'a Origins,
}

fn builder(task: &Task, known: &Known<'_>, folder: &Path) -> Result<Builder, String> {
    let pipeline = &known.run.pipeline;
    let mut attributes = BuilderAttributes::described(describe(&task.action, pipeline));
    attributes.conditions = match task.run_if {
        // What GoCD sends when nothing is said, and what it means.
        definition::RunIf::Passed => Vec::new(),
        definition::RunIf::Failed => vec![RunIf::Failed],
        definition::RunIf::Any => vec![RunIf::Any],
    };
    let make = |action: &Action, attributes| match action {
        Action::Fetch(what) => fetch(what, known, folder, attributes),
        Action::Exec {
            command,
            arguments,
            working_directory,
        } => Ok(exec(
            command,
            arguments,
            working_directory.as_deref(),
            folder,
            attributes,
        )),
        Action::Build(build) => Ok(build_tool(build, folder, attributes)),
        Action::Script(text) => Ok(Builder::CommandBuilderWithArgList(
            CommandBuilderWithArgList {
                args: vec!["-c".to_owned(), text.clone()],
                command: SHELL.to_owned(),
                working_dir: folder.to_path_buf(),
                error_string: String::new(),
                attributes,
            },
        )),
    };
    if let Some(on_cancel) = &task.on_cancel {
        let of_cancel = BuilderAttributes::described(describe(on_cancel, pipeline));
        attributes.cancel_builder = Some(Box::new(make(on_cancel, of_cancel)?));
    }
    make(&task.action, attributes)
}

fn fetch(
    what: &Fetch,
    known: &Known<'_>,
    folder: &Path,
    attributes: BuilderAttributes,
) -> Result<Builder, String> {
    let run = known.run;
    let (pipeline, counter, label, stage_counter) = if what.ancestors.is_empty() {
        // GoCD: the stage's newest run there is now, or `latest`.
        let mut stages = known.stages.iter();
        let newest = stages.rfind(|stage| stage.name == what.stage);
        let stage_counter = newest.map_or("latest".to_owned(), |stage| stage.counter.to_string());
        (&run.pipeline, run.counter, &run.label, stage_counter)
    } else {
        let origin = known.origins.get(&what.ancestors).ok_or_else(|| {
            format!(
                "it fetches from {}, and the run was not made with a run of it",
                what.ancestors.join("/")
            )
        })?;
        let stage_counter = origin.stage_counter(&what.stage);
        (
            &origin.pipeline,
            origin.counter,
            &origin.label,
            stage_counter,
        )
    };
    let to: PathBuf = folder.join(&what.destination).components().collect();
    let name = what.source.rsplit('/').next().unwrap_or_default();
    let handler = if what.is_file {
        FetchHandler::FileHandler(FileHandler {
            artifact: to.join(name),
            src_file: what.source.clone(),
            ..FileHandler::default()
        })
    } else {
        FetchHandler::DirHandler(DirHandler {
            src_file: what.source.clone(),
            dest_on_agent: to.clone(),
            ..DirHandler::default()
        })
    };
    let checksums = format!("{}_{}_{}_md5.checksum", pipeline, what.stage, what.job);
    Ok(Builder::FetchArtifactBuilder(FetchArtifactBuilder {
        job_identifier: JobIdentifier {
            pipeline_name: pipeline.clone(),
            pipeline_counter: i32::try_from(counter).unwrap_or(i32::MAX),
            pipeline_label: label.clone(),
            stage_name: what.stage.clone(),
            stage_counter,
            build_name: what.job.clone(),
            ..JobIdentifier::default()
        },
        srcdir: what.source.clone(),
        dest: what.destination.clone(),
        handler,
        checksum_file_handler: ChecksumFileHandler {
            checksum_file: to.join(checksums),
        },
        attributes,
    }))
}

fn exec(
    command: &str,
    arguments: &[String],
    working_directory: Option<&str>,
    folder: &Path,
    attributes: BuilderAttributes,
) -> Builder {
    let working_dir = working_dir(working_directory, folder);
    // GoCD: without arguments it is the form with one string for all of them.
    if arguments.is_empty() {
        Builder::CommandBuilder(CommandBuilder {
            args: String::new(),
            command: command.to_owned(),
            working_dir,
            error_string: String::new(),
            attributes,
        })
    } else {
        Builder::CommandBuilderWithArgList(CommandBuilderWithArgList {
            args: arguments.to_vec(),
            command: command.to_owned(),
            working_dir,
            error_string: String::new(),
            attributes,
        })
    }
}

fn build_tool(build: &Build, folder: &Path, attributes: BuilderAttributes) -> Builder {
    let (command, args) = command_of(build);
    let error_string = match build.tool {
        BuildTool::Ant | BuildTool::Nant { .. } => BUILD_FAILED.to_owned(),
        BuildTool::Rake => String::new(),
    };
    Builder::CommandBuilder(CommandBuilder {
        args,
        command,
        working_dir: working_dir(build.working_directory.as_deref(), folder),
        error_string,
        attributes,
    })
}

/// Program and arguments, in one string as GoCD has them.
fn command_of(build: &Build) -> (String, String) {
    let (command, option) = match &build.tool {
        BuildTool::Ant => ("ant".to_owned(), "-f "),
        BuildTool::Nant { path: None } => ("nant".to_owned(), "-buildfile:"),
        BuildTool::Nant { path: Some(path) } => {
            let path = path.trim_end_matches('/');
            (format!("{path}/nant"), "-buildfile:")
        }
        BuildTool::Rake => ("rake".to_owned(), "-f "),
    };
    let given = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
    let file = given(&build.build_file).map(|file| format!("{option}\"{file}\""));
    let parts: Vec<String> = file.into_iter().chain(given(&build.target)).collect();
    (command, parts.join(" "))
}

fn working_dir(inside: Option<&str>, folder: &Path) -> PathBuf {
    match inside {
        Some(inside) if !matches!(inside, "" | ".") => folder.join(inside),
        _ => folder.to_path_buf(),
    }
}

/// What the console shows after `Task: `. A script shows as its first line: the console has a
/// line for each task, not a page.
fn describe(action: &Action, pipeline: &str) -> String {
    match action {
        Action::Build(build) => {
            let (command, args) = command_of(build);
            let folder = build.working_directory.as_deref();
            let folder = folder.map(|folder| format!("(workingDirectory: {folder})"));
            let words = [command, args].into_iter().chain(folder);
            let words: Vec<String> = words.filter(|word| !word.is_empty()).collect();
            words.join(" ")
        }
        Action::Fetch(Fetch {
            ancestors,
            stage,
            job,
            source,
            destination,
            ..
        }) => {
            let pipeline = match ancestors.is_empty() {
                true => pipeline.to_owned(),
                false => ancestors.join("/"),
            };
            format!("fetch artifact [{source}] => [{destination}] from [{pipeline}/{stage}/{job}]")
        }
        Action::Exec {
            command, arguments, ..
        } => {
            let words = std::iter::once(command).chain(arguments);
            words.map(|word| quote(word)).collect::<Vec<_>>().join(" ")
        }
        Action::Script(text) => {
            let mut lines = text.lines().filter(|line| !line.trim().is_empty());
            let first = lines.next().unwrap_or_default().trim();
            let more = if lines.next().is_some() { " …" } else { "" };
            format!("script: {first}{more}")
        }
    }
}

/// GoCD's quoting for display: only what would be torn apart, and not what is quoted already.
fn quote(word: &str) -> String {
    let quoted_already = ['\'', '"']
        .iter()
        .any(|mark| word.len() > 2 && word.starts_with(*mark) && word.ends_with(*mark));
    let mut escaped = false;
    let torn = word.chars().any(|c| {
        let bare = !escaped && matches!(c, ' ' | '\'' | '"');
        escaped = !escaped && c == '\\';
        bare
    });
    if quoted_already || !torn {
        word.to_owned()
    } else {
        format!("\"{}\"", word.replace('"', "\\\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_display_as_gocd_does() {
        let table = [
            ("I have nothing", "\"I have nothing\""),
            (
                "java is a \"fun\" language",
                "\"java is a \\\"fun\\\" language\"",
            ),
            ("ohrly?", "ohrly?"),
            ("\"already quoted\"", "\"already quoted\""),
            ("no\\ spaces", "no\\ spaces"),
        ];
        for (word, expected) in table {
            assert_eq!(quote(word), expected);
        }
        let action = Action::Exec {
            command: "bash".into(),
            arguments: vec!["-c".into(), "a \"b\"".into()],
            working_directory: None,
        };
        assert_eq!(describe(&action, "app"), "bash -c \"a \\\"b\\\"\"");
    }
}
