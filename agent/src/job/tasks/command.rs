//! Exec tasks: a program with its arguments, no shell.

use std::{
    os::unix::process::{CommandExt, ExitStatusExt},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use journeyman_protocol::console::Tag;

use super::{
    Outcome, TaskContext,
    executable::{candidates, is_next_tried, search_path},
    output::{End, Pipe, Pumps},
    spawn::in_own_session,
};
use crate::job::containment::members_of_group;

/// What an exec task runs.
pub(crate) struct ExecTask<'a> {
    pub(crate) command: &'a str,
    pub(crate) args: &'a [String],
    /// Relative to the agent's working directory, or absolute.
    pub(crate) working_dir: &'a Path,
    /// A line of output equal to this, trimmed and in any letter case, fails the task.
    pub(crate) error_string: &'a str,
}

/// Runs the task to its end and says how it went. Blocks.
pub(crate) fn run(task: &ExecTask<'_>, context: &TaskContext) -> Outcome {
    let working_dir = context.root.join(task.working_dir);
    if !working_dir.is_dir() {
        context.console.line(
            Tag::Err,
            &format!(
                "Working directory \"{}\" is not a directory!",
                as_java_has_it(&working_dir)
            ),
        );
        return Outcome::FAILED;
    }
    if let Some(name) = context.environment.impossible_name() {
        // GoCD prints nothing here, and neither do we: the status line tells.
        tracing::warn!(
            name,
            "Task was not started: no process can have this variable"
        );
        return Outcome::FAILED;
    }
    match execute(task, &working_dir, context) {
        Ok((status, error_seen)) => judge(status, error_seen),
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                command = %context.console.hide(task.command),
                "Task was not started"
            );
            print_start_failure(task, context);
            Outcome::FAILED
        }
    }
}

fn execute(
    task: &ExecTask<'_>,
    working_dir: &Path,
    context: &TaskContext,
) -> std::io::Result<(ExitStatus, bool)> {
    let mut child = start(task, working_dir, context)?;
    let error_seen = Arc::new(AtomicBool::new(false));
    let mut pipes = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        pipes.push(Pipe {
            reader: Box::new(stdout),
            stream: context.console.stream(Tag::Out, "", context.mask.clone()),
            on_line: watch_for(task.error_string, &error_seen),
        });
    }
    if let Some(stderr) = child.stderr.take() {
        pipes.push(Pipe {
            reader: Box::new(stderr),
            stream: context.console.stream(Tag::Err, "", context.mask.clone()),
            on_line: watch_for(task.error_string, &error_seen),
        });
    }
    let pumps = Pumps::start(pipes, context.console.charset());
    let status = context.children.wait(&mut child)?;
    let limit = context.output_limit;
    let end = pumps?.wait_unless(limit, || context.cancelled.has_ended_all());
    // At a cancel there is nobody left who could be waited for.
    if end == End::GivenUp && !context.cancelled.has_begun() {
        context.console.line(
            Tag::Err,
            &format!(
                "[go] The task has ended, but a process that it left behind still holds its output \
                 after {} seconds. The job goes on, and what that process prints from now on is not \
                 shown. Redirect its output, or raise `journeyman.task.output.limit`.",
                limit.as_secs()
            ),
        );
    }
    Ok((status, error_seen.load(Ordering::Relaxed)))
}

/// Starts the first of the files for the command that can be run.
fn start(task: &ExecTask<'_>, working_dir: &Path, context: &TaskContext) -> std::io::Result<Child> {
    let mut failure = std::io::ErrorKind::NotFound.into();
    for program in candidates(task.command, working_dir) {
        // A pipe that is closed at once, as GoCD's, and not /dev/null: programs can tell.
        let (closed, _) = std::io::pipe()?;
        let mut command = Command::new(program);
        command
            .arg0(task.command)
            .args(task.args)
            .current_dir(working_dir)
            .envs(context.environment.overlay())
            .stdin(closed)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        match context
            .children
            .spawn(|| in_own_session(&mut command, members_of_group()))
        {
            Err(error) if is_next_tried(&error) => failure = error,
            started => return started,
        }
    }
    Err(failure)
}

fn watch_for(error_string: &str, seen: &Arc<AtomicBool>) -> Box<dyn FnMut(&str) + Send> {
    if error_string.is_empty() {
        return Box::new(|_| {});
    }
    let (wanted, seen) = (error_string.to_lowercase(), Arc::clone(seen));
    Box::new(move |line| {
        let line = line.trim_matches(|c| c <= ' ');
        // Comparing lengths first keeps this cheap for the lines of a whole build.
        if line.len() <= 2 * wanted.len() && line.to_lowercase() == wanted {
            seen.store(true, Ordering::Relaxed);
        }
    })
}

fn judge(status: ExitStatus, error_seen: bool) -> Outcome {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(-1);
    Outcome {
        passed: code == 0 && !error_seen,
        exit_code: (code != 0).then_some(code),
    }
}

fn print_start_failure(task: &ExecTask<'_>, context: &TaskContext) {
    let mut words = vec![task.command];
    words.extend(task.args.iter().map(String::as_str));
    let first = format!(
        "Error happened while attempting to execute '{}'. \nPlease make sure [{}] can be executed \
         on this agent.\n",
        words.join(" "),
        task.command
    );
    let second = format!(
        "[Debug Information] Environment variable PATH: {}",
        search_path().map_or("null".into(), |path| path.to_string_lossy().into_owned())
    );
    for text in [first, second] {
        context
            .console
            .verbatim(Tag::Err, &context.mask.apply(&text));
    }
}

/// The path without doubled slashes and one at its end; `.` and `..` stay.
pub(crate) fn as_java_has_it(path: &Path) -> String {
    let mut text = path.display().to_string();
    while let Some(at) = text.find("//") {
        text.remove(at);
    }
    if text.len() > 1 && text.ends_with('/') {
        text.pop();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_folder_is_named_as_gocd_names_it() {
        for (path, shown) in [
            (
                "/a/pipelines/web/../web/./none",
                "/a/pipelines/web/../web/./none",
            ),
            ("/a/pipelines//web/none/", "/a/pipelines/web/none"),
            ("/", "/"),
        ] {
            assert_eq!(as_java_has_it(Path::new(path)), shown);
        }
    }
}
