//! GoCD's REST API, as far as the tests use it.

use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio::runtime::{self, Runtime};

use crate::{
    console::texts,
    patience::{wait_for, wait_until},
    server::PASSWORD,
};

/// The user that a server's first start makes.
pub const FIRST_ADMIN: &str = "admin";

/// A client of one server, which says that it is the admin.
pub struct Api {
    base: String,
    http: Client,
    runtime: Runtime,
}

/// A job, by its locator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// `pipeline/counter/stage/stageCounter/job`
    pub locator: String,
}

/// What the server knows of a job.
#[derive(Clone, Debug)]
pub struct JobState {
    pub state: String,
    pub result: String,
    pub agent: Option<String>,
    /// States and when they were entered, in milliseconds since the epoch.
    pub transitions: Vec<(String, i64)>,
}

/// A file among a job's artifacts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Artifact {
    /// Path from the root of the artifacts.
    pub path: String,
    pub url: String,
}

/// An answer with its body as text.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub body: String,
}

impl Api {
    /// `base` is the server's URL up to and including `/go`.
    pub fn new(base: &str) -> Self {
        Self {
            base: base.to_owned(),
            // No connection is kept: the server of a test is killed and started again.
            http: Client::builder()
                .pool_max_idle_per_host(0)
                .timeout(Duration::from_secs(30))
                .danger_accept_invalid_certs(true)
                .build()
                .expect("an HTTP client"),
            runtime: runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime"),
        }
    }

    /// A request without the checks of the other methods; `None` when there was no answer.
    pub fn try_request(&self, method: Method, path: &str, body: Option<Value>) -> Option<Answer> {
        let url = if path.starts_with("http") {
            path.to_owned()
        } else {
            format!("{}{path}", self.base)
        };
        let mut request = self
            .http
            .request(method, url)
            .basic_auth(FIRST_ADMIN, Some(PASSWORD))
            .header("Accept", "application/vnd.go.cd+json")
            .header("X-GoCD-Confirm", "true");
        if let Some(body) = body {
            request = request.json(&body);
        }
        self.runtime.block_on(async {
            let answer = request.send().await.ok()?;
            let status = answer.status();
            let body = answer.text().await.ok()?;
            Some(Answer { status, body })
        })
    }

    /// A request that must be answered.
    pub fn request(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.try_request(method.clone(), path, body)
            .unwrap_or_else(|| panic!("{method} {path}: no answer from {}", self.base))
    }

    /// A page or a document as text; must be there.
    pub fn text(&self, path: &str) -> String {
        let answer = self.request(Method::GET, path, None);
        assert!(answer.status.is_success(), "GET {path}: {answer:?}");
        answer.body
    }

    /// The bytes behind a URL; must be there.
    pub fn bytes(&self, url: &str) -> Vec<u8> {
        self.runtime.block_on(async {
            let request = self.http.get(url).basic_auth(FIRST_ADMIN, Some(PASSWORD));
            let answer = request.send().await.expect("an answer");
            assert!(answer.status().is_success(), "GET {url}: {answer:?}");
            answer.bytes().await.expect("a body").to_vec()
        })
    }

    /// Puts a file among a job's artifacts.
    pub fn publish(&self, job: &Job, path: &str, content: &str) {
        let url = format!("{}/files/{}/{path}", self.base, job.locator);
        let request = self.http.put(&url).header("X-GoCD-Confirm", "true");
        let request = request.basic_auth(FIRST_ADMIN, Some(PASSWORD));
        self.runtime.block_on(async {
            let answer = request.body(content.to_owned()).send().await;
            let answer = answer.expect("an answer");
            assert!(answer.status().is_success(), "PUT {url}: {answer:?}");
        });
    }

    fn json(&self, path: &str) -> Option<Value> {
        let answer = self.try_request(Method::GET, path, None)?;
        if !answer.status.is_success() {
            return None;
        }
        serde_json::from_str(&answer.body).ok()
    }

    // --- agents

