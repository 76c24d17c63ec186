//! Stopping an agent: the first signal lets the job finish, the second cancels it.

use journeyman_tests::{
    api::Job,
    chain::Chain,
    console::assert_counts_to,
    patience::wait_until,
    processes::{self, Role},
    repo::Repo,
    scene::Scene,
    server::Server,
};

fn job(go: &std::path::Path) -> String {
    format!(
        "\
work:
  tasks:
    - exec:
        command: sh
        arguments: [-c, 'echo line 1; until [ -e {} ]; do sleep 0.05; done; echo line 2']
",
        go.display()
    )
}

#[test]
fn the_first_signal_lets_the_job_finish() {
    let scene = Scene::new("stop");
    let server = Server::start(&scene);
    let mut chain = Chain::install(&scene, "agent", &server.http_url)
        .with_key("")
        .started();
    let go = scene.path().join("go");
    server.add_repo(&Repo::with_pipeline(&scene, "stop", &job(&go)));
    let first = Job::new("stop", server.api().trigger("stop"), "work");
    server.api().wait_for_output(&first, "line 1");

    chain.ask_to_stop();
    chain.wait_until_said("asked to stop");
    assert!(processes::alive(chain.pid(Role::Runner)));
    std::fs::write(&go, "").unwrap();
    let status = chain.wait_for_end();
    assert!(status.success(), "{status}");
    let state = server.api().wait_for_result(&first);
    assert_eq!(state.result, "Passed");
    assert_counts_to(&server.api().console(&first), 2);
    // The server must not take an agent that has stopped for one that still builds.
    server
        .api()
        .wait_for_agent(&chain.uuid(), "Enabled", "Idle");
}

#[test]
fn the_second_signal_cancels_the_job() {
    let scene = Scene::new("stop2");
    let server = Server::start(&scene);
    let mut chain = Chain::install(&scene, "agent", &server.http_url)
        .with_key("")
        .started();
    let go = scene.path().join("go");
    server.add_repo(&Repo::with_pipeline(&scene, "stop", &job(&go)));
    let first = Job::new("stop", server.api().trigger("stop"), "work");
    server.api().wait_for_output(&first, "line 1");

    chain.ask_to_stop();
    chain.wait_until_said("asked to stop");
    chain.ask_to_stop();
    let status = chain.wait_for_end();
    assert!(status.success(), "{status}");
    assert!(
        scene
            .processes()
            .iter()
            .all(|left| left.pid == server.pid())
    );
    // Nobody cancelled it at the server, so the runner's word counts.
    let state = server.api().wait_for_result(&first);
    assert_eq!(state.result, "Cancelled");
}

#[test]
fn an_idle_chain_stops_at_once_and_starts_again_with_its_identity() {
    let scene = Scene::new("restart");
    let server = Server::start(&scene);
    let mut chain = Chain::install(&scene, "agent", &server.http_url)
        .with_key("")
        .started();
    let uuid = chain.uuid();
    server.api().wait_for_agent(&uuid, "Enabled", "Idle");
    chain.stop();
    wait_until("only the server is left", || {
        scene
            .processes()
            .iter()
            .all(|left| left.pid == server.pid())
    });
    chain.start();
    chain.pid(Role::Agent);
    server.api().wait_for_agent(&uuid, "Enabled", "Idle");
    assert_eq!(chain.uuid(), uuid);
    assert_eq!(server.api().agents().len(), 1);
}
