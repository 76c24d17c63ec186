//! Running cases.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    agent::Agent,
    case::Case,
    compare,
    differences::Differences,
    normalise::Normaliser,
    recorder::{Recorder, Told, ToldRequest, wait_for_end},
    recording::{ConsoleDigest, ConsolePut, JobOutcome, Line, MOST_LINES, Recording, Request},
    report::{Finding, Outcome, Summary},
    sandbox::{Sandbox, files_left},
};

/// A job that is not over by then never will be. Four attempts to fetch an artifact take up to 90 s.
const LONGEST_JOB: Duration = Duration::from_secs(300);
/// How often a case is run whose instruction came too late for what was recorded.
const ATTEMPTS: usize = 3;
/// Headers that belong to the HTTP client.
const OF_THE_CLIENT: &[&str] = &[
    "accept-encoding",
    "connection",
    "content-length",
    "cookie",
    "host",
    "transfer-encoding",
    "user-agent",
];

/// What to run, and how.
pub struct Options {
    /// Cases whose name has this in it.
    pub only: Option<String>,
    /// How many cases at a time.
    at_once: usize,
    /// Sandboxes of failed cases are kept.
    pub keep: bool,
    /// What is meant to be different.
    differences: Differences,
}

impl Options {
    /// All cases, with the differences that this repository declares.
    ///
    /// # Errors
    /// Their file cannot be read or understood.
    pub fn declared() -> Result<Self, String> {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            only: None,
            // Most of a case's time is waiting.
            at_once: processors * 3,
            keep: false,
            differences: Differences::declared()?,
        })
    }
}

