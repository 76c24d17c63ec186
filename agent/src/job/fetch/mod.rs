//! Fetch tasks: bringing in what another job has published.
//!
//! Every file comes under a temporary name in the job's own folder and is renamed to its place: a
//! file that is there is whole, whoever is killed when.

mod checksums;
mod download;
mod place;
mod target;

use journeyman_protocol::{
    console::Tag,
    fetch::{FetchArtifactBuilder, FetchHandler},
    files,
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use self::{
    checksums::Checksums,
    download::{FetchError, Pauses, RealPauses},
    target::{ChecksumFile, OneFile, WholeFolder},
};
use super::tasks::{Outcome, TaskContext, as_java_has_it};

/// Runs the task to its end and says how it went. Blocks.
pub(crate) fn run(task: &FetchArtifactBuilder, context: &TaskContext) -> Outcome {
    run_with(task, context, &RealPauses)
}

fn run_with(task: &FetchArtifactBuilder, context: &TaskContext, pauses: &dyn Pauses) -> Outcome {
    context.console.line(
        Tag::Out,
        &format!(
            "[go] Fetching artifact [{}] from [{}]",
            task.srcdir,
            task.job_identifier.display_locator()
        ),
    );
    match fetch(task, context, pauses) {
        Ok(()) => Outcome::PASSED,
        Err(error) => {
            tracing::warn!(%error, source = task.srcdir, "A fetch failed");
            context.console.line(
                Tag::Err,
                &format!(
                    "[go] Failed to save artifact [{}] to [{}]",
                    task.srcdir, task.dest
                ),
            );
            Outcome::FAILED
        }
    }
}

fn fetch(
    task: &FetchArtifactBuilder,
    context: &TaskContext,
    pauses: &dyn Pauses,
) -> Result<(), FetchError> {
    let job = &task.job_identifier;
    let checksum_file = context.root.join(&task.checksum_file_handler.checksum_file);
    download::perform(
        &files::file_path(job, files::CHECKSUM_FILE),
        &mut ChecksumFile {
            path: &checksum_file,
        },
        context,
        pauses,
    )?;
    match &task.handler {
        FetchHandler::FileHandler(handler) => {
            let path = context.root.join(&handler.artifact);
            // GoCD: asked once, so that further tries bring the file whatever the first one left.
            let known = target::sha1(&path)?.map_or(String::new(), |sha1| {
                format!(
                    "?{}={}",
                    files::SHA1,
                    utf8_percent_encode(&sha1, NON_ALPHANUMERIC)
                )
            });
            download::perform(
                &format!("{}{known}", files::file_path(job, &task.srcdir)),
                &mut OneFile {
                    shown: as_java_has_it(&handler.artifact),
                    path: &path,
                    key: &handler.src_file,
                    verification: Checksums::of(&checksum_file, &handler.src_file)?,
                },
                context,
                pauses,
            )
        }
        FetchHandler::DirHandler(handler) => {
            let above = parent(&handler.src_file);
            download::perform(
                &format!("{}.zip", files::file_path(job, &task.srcdir)),
                &mut WholeFolder {
                    shown: as_java_has_it(&handler.dest_on_agent),
                    path: &context.root.join(&handler.dest_on_agent),
                    above,
                    verification: Checksums::of(&checksum_file, above)?,
                },
                context,
                pauses,
            )
        }
        FetchHandler::Unknown(handler) => Err(FetchError::Unknown(handler.kind.clone())),
    }
}

/// What is in front of the last name of a path among artifacts; empty at their root.
fn parent(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    path.rsplit_once('/')
        .map_or("", |(parent, _)| parent.trim_end_matches('/'))
}

#[cfg(test)]
mod tests;
