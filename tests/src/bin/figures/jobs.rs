use journeyman_tests::{
    chain::Chain,
    console::{texts, time_of},
    fake_server::{FakeServer, build_work},
    patience::wait_until,
    scene::Scene,
};
use serde_json::{Value, json};

use crate::median;

/// Jobs of one run.
const JOBS: u64 = 100;
const RUNS: usize = 5;

/// Jobs that do nothing, from a server (GoCD's protocol) that always has one more.
pub(crate) fn figure() -> String {
    let mut cycles = Vec::new();
    let mut outside = Vec::new();
    for _ in 0..RUNS {
        let (cycle, task) = run();
        cycles.push(cycle);
        outside.push(cycle - task);
    }
    let cycle = median(&mut cycles);
    format!(
        "jobs: {:.1} a second, one after the other; {:.1} ms of each outside its task (medians of \
         {RUNS} runs of {JOBS} jobs)",
        1_000_000.0 / cycle as f64,
        median(&mut outside) as f64 / 1000.0,
    )
}

/// From the beginning of a job to that of the next, and its task, in microseconds on average.
fn run() -> (i64, i64) {
    let scene = Scene::new("jobs");
    let server = FakeServer::start();
    server.told().work_at_once = true;
    for id in 1..=JOBS {
        server.give_work(build_work(&format!("job-{id}"), id, &json!([nothing()])));
    }
    let _chain = Chain::install(&scene, "agent", &server.url)
        .with_package()
        .with_gocds_timings()
        .started();
    wait_until("all jobs are reported", || {
        server.results().len() as u64 == JOBS
    });
    assert!(server.results().iter().all(|result| result == "Passed"));
    let consoles = &server.told().consoles;
    let mut begun: Vec<i64> = consoles
        .values()
        .map(|console| time_of(console, "[go] Job Started:").expect("its first line"))
        .collect();
    begun.sort_unstable();
    let tasks: i64 = consoles
        .values()
        .map(|console| {
            let status = texts(console, "?0").next().expect("the task's status");
            let (_, milliseconds) = status.split_once('(').expect("its time");
            let (milliseconds, _) = milliseconds.split_once(' ').expect("its unit");
            milliseconds.parse::<i64>().expect("a number")
        })
        .sum();
    let jobs = JOBS as i64;
    let all = begun[begun.len() - 1] - begun[0];
    (all * 1000 / (jobs - 1), tasks * 1000 / jobs)
}

fn nothing() -> Value {
    let mut task = journeyman_tests::fake_server::shell("");
    task["command"] = "true".into();
    task["args"] = json!([]);
    task
}
