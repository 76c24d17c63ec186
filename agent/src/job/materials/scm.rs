//! Running the programs of source control systems.

use std::{
    io::Read,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use journeyman_protocol::console::Tag;

use super::{MaterialContext, MaterialError};
use crate::job::{
    console::Charset,
    masking::Mask,
    tasks::{Pipe, Pumps, arguments::quoted_line, find_executable, spawn::in_own_session},
};

/// How long output is waited for after the program's end, when something it started holds it.
const OUTPUT_LIMIT: Duration = Duration::from_secs(60);
/// Most of a quiet program's output that is kept.
const MAX_CAPTURE: u64 = 1024 * 1024;

/// How secrets of one material are hidden in what its programs print.
#[derive(Clone, Default)]
pub(super) struct Hidden {
    /// Text and what stands in its place, in order.
    pub(super) replacements: Vec<(String, String)>,
}

impl Hidden {
    pub(super) fn apply(&self, text: &str) -> String {
        let mut shown = text.to_owned();
        for (secret, mask) in &self.replacements {
            shown = shown.replace(secret.as_str(), mask);
        }
        shown
    }
}

/// What a quiet program said.
pub(super) struct Captured {
    pub(super) status: ExitStatus,
    pub(super) stdout: String,
    stderr: String,
}

/// A program to run with its arguments.
pub(super) struct ScmCommand<'a> {
    pub(super) words: Vec<String>,
    /// Where it runs; the agent's working directory if not given.
    pub(super) folder: Option<&'a Path>,
    pub(super) hidden: &'a Hidden,
    pub(super) context: &'a MaterialContext,
}

impl ScmCommand<'_> {
    /// Runs the program with its lines on the console. True: it ended with 0.
    pub(super) fn shown(&self) -> Result<bool, MaterialError> {
        let console = &self.context.console;
        let mut command = self.command()?;
        let mut child = self
            .context
            .children
            .spawn(|| in_own_session(&mut command))
            .map_err(|error| self.cannot_run(&error))?;
        // GoCD reads and shows what these programs print as UTF-8, whatever the console's charset.
        let charset = Charset::for_name("utf-8");
        let mut pipes = Vec::new();
        // Lines go through our own hands first: the replacements are not a job's mask.
        if let Some(stdout) = child.stdout.take() {
            pipes.push(Pipe {
                reader: Box::new(stdout),
                stream: console.stream(Tag::Prep, "", self.mask()),
                on_line: Box::new(|_| {}),
            });
        }
        if let Some(stderr) = child.stderr.take() {
            pipes.push(Pipe {
                reader: Box::new(stderr),
                stream: console.stream(Tag::PrepErr, "STDERR: ", self.mask()),
                on_line: Box::new(|_| {}),
            });
        }
        let pumps = Pumps::start(pipes, charset);
        let status = self
            .context
            .children
            .wait(&mut child)
            .map_err(|error| self.cannot_run(&error))?;
        pumps
            .map_err(|error| self.cannot_run(&error))?
            .wait(OUTPUT_LIMIT);
        Ok(status.success())
    }

    /// Runs the program without a word on the console.
    pub(super) fn captured(&self) -> Result<Captured, MaterialError> {
        let mut command = self.command()?;
        let mut child = self
            .context
            .children
            .spawn(|| in_own_session(&mut command))
            .map_err(|error| self.cannot_run(&error))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (stdout, stderr) = std::thread::scope(|scope| {
            let reader = scope.spawn(|| stderr.map(capture).unwrap_or_default());
            let stdout = stdout.map(capture).unwrap_or_default();
            (stdout, reader.join().unwrap_or_default())
        });
        let status = self
            .context
            .children
            .wait(&mut child)
            .map_err(|error| self.cannot_run(&error))?;
        Ok(Captured {
            status,
            stdout,
            stderr,
        })
    }

    /// Runs the program without a word; its failure is the job's, with a full report.
    pub(super) fn quiet(&self) -> Result<String, MaterialError> {
        let captured = self.captured()?;
        if captured.status.success() {
            return Ok(captured.stdout);
        }
        Err(self.report(&captured))
    }

    /// The report of a quiet program that failed.
    pub(super) fn report(&self, captured: &Captured) -> MaterialError {
        let stderr: String = captured
            .stderr
            .lines()
            .map(|line| format!("STDERR: {line}\n"))
            .collect();
        let text = format!(
            "Error performing command: --- Command ---\n{}\n--- Environment ---\n{{}}\n\
             --- INPUT ----\n\n\n--- EXIT CODE ({}) ---\n--- STANDARD OUT ---\n{}\
             --- STANDARD ERR ---\n{stderr}---\n",
            quoted_line(&self.words),
            captured.status.code().unwrap_or(-1),
            captured.stdout,
        );
        MaterialError::new(self.hidden.apply(&text))
    }

    fn command(&self) -> Result<Command, MaterialError> {
        let root = &self.context.root;
        let folder = self.folder.unwrap_or(root);
        let program = self
            .words
            .first()
            .and_then(|name| find_executable(name, folder))
            .ok_or_else(|| self.missing())?;
        let (closed, unused) = std::io::pipe().map_err(|error| self.cannot_run(&error))?;
        drop(unused);
        let mut command = Command::new(program);
        command
            .arg0(self.words.first().map_or("", String::as_str))
            .args(&self.words[1..])
            .current_dir(folder)
            .stdin(closed)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Ok(command)
    }

    fn missing(&self) -> MaterialError {
        MaterialError::new(self.hidden.apply(&format!(
            "Error while executing [{}] \n Make sure this command can execute manually.",
            quoted_line(&self.words)
        )))
    }

    fn cannot_run(&self, error: &std::io::Error) -> MaterialError {
        tracing::warn!(%error, program = self.words.first(), "Program was not run");
        self.missing()
    }

    fn mask(&self) -> Mask {
        Mask::replacing(self.hidden.replacements.clone())
    }
}

fn capture(mut pipe: impl Read) -> String {
    let mut kept = Vec::new();
    let _ = Read::by_ref(&mut pipe)
        .take(MAX_CAPTURE)
        .read_to_end(&mut kept);
    // The rest is read too, or the program would wait for ever for somebody to do it.
    let _ = std::io::copy(&mut pipe, &mut std::io::sink());
    String::from_utf8_lossy(&kept).into_owned()
}
