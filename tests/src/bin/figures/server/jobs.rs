use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use journeyman_tests::load::{Connection, Polling, bytes};
use serde_json::Value;
use tokio::time::{self, Instant, MissedTickBehavior};

use super::{AGENTS, Bench, JOBS, PIPELINES, credentials, trigger};

/// Jobs a second that are scheduled.
const RATE: u64 = 200;
/// Seconds of one sample.
const SAMPLE: u64 = 10;
/// People who trigger at once.
const TRIGGERS: u64 = 4;
/// How long the last jobs may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Jobs that do nothing, scheduled at a steady rate whether the server follows or not; every agent
/// waits for one.
pub(super) fn measure(bench: &mut Bench<'_>, seconds: Option<u64>) -> String {
    let samples = seconds.unwrap_or(60).div_ceil(SAMPLE);
    let mut meter = bench.meter();
    let target = bench.target.clone();
    let fleet = &mut bench.fleet;
    bench.runtime.block_on(async {
        let recorded_before = recorded(&mut Connection::new(&target)).await;
        fleet.start(Polling::Waiting(20));
        // All of them wait.
        time::sleep(Duration::from_secs(3)).await;
        let counts = fleet.counts.clone();
        let done = || counts.jobs.load(Relaxed);
        let before = done();
        meter.lap();
        let triggers = samples * SAMPLE * RATE / JOBS as u64;
        let began = Instant::now();
        let mut people = tokio::task::JoinSet::new();
        for person in 0..TRIGGERS {
            let mut connection = Connection::new(&target);
            people.spawn(async move {
                let every = Duration::from_secs(TRIGGERS * JOBS as u64) / RATE as u32;
                let mut ticks = time::interval_at(began + every * person as u32 / TRIGGERS as u32, every);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
                for number in (person..triggers).step_by(TRIGGERS as usize) {
                    ticks.tick().await;
                    trigger(&mut connection, number as usize % PIPELINES).await;
                }
            });
        }
        let mut rates = Vec::new();
        let mut last = (Instant::now(), before);
        for _ in 0..samples {
            time::sleep(Duration::from_secs(SAMPLE)).await;
            let now = (Instant::now(), done());
            rates.push((now.1 - last.1) as f64 / now.0.duration_since(last.0).as_secs_f64());
            last = now;
        }
        let share = meter.lap();
        while let Some(ended) = people.join_next().await {
            ended.expect("all triggers are accepted");
        }
        let jobs = triggers * JOBS as u64;
        let left = jobs.saturating_sub(done() - before);
        time::timeout(PATIENCE, async {
            while done() - before < jobs {
                time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .expect("the last jobs are done");
        let late = began.elapsed().as_secs_f64() - (samples * SAMPLE) as f64;
        fleet.stop().await;
        let recorded = recorded(&mut Connection::new(&target)).await - recorded_before;
        assert_eq!(recorded, triggers, "every run is recorded, and has passed");
        rates.sort_by(f64::total_cmp);
        format!(
            "server, jobs: {:.0} a second of {RATE} scheduled, run as no-ops and recorded, with {AGENTS} agents waiting \
             (median of {samples} times {SAMPLE} s; {:.0} to {:.0}; {left} of {jobs} left when the last was \
             scheduled, which took {late:.1} s); {:.0} % of one core (goal: {RATE} a second for 60 s)",
            rates[rates.len() / 2],
            rates[0],
            rates[rates.len() - 1],
            share * 100.0,
        )
    })
}

/// How many runs the server has, all of which have passed.
async fn recorded(connection: &mut Connection) -> u64 {
    let request = connection
        .request("GET", "/api/journeyman/pipelines")
        .header("Authorization", credentials())
        .body(bytes(""))
        .expect("a request");
    let answer = connection.send(request).await.expect("an answer");
    let pipelines: Vec<Value> = serde_json::from_slice(&answer.body).expect("the pipelines");
    let latest = pipelines.iter().map(|pipeline| &pipeline["latest"]);
    latest
        .filter(|latest| !latest.is_null())
        .map(|latest| {
            assert_eq!(latest["state"], "Passed", "{latest}");
            latest["counter"].as_u64().expect("a number")
        })
        .sum()
}
