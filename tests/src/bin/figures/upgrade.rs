use std::time::{Duration, Instant};

use journeyman_protocol::release::RELEASE_PATH;
use journeyman_tests::{
    chain::Chain,
    gate::{Gate, Seen},
    patience::wait_until,
    releases::Releases,
    scene::Scene,
    server::Server,
};

use crate::{median, range};

const RUNS: usize = 7;

/// Time without an agent, as the server sees it: from the last call of the old one to the first of
/// the new one.
pub(crate) fn figure() -> String {
    let mut samples: Vec<i64> = (0..RUNS).map(|_| run()).collect();
    let median = median(&mut samples);
    format!(
        "upgrade: an idle agent is out of contact for {median} ms (median of {RUNS}; {})",
        range(&samples, "ms")
    )
}

fn run() -> i64 {
    let scene = Scene::new("contact");
    let releases = scene.folder("releases");
    let first = Releases::of_this_run();
    for entry in std::fs::read_dir(&first.folder)
        .expect("packages")
        .flatten()
    {
        std::fs::copy(entry.path(), releases.join(entry.file_name())).expect("a package");
    }
    let folder = releases.to_str().expect("a name in UTF-8");
    let server = Server::start_with(&scene, "server", &["--releases", folder]);
    let gate = Gate::before(&server.http_url);
    // With the timings an agent has, but for the minute it would take to hear of the release.
    let chain = Chain::install(&scene, "agent", &gate.url)
        .with_key("")
        .with_gocds_timings()
        .with_environment("AGENT_STARTUP_ARGS", "-Djourneyman.release.poll=200")
        .started();
    let uuid = chain.uuid();
    server.api().wait_for_agent(&uuid, "Enabled", "Idle");
    let link = || std::fs::read_link(chain.folder().join("current")).ok();
    let old = link();
    wait_until("the old agent asks for work", || {
        gate.seen().iter().any(is_of_agent)
    });
    Releases::newer(&releases);
    wait_until("the new agent is current", || link() != old);
    let switched = Instant::now();
    wait_until("the new agent calls", || {
        gate.seen()
            .iter()
            .any(|seen| is_start(seen) && seen.at > switched - Duration::from_secs(1))
    });
    let seen = gate.seen();
    let calls: Vec<&Seen> = seen.iter().filter(|seen| is_of_agent(seen)).collect();
    // An agent that starts asks for a cookie, which no other ever does.
    let begins = calls.iter().rposition(|seen| is_start(seen));
    let begins = begins.expect("the first call of the new agent");
    let gap = calls[begins].at - calls[begins - 1].at;
    i64::try_from(gap.as_millis()).expect("less than ages")
}

fn is_of_agent(seen: &Seen) -> bool {
    seen.path.contains("/remoting/") && !seen.path.ends_with(RELEASE_PATH)
}

fn is_start(seen: &Seen) -> bool {
    seen.path.ends_with("/get_cookie")
}
