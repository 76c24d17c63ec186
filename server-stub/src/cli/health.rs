//! `journeyman-server health`.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::{Client, ClientError, Server, output};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    server: Server,
}

/// Shows what is wrong; 1 when it is an error, or the server cannot do its work.
pub(super) async fn run(arguments: Arguments) -> Result<ExitCode, ClientError> {
    let client = Client::new(&arguments.server)?;
    let unready = match client
        .get::<Value>("say whether it is ready", "/api/v1/ready")
        .await
    {
        Ok(_) => Value::Null,
        Err(ClientError::Refused { message, .. }) => Value::from(message),
        Err(error) => return Err(error),
    };
    let messages: Vec<Value> = client
        .get("say what is wrong", "/api/server_health_messages")
        .await?;
    if client.json {
        output::json(
            &json!({ "ready": unready.is_null(), "reason": unready, "messages": messages }),
        );
    } else {
        if let Some(reason) = unready.as_str() {
            output::say(&format!("NOT READY  {}", output::clean(reason)));
        }
        for one in &messages {
            let text = |name: &str| output::clean(one[name].as_str().unwrap_or_default());
            output::say(&format!("{:<9}  {}", text("level"), text("message")));
            for line in one["detail"].as_str().unwrap_or_default().lines() {
                output::say(&format!("           {}", output::clean(line)));
            }
        }
        if unready.is_null() && messages.is_empty() {
            output::say("OK");
        }
    }
    let bad = !unready.is_null() || messages.iter().any(|one| one["level"] == "ERROR");
    Ok(if bad {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
