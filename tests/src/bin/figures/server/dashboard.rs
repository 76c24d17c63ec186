use std::time::Instant;

use journeyman_tests::load::Connection;

use super::{Bench, PIPELINES, call};

const ROUNDS: usize = 21;
/// Milliseconds.
const GOAL: f64 = 100.0;

/// The dashboard as a browser and as a client get it, compressed, from the request to the last byte.
pub(super) fn measure(bench: &mut Bench<'_>, _seconds: Option<u64>) -> String {
    let mut connection = Connection::new(&bench.target);
    let mut said = Vec::new();
    for (what, path) in [("page", "/pipelines"), ("API", "/api/dashboard")] {
        let mut times = Vec::new();
        let mut size = 0;
        for _ in 0..ROUNDS {
            let began = Instant::now();
            let answer = bench
                .runtime
                .block_on(call(&mut connection, "GET", path, ""));
            times.push(began.elapsed().as_secs_f64() * 1000.0);
            assert_eq!(answer.status, 200, "{path}");
            size = answer.body.len();
        }
        times.sort_by(f64::total_cmp);
        said.push(format!(
            "{what} {:.1} ms ({} KiB compressed; {:.1} to {:.1} ms)",
            times[ROUNDS / 2],
            size / 1024,
            times[0],
            times[ROUNDS - 1],
        ));
    }
    format!(
        "server, dashboard: {PIPELINES} pipelines: {} (medians of {ROUNDS}; goal: under {GOAL:.0} ms)",
        said.join(", "),
    )
}
