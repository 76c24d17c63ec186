//! What was recorded from GoCD's agent beside what ours did.

use std::{collections::BTreeMap, sync::LazyLock};

use regex::Regex;
use serde::Serialize;
use serde_json::Value;

use super::{
    case::Case,
    diff,
    differences::Meant,
    normalise::without_digests,
    order::Rules,
    recording::{
        ConsoleDigest, ConsolePut, FileKind, LeftFile, Line, Order, Recording, Request, Upload,
    },
    report::Finding,
};

/// The console line about a call that failed: the text is that of Java's HTTP client.
static OF_THE_HTTP_CLIENT: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^&2\|<T> [a-z]+(\.\w+)+(Exception|Error): "));
static LINE_WITH_TEXT: LazyLock<Regex> = LazyLock::new(|| pattern(r"^&2\|<T> .*\S"));
/// Stands for what is not compared.
const FREE: &str = "<free>";
/// Stands for the right size of an upload of console lines.
const OF_ITS_BODY: &str = "<length of the body>";

/// Everything that differs.
pub(super) fn compare(
    case: &Case,
    mut expected: Recording,
    got: Recording,
    meant: &Meant<'_>,
) -> Vec<Finding> {
    let rules = Rules::of(&case.job.work);
    let mut findings = Vec::new();
    findings.extend(console(&rules, &mut expected, &got, meant));
    meant.uploads(&mut expected, &got);
    meant.broken_off(&mut expected, &got);
    meant.results(&mut expected, &got);
    findings.extend(requests(case, &rules, &expected, &got));
    findings.extend(console_put(expected.console_put, got.console_put));
    findings.extend(values("result", &expected.result, &got.result));
    findings.extend(files(&expected.files, &got.files));
    findings
}

fn console(
    rules: &Rules,
    expected: &mut Recording,
    got: &Recording,
    meant: &Meant<'_>,
) -> Option<Finding> {
    if expected.console_digest.is_some() || got.console_digest.is_some() {
        return digests(
            expected.console_digest.as_ref(),
            got.console_digest.as_ref(),
        );
    }
    let order = expected.order;
    let shown = |lines: &[Line]| {
        let lines = lines.iter().map(|line| without_digests(&line.shown()));
        lines.collect::<Vec<_>>()
    };
    let (mut expected_lines, mut got_lines) = (shown(&expected.console), shown(&got.console));
    meant.within_lines(&mut expected_lines, &got_lines);
    rules.sort_lines(&mut expected_lines, order);
    rules.sort_lines(&mut got_lines, order);
    if was_answered_with_500(expected) {
        accept_other_clients_text(&expected_lines, &mut got_lines);
    }
    let recorded = expected_lines.len();
    meant.console(&mut expected_lines, &got_lines, order);
    let fewer = recorded.saturating_sub(expected_lines.len());
    for request in &mut expected.requests {
        if let Some(lines) = &mut request.console_lines_before {
            *lines = lines.saturating_sub(fewer);
        }
    }
    let section = format!("console ({order:?})");
    if order == Order::Lost {
        return lost(&expected_lines, &got_lines).map(|text| Finding::new(section, text));
    }
    diff::of(&expected_lines, &got_lines).map(|text| Finding::new(section, text))
}

fn digests(expected: Option<&ConsoleDigest>, got: Option<&ConsoleDigest>) -> Option<Finding> {
    let text = |digest: Option<&ConsoleDigest>| match digest {
        Some(digest) => pretty(digest),
        None => vec!["not so many lines".to_owned()],
    };
    diff::of(&text(expected), &text(got)).map(|text| Finding::new("console_digest", text))
}

/// Whether everything recorded is in ours, in its order.
fn lost(expected: &[String], got: &[String]) -> Option<String> {
    let mut rest = got.iter();
    let missing: Vec<&String> = expected
        .iter()
        .filter(|line| {
            !rest.clone().any(|other| other == *line) || !rest.any(|other| other == *line)
        })
        .collect();
    let first = missing.first()?;
    Some(format!(
        "  not there, or not in this order: {first}\n{}",
        diff::of(expected, got).unwrap_or_default()
    ))
}

fn was_answered_with_500(recording: &Recording) -> bool {
    let mut requests = recording.requests.iter();
    requests.any(|request| request.answered == Some(500) && request.action().is_some())
}

/// Takes any text in the place of the one that Java's HTTP client has for an answer of 500.
fn accept_other_clients_text(expected: &[String], got: &mut [String]) {
    for (expected, got) in expected.iter().zip(got) {
        if OF_THE_HTTP_CLIENT.is_match(expected) && LINE_WITH_TEXT.is_match(got) {
            got.clone_from(expected);
        }
    }
}

fn requests(case: &Case, rules: &Rules, expected: &Recording, got: &Recording) -> Vec<Finding> {
    let mut findings = Vec::new();
    for action in ["get_cookie", "get_work"] {
        findings.extend(form(action, &expected.requests, &got.requests));
    }
    let of_the_job = |recording: &Recording| {
        let mut requests = of_the_job(&recording.requests).to_vec();
        rules.sort_requests(&mut requests);
        requests
    };
    let (expected, mut got) = (of_the_job(expected), of_the_job(got));
    let summaries = |requests: &[Request]| {
        let summaries = requests.iter().map(Request::summary);
        summaries.collect::<Vec<_>>()
    };
    if let Some(text) = diff::of(&summaries(&expected), &summaries(&got)) {
        findings.push(Finding::new("requests", text));
        return findings;
    }
    for (expected, got) in expected.into_iter().zip(&mut got) {
        findings.extend(request(case, expected, got));
    }
    findings
}

