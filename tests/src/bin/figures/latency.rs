use std::time::Instant;

use journeyman_tests::{api::Job, chain::Chain, repo::Repo, scene::Scene, server::Server};

use crate::{ROUNDS, median, range};

/// Trigger to the task's first line on the server's console.
pub(crate) fn figure() -> String {
    let scene = Scene::new("latency");
    let server = Server::start(&scene);
    let chain = Chain::install(&scene, "agent", &server.http_url)
        .with_key("")
        .with_gocds_timings()
        .started();
    let uuid = chain.uuid();
    server.api().wait_for_agent(&uuid, "Enabled", "Idle");
    server.add_repo(&Repo::with_pipeline(
        &scene,
        "hello",
        "hello:\n  tasks:\n    - exec: { command: echo, arguments: [line 1] }\n",
    ));
    server.api().wait_for_pipeline("hello");
    let mut samples = Vec::new();
    for _ in 0..ROUNDS {
        server.api().wait_for_agent(&uuid, "Enabled", "Idle");
        let next = server.api().last_run("hello") + 1;
        let job = Job::new("hello", next, "hello");
        let began = Instant::now();
        assert_eq!(server.api().trigger("hello"), next);
        server.api().wait_for_output(&job, "line 1");
        samples.push(began.elapsed().as_millis() as i64);
        server.api().wait_for_result(&job);
    }
    format!(
        "trigger to the task's first line on the server: {} ms (median of {ROUNDS}; {})",
        median(&mut samples),
        range(&samples, "ms"),
    )
}
