//! `journeyman-server maintenance`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;

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
    /// Begin it: no repository is looked at, nothing is scheduled, no job is handed out. What runs goes
    /// on.
    On,
    /// End it; what has waited begins.
    Off,
    /// Say whether there is maintenance, who has begun it, and what still runs.
    Status,
}

const ROOT: &str = "/api/admin/maintenance_mode";

pub(super) async fn run(arguments: Arguments) -> Result<ExitCode, ClientError> {
    let client = Client::new(&arguments.server)?;
    let change = match arguments.action {
        Action::On => Some(("begin maintenance", "enable")),
        Action::Off => Some(("end maintenance", "disable")),
        Action::Status => None,
    };
    if let Some((tried, path)) = change {
        let path = format!("{ROOT}/{path}");
        client.tell(Method::POST, tried, &path).await?;
    }
    let path = format!("{ROOT}/info");
    let info: Value = client
        .get("say whether there is maintenance", &path)
        .await?;
    if client.json {
        output::json(&info);
    } else {
        show(&info);
    }
    Ok(ExitCode::SUCCESS)
}

fn show(info: &Value) {
    let text = |value: &Value| output::clean(value.as_str().unwrap_or_default());
    if info["is_maintenance_mode"] != true {
        output::say("There is no maintenance.");
        return;
    }
    let by = text(&info["metadata"]["updated_by"]);
    let at = text(&info["metadata"]["updated_on"]);
    output::say(&format!("Maintenance, begun by {by} at {at}."));
    let running = &info["attributes"]["running_systems"];
    for (name, jobs) in [("runs", "building_jobs"), ("waits", "scheduled_jobs")] {
        for job in running[jobs].as_array().into_iter().flatten() {
            output::say(&format!(
                "{name:<6} {}/{}/{}/{}/{}",
                text(&job["pipeline_name"]),
                job["pipeline_counter"],
                text(&job["stage_name"]),
                text(&job["stage_counter"]),
                text(&job["name"])
            ));
        }
    }
}
