//! `journeyman-server stages`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::{Client, ClientError, Server, client::path_of, output};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    server: Server,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Run a stage that waits for a person, or run all of it again.
    Run {
        #[arg(value_name = "PIPELINE/COUNTER/STAGE")]
        stage: String,
    },
    /// Run jobs of a stage again: those that did not pass, or those that are named.
    Rerun {
        #[arg(value_name = "PIPELINE/COUNTER/STAGE/COUNTER")]
        stage: String,
        /// A job to run again. Repeatable.
        #[arg(long = "job", value_name = "JOB")]
        jobs: Vec<String>,
    },
    /// Cancel a stage.
    Cancel {
        #[arg(value_name = "PIPELINE/COUNTER/STAGE/COUNTER")]
        stage: String,
    },
    /// Show the latest runs of a stage.
    History {
        #[arg(value_name = "PIPELINE/STAGE")]
        stage: String,
        /// Runs to show, the newest first.
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(10..=100))]
        count: u32,
    },
}

pub(super) async fn run(arguments: Arguments) -> Result<ExitCode, ClientError> {
    let client = Client::new(&arguments.server)?;
    match arguments.action {
        Action::Run { stage } => {
            let path = path_of("/api/stages", &stage, 3, "/run")?;
            client.act("run the stage", &path, None).await
        }
        Action::Rerun { stage, jobs } => rerun(&client, &stage, &jobs).await,
        Action::Cancel { stage } => {
            let path = path_of("/api/stages", &stage, 4, "/cancel")?;
            client.act("cancel the stage", &path, None).await
        }
        Action::History { stage, count } => history(&client, &stage, count).await,
    }
}

/// Runs jobs of a stage again.
pub(super) async fn rerun(
    client: &Client,
    stage: &str,
    jobs: &[String],
) -> Result<ExitCode, ClientError> {
    let tried = "run the jobs again";
    if jobs.is_empty() {
        let path = path_of("/api/stages", stage, 4, "/run-failed-jobs")?;
        return client.act(tried, &path, None).await;
    }
    let path = path_of("/api/stages", stage, 4, "/run-selected-jobs")?;
    client
        .act(tried, &path, Some(&json!({ "jobs": jobs })))
        .await
}

async fn history(client: &Client, stage: &str, count: u32) -> Result<ExitCode, ClientError> {
    let end = format!("/history?page_size={count}");
    let path = path_of("/api/stages", stage, 2, &end)?;
    let answer: Value = client.get("show the stage's history", &path).await?;
    let stages = answer["stages"].as_array().cloned().unwrap_or_default();
    if client.json {
        output::json(&stages);
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = stages
        .iter()
        .map(|one| {
            let text = |name: &str| output::clean(one[name].as_str().unwrap_or_default());
            let jobs = one["jobs"].as_array().map_or(&[][..], Vec::as_slice);
            let jobs: Vec<String> = jobs
                .iter()
                .map(|job| {
                    let of = |name: &str| job[name].as_str().unwrap_or_default();
                    format!("{} {}", of("name"), of("result"))
                })
                .collect();
            vec![
                one["pipeline_counter"].to_string(),
                one["counter"].to_string(),
                text("result"),
                text("approved_by"),
                output::clean(&jobs.join(", ")),
            ]
        })
        .collect();
    output::table(&["RUN", "STAGE RUN", "RESULT", "BY", "JOBS"], &rows);
    Ok(ExitCode::SUCCESS)
}

/// Confirms a call that only has a message to answer.
impl Client {
    /// A POST whose answer is a message.
    pub(super) async fn act(
        &self,
        tried: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<ExitCode, ClientError> {
        let answer: Value = self.write(Method::POST, tried, path, body).await?;
        if self.json {
            output::json(&answer);
        } else {
            let message = answer["message"].as_str().unwrap_or_default();
            output::complain(&output::clean(message));
        }
        Ok(ExitCode::SUCCESS)
    }
}
