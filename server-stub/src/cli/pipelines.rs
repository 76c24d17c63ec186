//! `journeyman-server pipelines`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::{Client, ClientError, Server, client::path_of, follow, output};
use crate::api::{PipelineSummary, RunSummary};

const PIPELINES: &str = "/api/pipelines";
const RUNS: &str = "/api/journeyman/runs";

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
        /// The revision of a material in place of the newest, as NAME=REVISION. Repeatable.
        #[arg(long = "revision", value_name = "NAME=REVISION")]
        revisions: Vec<String>,
    },
    /// Show whether a pipeline is paused or locked, and whether a run can be started.
    Status { pipeline: String },
    /// Show the latest runs of a pipeline.
    History {
        pipeline: String,
        /// Runs to show, the newest first.
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(10..=100))]
        count: u32,
    },
    /// Start no runs and no stages of a pipeline until it is unpaused.
    Pause {
        pipeline: String,
        /// Why, for those who wonder.
        #[arg(long, default_value = "")]
        cause: String,
    },
    /// Let a paused pipeline go on.
    Unpause { pipeline: String },
    /// Take the lock of a pipeline from the run that holds it and is not active.
    Unlock { pipeline: String },
    /// Say something about a run.
    Comment {
        #[arg(value_name = "PIPELINE/COUNTER")]
        run: String,
        text: String,
    },
    /// Keep the consoles and artifacts of a run whatever the limits say.
    Pin {
        #[arg(value_name = "PIPELINE/COUNTER")]
        run: String,
        /// Why it is kept.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Let the consoles and artifacts of a run go like those of any other.
    Unpin {
        #[arg(value_name = "PIPELINE/COUNTER")]
        run: String,
    },
    /// Show all runs that are kept.
    Pins,
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
            revisions,
        } => trigger(&client, &pipeline, follow, &variables, &revisions).await,
        Action::Status { pipeline } => status(&client, &pipeline).await,
        Action::History { pipeline, count } => history(&client, &pipeline, count).await,
        Action::Pause { pipeline, cause } => {
            let path = path_of(PIPELINES, &pipeline, 1, "/pause")?;
            let body = json!({ "pause_cause": cause });
            client.act("pause the pipeline", &path, Some(&body)).await
        }
        Action::Unpause { pipeline } => {
            let path = path_of(PIPELINES, &pipeline, 1, "/unpause")?;
            client.act("unpause the pipeline", &path, None).await
        }
        Action::Unlock { pipeline } => {
            let path = path_of(PIPELINES, &pipeline, 1, "/unlock")?;
            client.act("unlock the pipeline", &path, None).await
        }
        Action::Comment { run, text } => {
            let path = path_of(PIPELINES, &run, 2, "/comment")?;
            let body = json!({ "comment": text });
            client.act("comment on the run", &path, Some(&body)).await
        }
        Action::Pin { run, reason } => {
            let path = path_of(RUNS, &run, 2, "/pin")?;
            let body = json!({ "reason": reason });
            client.act("pin the run", &path, Some(&body)).await
        }
        Action::Unpin { run } => {
            let path = path_of(RUNS, &run, 2, "/unpin")?;
            client.act("unpin the run", &path, None).await
        }
        Action::Pins => pins(&client).await,
        Action::Follow { run } => {
            let (pipeline, counter) = split(&run);
            follow::follow(&client, pipeline, counter).await
        }
        Action::Cancel { run } => cancel(&client, &run).await,
        Action::Run { stage } => {
            let path = path_of("/api/stages", &stage, 3, "/run")?;
            client.act("run the stage", &path, None).await
        }
    }
}

async fn status(client: &Client, pipeline: &str) -> Result<ExitCode, ClientError> {
    let path = path_of(PIPELINES, pipeline, 1, "/status")?;
    let status: Value = client.get("show the pipeline's status", &path).await?;
    if client.json {
        output::json(&status);
        return Ok(ExitCode::SUCCESS);
    }
    let yes = |name: &str| if status[name] == true { "yes" } else { "no" }.to_owned();
    let text = |name: &str| output::clean(status[name].as_str().unwrap_or_default());
    let row = vec![
        pipeline.to_owned(),
        yes("schedulable"),
        yes("locked"),
        yes("paused"),
        text("paused_by"),
        text("paused_cause"),
    ];
    let head = ["PIPELINE", "CAN RUN", "LOCKED", "PAUSED", "BY", "CAUSE"];
    output::table(&head, &[row]);
    Ok(ExitCode::SUCCESS)
}

async fn history(client: &Client, pipeline: &str, count: u32) -> Result<ExitCode, ClientError> {
    let end = format!("/history?page_size={count}");
    let path = path_of(PIPELINES, pipeline, 1, &end)?;
    let answer: Value = client.get("show the pipeline's history", &path).await?;
    let runs = answer["pipelines"].as_array().cloned().unwrap_or_default();
    if client.json {
        output::json(&runs);
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = runs
        .iter()
        .map(|run| {
            let stages = run["stages"].as_array().map_or(&[][..], Vec::as_slice);
            let stages: Vec<String> = stages
                .iter()
                .map(|stage| {
                    let of = |name: &str| stage[name].as_str().unwrap_or_default();
                    let result = match of("result") {
                        "" if stage["scheduled"] == true => "Active",
                        "" => "-",
                        result => result,
                    };
                    format!("{} {result}", of("name"))
                })
                .collect();
            let cause = run["build_cause"]["trigger_message"].as_str();
            vec![
                run["counter"].to_string(),
                output::clean(run["label"].as_str().unwrap_or_default()),
                output::clean(&stages.join(", ")),
                output::clean(cause.unwrap_or_default()),
                output::clean(run["comment"].as_str().unwrap_or_default()),
            ]
        })
        .collect();
    output::table(&["RUN", "LABEL", "STAGES", "CAUSE", "COMMENT"], &rows);
    Ok(ExitCode::SUCCESS)
}

async fn pins(client: &Client) -> Result<ExitCode, ClientError> {
    let answer: Value = client
        .get("list pinned runs", "/api/journeyman/pins")
        .await?;
    let pins = answer["pins"].as_array().cloned().unwrap_or_default();
    if client.json {
        output::json(&pins);
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = pins
        .iter()
        .map(|pin| {
            let text = |name: &str| output::clean(pin[name].as_str().unwrap_or_default());
            vec![
                format!("{}/{}", text("pipeline"), pin["counter"]),
                text("label"),
                text("pinned_by"),
                text("reason"),
            ]
        })
        .collect();
    output::table(&["RUN", "LABEL", "BY", "REASON"], &rows);
    Ok(ExitCode::SUCCESS)
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
    revisions: &[String],
) -> Result<ExitCode, ClientError> {
    let mut given = Vec::new();
    for variable in variables {
        let Some((name, value)) = variable.split_once('=') else {
            let message = format!("`{variable}` is not of the form NAME=VALUE");
            return Err(ClientError::Usage(message));
        };
        given.push(json!({ "name": name, "value": value }));
    }
    let mut body = json!({ "environment_variables": given });
    for revision in revisions {
        let Some((name, revision)) = revision.split_once('=') else {
            let message = format!("`{revision}` is not of the form NAME=REVISION");
            return Err(ClientError::Usage(message));
        };
        body["materials"][name] = Value::from(revision);
    }
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