/// The form of the first call of an action that comes before the job.
fn form(action: &str, expected: &[Request], got: &[Request]) -> Option<Finding> {
    let first = |requests: &[Request]| {
        let mut requests = requests.iter();
        requests
            .find(|request| request.action() == Some(action))
            .cloned()
    };
    values(&format!("request {action}"), &first(expected), &first(got))
}

/// From the first `is_ignored` to the last report.
fn of_the_job(requests: &[Request]) -> &[Request] {
    let is_first = |request: &Request| request.action() == Some("is_ignored");
    let Some(first) = requests.iter().position(is_first) else {
        return &[];
    };
    let last = requests.iter().rposition(Request::is_report);
    &requests[first..last.map_or(requests.len(), |last| last + 1).max(first)]
}

/// Two requests whose summaries are the same.
fn request(case: &Case, mut expected: Request, got: &mut Request) -> Option<Finding> {
    match expected.console_lines_before {
        None => got.console_lines_before = None,
        // An agent may send its lines sooner than GoCD's.
        Some(least) if got.console_lines_before >= Some(least) => {
            got.console_lines_before = Some(least);
        }
        Some(_) => {}
    }
    if has_test_rule(&case.job.work) {
        free_report_pages(&mut expected, got);
    }
    values(&format!("request {}", expected.summary()), &expected, got)
}

fn has_test_rule(work: &Value) -> bool {
    let plans = work.pointer("/assignment/artifactPlans");
    let mut plans = plans.and_then(Value::as_array).into_iter().flatten();
    plans.any(|plan| plan["artifactPlanType"] == "unit")
}

/// The mark-up of the merged test report is free: what follows from it is not compared, where the
/// text that is seen is the same.
fn free_report_pages(expected: &mut Request, got: &mut Request) {
    let (Some(mine), Some(other)) = (&mut expected.upload, &mut got.upload) else {
        return;
    };
    let Some(page) = report_page(mine) else {
        return;
    };
    if report_page(other).as_ref() != Some(&page) {
        return;
    }
    for upload in [mine, other] {
        for entry in upload.zip.iter_mut().filter(|entry| entry.name == page) {
            entry.size = None;
            entry.sha256 = None;
        }
        for line in &mut upload.checksum_entries {
            if let Some((name, _)) = line
                .rsplit_once('=')
                .filter(|(name, _)| name.ends_with(&page))
            {
                *line = format!("{name}={FREE}");
            }
        }
    }
    for headers in [&mut expected.headers, &mut got.headers] {
        set(headers, "x-go-artifact-size", FREE);
    }
}

/// The name of the merged report in an upload that has nothing else.
fn report_page(upload: &Upload) -> Option<String> {
    let names: Vec<&str> = upload.zip.iter().map(|entry| entry.name.as_str()).collect();
    match names[..] {
        ["index.html"] => Some("index.html".to_owned()),
        ["result/", page @ "result/index.html"] => Some(page.to_owned()),
        _ => None,
    }
}

/// The size depends on the lengths of names on the machine, so it is enough that it is right.
fn console_put(expected: Option<ConsolePut>, got: Option<ConsolePut>) -> Option<Finding> {
    let mut expected = expected;
    if let Some(expected) = &mut expected {
        set(&mut expected.headers, "x-go-artifact-size", OF_ITS_BODY);
    }
    values("console_put", &expected, &got)
}

/// What the `X-Go-Artifact-Size` of an upload of console lines is for [`compare`].
pub(super) fn console_size(told: &str, body: usize) -> String {
    match told.parse::<usize>() {
        Ok(size) if body == size => OF_ITS_BODY.to_owned(),
        _ => format!("{told}, with a body of {body}"),
    }
}

fn set(headers: &mut BTreeMap<String, String>, name: &str, value: &str) {
    if let Some(header) = headers.get_mut(name) {
        value.clone_into(header);
    }
}

fn files(expected: &[LeftFile], got: &[LeftFile]) -> Option<Finding> {
    let shown = |files: &[LeftFile]| {
        let mut lines: Vec<String> = files.iter().map(shown_file).collect();
        lines.sort();
        lines
    };
    diff::of(&shown(expected), &shown(got)).map(|text| Finding::new("files", text))
}

fn shown_file(file: &LeftFile) -> String {
    let LeftFile {
        path,
        kind,
        size,
        sha256,
        target,
    } = file;
    match kind {
        FileKind::Dir => format!("{path}/"),
        FileKind::Link => format!("{path} -> {}", target.as_deref().unwrap_or("?")),
        FileKind::File => format!(
            "{path} ({} bytes, SHA-256 {})",
            size.unwrap_or_default(),
            sha256.as_deref().unwrap_or("?")
        ),
    }
}

/// Differences of two values in their JSON form.
fn values<T: PartialEq + Serialize>(section: &str, expected: &T, got: &T) -> Option<Finding> {
    diff::of(&pretty(expected), &pretty(got)).map(|text| Finding::new(section, text))
}

/// By lines, with sorted members.
fn pretty(value: &impl Serialize) -> Vec<String> {
    // `Value` has its members sorted.
    let value = serde_json::to_value(value).unwrap_or_default();
    diff::lines(&serde_json::to_string_pretty(&value).unwrap_or_default())
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a pattern of this file")
}
