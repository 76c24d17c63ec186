use std::{fs, time::Instant};

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

const RUNS: usize = 5;

/// Pings so often that the time between two of them is how exactly is measured, and hears of a
/// release at once.
const OFTEN: &str = "-Dagent.ping.delay=20 -Dagent.ping.interval=20 \
    -Djourneyman.release.poll=200";

/// The longest time without a call of an agent while launcher and agent are upgraded, as the server
/// sees it.
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
    for entry in fs::read_dir(&first.folder).expect("packages").flatten() {
        fs::copy(entry.path(), releases.join(entry.file_name())).expect("a package");
    }
    let folder = releases.to_str().expect("a name in UTF-8");
    let server = Server::start_with(&scene, "server", &["--releases", folder]);
    let gate = Gate::before(&server.http_url);
    let chain = Chain::install(&scene, "agent", &gate.url)
        .with_key("")
        .with_environment("AGENT_STARTUP_ARGS", OFTEN)
        .started();
    let uuid = chain.uuid();
    server.api().wait_for_agent(&uuid, "Enabled", "Idle");
    chain.wait_until_said("CookieReceived");
    let link = || fs::read_link(chain.folder().join("current")).ok();
    let old = link();
    let begun = Instant::now();
    Releases::newer(&releases);
    wait_until("the new agent is current", || link() != old);
    let switched = Instant::now();
    let calls_since = |moment: Instant| {
        let mut seen = gate.seen();
        seen.retain(|seen| is_of_agent(seen) && seen.at > moment);
        seen
    };
    // The old one is told to leave a moment after the switch.
    wait_until("the new agent pings", || {
        let said = chain.log("go-agent.log");
        let last = said.rfind("Agent started").unwrap_or_default();
        let left = said.rfind("The launcher has died").unwrap_or(usize::MAX);
        last > left && calls_since(switched).len() > 50
    });
    let calls = calls_since(begun);
    let gaps = calls.windows(2).map(|pair| pair[1].at - pair[0].at);
    let longest = gaps.max().expect("calls of an agent");
    i64::try_from(longest.as_millis()).expect("less than ages")
}

fn is_of_agent(seen: &Seen) -> bool {
    seen.path.contains("/remoting/") && !seen.path.ends_with(RELEASE_PATH)
}
