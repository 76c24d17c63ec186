use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use journeyman_tests::load::Polling;

use super::{AGENTS, Bench};

/// Seconds of one sample.
const SAMPLE: u64 = 10;
const GOAL: f64 = 0.2;

/// What idle agents cost: each pings every 5 s, and every 10 s asks for a release and for work.
pub(super) fn measure(bench: &mut Bench<'_>, seconds: Option<u64>) -> String {
    let samples = seconds.unwrap_or(50).div_ceil(SAMPLE);
    let mut meter = bench.meter();
    let fleet = &mut bench.fleet;
    let (mut shares, pings, polls) = bench.runtime.block_on(async {
        fleet.start(Polling::Gocd);
        // Until each has done all it does once.
        tokio::time::sleep(Duration::from_secs(SAMPLE)).await;
        let counts = fleet.counts.clone();
        let before = (counts.pings.load(Relaxed), counts.polls.load(Relaxed));
        meter.lap();
        let mut shares = Vec::new();
        for _ in 0..samples {
            tokio::time::sleep(Duration::from_secs(SAMPLE)).await;
            shares.push(meter.lap());
        }
        let pings = counts.pings.load(Relaxed) - before.0;
        let polls = counts.polls.load(Relaxed) - before.1;
        fleet.stop().await;
        (shares, pings, polls)
    });
    shares.sort_by(f64::total_cmp);
    let time = (samples * SAMPLE) as f64;
    format!(
        "server, agents: {AGENTS} idle agents with GoCD's timings ({:.0} pings and {:.0} polls a second) take \
         {:.1} % of one core (median of {samples} times {SAMPLE} s; {:.1} to {:.1} %; goal: under {:.0} %)",
        pings as f64 / time,
        polls as f64 / time,
        shares[shares.len() / 2] * 100.0,
        shares[0] * 100.0,
        shares[shares.len() - 1] * 100.0,
        GOAL * 100.0,
    )
}
