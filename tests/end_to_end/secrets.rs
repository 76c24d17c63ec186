//! Secrets of a job: nowhere but in the environment of its tasks.

use std::{
    fs,
    path::{Path, PathBuf},
};

use journeyman_tests::{
    chain::Chain,
    fake_server::{FakeServer, build_work, shell},
    patience::wait_until,
    processes::Role,
    scene::Scene,
};
use serde_json::{Value, json};

/// Has what the encodings of URLs, of base64 and of logs change.
const SECRET: &str = "hun/ter \"2\" très+secret";
/// Its forms, as programs print them: base64 (alone, and behind `user:`), and in URLs.
const FORMS: &[&str] = &[
    SECRET,
    "aHVuL3RlciAiMiIgdHLDqHMrc2VjcmV0",
    "h1bi90ZXIgIjIiIHRyw6hzK3NlY3Jld",
    "odW4vdGVyICIyIiB0csOocytzZWNyZX",
    "hun%2Fter%20%222%22%20tr%C3%A8s%2Bsecret",
    "hun%2fter+%222%22+tr%c3%a8s%2bsecret",
    "hun/ter%20%222%22%20tr%C3%A8s+secret",
    // As Rust and JSON quote it.
    "hun/ter \\\"2\\\" très+secret",
];

fn assert_hidden(what: &str, text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    for form in FORMS {
        if let Some(at) = text.find(form) {
            let from = text.floor_char_boundary(at.saturating_sub(200));
            panic!("{what} shows {form}: {}", &text[from..at + form.len()]);
        }
    }
}

/// Everything an agent has on its disk, but for what tasks have made there themselves.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && !path.ends_with("pipelines") => folders.push(path),
                Ok(kind) if kind.is_file() => found.push(path),
                _ => {}
            }
        }
    }
    found
}

fn assert_hidden_everywhere(chain: &Chain, server: &FakeServer) {
    for file in files(chain.folder()) {
        // Not everything lives that long.
        assert_hidden(
            &file.display().to_string(),
            &fs::read(&file).unwrap_or_default(),
        );
    }
    for process in chain.all_processes() {
        for argument in &process.arguments {
            assert_hidden(&format!("process {}", process.pid), argument.as_bytes());
        }
    }
    assert_hidden("the console", server.console().as_bytes());
    assert_hidden("the output", chain.output().as_bytes());
}

fn described(mut task: Value, description: &str) -> Value {
    task["description"] = description.into();
    task
}

#[test]
fn a_secret_is_nowhere_but_in_the_environment_of_tasks() {
    let scene = Scene::new("secrets");
    let server = FakeServer::start();
    let go = scene.path().join("go");
    let wait = format!("until [ -e {} ]; do sleep 0.02; done", go.display());

    let print = described(
        shell(
            "echo \"plain <$S>\"; printf %s \"$S\" | base64; printf 'user:%s' \"$S\" | base64; \
             printf '12%s' \"$S\" | base64; \
             echo 'hun%2Fter%20%222%22%20tr%C3%A8s%2Bsecret hun%2fter+%222%22+tr%c3%a8s%2bsecret'; \
             echo \"$S\" >&2; echo printed",
        ),
        &format!("print \"{SECRET}\""),
    );
    // Its two halves come in two reads, a long time apart.
    let halves = shell(&format!(
        "printf %s \"${{S% *}}\"; echo begun >&2; {wait}; echo \" ${{S##* }}<\""
    ));
    let mut missing = described(shell(""), &format!("no such {SECRET}"));
    missing["command"] = format!("no-such-{SECRET}").into();
    missing["conditions"] = json!([{ "status": "any", "configErrors": {} }]);
    let mut unbalanced = json!({
        "type": "CommandBuilder", "command": "echo", "args": format!("'{SECRET}"),
        "workingDir": { "path": "pipelines/web" }, "errorString": "", "exitCode": -1,
        "conditions": missing["conditions"], "description": "unbalanced"
    });
    unbalanced["cancelBuilder"] = missing["cancelBuilder"].clone();
    let mut nowhere = missing.clone();
    nowhere["workingDir"] = json!({ "path": format!("pipelines/web/{SECRET}") });
    let mut work = build_work(
        "unit",
        7,
        &json!([print, halves, missing, unbalanced, nowhere]),
    );
    work["assignment"]["initialContext"] = json!({ "properties": [
        { "name": "S", "value": SECRET, "secure": true, "secretParams": [] },
        { "name": "P", "value": format!("({SECRET})"), "secure": false, "secretParams": [] },
        { "name": "B", "value": "aHVuL3RlciAiMiIgdHLDqHMrc2VjcmV0", "secure": false, "secretParams": [] }
    ] });
    work["assignment"]["artifactPlans"] = json!([{
        "testArtifactPlansForMerging": [], "buildId": 7, "artifactPlanType": "file",
        "src": format!("{SECRET}/*"), "dest": "", "id": 1
    }]);
    server.give_work(work);

    let chain = Chain::install(&scene, "agent", &server.url)
        .with_package()
        .with_environment("JOURNEYMAN_LOG", "trace")
        .started();
    wait_until("half of the secret is on its way", || {
        server.console().contains(" begun\n")
    });
    assert!(chain.process(Role::Runner).is_some());
    assert_hidden_everywhere(&chain, &server);
    fs::write(&go, "").unwrap();
    wait_until("the job has been reported", || !server.results().is_empty());
    assert_hidden_everywhere(&chain, &server);

    // What should be there is there.
    let console = server.console();
    for line in [
        " [go] setting environment variable 'S' to value '********'\n",
        " [go] setting environment variable 'P' to value '(******)'\n",
        " [go] setting environment variable 'B' to value '******'\n",
        " [go] Task: print \"******\"\n",
        " plain <******>\n",
        " dXNlcj******\n",
        " MT******\n",
        " ****** ******\n",
        " printed\n",
        " ******<\n",
        " Please make sure [no-such-******] can be executed on this agent.\n",
        " [go] The rule [******/*] cannot match any resource under [pipelines/web]\n",
    ] {
        assert!(console.contains(line), "{line:?} is missing in\n{console}");
    }
    assert!(
        console.contains("pipelines/web/******\" is not a directory!\n"),
        "{console}"
    );
    let log = chain.log("go-agent-job.log");
    assert!(log.contains("no-such-******"), "{log}");
}

#[test]
fn work_that_cannot_be_read_shows_no_value_of_it() {
    let scene = Scene::new("unreadable");
    let server = FakeServer::start();
    let mut work = build_work("unit", 7, &json!([]));
    work["assignment"]["fetchMaterials"] = SECRET.into();
    server.give_work(work);
    let chain = Chain::install(&scene, "agent", &server.url)
        .with_package()
        .with_environment("JOURNEYMAN_LOG", "trace")
        .started();
    wait_until("the job has been reported", || !server.results().is_empty());
    assert_hidden_everywhere(&chain, &server);
    assert!(
        server.console().contains("expected: a boolean"),
        "{}",
        server.console()
    );
}
