//! What the job server carries, with simulated agents on the same machine.
//!
//! All parts load one server, one after the other; its memory is looked at when all is over.

mod agents;
mod artifacts;
mod console;
mod dashboard;
mod jobs;

use std::env;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use journeyman_protocol::work::BuildWork;
use journeyman_tests::{
    api::FIRST_ADMIN,
    load::{Answer, Connection, Fleet, Meter, Target, bytes},
    processes::memory,
    repo::Repo,
    scene::Scene,
    server::{KEY, PASSWORD, Server},
};
use tokio::runtime::Runtime;

use crate::mib;

/// Simulated agents.
const AGENTS: usize = 1000;
/// Pipelines, with one stage of so many jobs.
const PIPELINES: usize = 500;
const JOBS: usize = 10;
/// The most resident memory, in MiB.
const MEMORY: u64 = 100;

/// Loads the server with this, for so many seconds if the default is too long or too short.
type Part = fn(&mut Bench<'_>, Option<u64>) -> String;

const PARTS: &[(&str, Part)] = &[
    ("agents", agents::measure),
    ("jobs", jobs::measure),
    ("console", console::measure),
    ("artifacts", artifacts::measure),
    ("dashboard", dashboard::measure),
];

/// What all parts use.
struct Bench<'a> {
    scene: &'a Scene,
    server: &'a Server<'a>,
    runtime: &'a Runtime,
    target: Target,
    fleet: Fleet,
}

pub(crate) fn figure() -> String {
    let only = env::args().nth(2);
    let seconds = env::args()
        .nth(3)
        .map(|text| text.parse().expect("seconds"));
    let known = |name: &str| PARTS.iter().any(|(part, _)| *part == name);
    assert!(
        only.as_deref().is_none_or(known),
        "the parts are {}",
        PARTS
            .iter()
            .map(|(part, _)| *part)
            .collect::<Vec<_>>()
            .join(", ")
    );
    let scene = Scene::new("load");
    let no_releases = scene.folder("no-releases").display().to_string();
    let server = Server::start_with(&scene, "server", &["--releases", &no_releases]);
    server.add_repo(&pipelines(&scene));
    server.api().wait_for_pipeline(&pipeline(PIPELINES - 1));
    let runtime = Runtime::new().expect("a runtime");
    let target = Target::new(&server.http_url);
    let mut bench = Bench {
        scene: &scene,
        server: &server,
        runtime: &runtime,
        fleet: runtime.block_on(Fleet::register(&target, AGENTS, KEY)),
        target,
    };
    let mut said = Vec::new();
    for (name, measure) in PARTS {
        if only.as_deref().is_none_or(|only| only == *name) {
            said.push(measure(&mut bench, seconds));
        }
    }
    let used = memory(server.pid()).expect("its memory");
    said.push(format!(
        "server, memory: {} MiB resident at the end of all of it, {} MiB at most before (goal: under \
         {MEMORY} MiB)",
        mib(used.rss),
        mib(used.peak),
    ));
    drop(bench);
    said.join("\n")
}

/// The name of a pipeline.
fn pipeline(number: usize) -> String {
    format!("load-{number:03}")
}

/// A repository with all pipelines, in files of fifty.
fn pipelines(scene: &Scene) -> Repo {
    const EACH: usize = 50;
    let mut repo = None;
    for first in (0..PIPELINES).step_by(EACH) {
        let mut yaml = String::from("format_version: 10\npipelines:\n");
        for number in first..first + EACH {
            yaml.push_str(&format!(
                "  {}:\n    group: group-{:02}\n    materials: {{ source: {{ git: \"{{url}}\" }} }}\n    stages:\n      - build:\n          approval: manual\n          jobs:\n",
                pipeline(number),
                number / 20,
            ));
            for job in 0..JOBS {
                yaml.push_str(&format!(
                    "            job-{job}: {{ tasks: [exec: {{ command: \"true\" }}] }}\n"
                ));
            }
        }
        match &repo {
            None => repo = Some(Repo::new(scene, "load.repo", &yaml)),
            Some(repo) => {
                repo.commit(
                    &format!("{first}.gocd.yaml"),
                    &yaml.replace("{url}", &repo.url()),
                );
            }
        }
    }
    repo.expect("there are pipelines")
}

fn credentials() -> String {
    let encoded = STANDARD.encode(format!("{FIRST_ADMIN}:{PASSWORD}"));
    format!("Basic {encoded}")
}

/// A call of the REST API by the admin.
async fn call(connection: &mut Connection, method: &str, path: &str, body: &str) -> Answer {
    let request = connection
        .request(method, path)
        .header("Authorization", credentials())
        .header("Accept", "application/vnd.go.cd+json")
        .header("Accept-Encoding", "gzip")
        .header("Content-Type", "application/json")
        .header("X-GoCD-Confirm", "true")
        .body(bytes(body.to_owned()))
        .expect("a request");
    connection.send(request).await.expect("an answer")
}

/// Starts a pipeline with the revisions of its last run, if it has one.
async fn trigger(connection: &mut Connection, number: usize) {
    let path = format!("/api/pipelines/{}/schedule", pipeline(number));
    let body = r#"{"update_materials_before_scheduling":false}"#;
    let answer = call(connection, "POST", &path, body).await;
    assert_eq!(answer.status, 202, "{path}: {answer:?}");
}

impl Bench<'_> {
    fn meter(&self) -> Meter {
        Meter::new(self.server.pid())
    }

    /// Hands the jobs of so many pipelines to agents that do nothing else; each has reported that
    /// it builds.
    async fn take_jobs(&self, pipelines: usize) -> Vec<(usize, Connection, Box<BuildWork>)> {
        let mut taken = Vec::new();
        for number in 0..pipelines {
            trigger(&mut Connection::new(&self.target), number).await;
            for _ in 0..JOBS {
                let agent = taken.len();
                let mut connection = Connection::new(&self.target);
                let agents = self.fleet.agents();
                let work = agents[agent].get_work(&mut connection, 20).await;
                let work = work.expect("a job");
                agents[agent].begin(&mut connection, &work).await;
                taken.push((agent, connection, work));
            }
        }
        taken
    }
}
