use std::{fs, process::Command, time::Instant};

use journeyman_tests::{
    api::Job,
    chain::Chain,
    console::assert_counts_to,
    patience::wait_until,
    processes::{Memory, Role, memory},
    repo::Repo,
    scene::Scene,
    server::Server,
};

use crate::{median, mib};

/// Lines, 80 characters each.
const LINES: u64 = 1_000_000;

/// A million lines of 80 characters, beside the same task writing to a file.
pub(crate) fn figure() -> String {
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
