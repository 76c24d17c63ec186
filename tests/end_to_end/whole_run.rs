//! The whole of it: from a copied bootstrapper to a finished pipeline.

use std::{fs, os::unix::fs::PermissionsExt, process::Stdio};

use journeyman_tests::{
    api::Job,
    binaries::{binary, repository},
    chain::Chain,
    console::{assert_counts_to, texts},
    patience::wait_until,
    processes::Role,
    releases::Releases,
    repo::Repo,
    scene::Scene,
    server::{KEY, Server},
};
use pretty_assertions::assert_eq;
use ring::digest::{SHA256, digest};

const TWO_STAGES: &str = "\
format_version: 11
pipelines:
  product:
    group: tests
    label_template: \"1.2.${COUNT}\"
    environment_variables: { PLAIN: visible }
    materials:
      source: { git: \"{url}\" }
    stages:
      - verify:
          approval: manual
          jobs:
            tests:
              resources: [tests]
              artifacts:
                - test: { source: reports/*.xml }
              tasks:
                - exec:
                    command: sh
                    arguments: [-c, \"mkdir -p reports; echo '<testsuite/>' > reports/TEST-a.xml; for i in $(seq 1 500); do echo line $i; done\"]
                - exec: { command: echo, arguments: [only after a failure], run_if: failed }
            docs:
              resources: [docs]
              environment_variables: { PLACE: here }
              artifacts:
                - build: { source: \"out/**/*.html\", destination: manual }
              tasks:
                - exec: { command: mkdir, arguments: [-p, out/deep] }
                - exec: { command: sh, arguments: [-c, \"echo $PLAIN $PLACE $GO_PIPELINE_LABEL | tee out/deep/index.html\"] }
                - exec: { command: sh, arguments: [-c, \"pwd; ls\"], working_directory: out }
      - package:
          clean_workspace: true
          jobs:
            archive:
              resources: [tests]
              artifacts:
                - build: { source: \"*.tar\", destination: pkg }
                - build: { source: notes }
              tasks:
                - exec: { command: tar, arguments: [-cf, product.tar, ci.gocd.yaml] }
                - exec: { command: sh, arguments: [-c, \"mkdir -p notes/a; echo one > notes/one.txt; echo two > notes/a/two.txt\"] }
";

#[test]
fn two_agents_with_different_resources_run_two_stages() {
    let scene = Scene::new("whole");
    let server = Server::start(&scene);
    let api = server.api();
    let repo = Repo::new(&scene, "product.repo", TWO_STAGES);
    server.add_repo(&repo);

    // Installing an agent is copying one file and giving it the server's URL.
    let install = |name: &str, resources: &str| {
        Chain::install(&scene, name, &server.http_url)
            .with_key(resources)
            .started()
    };
    let one = install("one", "tests");
    let two = install("two", "docs, other");
    let counter = api.trigger("product");
    assert_eq!(counter, 1);

    assert_eq!(api.wait_for_stage("product", 1, "verify"), "Passed");
    assert_eq!(api.wait_for_stage("product", 1, "package"), "Passed");
    let run = api.run("product", 1).unwrap();
    assert_eq!(run["label"], "1.2.1");

    let tests = Job::in_stage("product", 1, "verify", "tests");
    let docs = Job::in_stage("product", 1, "verify", "docs");
    let archive = Job::in_stage("product", 1, "package", "archive");
    for (job, agent) in [(&tests, &one), (&docs, &two), (&archive, &one)] {
        let state = api.wait_for_result(job);
        assert_eq!(state.result, "Passed");
        assert_eq!(
            state.agent,
            Some(agent.uuid()),
            "{} ran where its resource is",
            job.locator
        );
        let states: Vec<_> = state.transitions.iter().map(|(name, _)| &**name).collect();
        assert_eq!(
            states,
            [
                "Scheduled",
                "Assigned",
                "Preparing",
                "Building",
                "Completing",
                "Completed"
            ]
        );
        assert!(state.transitions.is_sorted_by_key(|(_, at)| *at));
    }

    // Consoles: complete, in order, in GoCD's shape.
    let console = api.console(&tests);
    assert_counts_to(&console, 500);
    assert!(!console.contains("only after a failure"), "{console}");
    let tags: Vec<_> = console.lines().map(|line| &line[..2]).collect();
    let mut order = tags.clone();
    order.dedup();
    assert_eq!(
        order,
        [
            "##", "pr", "pe", "pr", "##", "!!", "&1", "?0", "j0", "ar", "ex"
        ],
        "{console}"
    );
    let console = api.console(&docs);
    let output: Vec<_> = texts(&console, "&1").collect();
    let working_directory = two.folder().join("pipelines/product/out");
    assert_eq!(
        output,
        [
            "visible here 1.2.1",
            working_directory.to_str().unwrap(),
            "deep"
        ]
    );
    assert!(console.contains("[go] setting environment variable 'PLACE' to value 'here'"));

    // Artifacts: all of them, byte for byte.
    let paths = |job: &Job| -> Vec<String> {
        api.artifacts(job)
            .into_iter()
            .map(|artifact| artifact.path)
            .collect()
    };
    // The file itself, and the report made of it, which GoCD publishes twice.
    assert_eq!(
        paths(&tests),
        [
            "testoutput/TEST-a.xml",
            "testoutput/index.html",
            "testoutput/result/index.html"
        ]
    );
    assert_eq!(paths(&docs), ["manual/deep/index.html"]);
    assert_eq!(
        paths(&archive),
        ["notes/a/two.txt", "notes/one.txt", "pkg/product.tar"]
    );
    let checksums = api.text(&format!(
        "/files/{}/cruise-output/md5.checksum",
        archive.locator
    ));
    for (artifact, file) in [
        ("pkg/product.tar", "product.tar"),
        ("notes/a/two.txt", "notes/a/two.txt"),
    ] {
        let made = fs::read(one.folder().join("pipelines/product").join(file)).unwrap();
        let artifacts = api.artifacts(&archive);
        let stored = artifacts
            .iter()
            .find(|stored| stored.path == artifact)
            .unwrap();
        assert_eq!(sha256(&api.bytes(&stored.url)), sha256(&made));
        assert!(checksums.contains(artifact), "{checksums}");
    }
    // Its page names every artifact with its checksum.
    let page = api.text(&format!(
        "/tab/build/detail/{}?tab=artifacts",
        archive.locator
    ));
    let made = fs::read(one.folder().join("pipelines/product/product.tar")).unwrap();
    for wanted in ["archive", "Passed", "product.tar", &sha256(&made)] {
        assert!(page.contains(wanted), "no {wanted} on the page: {page}");
    }
    let page = api.text("/agents");
    for chain in [&one, &two] {
        assert!(page.contains(chain.folder().to_str().unwrap()), "{page}");
    }

    // What an operator finds in the folder afterwards.
    let scrubbed = fs::read_to_string(one.folder().join("config/autoregister.properties")).unwrap();
    assert!(
        scrubbed
            .lines()
            .all(|line| line.starts_with('#') || !line.contains(KEY)),
        "{scrubbed}"
    );
    for path in [one.folder().join("config/token"), one.state()] {
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} is for its owner only", path.display());
    }
    for name in [
        "logs/go-agent-bootstrapper.log",
        "logs/go-agent-launcher.log",
        "logs/go-agent.log",
    ] {
        assert!(one.folder().join(name).exists(), "no {name}");
    }
    assert!(!one.said().contains(KEY), "the key is in a log");
}

#[test]
fn a_pending_agent_is_enabled_by_rest_disabled_and_deleted() {
    let scene = Scene::new("rest");
    let server = Server::start(&scene);
    let api = server.api();
    let mut chain = Chain::install(&scene, "agent", &server.http_url).started();
    let uuid = chain.uuid();
    wait_until("the agent is pending", || {
        api.agent(&uuid)
            .is_some_and(|agent| agent["agent_config_state"] == "Pending")
    });
    assert!(api.text("/agents").contains("Pending"));

    assert!(api.configure_agent(&uuid, "Enabled").status.is_success());
    api.wait_for_agent(&uuid, "Enabled", "Idle");
    let repo = Repo::with_pipeline(
        &scene,
        "any",
        "any:\n  tasks:\n    - exec: { command: \"true\" }\n",
    );
    server.add_repo(&repo);
    let job = Job::new("any", api.trigger("any"), "any");
    assert_eq!(api.wait_for_result(&job).result, "Passed");

    // A disabled agent takes no job; enabled again it takes the one that waited.
    assert!(api.configure_agent(&uuid, "Disabled").status.is_success());
    let job = Job::new("any", api.trigger("any"), "any");
    assert_eq!(api.job(&job).unwrap().state, "Scheduled");
    assert!(api.configure_agent(&uuid, "Enabled").status.is_success());
    assert_eq!(api.wait_for_result(&job).result, "Passed");

    // Deleted, it comes back as pending under its old name without anybody touching its machine.
    api.wait_for_agent(&uuid, "Enabled", "Idle");
    chain.stop();
    assert!(api.configure_agent(&uuid, "Disabled").status.is_success());
    let path = format!("/api/agents/{uuid}");
    let answer = api.request(reqwest::Method::DELETE, &path, None);
    assert!(answer.status.is_success(), "{answer:?}");
    chain.start();
    wait_until("the agent is pending again", || {
        api.agent(&uuid)
            .is_some_and(|agent| agent["agent_config_state"] == "Pending")
    });
}

#[test]
fn a_pending_agent_is_enabled_by_the_command_line() {
    let scene = Scene::new("cli");
    let server = Server::start(&scene);
    let chain = Chain::install(&scene, "agent", &server.http_url).started();
    let uuid = chain.uuid();
    wait_until("the command line lists the agent as pending", || {
        let list = server.must_cli(&["agents", "list"]);
        list.contains(&uuid) && list.contains("Pending")
    });
    server.must_cli(&["agents", "enable", &uuid]);
    server.api().wait_for_agent(&uuid, "Enabled", "Idle");
    let output = server.cli(&["agents", "enable", "no-such-agent"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("no-such-agent"));
}

#[test]
fn an_agent_takes_the_newer_release_its_server_offers() {
    let scene = Scene::new("newer");
    let releases = scene.folder("releases");
    let current = Releases::of_this_run();
    for entry in fs::read_dir(&current.folder).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, releases.join(path.file_name().unwrap())).unwrap();
    }
    let server = Server::start_with(
        &scene,
        "server",
        &["--releases", releases.to_str().unwrap()],
    );
    let mut chain = Chain::install(&scene, "agent", &server.http_url)
        .with_key("")
        .started();
    let uuid = chain.uuid();
    server.api().wait_for_agent(&uuid, "Enabled", "Idle");
    let installed = || fs::read_link(chain.folder().join("current")).unwrap();
    let before = installed();

    Releases::newer(&releases);
    // The launcher compares whenever it starts.
    chain.kill_nine(Role::Launcher);
    wait_until("the newer agent is installed", || {
        fs::read_link(chain.folder().join("current")).is_ok_and(|link| link != before)
    });
    server.api().wait_for_agent(&uuid, "Enabled", "Idle");
    wait_until("one chain runs", || {
        [Role::Bootstrapper, Role::Launcher, Role::Agent]
            .iter()
            .all(|role| chain.processes(*role).len() == 1)
    });
    let log = chain.log("go-agent-bootstrapper.log");
    assert!(
        log.contains("the launcher ended: exit status: 60"),
        "the launcher replaced itself first: {log}"
    );
}

#[test]
fn the_sample_run_ends_with_the_result_of_its_pipeline() {
    let scene = Scene::new("sample");
    let output = scene
        .command(&repository().join("sample/run"))
        .env("ONCE", "1")
        .env("TMPDIR", scene.folder("tmp"))
        .env(
            "JOURNEYMAN_BIN",
            binary("journeyman-server").parent().unwrap(),
        )
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for wanted in [
        "test",
        "docs",
        "archive",
        "Passed",
        "tally-1.0.0.tar.gz",
        "/go/",
    ] {
        assert!(text.contains(wanted), "no {wanted:?} in {text}");
    }
}

fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes)
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