    /// All agents, as the REST API describes them.
    pub fn agents(&self) -> Vec<Value> {
        self.json("/api/agents")
            .and_then(|list| list["_embedded"]["agents"].as_array().cloned())
            .unwrap_or_default()
    }

    /// One agent, if the server knows it.
    pub fn agent(&self, uuid: &str) -> Option<Value> {
        self.json(&format!("/api/agents/{uuid}"))
    }

    /// Waits until the agent has this configuration state (`Pending`, `Enabled`, `Disabled`) and
    /// this state (`Idle`, `Building`, ...).
    pub fn wait_for_agent(&self, uuid: &str, config: &str, state: &str) {
        wait_until(&format!("agent {uuid} is {config} and {state}"), || {
            self.agent(uuid).is_some_and(|agent| {
                agent["agent_config_state"] == config && agent["agent_state"] == state
            })
        });
    }

    /// Sets an agent's configuration state (`Enabled`, `Disabled`) by REST.
    pub fn configure_agent(&self, uuid: &str, state: &str) -> Answer {
        self.request(
            Method::PATCH,
            &format!("/api/agents/{uuid}"),
            Some(json!({ "agent_config_state": state })),
        )
    }

    // --- pipelines

    /// Waits until the server has read the pipeline from its repository.
    pub fn wait_for_pipeline(&self, pipeline: &str) {
        wait_until(&format!("the server knows pipeline {pipeline}"), || {
            self.json(&format!("/api/pipelines/{pipeline}/status"))
                .is_some()
        });
    }

    /// Starts the pipeline by hand and returns the new run's counter.
    pub fn trigger(&self, pipeline: &str) -> u64 {
        self.wait_for_pipeline(pipeline);
        let before = self.last_run(pipeline);
        wait_until(&format!("pipeline {pipeline} can be triggered"), || {
            let path = format!("/api/pipelines/{pipeline}/schedule");
            match self.try_request(Method::POST, &path, None) {
                Some(answer) if answer.status == StatusCode::ACCEPTED => true,
                // Its first stage is still active, as the run before ends.
                Some(answer) if answer.status == StatusCode::CONFLICT => false,
                Some(answer) => panic!("cannot trigger {pipeline}: {answer:?}"),
                None => false,
            }
        });
        wait_for(&format!("a new run of {pipeline}"), || {
            Some(self.last_run(pipeline)).filter(|counter| *counter > before)
        })
    }

    /// The counter of the newest run, 0 if there is none.
    pub fn last_run(&self, pipeline: &str) -> u64 {
        self.json(&format!("/api/pipelines/{pipeline}/history"))
            .and_then(|history| history["pipelines"][0]["counter"].as_u64())
            .unwrap_or(0)
    }

    /// One run, as the REST API describes it.
    pub fn run(&self, pipeline: &str, counter: u64) -> Option<Value> {
        self.json(&format!("/api/pipelines/{pipeline}/{counter}"))
    }

    /// Waits until the stage of a run has a result and returns it.
    pub fn wait_for_stage(&self, pipeline: &str, counter: u64, stage: &str) -> String {
        wait_for(
            &format!("stage {pipeline}/{counter}/{stage} has a result"),
            || {
                let stage = self.json(&format!("/api/stages/{pipeline}/{counter}/{stage}/1"))?;
                let result = stage["result"].as_str()?;
                (result != "Unknown").then(|| result.to_owned())
            },
        )
    }

    /// Cancels the stage a job belongs to.
    pub fn cancel(&self, job: &Job) {
        let stage = job.locator.rsplit_once('/').expect("a locator").0;
        let answer = self.request(Method::POST, &format!("/api/stages/{stage}/cancel"), None);
        assert!(answer.status.is_success(), "cancel {stage}: {answer:?}");
    }

    // --- jobs

