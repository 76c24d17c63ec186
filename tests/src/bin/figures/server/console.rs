use std::{
    fs::{self, File},
    time::Instant,
};

use bytes::Bytes;
use futures_util::future::join_all;
use journeyman_tests::load::bytes;

use super::{Bench, JOBS};

const AGENTS: usize = 20;
/// Bytes of one body.
const BODY: usize = 1 << 20;
/// Bodies of each agent in a round: 64 MiB.
const BODIES: usize = 64;
const ROUNDS: usize = 3;
/// MB a second, of all agents together.
const GOAL: f64 = 200.0;

/// Agents that write as fast as they can, in bodies of a MiB; the time is taken when all of it is on
/// the disk.
pub(super) fn measure(bench: &mut Bench<'_>, seconds: Option<u64>) -> String {
    // What arrives in a second is not known before; a round is about one.
    let rounds = seconds.map_or(ROUNDS, |seconds| seconds.max(1) as usize);
    let line = format!("&1|10:11:12.131 {:0>63}\n", 1);
    let body = Bytes::from(line.repeat(BODY / line.len()));
    let mut rates: Vec<f64> = (0..rounds)
        .map(|_| bench.runtime.block_on(round(bench, &body)))
        .collect();
    rates.sort_by(f64::total_cmp);
    format!(
        "server, console: {:.0} MB a second from {AGENTS} agents to the disk (median of {rounds} times {} MB; {:.0} to \
         {:.0}; goal: {GOAL:.0})",
        rates[rates.len() / 2],
        AGENTS * BODIES * body.len() / 1_000_000,
        rates[0],
        rates[rates.len() - 1],
    )
}

async fn round(bench: &Bench<'_>, body: &Bytes) -> f64 {
    let mut jobs = bench.take_jobs(AGENTS / JOBS).await;
    let consoles = bench.server.data().join("blobs/consoles");
    let began = Instant::now();
    join_all(jobs.iter_mut().map(|(agent, connection, work)| async move {
        let agent = &bench.fleet.agents()[*agent];
        let job = &work.assignment.job_identifier;
        let mut length = 0;
        for _ in 0..BODIES {
            length = agent
                .write(connection, job, length, bytes(body.clone()))
                .await;
        }
    }))
    .await;
    let mut total = 0;
    let mut files = Vec::new();
    for (_, _, work) in &jobs {
        let name = format!("{}.log", work.assignment.job_identifier.build_id);
        let path = consoles.join(name);
        let file = File::open(&path).expect("a console");
        file.sync_all().expect("a disk");
        total += file.metadata().expect("its size").len();
        files.push(path);
    }
    let seconds = began.elapsed().as_secs_f64();
    assert_eq!(total, (AGENTS * BODIES * body.len()) as u64);
    for (agent, connection, work) in &mut jobs {
        let job = &work.assignment.job_identifier;
        bench.fleet.agents()[*agent].end(connection, job).await;
    }
    // The next round should not find the disk full.
    for path in files {
        fs::remove_file(path).expect("a console");
    }
    total as f64 / 1_000_000.0 / seconds
}
