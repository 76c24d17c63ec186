//! `journeyman-server audit`.

use std::process::ExitCode;

use clap::Args;
use jiff::{Timestamp, tz::TimeZone};
use serde_json::Value;

use super::{Client, ClientError, Server, output};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    server: Server,
    /// Changes to show, the newest first.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(10..=100))]
    count: u32,
    /// Only changes from before the one with this number.
    #[arg(long, value_name = "ID")]
    before: Option<i64>,
}

pub(super) async fn run(arguments: Arguments) -> Result<ExitCode, ClientError> {
    let client = Client::new(&arguments.server)?;
    let mut path = format!("/api/journeyman/audit?page_size={}", arguments.count);
    if let Some(before) = arguments.before {
        path.push_str(&format!("&after={before}"));
    }
    let answer: Value = client.get("show the audit log", &path).await?;
    let entries = answer["entries"].as_array().cloned().unwrap_or_default();
    if client.json {
        output::json(&entries);
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = entries
        .iter()
        .map(|entry| {
            let text = |name: &str| output::clean(entry[name].as_str().unwrap_or_default());
            vec![
                entry["id"].to_string(),
                when(entry["at"].as_i64().unwrap_or_default()),
                text("actor"),
                text("address"),
                entry["status"].to_string(),
                text("action"),
                text("detail"),
            ]
        })
        .collect();
    let head = ["ID", "TIME", "WHO", "FROM", "STATUS", "WHAT", "DETAIL"];
    output::table(&head, &rows);
    Ok(ExitCode::SUCCESS)
}

fn when(milliseconds: i64) -> String {
    let time = Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH);
    time.to_zoned(TimeZone::system())
        .strftime("%Y-%m-%d %H:%M:%S")
        .to_string()
}
