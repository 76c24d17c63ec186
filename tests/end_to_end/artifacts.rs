//! Artifacts on their way from one job to another.

use std::{fs, path::Path};

use journeyman_tests::{
    api::Job,
    chain::Chain,
    console::texts,
    fake_server::{FakeServer, build_work},
    patience::wait_until,
    processes::{Role, memory},
    repo::Repo,
    scene::Scene,
    server::Server,
};
use serde_json::json;

/// A pipeline that publishes a folder and a file in its first stage, and fetches them in its
/// second.
fn repo(scene: &Scene, name: &str, fetch: &str) -> Repo {
    Repo::new(
        scene,
        name,
        &format!(
            "\
format_version: 10
pipelines:
  {name}:
    group: tests
    materials:
      src: {{ type: configrepo }}
    stages:
      - build:
          jobs:
            make:
              artifacts:
                - build: {{ source: out, destination: pkg }}
                - build: {{ source: 'single file.txt', destination: files }}
              tasks:
                - script: |
                    mkdir -p out/sub out/empty
                    echo one > out/a.txt
                    echo two > 'out/sub/b c.txt'
                    echo three > 'single file.txt'
      - use:
          clean_workspace: true
          jobs:
            use:
              tasks:
{fetch}
"
        ),
    )
}

#[test]
fn a_job_fetches_what_an_earlier_stage_published() {
    let scene = Scene::new("fetch");
    let server = Server::start(&scene);
    let _chain = Chain::install(&scene, "agent", &server.http_url)
        .with_key("")
        .started();
    server.add_repo(&repo(
        &scene,
        "fetch",
        "                - fetch: { stage: build, job: make, source: pkg/out, destination: got }
                - fetch: { stage: Build, job: make, source: 'files/single file.txt', is_file: yes }
                - fetch: { pipeline: fetch, stage: build, job: make, source: 'files/single file.txt', is_file: yes }
                - exec: { command: sh, arguments: [-c, \"find . -name '*.txt' | sort | xargs -d '\\\\n' tail -n 1; test -d got/out/empty\"] }",
    ));
    let run = server.api().trigger("fetch");
    let job = Job::in_stage("fetch", run, "use", "use");
    assert_eq!(server.api().wait_for_stage("fetch", run, "use"), "Passed");
    let console = server.api().console(&job);
    let said: Vec<&str> = texts(&console, "&1").collect();
    assert_eq!(
        said,
        [
            "[go] Fetching artifact [pkg/out] from [fetch/1/build/1/make]",
            "[go] Saved artifact to [pipelines/fetch/got] after verifying the integrity of its \
             contents.",
            "[go] Fetching artifact [files/single file.txt] from [fetch/1/build/1/make]",
            "[go] Saved artifact to [pipelines/fetch/single file.txt] after verifying the integrity \
             of its contents.",
            "[go] Fetching artifact [files/single file.txt] from [fetch/1/build/1/make]",
            "[go] Artifact is not modified, skipped fetching it",
            "==> ./got/out/a.txt <==",
            "one",
            "",
            "==> ./got/out/sub/b c.txt <==",
            "two",
            "",
            "==> ./single file.txt <==",
            "three",
        ],
        "{console}"
    );
    assert!(
        console.contains("[go] Task: fetch artifact [pkg/out] => [got] from [fetch/build/make]"),
        "{console}"
    );
}

#[test]
fn a_fetch_of_damaged_files_fails_and_a_cancel_ends_its_wait() {
    let scene = Scene::new("damaged");
    let server = Server::start(&scene);
    let chain = Chain::install(&scene, "agent", &server.http_url)
        .with_key("")
        .started();
    server.add_repo(&repo(
        &scene,
        "damaged",
        "                - exec: { command: sh, arguments: [-c, 'until [ -e ../../go ]; do sleep 0.05; done'] }
                - fetch: { stage: build, job: make, source: pkg/out }",
    ));
    let run = server.api().trigger("damaged");
    assert_eq!(
        server.api().wait_for_stage("damaged", run, "build"),
        "Passed"
    );
    let stored = find(server.data(), "b c.txt").expect("the artifact");
    fs::write(stored, "damaged\n").unwrap();
    fs::write(chain.folder().join("go"), "").unwrap();
    let job = Job::in_stage("damaged", run, "use", "use");
    wait_until("the fetch waits for its next try", || {
        server.api().console(&job).contains("seconds to retry.")
    });
    // It would wait for ten seconds and more, three times.
    server.api().cancel(&job);
    assert_eq!(server.api().wait_for_result(&job).result, "Cancelled");
    wait_until("the runner has ended", || {
        chain.processes(Role::Runner).is_empty()
    });
    let console = server.api().console(&job);
    let errors: Vec<&str> = texts(&console, "&2").collect();
    assert_eq!(errors.len(), 3, "{console}");
    assert_eq!(
        errors[0],
        "[go] [ERROR] Verification of the integrity of the artifact [pkg/out/sub/b c.txt] failed. \
         The artifact file on the server may have changed since its original upload."
    );
    assert_eq!(errors[2], "[go] Failed to save artifact [pkg/out] to []");
}

fn find(folder: &Path, name: &str) -> Option<std::path::PathBuf> {
    for entry in fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        if entry.file_name() == name {
            return Some(path);
        }
        if path.is_dir()
            && let Some(found) = find(&path, name)
        {
            return Some(found);
        }
    }
    None
}

/// 50,000 files, sent to a server that keeps nothing.
#[test]
fn many_files_are_uploaded_in_little_memory_and_leave_nothing_behind() {
    const FILES: usize = 50_000;
    let scene = Scene::new("many");
    let server = FakeServer::start();
    let chain = Chain::install(&scene, "agent", &server.url).with_package();
    let pipeline = scene.folder("agent/pipelines/web");
    for n in 0..FILES {
        let folder = pipeline.join(format!("many/folder-with-a-name-{}", n / 500));
        if n % 500 == 0 {
            fs::create_dir_all(&folder).unwrap();
        }
        fs::write(folder.join(format!("file-with-a-name-{n}.txt")), "x").unwrap();
    }
    let mut work = build_work("job", 7, &json!([]));
    work["assignment"]["fetchMaterials"] = json!(false);
    work["assignment"]["artifactPlans"] = json!([{
        "testArtifactPlansForMerging": [], "buildId": 7, "artifactPlanType": "file",
        "src": "many", "dest": "", "id": 1
    }]);
    server.give_work(work);
    let chain = chain.started();
    let mut peak = 0;
    wait_until("the job is reported", || {
        let runner = chain.process(Role::Runner);
        if let Some(now) = runner.and_then(|process| memory(process.pid)) {
            peak = peak.max(now.peak);
            assert_eq!(names(&pipeline), ["many"]);
            assert_eq!(names(&chain.folder().join("data")), Vec::<String>::new());
        }
        !server.results().is_empty()
    });
    assert_eq!(server.results(), ["Passed"]);
    assert_eq!(server.told().uploads.len(), 1);
    assert!(peak > 0 && peak < 64 * 1024, "{peak} KiB");
}

fn names(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        // The launcher's copy of itself, which it runs from.
        .filter(|name| !name.starts_with("launcher-"))
        .collect()
}
