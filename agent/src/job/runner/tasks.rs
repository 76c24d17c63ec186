//! The tasks of a job, one after the other.

use std::{path::Path, sync::Arc, time::Instant};

use journeyman_protocol::{
    builder::{Builder, RunIf},
    console::Tag,
    job::JobResult,
};
use tokio_util::sync::CancellationToken;

use super::cancel::{Cancel, ChildProcesses};
use crate::job::{
    console::Console,
    shortage::{self, MemoryKills},
    tasks::{self, Outcome, TaskContext},
};

/// Runs the tasks whose conditions hold, and returns the result of the job so far. Blocks.
/// `folder` is the job's working directory, absolute.
pub(super) fn run_all(
    builders: &[Builder],
    folder: &Path,
    context: &TaskContext,
    cancel: &Cancel,
) -> JobResult {
    let mut result = JobResult::Passed;
    let mut disk_is_named = false;
    for builder in builders {
        let conditions = builder
            .attributes()
            .map_or(&[][..], |attributes| attributes.conditions.as_slice());
        if !RunIf::allows(conditions, result) {
            continue;
        }
        // Each task has its own way to be killed: asked first, and made at a second call.
        let context = TaskContext {
            kill: Arc::new(ChildProcesses::new(context.console.clone())),
            stop: CancellationToken::new(),
            ..context.clone()
        };
        let begun = Instant::now();
        if !cancel.enter_task(builder, &context) {
            break;
        }
        let console = &context.console;
        let description = console.hide(tasks::description(builder));
        console.verbatim(Tag::TaskStart, &format!("[go] Task: {description}"));
        let kills = MemoryKills::now();
        let outcome = tasks::run(builder, &context);
        cancel.in_nothing();
        let cancelled = cancel.has_begun();
        if !outcome.passed {
            result = JobResult::Failed;
            if !cancelled {
                name_shortage(console, folder, kills, outcome, &mut disk_is_named);
            }
        }
        status_line(console, outcome, begun.elapsed().as_millis(), cancelled);
    }
    if cancel.has_begun() {
        JobResult::Cancelled
    } else {
        result
    }
}

/// Says why a task may have failed, when the machine is short of something.
fn name_shortage(
    console: &Console,
    folder: &Path,
    before: MemoryKills,
    outcome: Outcome,
    disk_is_named: &mut bool,
) {
    if let Some(why) = before.explain(MemoryKills::now(), outcome.exit_code) {
        console.line(Tag::Err, &format!("[go] {why}"));
    }
    if !*disk_is_named && let Some(why) = shortage::cannot_write(folder) {
        *disk_is_named = true;
        console.line(
            Tag::Err,
            &format!("[go] The task may have failed because {why}"),
        );
    }
}

fn status_line(console: &Console, outcome: Outcome, milliseconds: u128, cancelled: bool) {
    let (word, tag) = if outcome.passed {
        ("passed", Tag::TaskPass)
    } else {
        ("failed", Tag::TaskFail)
    };
    let code = outcome
        .exit_code
        .map_or(String::new(), |code| format!(" (exit code: {code})"));
    console.verbatim(
        if cancelled { Tag::TaskCancelled } else { tag },
        &format!("[go] Task status: {word} ({milliseconds} ms){code}"),
    );
}
