use std::time::SystemTime;

use journeyman_tests::{api::Job, chain::Chain, repo::Repo, scene::Scene, server::Server};

use crate::{ROUNDS, median, range};

/// Start of the bootstrapper to the agent's first `get_work`, with everything downloaded. The end
/// is the server's own time stamp: a job is waiting, and is assigned by that call.
pub(crate) fn figure() -> String {
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

fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("a time after 1970")
        .as_millis() as i64
}