    /// What the server knows of the job now.
    pub fn job(&self, job: &Job) -> Option<JobState> {
        let document = self.json(&format!("/api/jobs/{}", job.locator))?;
        Some(JobState {
            state: document["state"].as_str()?.to_owned(),
            result: document["result"].as_str()?.to_owned(),
            agent: document["agent_uuid"].as_str().map(str::to_owned),
            transitions: document["job_state_transitions"]
                .as_array()?
                .iter()
                .filter_map(|transition| {
                    Some((
                        transition["state"].as_str()?.to_owned(),
                        transition["state_change_time"].as_i64()?,
                    ))
                })
                .collect(),
        })
    }

    /// Waits until the job is completed, and checks that it is so once and for all.
    pub fn wait_for_result(&self, job: &Job) -> JobState {
        let state = wait_for(&format!("job {} is completed", job.locator), || {
            self.job(job).filter(|job| job.state == "Completed")
        });
        let completed = state
            .transitions
            .iter()
            .filter(|(state, _)| state == "Completed")
            .count();
        assert_eq!(completed, 1, "{}: {state:?}", job.locator);
        assert!(
            state
                .transitions
                .iter()
                .all(|(state, _)| state != "Rescheduled"),
            "{}: {state:?}",
            job.locator
        );
        state
    }

    /// Waits until the job is in this state.
    pub fn wait_for_state(&self, job: &Job, wanted: &str) {
        wait_until(&format!("job {} is {wanted}", job.locator), || {
            self.job(job).is_some_and(|job| job.state == wanted)
        });
    }

    /// The job's console so far; empty when there is none.
    pub fn console(&self, job: &Job) -> String {
        let path = format!("/files/{}/cruise-output/console.log", job.locator);
        self.try_request(Method::GET, &path, None)
            .filter(|answer| answer.status.is_success())
            .map(|answer| answer.body)
            .unwrap_or_default()
    }

    /// Waits until a task of the job has written this line and the server has it. (The console
    /// also has the command of the task, so it is not enough to look for the text.)
    pub fn wait_for_output(&self, job: &Job, line: &str) {
        wait_until(
            &format!("a task of {} has written {line:?}", job.locator),
            || texts(&self.console(job), "&1").any(|text| text == line),
        );
    }

    /// All artifacts of a job but its console and checksums, sorted.
    pub fn artifacts(&self, job: &Job) -> Vec<Artifact> {
        let listing = self.text(&format!("/files/{}.json", job.locator));
        let listing: Value = serde_json::from_str(&listing).expect("a listing in JSON");
        let mut found = Vec::new();
        collect_artifacts("", &listing, &mut found);
        found.retain(|artifact| !artifact.path.starts_with("cruise-output/"));
        found.sort();
        found
    }
}

fn collect_artifacts(parent: &str, listing: &Value, found: &mut Vec<Artifact>) {
    for entry in listing.as_array().into_iter().flatten() {
        let name = entry["name"].as_str().expect("an entry has a name");
        let path = format!("{parent}{name}");
        if entry["type"] == "folder" {
            collect_artifacts(&format!("{path}/"), &entry["files"], found);
        } else {
            let url = entry["url"].as_str().expect("a file has a URL").to_owned();
            found.push(Artifact { path, url });
        }
    }
}

// === impl Job ===

impl Job {
    /// A job of a pipeline made by [`Repo::with_pipeline`](crate::repo::Repo::with_pipeline).
    pub fn new(pipeline: &str, counter: u64, name: &str) -> Self {
        Self::in_stage(pipeline, counter, "build", name)
    }

    pub fn in_stage(pipeline: &str, counter: u64, stage: &str, name: &str) -> Self {
        Self {
            locator: format!("{pipeline}/{counter}/{stage}/1/{name}"),
        }
    }
}

// === impl JobState ===

impl JobState {
    /// When the job entered this state, in milliseconds since the epoch.
    pub fn entered(&self, state: &str) -> Option<i64> {
        let mut transitions = self.transitions.iter();
        transitions
            .find(|(name, _)| name == state)
            .map(|(_, at)| *at)
    }
}
