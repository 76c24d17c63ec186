//! The tasks of a job: what each kind does and how it went.

pub(crate) mod arguments;
mod command;
mod executable;
mod output;
pub(crate) mod spawn;

use std::{path::PathBuf, sync::Arc, time::Duration};

use journeyman_protocol::{builder::Builder, console::Tag, fetch::FetchHandler};
use tokio_util::sync::CancellationToken;

use super::{
    cancelled::Cancelled, console::Console, containment::Children, environment::Environment, fetch,
    masking::Mask, server::JobServer,
};
use command::ExecTask;
pub(crate) use {
    command::as_java_has_it,
    executable::find as find_executable,
    output::{Pipe, Pumps},
};

/// What every task of a job needs.
#[derive(Clone)]
pub(crate) struct TaskContext {
    pub(crate) console: Console,
    pub(crate) environment: Arc<Environment>,
    pub(crate) mask: Mask,
    pub(crate) children: Children,
    /// The agent's working directory, absolute.
    pub(crate) root: PathBuf,
    /// A folder for temporary files that goes with the job, absolute.
    pub(crate) scratch: PathBuf,
    pub(crate) server: JobServer,
    /// Ends what this process does itself for a task; programs are ended by [`KillAll`].
    pub(crate) stop: CancellationToken,
    pub(crate) kill: Arc<dyn KillAll>,
    pub(crate) cancelled: Cancelled,
    /// How long a task waits, after its own process has ended, for background processes that
    /// still hold its output. GoCD waits for ever, so a forgotten daemon hangs its job.
    pub(crate) output_limit: Duration,
}

/// Ends the processes of the job when a task of that kind asks for it.
pub(crate) trait KillAll: Send + Sync {
    /// First asks them to end, at the second call makes them. Prints what it does.
    fn kill_all(&self);
}

/// How a task went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) passed: bool,
    /// Exit code other than 0 of the task's process; none when there was no process.
    pub(crate) exit_code: Option<i32>,
}

impl Outcome {
    pub(crate) const PASSED: Self = Self {
        passed: true,
        exit_code: None,
    };
    pub(crate) const FAILED: Self = Self {
        passed: false,
        exit_code: None,
    };
}

/// Why this agent cannot run a task, if it cannot: said before anything of the job is done.
pub(crate) fn unsupported(builder: &Builder) -> Option<String> {
    let why = match builder {
        Builder::CommandBuilder(_)
        | Builder::CommandBuilderWithArgList(_)
        | Builder::BuilderForKillAllChildTask(_)
        | Builder::NullBuilder(_) => return None,
        Builder::PluggableTaskBuilder(task) => format!(
            "it needs the plugin `{}`, and plugins run in GoCD's Java agent only",
            task.plugin_id
        ),
        Builder::FetchPluggableArtifactBuilder(task) => format!(
            "it needs the artifact plugin `{}`, and plugins run in GoCD's Java agent only",
            task.artifact_store.plugin_id
        ),
        Builder::FetchArtifactBuilder(task) => match &task.handler {
            FetchHandler::Unknown(handler) => format!(
                "this version of the agent does not know its handler `{}`",
                handler.kind
            ),
            _ => return None,
        },
        Builder::Unknown(_) => "this version of the agent does not know it".to_owned(),
    };
    Some(format!(
        "[go] This agent cannot run a task of the kind {}: {why}.",
        builder.kind()
    ))
}

/// What the console calls the task.
pub(crate) fn description(builder: &Builder) -> &str {
    match (builder, builder.attributes()) {
        (_, Some(attributes)) => &attributes.description,
        (Builder::Unknown(document), None) => document
            .members
            .get("description")
            .and_then(|value| value.as_str())
            .unwrap_or(&document.kind),
        (_, None) => builder.kind(),
    }
}

/// Runs a task to its end. Blocks.
pub(crate) fn run(builder: &Builder, context: &TaskContext) -> Outcome {
    match builder {
        Builder::CommandBuilder(task) => match arguments::split(&task.args) {
            Ok(args) => command::run(
                &ExecTask {
                    command: &task.command,
                    args: &args,
                    working_dir: &task.working_dir,
                    error_string: &task.error_string,
                },
                context,
            ),
            Err(error) => {
                // GoCD prints nothing here, and neither do we: the status line tells.
                let error = error.to_string();
                tracing::warn!(error = %context.console.hide(&error), "Task was not started");
                Outcome::FAILED
            }
        },
        Builder::CommandBuilderWithArgList(task) => command::run(
            &ExecTask {
                command: &task.command,
                args: &task.args,
                working_dir: &task.working_dir,
                error_string: &task.error_string,
            },
            context,
        ),
        Builder::BuilderForKillAllChildTask(_) => {
            context.kill.kill_all();
            Outcome::PASSED
        }
        Builder::NullBuilder(_) => Outcome::PASSED,
        Builder::FetchArtifactBuilder(task) => fetch::run(task, context),
        Builder::FetchPluggableArtifactBuilder(_)
        | Builder::PluggableTaskBuilder(_)
        | Builder::Unknown(_) => {
            if let Some(why) = unsupported(builder) {
                context.console.line(Tag::Err, &why);
            }
            Outcome::FAILED
        }
    }
}