/// Runs the cases of these folders and says what came of each, in the order of their names.
///
/// # Errors
/// A folder cannot be read or has no case.
pub fn run_folders(
    folders: &[PathBuf],
    options: &Options,
    mut say: impl FnMut(&Outcome),
) -> Result<Summary, String> {
    let mut cases = Vec::new();
    for folder in folders {
        cases.extend(case_folders(folder)?);
    }
    if let Some(only) = &options.only {
        cases.retain(|case| name(case).contains(only.as_str()));
        if cases.is_empty() {
            return Err(format!("no case has {only:?} in its name"));
        }
    }
    let mut queue: Vec<&PathBuf> = cases.iter().collect();
    // Most of the time goes into waiting, and most of that into fetching again and again.
    queue.sort_by_key(|case| !takes_long(case));
    let queue = Mutex::new(queue.into_iter());
    let (sender, outcomes) = mpsc::channel();
    let mut summary = Summary::default();
    thread::scope(|scope| {
        for _ in 0..options.at_once.max(1) {
            let (queue, sender) = (&queue, sender.clone());
            scope.spawn(move || {
                loop {
                    let next = queue.lock().expect("the queue of cases").next();
                    let Some(case) = next else { return };
                    if sender.send((case, run(case, options))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut done = BTreeMap::new();
        for case in &cases {
            while !done.contains_key(case) {
                let Ok((case, outcome)) = outcomes.recv() else {
                    return;
                };
                done.insert(case, outcome);
            }
            let outcome = &done[case];
            summary.add(outcome);
            say(outcome);
        }
    });
    Ok(summary)
}

/// The cases of a folder, by name; the folder itself, if it is one.
fn case_folders(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let is_case = |folder: &Path| {
        let files = ["case.json", "expected.json"];
        files.iter().any(|file| folder.join(file).is_file())
    };
    if is_case(folder) {
        return Ok(vec![folder.to_owned()]);
    }
    let failed = |error| format!("read the folder of cases {}: {error}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if is_case(&path) {
            found.push(path);
        }
    }
    if found.is_empty() {
        return Err(format!("{} has no folder of a case", folder.display()));
    }
    found.sort();
    Ok(found)
}

fn name(case: &Path) -> String {
    let name = case.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn takes_long(folder: &Path) -> bool {
    let case = fs::read_to_string(folder.join("case.json")).unwrap_or_default();
    case.contains("FetchArtifactBuilder") || case.contains("when_console_contains")
}

fn run(folder: &Path, options: &Options) -> Outcome {
    let begun = Instant::now();
    let mut outcome = Outcome {
        name: name(folder),
        findings: Vec::new(),
        meant: Vec::new(),
        took: 0.0,
    };
    let attempts = Case::read(folder).and_then(|case| {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let attempt = attempt(&case, options)?;
            if attempt.findings.is_empty() || !attempt.too_late || attempts == ATTEMPTS {
                return Ok(attempt);
            }
        }
    });
    match attempts {
        Ok(attempt) => (outcome.findings, outcome.meant) = (attempt.findings, attempt.meant),
        Err(error) => {
            let text: String = error.lines().map(|line| format!("    {line}\n")).collect();
            outcome.findings = vec![Finding::new("could not be run", text)];
        }
    }
    outcome.took = begun.elapsed().as_secs_f32();
    outcome
}

/// What came of one run of a case.
struct Attempt {
    findings: Vec<Finding>,
    meant: Vec<String>,
    too_late: bool,
}

fn attempt(case: &Case, options: &Options) -> Result<Attempt, String> {
    let mut sandbox = Sandbox::prepare(&case.job)?;
    let (got, too_late) = record(case, &sandbox);
    let attempt = got.map(|got| {
        let meant = options.differences.of(case, sandbox.path());
        Attempt {
            findings: compare::compare(case, case.expected.clone(), got, &meant),
            meant: meant.met(),
            too_late,
        }
    });
    let failed = !matches!(&attempt, Ok(attempt) if attempt.findings.is_empty());
    if !options.keep || !failed {
        return attempt;
    }
    sandbox.keep();
    let kept = sandbox.path().display();
    match attempt {
        Ok(mut attempt) => {
            let text = format!("    {kept}\n");
            attempt.findings.push(Finding::new("kept", text));
            Ok(attempt)
        }
        Err(error) => Err(format!("{error}\nkept: {kept}")),
    }
}

/// Runs the agent on the case's work. Also tells whether an instruction came too late.
fn record(case: &Case, sandbox: &Sandbox) -> (Result<Recording, String>, bool) {
    let recorder = match Recorder::start(&case.job, sandbox.path()) {
        Ok(recorder) => recorder,
        Err(error) => return (Err(format!("start the recording server: {error}")), false),
    };
    let over = watch(&recorder, sandbox);
    let told = recorder.told().clone();
    let too_late = told.too_late;
    let recording = recording(case, &recorder, told, sandbox);
    let recording = match over {
        Ok(()) => recording,
        Err(error) => Err(format!("{error}\nconsole so far:\n{}", shown(recording))),
    };
    (recording, too_late)
}

/// Runs the agent until its job is over.
fn watch(recorder: &Recorder, sandbox: &Sandbox) -> Result<(), String> {
    let mut agent = Agent::start(sandbox, recorder.job(), &recorder.places.server_url())
        .map_err(|error| format!("start the agent: {error}"))?;
    wait_for_end(recorder, LONGEST_JOB, || agent.still_runs())
        .map_err(|error| format!("{error}\n{}", agent.said()))
}

fn shown(recording: Result<Recording, String>) -> String {
    match recording {
        Ok(recording) => recording
            .console
            .iter()
            .map(|line| line.shown() + "\n")
            .collect(),
        Err(error) => error,
    }
}

/// What the server was told, in the form of what is recorded.
fn recording(
    case: &Case,
    recorder: &Recorder,
    told: Told,
    sandbox: &Sandbox,
) -> Result<Recording, String> {
    let host = host_name(&told.requests);
    let normaliser = Normaliser::new(&recorder.places, host.as_deref(), &case.recorded);
    let requests: Vec<Request> = told
        .requests
        .iter()
        .map(|told| request(&normaliser, told))
        .collect();
    let lines: Vec<String> = lines(&told.console)
        .map(|line| normaliser.line(line))
        .collect();
    let folder = case
        .job
        .work
        .pointer("/assignment/buildWorkingDirectory/path");
    let folder = folder.and_then(Value::as_str).unwrap_or("pipelines");
    let mut files = files_left(&sandbox.agent().join(folder))
        .map_err(|error| format!("look at the files left in {folder}: {error}"))?;
    for file in &mut files {
        file.path = normaliser.text(&file.path);
        file.target = file.target.as_deref().map(|target| normaliser.text(target));
    }
    Ok(Recording {
        order: case.expected.order,
        result: JobOutcome::of(&requests),
        console_put: told.console_put.as_ref().map(|told| {
            let mut put = request(&normaliser, told);
            if let Some(size) = put.headers.get_mut("x-go-artifact-size") {
                *size = compare::console_size(size, told.body.len());
            }
            ConsolePut {
                method: put.method,
                path: put.path,
                query: put.query,
                headers: put.headers,
            }
        }),
        console_digest: (lines.len() > MOST_LINES).then(|| ConsoleDigest::of(&lines)),
        console: lines.into_iter().map(Line::from_text).collect(),
        requests,
        files,
    })
}

/// The lines of a console; the last one may have no end.
fn lines(console: &str) -> impl Iterator<Item = &str> {
    console
        .strip_suffix('\n')
        .unwrap_or(console)
        .split('\n')
        .filter(|_| !console.is_empty())
}

/// The name that the agent gives itself.
fn host_name(requests: &[ToldRequest]) -> Option<String> {
    requests.iter().find_map(|told| {
        let body: Value = serde_json::from_slice(&told.body).ok()?;
        let name = body.pointer("/agentRuntimeInfo/identifier/hostName")?;
        Some(name.as_str()?.to_owned())
    })
}

fn request(normaliser: &Normaliser, told: &ToldRequest) -> Request {
    let mut request = Request {
        method: told.method.clone(),
        path: normaliser.text(&told.path),
        query: normaliser.text(&told.query),
        headers: headers(normaliser, told),
        body: None,
        upload: told.upload.clone(),
        answered: None,
        console_lines_before: None,
    };
    if request.action().is_some() {
        let body = serde_json::from_slice(&told.body);
        request.body = Some(match body {
            Ok(body) => normaliser.body(body),
            Err(error) => Value::String(format!("not JSON: {error}")),
        });
    }
    if request.is_report() {
        request.console_lines_before = Some(told.console_lines);
    }
    let usual = match (told.method.as_str(), &request.upload) {
        ("GET", _) => None,
        (_, Some(_)) => Some(201),
        (_, None) => Some(200),
    };
    if usual != Some(told.answered) {
        request.answered = Some(told.answered);
    }
    request
}

/// Names in lower case, without those of the HTTP client.
fn headers(normaliser: &Normaliser, told: &ToldRequest) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::new();
    for (name, value) in &told.headers {
        let name = name.as_str();
        let value = String::from_utf8_lossy(value.as_bytes());
        // An `Accept` of anything says no more than none.
        if OF_THE_CLIENT.contains(&name) || (name, &*value) == ("accept", "*/*") {
            continue;
        }
        headers.insert(name.to_owned(), normaliser.header(name, &value));
    }
    headers
}
