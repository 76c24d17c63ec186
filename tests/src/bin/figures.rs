//! Measures the figures of the README with the real programs and prints medians.
//!
//! `make bench` runs it with what is shipped (profile `dist`). An argument picks one:
//! `start`, `memory`, `latency` or `console`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a measurement that cannot be made ends with a panic that says where"
)]

use std::{
    env, fs,
    process::Command,
    thread,
    time::{Duration, Instant, SystemTime},
};

use journeyman_tests::{
    api::Job,
    binaries::binary,
    chain::Chain,
    console::assert_counts_to,
    patience::wait_until,
    processes::{Memory, Role, memory},
    releases::Releases,
    repo::Repo,
    scene::Scene,
    server::Server,
};

/// How often a short figure is measured.
const ROUNDS: usize = 11;
/// Lines of the console figure, 80 characters each.
const LINES: u64 = 1_000_000;

#[expect(clippy::print_stdout, reason = "the output of this program")]
fn main() {
    let only = env::args().nth(1);
    for name in ["start", "memory", "latency", "console"] {
        if only.as_deref().is_some_and(|only| only != name) {
            continue;
        }
        let figure = match name {
            "start" => start(),
            "memory" => idle_memory(),
            "latency" => latency(),
            _ => console(),
        };
        println!("{figure}");
    }
}

/// Start of the bootstrapper to the agent's first `get_work`, with everything downloaded. The end
/// is the server's own time stamp: a job is waiting, and is assigned by that call.
fn start() -> String {
    let scene = Scene::new("start");
    let server = Server::start(&scene);
    let mut chain = Chain::install(&scene, "agent", &server.http_url)
        .with_key("")
        .with_gocds_timings()
        .started();
    server
        .api()
        .wait_for_agent(&chain.uuid(), "Enabled", "Idle");
    server.add_repo(&Repo::with_pipeline(
        &scene,
        "quick",
        "quick:\n  tasks:\n    - exec: { command: \"true\" }\n",
    ));
    server.api().wait_for_pipeline("quick");
    let mut samples = Vec::new();
    for _ in 0..ROUNDS {
        chain.stop();
        let job = Job::new("quick", server.api().trigger("quick"), "quick");
        server.api().wait_for_state(&job, "Scheduled");
        let began = now_ms();
        chain.start();
        let state = server.api().wait_for_result(&job);
        let assigned = state.entered("Assigned").expect("the job was assigned");
        samples.push(assigned - began);
    }
    format!(
        "start of the bootstrapper to the first get_work: {} ms (median of {ROUNDS}; {})",
        median(&mut samples),
        range(&samples, "ms"),
    )
}

/// What an idle agent costs.
fn idle_memory() -> String {
    let scene = Scene::new("memory");
    let server = Server::start(&scene);
    let mut chain = Chain::install(&scene, "agent", &server.http_url)
        .with_key("")
        .with_gocds_timings()
        .started();
    let uuid = chain.uuid();
    server.api().wait_for_agent(&uuid, "Enabled", "Idle");
    // As an operator finds it: not the process that has just downloaded everything.
    chain.stop();
    chain.start();
    server.api().wait_for_agent(&uuid, "Enabled", "Idle");
    thread::sleep(Duration::from_secs(12));
    let roles = [Role::Bootstrapper, Role::Launcher, Role::Agent];
    let each = roles.map(|role| memory(chain.pid(role)).expect("its memory"));
    let total: u64 = each.iter().map(|memory| memory.pss).sum();
    let program = binary("journeyman-bootstrapper");
    let size = fs::metadata(&program).expect("the bootstrapper").len();
    let with_launcher = fs::metadata(&Releases::of_this_run().bootstrapper)
        .expect("the bootstrapper")
        .len();
    format!(
        "idle: {} MiB PSS together (bootstrapper {}, launcher {}, agent {})\n\
         bootstrapper: {} MiB without its launcher, {} MiB with it; {} MiB RSS",
        mib(total),
        mib(each[0].pss),
        mib(each[1].pss),
        mib(each[2].pss),
        mib(size / 1024),
        mib(with_launcher / 1024),
        mib(each[0].rss),
    )
}

