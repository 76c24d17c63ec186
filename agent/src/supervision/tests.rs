use std::{fs, path::Path, time::Duration};

use journeyman_protocol::{
    agent::RuntimeStatus,
    job::{JobIdentifier, JobResult},
    remoting::AgentInstruction,
};
use pretty_assertions::assert_eq;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixListener,
    sync::watch,
};

use super::{burial::conclude, follow::follow, reaper::Reaper};
use crate::{
    fake_server::{FakeServer, registered_session},
    job::{
        channel::{Phase, RunnerStatus},
        folder::JobFolder,
        journal::{Event, FORMAT, JournalWriter, Started},
    },
    lifecycle::{Lifecycle, Run, State},
    remoting::Session,
};

fn job() -> JobIdentifier {
    JobIdentifier {
        pipeline_name: "web".into(),
        pipeline_counter: 42,
        pipeline_label: "1.0.42".into(),
        stage_name: "build".into(),
        stage_counter: "1".into(),
        build_name: "unit".into(),
        build_id: 1234,
        ..JobIdentifier::default()
    }
}

/// A job folder whose runner has died after it wrote these events and this console.
fn dead_job(session: &Session, events: &[Event], console: &[u8]) -> Run {
    let folder = JobFolder::new(session.workdir.jobs().join("1234-00000000"));
    fs::create_dir_all(folder.path()).unwrap();
    let mut journal = JournalWriter::open(&folder.journal()).unwrap();
    journal
        .append(&Event::Started(Box::new(Started {
            format: FORMAT,
            at: "2026-01-02T03:04:05Z".parse().unwrap(),
            pid: 1,
            job_identifier: job(),
            runtime_info: session.template().clone(),
            server: session.server_connection(),
            console_charset: "UTF-8".into(),
        })))
        .unwrap();
    for event in events {
        journal.append(event).unwrap();
    }
    fs::write(folder.console(), console).unwrap();
    Run::new(folder, job())
}

async fn conclude_job(session: &Session, run: &Run) {
    let (lifecycle, _effects) = Lifecycle::new(State::Preparing(run.clone()));
    conclude(
        session,
        &lifecycle,
        &Reaper::default(),
        run,
        "signal SIGKILL",
    )
    .await;
}

