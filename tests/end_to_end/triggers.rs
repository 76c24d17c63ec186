//! Runs that nobody asks for: a push to a real repository starts them, also when the server is killed.

use journeyman_tests::{
    api::Job,
    patience::{wait_for, wait_until},
    repo::Repo,
    scene::Scene,
    server::Server,
};
use reqwest::Method;
use serde_json::json;

const YAML: &str = "\
format_version: 11
pipelines:
  app:
    group: tests
    materials:
      source: { git: \"{url}\" }
    stages:
      - build: { tasks: [ { script: make } ] }
";

/// The newest run of `app` and the revision it is made with.
fn newest(server: &Server<'_>) -> Option<(u64, String)> {
    let answer = server
        .api()
        .try_request(Method::GET, "/api/pipelines/app/history", None)?;
    let history: serde_json::Value = serde_json::from_str(&answer.body).ok()?;
    let run = history["pipelines"].get(0)?;
    let revision = &run["build_cause"]["material_revisions"][0]["modifications"][0]["revision"];
    Some((run["counter"].as_u64()?, revision.as_str()?.to_owned()))
}

/// Waits for a run with a revision; its counter.
fn wait_for_run(server: &Server<'_>, revision: &str) -> u64 {
    wait_for(&format!("a run with {revision}"), || {
        let (counter, built) = newest(server)?;
        (built == revision).then_some(counter)
    })
}

#[test]
fn a_push_starts_a_run_whenever_the_server_is_killed() {
    let scene = Scene::new("triggers");
    let repo = Repo::new(&scene, "app.repo", YAML);
    let mut server = Server::start_with(&scene, "server", &["--material-interval", "1"]);
    server.add_repo(&repo);
    assert_eq!(wait_for_run(&server, &repo.revision()), 1);
    let mut built = 1;
    for (round, wait) in [0, 2, 10, 50, 200, 400, 800, 1200].into_iter().enumerate() {
        // There is no agent: each run is cancelled to make room for the next.
        server.api().cancel(&Job::new("app", built, "defaultJob"));
        if round % 2 == 0 {
            repo.commit("file", &round.to_string());
            std::thread::sleep(std::time::Duration::from_millis(wait));
            server.kill_nine();
        } else {
            server.kill_nine();
            repo.commit("file", &round.to_string());
        }
        server.start_again();
        let counter = wait_for_run(&server, &repo.revision());
        // Neither lost nor built twice.
        assert_eq!(counter, built + 1, "round {round}");
        built = counter;
    }
}

#[test]
fn a_notification_starts_a_run_at_once() {
    let scene = Scene::new("notify");
    let repo = Repo::new(&scene, "app.repo", YAML);
    let server = Server::start_with(&scene, "server", &["--material-interval", "3600"]);
    server.add_repo(&repo);
    assert_eq!(wait_for_run(&server, &repo.revision()), 1);
    server.api().cancel(&Job::new("app", 1, "defaultJob"));
    repo.commit("file", "2");
    let notify = |url: &str| {
        let body = json!({ "repository_url": url });
        let path = "/api/admin/materials/git/notify";
        server.api().request(Method::POST, path, Some(body)).status
    };
    assert_eq!(notify("https://git.example/other"), 404);
    assert_eq!(notify(repo.url().strip_prefix("file://").unwrap()), 202);
    assert_eq!(wait_for_run(&server, &repo.revision()), 2);
    // The same secret is shown to whoever sets up a webhook.
    let secret = server.must_cli(&["webhook-secret"]);
    let file = std::fs::read_to_string(server.data().join("webhook.secret")).unwrap();
    assert_eq!(secret, file);
    wait_until("nothing is wrong", || {
        let health = server.api().text("/api/server_health_messages");
        health.trim() == "[]"
    });
}
