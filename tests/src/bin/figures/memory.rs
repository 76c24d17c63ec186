use std::{fs, thread, time::Duration};

use journeyman_tests::{
    binaries::binary,
    chain::Chain,
    processes::{Role, memory},
    releases::Releases,
    scene::Scene,
    server::Server,
};

use crate::mib;

/// What an idle agent costs.
pub(crate) fn figure() -> String {
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