fn result_in(report: &str) -> &str {
    let (_, result) = report.split_once(r#""jobResult":""#).unwrap();
    result.trim_end_matches("\"}")
}

#[tokio::test]
async fn a_dead_job_gets_its_console_completed_and_is_reported_failed() {
    let server = FakeServer::start().await;
    server.answers("console.log", &[(503, ""), (200, "")]);
    server.answers("report_completed", &[(503, ""), (200, "")]);
    let (_folder, session) = registered_session(&server.url).await;
    let acknowledged = Event::Acknowledged { offset: 4 };
    let run = dead_job(&session, &[acknowledged], b"one\ntwo\nthr");
    conclude_job(&session, &run).await;
    let console = server.calls("console.log");
    assert_eq!(console.len(), 2, "an outage is waited for");
    let lines: Vec<&str> = console[1].body.lines().collect();
    assert_eq!(lines[..2], ["two", "thr"]);
    assert!(lines[2].starts_with("&2|"), "{}", lines[2]);
    assert!(lines[2].contains("ended unexpectedly (signal SIGKILL)"));
    let reports = server.calls("report_completed");
    assert_eq!(reports.len(), 2);
    assert_eq!(result_in(&reports[1].body), "Failed");
    assert!(reports[1].body.contains(r#""cookie":"cookie-0""#));
    assert!(!run.folder.path().exists());
}

#[tokio::test]
async fn a_job_that_lacks_only_its_report_keeps_its_result() {
    let server = FakeServer::start().await;
    let (_folder, session) = registered_session(&server.url).await;
    let events = [
        Event::Acknowledged { offset: 4 },
        Event::Result {
            result: JobResult::Passed,
        },
    ];
    let run = dead_job(&session, &events, b"one\n");
    conclude_job(&session, &run).await;
    assert!(server.calls("console.log").is_empty());
    let reports = server.calls("report_completed");
    assert_eq!(result_in(&reports[0].body), "Passed");
}

#[tokio::test]
async fn a_job_whose_journal_is_of_a_later_format_is_ended_like_any_other() {
    let server = FakeServer::start().await;
    let (_folder, session) = registered_session(&server.url).await;
    let run = dead_job(&session, &[], b"one\n");
    run.folder.give_cookie(&session.cookie().unwrap());
    let journal = fs::read_to_string(run.folder.journal()).unwrap();
    let later = journal.replace(r#""format":1"#, r#""format":2"#) + "[]\n";
    assert_ne!(later, journal);
    fs::write(run.folder.journal(), later).unwrap();
    conclude_job(&session, &run).await;
    let reports = server.calls("report_completed");
    assert_eq!(result_in(&reports[0].body), "Failed");
    assert!(!run.folder.path().exists());
    let aside = JobFolder::new(session.workdir.refused().join("job-1234-00000000"));
    assert!(aside.journal().exists());
    assert!(!aside.cookie().exists(), "a secret is left behind");
}

#[tokio::test]
async fn a_job_that_was_reported_is_only_cleared_away() {
    let server = FakeServer::start().await;
    let (_folder, session) = registered_session(&server.url).await;
    let run = dead_job(&session, &[Event::Reported { accepted: true }], b"one\n");
    conclude_job(&session, &run).await;
    assert!(server.calls("console.log").is_empty());
    assert!(server.calls("report_completed").is_empty());
    assert!(!run.folder.path().exists());
}

#[tokio::test]
async fn a_console_that_the_server_never_took_is_kept() {
    let server = FakeServer::start().await;
    let (_folder, session) = registered_session(&server.url).await;
    let aside = session.workdir.refused();
    // Of those from before only the latest stay.
    for number in 0..20 {
        fs::create_dir_all(aside.join(format!("job-{number}"))).unwrap();
    }
    let events = [
        Event::Acknowledged { offset: 4 },
        Event::Result {
            result: JobResult::Passed,
        },
        Event::Reported { accepted: true },
    ];
    let run = dead_job(&session, &events, b"one\ntwo\n");
    conclude_job(&session, &run).await;
    assert!(!run.folder.path().exists());
    let kept = fs::read(aside.join("job-1234-00000000/console")).unwrap();
    assert_eq!(kept, b"one\ntwo\n");
    assert_eq!(fs::read_dir(aside).unwrap().count(), 10);
}

#[tokio::test]
async fn a_cancelled_job_is_reported_cancelled() {
    let server = FakeServer::start().await;
    let (_folder, session) = registered_session(&server.url).await;
    let run = dead_job(&session, &[Event::Cancelled], b"");
    conclude_job(&session, &run).await;
    let report = server.calls("report_completed").remove(0).body;
    assert_eq!(result_in(&report), "Cancelled");
    assert!(report.contains(r#""runtimeStatus":"Cancelled""#));
}

#[tokio::test]
async fn a_damaged_job_is_reported_and_set_aside() {
    let server = FakeServer::start().await;
    let (_folder, session) = registered_session(&server.url).await;
    let run = dead_job(&session, &[], b"one\n");
    let mut journal = fs::read(run.folder.journal()).unwrap();
    journal.extend_from_slice(b"\0\0\0\n");
    fs::write(run.folder.journal(), journal).unwrap();
    conclude_job(&session, &run).await;
    assert_eq!(server.calls("report_completed").len(), 1);
    assert!(!run.folder.path().exists());
    let aside = session.workdir.refused().join("job-1234-00000000");
    assert!(aside.join("console").exists());
}

#[tokio::test]
async fn a_spool_that_lost_its_end_does_not_hide_what_happened() {
    let server = FakeServer::start().await;
    server.be_journeyman(Duration::ZERO);
    let (_folder, session) = registered_session(&server.url).await;
    session
        .remoting()
        .ping(&"t".into(), Default::default(), None)
        .await
        .unwrap();
    let run = dead_job(&session, &[Event::Acknowledged { offset: 100 }], b"one\n");
    conclude_job(&session, &run).await;
    let console = server.calls("console.log").remove(0);
    assert!(console.body.contains("ended unexpectedly"));
    // The line feed that ends the lost line is part of it.
    assert_eq!(console.headers["journeyman-console-offset"], "100");
}

fn status(phase: Phase) -> String {
    let status = RunnerStatus {
        phase,
        runtime_status: RuntimeStatus::Building,
        job_identifier: job(),
        result: None,
    };
    serde_json::to_string(&status).unwrap() + "\n"
}

async fn accept(listener: &UnixListener) -> BufReader<tokio::net::UnixStream> {
    BufReader::new(listener.accept().await.unwrap().0)
}

async fn next_line(stream: &mut BufReader<tokio::net::UnixStream>) -> String {
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    line
}

fn listen(folder: &Path) -> (JobFolder, UnixListener) {
    let folder = JobFolder::new(folder);
    let listener = UnixListener::bind(folder.socket()).unwrap();
    (folder, listener)
}

#[tokio::test]
async fn a_runner_is_followed_and_told_through_every_connection() {
    let temporary = tempfile::tempdir().unwrap();
    let (folder, listener) = listen(temporary.path());
    let run = Run::new(folder.clone(), job());
    let (lifecycle, _effects) = Lifecycle::new(State::Preparing(run));
    let mut states = lifecycle.watch();
    let (told, instructions) = watch::channel(Vec::new());
    let (die, dead) = tokio::sync::oneshot::channel::<String>();
    let following = tokio::spawn({
        let lifecycle = lifecycle.clone();
        async move {
            follow(&folder, &lifecycle, instructions, async {
                dead.await.unwrap()
            })
            .await
        }
    });
    let mut first = accept(&listener).await;
    first
        .write_all(status(Phase::Building).as_bytes())
        .await
        .unwrap();
    states.wait_for(|s| s.name() == "Building").await.unwrap();
    told.send_modify(|told| told.push(AgentInstruction::Cancel));
    let cancel = "{\"instruction\":\"CANCEL\"}\n";
    assert_eq!(next_line(&mut first).await, cancel);
    drop(first);
    // A new connection: nothing that was said may be lost with the old one.
    let mut second = accept(&listener).await;
    assert_eq!(next_line(&mut second).await, cancel);
    second.write_all(b"nonsense\n").await.unwrap();
    second
        .write_all(status(Phase::Done).as_bytes())
        .await
        .unwrap();
    states.wait_for(|s| s.name() == "Completing").await.unwrap();
    die.send("exit code 0".into()).unwrap();
    assert_eq!(following.await.unwrap(), "exit code 0");
}