/// Trigger to the task's first line on the server's console.
fn latency() -> String {
    let scene = Scene::new("latency");
    let server = Server::start(&scene);
    let chain = Chain::install(&scene, "agent", &server.http_url)
        .with_key("")
        .with_gocds_timings()
        .started();
    let uuid = chain.uuid();
    server.api().wait_for_agent(&uuid, "Enabled", "Idle");
    server.add_repo(&Repo::with_pipeline(
        &scene,
        "hello",
        "hello:\n  tasks:\n    - exec: { command: echo, arguments: [line 1] }\n",
    ));
    server.api().wait_for_pipeline("hello");
    let mut samples = Vec::new();
    for _ in 0..ROUNDS {
        server.api().wait_for_agent(&uuid, "Enabled", "Idle");
        let next = server.api().last_run("hello") + 1;
        let job = Job::new("hello", next, "hello");
        let began = Instant::now();
        assert_eq!(server.api().trigger("hello"), next);
        server.api().wait_for_output(&job, "line 1");
        samples.push(began.elapsed().as_millis() as i64);
        server.api().wait_for_result(&job);
    }
    format!(
        "trigger to the task's first line on the server: {} ms (median of {ROUNDS}; {})",
        median(&mut samples),
        range(&samples, "ms"),
    )
}

/// A million lines of 80 characters, beside the same task writing to a file.
fn console() -> String {
    let scene = Scene::new("console");
    let script = format!("seq -f 'line %075.0f' 1 {LINES}");
    let file = scene.path().join("lines");
    let mut to_file = Vec::new();
    for _ in 0..3 {
        let began = Instant::now();
        let status = Command::new("sh")
            .args(["-c", &format!("{script} > {}", file.display())])
            .status()
            .expect("sh");
        assert!(status.success());
        to_file.push(began.elapsed().as_millis() as i64);
    }
    let bytes = fs::metadata(&file).expect("the file").len();
    assert_eq!(bytes, LINES * 81, "each line has 80 characters and its end");

    let server = Server::start(&scene);
    let chain = Chain::install(&scene, "agent", &server.http_url)
        .with_key("")
        .with_gocds_timings()
        .started();
    let uuid = chain.uuid();
    server.api().wait_for_agent(&uuid, "Enabled", "Idle");
    server.add_repo(&Repo::with_pipeline(
        &scene,
        "lines",
        &format!(
            "lines:\n  tasks:\n    - exec: {{ command: sh, arguments: [-c, \"{script}\"] }}\n"
        ),
    ));
    let mut on_server = Vec::new();
    let mut peaks = [Memory::default(); 2];
    for _ in 0..3 {
        let job = Job::new("lines", server.api().trigger("lines"), "lines");
        wait_until("the job is done", || {
            for (role, peak) in [Role::Agent, Role::Runner].iter().zip(&mut peaks) {
                if let Some(now) = chain.process(*role).and_then(|process| memory(process.pid)) {
                    peak.peak = peak.peak.max(now.peak);
                }
            }
            server
                .api()
                .job(&job)
                .is_some_and(|job| job.state == "Completed")
        });
        let state = server.api().wait_for_result(&job);
        assert_eq!(state.result, "Passed");
        // All lines are on the server before it is told that the task is done.
        let began = state.entered("Building").expect("it was building");
        let ended = state.entered("Completing").expect("it was completing");
        assert_counts_to(&server.api().console(&job), LINES);
        on_server.push(ended - began);
    }
    format!(
        "{LINES} lines of 80 characters: {:.1} s until all are on the server, in order (median of 3); \
         the same task writing to a file: {:.1} s\n\
         peak of resident memory meanwhile: agent {} MiB, job runner {} MiB",
        median(&mut on_server) as f64 / 1000.0,
        median(&mut to_file) as f64 / 1000.0,
        mib(peaks[0].peak),
        mib(peaks[1].peak),
    )
}

fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("a time after 1970")
        .as_millis() as i64
}

fn median(samples: &mut [i64]) -> i64 {
    samples.sort_unstable();
    samples[samples.len() / 2]
}

/// Of sorted samples.
fn range(samples: &[i64], unit: &str) -> String {
    format!("{} to {} {unit}", samples[0], samples[samples.len() - 1])
}

fn mib(kib: u64) -> String {
    format!("{:.1}", kib as f64 / 1024.0)
}
