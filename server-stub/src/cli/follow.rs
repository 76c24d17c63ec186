//! Watching a run from the terminal: its consoles as they grow, and at the end what came of it.
//!
//! The server may go away and come back meanwhile: where every console was read to is known here,
//! so nothing is shown twice and nothing is left out.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use journeyman_protocol::console;

use super::{Client, ClientError, output};
use crate::api::{JobSummary, RunSummary};

/// Time between two looks.
const TICK: Duration = Duration::from_millis(250);

/// How long the server may be away.
const PATIENCE: Duration = Duration::from_secs(120);

/// Colours of the jobs' names, in turn.
const COLOURS: [&str; 6] = ["36", "33", "35", "32", "34", "31"];

/// Follows a run to its end: that is, until nothing of it is active.
pub(super) async fn follow(
    client: &Client,
    pipeline: &str,
    counter: &str,
) -> Result<ExitCode, ClientError> {
    let first = look(client, pipeline, counter).await?;
    let counter = first.counter.to_string();
    let mut readers: HashMap<i64, Reader> = HashMap::new();
    let mut states: HashMap<i64, String> = HashMap::new();
    loop {
        // The run first: a job that is over now has its whole console written by now.
        let run = look(client, pipeline, &counter).await?;
        for job in &run.jobs {
            if states.get(&job.id) != Some(&job.state) {
                if !client.json && job.state != "Completed" {
                    announce(job);
                }
                states.insert(job.id, job.state.clone());
            }
            let turn = readers.len();
            let reader = readers.entry(job.id).or_insert_with(|| Reader::new(turn));
            if !reader.finished {
                reader.read(client, job).await?;
            }
        }
        if !run.active {
            finish(client, &run);
            return Ok(if run.state == "Passed" {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            });
        }
        tokio::time::sleep(TICK).await;
    }
}

async fn look(client: &Client, pipeline: &str, counter: &str) -> Result<RunSummary, ClientError> {
    let path = format!("/api/journeyman/runs/{pipeline}/{counter}");
    patiently(async || client.get("show the run", &path).await).await
}

/// Tries again for as long as the server is away.
async fn patiently<T>(call: impl AsyncFn() -> Result<T, ClientError>) -> Result<T, ClientError> {
    let mut since: Option<Instant> = None;
    loop {
        match call().await {
            Ok(value) => {
                if since.is_some() {
                    output::complain("The server is back.");
                }
                return Ok(value);
            }
            Err(error) if error.is_passing() => {
                let begun = *since.get_or_insert_with(|| {
                    output::complain("The server does not answer; waiting for it.");
                    Instant::now()
                });
                if begun.elapsed() > PATIENCE {
                    return Err(error);
                }
                tokio::time::sleep(TICK).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// What was shown of one job's console.
struct Reader {
    offset: u64,
    /// The beginning of a line whose end was not there yet.
    rest: Vec<u8>,
    finished: bool,
    colour: &'static str,
}

impl Reader {
    fn new(turn: usize) -> Self {
        Self {
            offset: 0,
            rest: Vec::new(),
            finished: false,
            colour: COLOURS[turn % COLOURS.len()],
        }
    }

    /// Shows all there is now.
    async fn read(&mut self, client: &Client, job: &JobSummary) -> Result<(), ClientError> {
        loop {
            let from = self.offset;
            let (bytes, next) = patiently(async || client.console(job.id, from).await).await?;
            if bytes.is_empty() {
                break;
            }
            self.offset = next;
            self.rest.extend_from_slice(&bytes);
            let rest = std::mem::take(&mut self.rest);
            let mut lines = rest.split(|byte| *byte == b'\n').peekable();
            while let Some(line) = lines.next() {
                if lines.peek().is_some() {
                    self.show(job, &String::from_utf8_lossy(line));
                } else {
                    self.rest = line.to_vec();
                }
            }
        }
        self.finished = job.state == "Completed";
        if self.finished && !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            self.show(job, &String::from_utf8_lossy(&rest));
        }
        Ok(())
    }

    fn show(&self, job: &JobSummary, line: &str) {
        let line = line.trim_end_matches('\r');
        let text = console::parse_line(line).map_or(line, |parsed| parsed.text);
        if output::colours() {
            output::say(&format!(
                "\x1b[{}m{:>12}\x1b[0m │ {}",
                self.colour,
                job.name,
                tame(text)
            ));
        } else {
            output::say(&format!("{} | {}", job.name, output::clean(text)));
        }
    }
}

/// Leaves colours in and takes out what would move the cursor or rename the window.
fn tame(text: &str) -> String {
    let mut tamed = String::with_capacity(text.len() + 4);
    let mut rest = text;
    while let Some(start) = rest.find('\x1b') {
        tamed.push_str(&output::clean(&rest[..start]));
        rest = &rest[start + 1..];
        let parameters = rest.strip_prefix('[').map(|rest| {
            let end = rest.find(|c: char| !(c.is_ascii_digit() || c == ';'));
            rest.split_at(end.unwrap_or(rest.len()))
        });
        if let Some((numbers, after)) = parameters {
            if let Some(after) = after.strip_prefix('m') {
                tamed.push_str(&format!("\x1b[{numbers}m"));
                rest = after;
            } else {
                let mut skipped = after.chars();
                skipped.next();
                rest = skipped.as_str();
            }
        }
    }
    tamed.push_str(&output::clean(rest));
    tamed.push_str("\x1b[0m");
    tamed
}

fn announce(job: &JobSummary) {
    let agent = match (&job.agent, job.state.as_str()) {
        (Some(agent), "Assigned") => format!(" to agent {agent}"),
        _ => String::new(),
    };
    output::complain(&format!("{}/{}: {}{agent}", job.stage, job.name, job.state));
}

/// What came of the run.
fn finish(client: &Client, run: &RunSummary) {
    if client.json {
        output::json(run);
        return;
    }
    output::say("");
    output::say(&format!(
        "{}/{} (label {}): {}",
        run.pipeline,
        run.counter,
        output::clean(&run.label),
        run.state
    ));
    for job in &run.jobs {
        let first = job.transitions.first().map_or(0, |one| one.at);
        let last = job.transitions.last().map_or(0, |one| one.at);
        output::say("");
        output::say(&format!(
            "{}/{}: {} after {}",
            job.stage,
            job.name,
            job.result,
            output::duration(last - first)
        ));
        let states: Vec<String> = job
            .transitions
            .iter()
            .map(|one| format!("{} {}", one.state, output::time(one.at)))
            .collect();
        output::say(&format!("  states     {}", states.join("  ")));
        for artifact in &job.artifacts {
            output::say(&format!(
                "  artifact   {}  {}  sha256 {}",
                output::clean(&artifact.path),
                output::size(artifact.size),
                artifact.sha256
            ));
        }
        output::say(&format!("  page       {}", job.page));
    }
    output::say("");
    if !run.waiting.is_empty() {
        output::say(&format!("Waiting for a person: {}", run.waiting.join(", ")));
    }
    output::say(&format!("See it all at {}", run.page));
}
