//! The console of a job, through whatever the server makes of it.

use std::fs;

use journeyman_tests::{
    chain::Chain,
    console::assert_counts_to,
    fake_server::{FakeServer, build_work, shell},
    patience::wait_until,
    scene::Scene,
};
use pretty_assertions::assert_eq;
use serde_json::json;

/// Refuses the next uploads of console lines with these.
fn refuse(server: &FakeServer, statuses: &[u16]) {
    let statuses = statuses.iter().copied().collect();
    server
        .told()
        .refuse
        .insert("console.log".to_owned(), statuses);
}

fn is_through(server: &FakeServer) -> bool {
    server.told().refuse["console.log"].is_empty()
}

#[test]
fn no_line_is_lost_while_the_server_refuses_the_console() {
    let scene = Scene::new("refused");
    let server = FakeServer::start();
    let (go, end) = (scene.path().join("go"), scene.path().join("end"));
    let script = format!(
        "i=0; until [ -e {} ]; do i=$((i+1)); echo line $i; sleep 0.01; done; \
         echo line $((i+1)); touch waits; until [ -e {} ]; do sleep 0.01; done; \
         echo line $((i+2)); \
         echo $((i+2)) > last",
        go.display(),
        end.display()
    );
    server.give_work(build_work("unit", 7, &json!([shell(&script)])));
    let chain = Chain::install(&scene, "agent", &server.url)
        .with_package()
        .started();
    wait_until("lines are on the server", || {
        server.console().contains(" line 3\n")
    });

    // In the middle of the job.
    refuse(&server, &[500, 413, 401, 403]);
    wait_until("all refusals were heard", || is_through(&server));
    fs::write(go, "").unwrap();
    let waits = chain.folder().join("pipelines/web/waits");
    wait_until("the task is about to end", || waits.exists());

    // At its end: the last report waits for them.
    refuse(&server, &[500, 507, 404, 400]);
    fs::write(end, "").unwrap();
    wait_until("the job has been reported", || !server.results().is_empty());
    assert!(is_through(&server));
    assert_eq!(server.results(), ["Passed"], "{}", chain.said());
    let lines = fs::read_to_string(chain.folder().join("pipelines/web/last")).unwrap();
    assert_counts_to(&server.console(), lines.trim().parse().unwrap());
    let console = server.console();
    let last = console.lines().last().unwrap();
    assert!(last.contains("[go] Job completed"), "{last}");
}

#[test]
fn long_lines_are_cropped_at_gocds_limit_or_the_one_that_is_set() {
    let scene = Scene::new("long-lines");
    let server = FakeServer::start();
    // 12 million bytes without an end of line, in bounded memory.
    let script = "head -c 12000000 /dev/zero | tr '\\0' x; echo; echo behind";
    server.give_work(build_work("unit", 7, &json!([shell(script)])));
    server.give_work(build_work("cropped", 8, &json!([shell(script)])));
    let _chain = Chain::install(&scene, "agent", &server.url)
        .with_package()
        .with_environment(
            "GOCD_AGENT_JVM_OPTS",
            "-Dgo.console.log.max.line.length=200",
        )
        .started();
    wait_until("the jobs have been reported", || {
        server.results().len() == 2
    });
    let console = server.console();
    let long: Vec<usize> = console
        .lines()
        .filter(|line| line.ends_with("x...[ cropped by GoCD ]"))
        .map(|line| line.len() - "&1|00:00:00.000 ".len())
        .collect();
    assert_eq!(long, [200, 200]);
    assert_eq!(console.matches(" behind\n").count(), 2);
}
