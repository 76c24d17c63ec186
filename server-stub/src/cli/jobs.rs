//! `journeyman-server jobs`.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::{Client, ClientError, Server, client::path_of, output, stages};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    server: Server,
    #[command(subcommand)]
    action: Action,
}

const JOB: &str = "PIPELINE/COUNTER/STAGE/COUNTER/JOB";

#[derive(Subcommand, Debug)]
enum Action {
    /// Show the state of a job and where it ran.
    Show {
        #[arg(value_name = JOB)]
        job: String,
    },
    /// Print the console of a job, as it is.
    Console {
        #[arg(value_name = JOB)]
        job: String,
    },
    /// List the artifacts of a job.
    Artifacts {
        #[arg(value_name = JOB)]
        job: String,
    },
    /// Run a job again, in a new run of its stage.
    Rerun {
        #[arg(value_name = JOB)]
        job: String,
    },
}

pub(super) async fn run(arguments: Arguments) -> Result<ExitCode, ClientError> {
    let client = Client::new(&arguments.server)?;
    match arguments.action {
        Action::Show { job } => show(&client, &job).await,
        Action::Console { job } => console(&client, &job).await,
        Action::Artifacts { job } => artifacts(&client, &job).await,
        Action::Rerun { job } => match job.rsplit_once('/') {
            Some((stage, job)) => stages::rerun(&client, stage, &[job.to_owned()]).await,
            None => Err(ClientError::Usage(format!(
                "`{job}` is not of the form {JOB}"
            ))),
        },
    }
}

async fn show(client: &Client, job: &str) -> Result<ExitCode, ClientError> {
    let path = path_of("/api/jobs", job, 5, "")?;
    let found: Value = client.get("show the job", &path).await?;
    if client.json {
        output::json(&found);
        return Ok(ExitCode::SUCCESS);
    }
    let text = |name: &str| output::clean(found[name].as_str().unwrap_or("-"));
    let row = vec![
        text("name"),
        text("state"),
        text("result"),
        text("agent_uuid"),
    ];
    output::table(&["JOB", "STATE", "RESULT", "AGENT"], &[row]);
    let changes = found["job_state_transitions"].as_array();
    for change in changes.into_iter().flatten() {
        let at = output::time(change["state_change_time"].as_i64().unwrap_or_default());
        let state = change["state"].as_str().unwrap_or_default();
        output::say(&format!("  {at}  {}", output::clean(state)));
    }
    Ok(ExitCode::SUCCESS)
}

/// Exactly what the server has, for programs and pagers; colours are the job's own.
async fn console(client: &Client, job: &str) -> Result<ExitCode, ClientError> {
    let path = path_of("/files", job, 5, "/cruise-output/console.log")?;
    let text = client.bytes("show the console", &path).await?;
    // A reader that has gone away is no error.
    let _ = io::stdout().write_all(&text);
    Ok(ExitCode::SUCCESS)
}

async fn artifacts(client: &Client, job: &str) -> Result<ExitCode, ClientError> {
    let path = path_of("/files", job, 5, ".json")?;
    let found: Value = client.get("list the artifacts", &path).await?;
    if client.json {
        output::json(&found);
    } else {
        list(&found, "");
    }
    Ok(ExitCode::SUCCESS)
}

fn list(entries: &Value, above: &str) {
    for entry in entries.as_array().into_iter().flatten() {
        let name = output::clean(entry["name"].as_str().unwrap_or_default());
        if entry["files"].is_array() {
            list(&entry["files"], &format!("{above}{name}/"));
        } else {
            output::say(&format!("{above}{name}"));
        }
    }
}
