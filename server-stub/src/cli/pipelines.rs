//! `journeyman-server pipelines`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::{Client, ClientError, Server, follow, output};
use crate::api::{PipelineSummary, RunSummary};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    server: Server,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Show all pipelines and their latest runs.
    List,
    /// Start a run of a pipeline with the newest revisions.
    Trigger {
        pipeline: String,
        /// Stream the consoles of all jobs, wait for the end, and exit with 0 only if it passed.
        #[arg(long)]
        follow: bool,
        /// A value in place of a variable's own, as NAME=VALUE. Repeatable.
        #[arg(long = "variable", value_name = "NAME=VALUE")]
        variables: Vec<String>,
    },
    /// Follow a run as `trigger --follow` does: the latest, or PIPELINE/COUNTER.
    Follow { run: String },
    /// Cancel what is active of a run: the latest, or PIPELINE/COUNTER.
    Cancel { run: String },
    /// Run a stage that waits for a person, or run it again: PIPELINE/COUNTER/STAGE.
    Run { stage: String },
}

pub(super) async fn run(arguments: Arguments) -> Result<ExitCode, ClientError> {
    let client = Client::new(&arguments.server)?;
    match arguments.action {
        Action::List => list(&client).await,
        Action::Trigger {
            pipeline,
            follow,
            variables,
        } => trigger(&client, &pipeline, follow, &variables).await,
        Action::Follow { run } => {
            let (pipeline, counter) = split(&run);
            follow::follow(&client, pipeline, counter).await
        }
        Action::Cancel { run } => cancel(&client, &run).await,
        Action::Run { stage } => {
            let path = format!("/api/stages/{stage}/run");
            let answer: Value = client
                .write(Method::POST, "run the stage", &path, None)
                .await?;
            output::complain(answer["message"].as_str().unwrap_or_default());
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// `PIPELINE` or `PIPELINE/COUNTER`.
fn split(run: &str) -> (&str, &str) {
    run.split_once('/').unwrap_or((run, "latest"))
}

async fn list(client: &Client) -> Result<ExitCode, ClientError> {
    let path = "/api/journeyman/pipelines";
    let all: Vec<PipelineSummary> = client.get("list pipelines", path).await?;
    if client.json {
        output::json(&all);
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|one| {
            let latest = one.latest.as_ref();
            vec![
                one.group.clone(),
                one.name.clone(),
                latest.map_or("-".to_owned(), |run| run.counter.to_string()),
                latest.map_or("-".to_owned(), |run| output::clean(&run.label)),
                latest.map_or("never run".to_owned(), |run| run.state.clone()),
                one.repository.clone(),
            ]
        })
        .collect();
    output::table(
        &["GROUP", "PIPELINE", "RUN", "LABEL", "STATE", "REPOSITORY"],
        &rows,
    );
    Ok(ExitCode::SUCCESS)
}

async fn trigger(
    client: &Client,
    pipeline: &str,
    follow: bool,
    variables: &[String],
) -> Result<ExitCode, ClientError> {
    let mut given = Vec::new();
    for variable in variables {
        let Some((name, value)) = variable.split_once('=') else {
            let message = format!("`{variable}` is not of the form NAME=VALUE");
            return Err(ClientError::Usage(message));
        };
        given.push(json!({ "name": name, "value": value }));
    }
    let body = json!({ "environment_variables": given });
    let path = format!("/api/pipelines/{pipeline}/schedule");
    let tried = format!("trigger {pipeline}");
    let answer: Value = client
        .write(Method::POST, &tried, &path, Some(&body))
        .await?;
    let Some(counter) = answer["counter"].as_i64() else {
        return Err(ClientError::Answer {
            tried,
            cause: "it does not say which run was started".to_owned(),
        });
    };
    output::complain(&format!("Triggered {pipeline}/{counter}."));
    if follow {
        return follow::follow(client, pipeline, &counter.to_string()).await;
    }
    if client.json {
        let path = format!("/api/journeyman/runs/{pipeline}/{counter}");
        let run: RunSummary = client.get("show the run", &path).await?;
        output::json(&run);
    }
    Ok(ExitCode::SUCCESS)
}

async fn cancel(client: &Client, run: &str) -> Result<ExitCode, ClientError> {
    let (pipeline, counter) = split(run);
    let path = format!("/api/journeyman/runs/{pipeline}/{counter}");
    let run: RunSummary = client.get("show the run", &path).await?;
    let mut stages: Vec<(&str, i64)> = run
        .jobs
        .iter()
        .filter(|job| job.state != "Completed")
        .map(|job| (job.stage.as_str(), job.stage_counter))
        .collect();
    stages.dedup();
    if stages.is_empty() {
        output::complain(&format!(
            "Nothing of {}/{} is active.",
            run.pipeline, run.counter
        ));
    }
    for (stage, counter) in stages {
        let locator = format!("{}/{}/{stage}/{counter}", run.pipeline, run.counter);
        let path = format!("/api/stages/{locator}/cancel");
        let _: Value = client
            .write(Method::POST, "cancel the stage", &path, None)
            .await?;
        output::complain(&format!("Cancelled {locator}."));
    }
    Ok(ExitCode::SUCCESS)
}
