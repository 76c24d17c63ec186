//! `journeyman-server agents`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::{Client, ClientError, Server, output};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    server: Server,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Show all agents.
    List {
        /// Wait until so many agents are enabled and idle or building.
        #[arg(long, value_name = "COUNT")]
        wait: Option<usize>,
        /// Seconds to wait at most.
        #[arg(long, default_value_t = 60, value_name = "SECONDS")]
        timeout: u64,
    },
    /// Let agents work.
    Enable { agents: Vec<String> },
    /// Give agents no further job; the one they run goes on to its end.
    Disable { agents: Vec<String> },
    /// Change the resources and environments of agents.
    Change {
        #[arg(required = true)]
        agents: Vec<String>,
        /// Repeatable, as all of these.
        #[arg(long, value_name = "NAME")]
        add_resource: Vec<String>,
        #[arg(long, value_name = "NAME")]
        remove_resource: Vec<String>,
        #[arg(long, value_name = "NAME")]
        add_environment: Vec<String>,
        #[arg(long, value_name = "NAME")]
        remove_environment: Vec<String>,
    },
    /// Forget agents, which must be disabled and not building.
    Delete { agents: Vec<String> },
}

pub(super) async fn run(arguments: Arguments) -> Result<ExitCode, ClientError> {
    let client = Client::new(&arguments.server)?;
    match arguments.action {
        Action::List { wait, timeout } => {
            let agents = wait_for(&client, wait.unwrap_or(0), timeout).await?;
            show(&client, &agents);
        }
        Action::Change {
            agents,
            add_resource,
            remove_resource,
            add_environment,
            remove_environment,
        } => {
            let uuids = resolve(&client, &agents).await?;
            let body = json!({ "uuids": uuids, "operations": {
                "resources": { "add": add_resource, "remove": remove_resource },
                "environments": { "add": add_environment, "remove": remove_environment },
            }});
            let answer: Value = client
                .write(Method::PATCH, "change agents", "/api/agents", Some(&body))
                .await?;
            tell(&client, &answer);
        }
        Action::Enable { agents } => set(&client, &agents, "Enabled").await?,
        Action::Disable { agents } => set(&client, &agents, "Disabled").await?,
        Action::Delete { agents } => {
            let uuids = resolve(&client, &agents).await?;
            let body = json!({ "uuids": uuids });
            let tried = "delete agents";
            let answer: Value = client
                .write(Method::DELETE, tried, "/api/agents", Some(&body))
                .await?;
            tell(&client, &answer);
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn set(client: &Client, named: &[String], state: &str) -> Result<(), ClientError> {
    let uuids = resolve(client, named).await?;
    let body = json!({ "uuids": uuids, "agent_config_state": state });
    let answer: Value = client
        .write(Method::PATCH, "change agents", "/api/agents", Some(&body))
        .await?;
    tell(client, &answer);
    Ok(())
}

fn tell(client: &Client, answer: &Value) {
    if client.json {
        output::json(answer);
    } else {
        output::say(answer["message"].as_str().unwrap_or_default());
    }
}

async fn list(client: &Client) -> Result<Vec<Value>, ClientError> {
    let answer: Value = client.get("list agents", "/api/agents").await?;
    let agents = answer
        .pointer("/_embedded/agents")
        .and_then(Value::as_array);
    Ok(agents.cloned().unwrap_or_default())
}

async fn wait_for(client: &Client, count: usize, timeout: u64) -> Result<Vec<Value>, ClientError> {
    let deadline = Instant::now() + Duration::from_secs(timeout);
    loop {
        let outcome = list(client).await;
        match outcome {
            Ok(agents) => {
                let ready = agents.iter().filter(|agent| is_ready(agent)).count();
                if ready >= count {
                    return Ok(agents);
                }
                if Instant::now() >= deadline {
                    return Err(ClientError::Usage(format!(
                        "{ready} of {count} agents are ready after {timeout} s"
                    )));
                }
            }
            Err(error) if count > 0 && error.is_passing() && Instant::now() < deadline => {}
            Err(error) => return Err(error),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn is_ready(agent: &Value) -> bool {
    agent["agent_config_state"] == "Enabled"
        && (agent["agent_state"] == "Idle" || agent["agent_state"] == "Building")
}

/// Names are uuids or host names; a host name that several agents have is no name.
async fn resolve(client: &Client, named: &[String]) -> Result<Vec<String>, ClientError> {
    if named.is_empty() {
        return Err(ClientError::Usage(
            "name at least one agent, by uuid or host name".to_owned(),
        ));
    }
    let agents = list(client).await?;
    let mut uuids = Vec::new();
    for name in named {
        let found: Vec<&str> = agents
            .iter()
            .filter(|agent| agent["uuid"] == **name || agent["hostname"] == **name)
            .filter_map(|agent| agent["uuid"].as_str())
            .collect();
        match found[..] {
            [uuid] => uuids.push(uuid.to_owned()),
            [] => {
                let message =
                    format!("no agent has the uuid or host name `{name}`; `agents list` shows all");
                return Err(ClientError::Usage(message));
            }
            _ => {
                let message = format!(
                    "{} agents have the host name `{name}`; name one by its uuid: {}",
                    found.len(),
                    found.join(", ")
                );
                return Err(ClientError::Usage(message));
            }
        }
    }
    Ok(uuids)
}

fn show(client: &Client, agents: &[Value]) {
    if client.json {
        output::json(&agents);
        return;
    }
    let rows: Vec<Vec<String>> = agents.iter().map(row).collect();
    output::table(
        &[
            "AGENT",
            "UUID",
            "STATUS",
            "RESOURCES",
            "ENVIRONMENTS",
            "FREE",
            "RELEASE",
            "JOB",
        ],
        &rows,
    );
}

fn row(agent: &Value) -> Vec<String> {
    let text = |name: &str| output::clean(agent[name].as_str().unwrap_or_default());
    let names = |value: &Value| {
        let items = value.as_array().cloned().unwrap_or_default();
        let texts = items
            .iter()
            .filter_map(|item| item.as_str().or(item["name"].as_str()));
        output::clean(&texts.collect::<Vec<_>>().join(","))
    };
    let config = text("agent_config_state");
    let status = match (config.as_str(), agent["build_state"].as_str()) {
        ("Enabled", Some("Cancelled")) => "Cancelled".to_owned(),
        ("Enabled", _) => text("agent_state"),
        ("Disabled", Some("Building")) => "Disabled (building)".to_owned(),
        _ => config,
    };
    let job = match agent["build_details"]["_links"]["job"]["href"].as_str() {
        Some(link) => link.split("/detail/").nth(1).unwrap_or(link).to_owned(),
        None => String::new(),
    };
    vec![
        text("hostname"),
        text("uuid"),
        status,
        names(&agent["resources"]),
        names(&agent["environments"]),
        agent["free_space"]
            .as_i64()
            .map_or("?".to_owned(), output::size),
        release(&agent["journeyman"]),
        output::clean(&job),
    ]
}

/// What runs on the agent's machine, and what it is on the way to.
fn release(machine: &Value) -> String {
    let text = |value: &Value| output::clean(value.as_str().unwrap_or_default());
    let runs = text(&machine["agent"]["release"]);
    let upgrade = &machine["upgrade"];
    match upgrade["state"].as_str() {
        None | Some("done") => runs,
        Some(state) => format!("{runs} ({state}: {})", text(&upgrade["release"]))
            .trim_start()
            .to_owned(),
    }
}
