//! `journeyman-server releases`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use http::Method;
use jiff::Timestamp;
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
    /// Add packages; those of one version and build make a release. The signatures in <FILE>.sig
    /// are taken along.
    Add {
        /// Packages that `journeyman-package build` has made.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Show all releases, the newest build first.
    List,
    /// Show a release: its packages, its offers, and how far each agent has come.
    Show {
        /// Version and build, as `list` shows them.
        id: String,
    },
    /// Offer a release to agents, which upgrade themselves to it.
    Offer {
        /// Version and build, as `list` shows them.
        id: String,
        /// Whom to: all, environment=NAME, agents=A,B (uuids or host names) or percent=N.
        #[arg(long, default_value = "all", value_name = "WHOM")]
        to: String,
        /// The time over which the agents are asked one after another, as in 90s, 30m, 2h or 1d.
        #[arg(long, default_value = "0", value_name = "TIME")]
        over: String,
        /// Offer it also where a newer build runs.
        #[arg(long)]
        downgrade: bool,
        /// The share of failed upgrades at which the server stops by itself.
        #[arg(long, default_value = "20%", value_name = "PERCENT")]
        stop_at: String,
    },
    /// Offer a release no longer. Agents that run it go on with it.
    Withdraw {
        /// Version and build, as `list` shows them.
        id: String,
        /// Only this offer, as `show` numbers them. Default: all offers of the release.
        #[arg(long, value_name = "NUMBER")]
        offer: Option<i64>,
    },
    /// Delete a release that is not offered, with its packages.
    Delete {
        /// Version and build, as `list` shows them.
        id: String,
    },
}

const PATH: &str = "/api/admin/journeyman/releases";

pub(super) async fn run(arguments: Arguments) -> Result<ExitCode, ClientError> {
    let client = Client::new(&arguments.server)?;
    match arguments.action {
        Action::Add { files } => add(&client, &files).await?,
        Action::List => list(&client).await?,
        Action::Show { id } => show(&client, &id).await?,
        Action::Offer {
            id,
            to,
            over,
            downgrade,
            stop_at,
        } => {
            let body =
                json!({ "to": to, "over": over, "downgrade": downgrade, "stop_at": stop_at });
            let path = format!("{PATH}/{}/offers", segment(&id));
            let tried = format!("offer release {id}");
            let answer: Value = client
                .write(Method::POST, &tried, &path, Some(&body))
                .await?;
            for warning in answer["warnings"].as_array().into_iter().flatten() {
                output::complain(&format!("warning: {}", text(warning)));
            }
            tell(&client, &answer);
        }
        Action::Withdraw { id, offer } => {
            let path = format!("{PATH}/{}/withdraw", segment(&id));
            let tried = format!("withdraw release {id}");
            let body = json!({ "offer": offer });
            let answer: Value = client
                .write(Method::POST, &tried, &path, Some(&body))
                .await?;
            tell(&client, &answer);
        }
        Action::Delete { id } => {
            let path = format!("{PATH}/{}", segment(&id));
            let tried = format!("delete release {id}");
            let answer: Value = client.write(Method::DELETE, &tried, &path, None).await?;
            tell(&client, &answer);
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn add(client: &Client, files: &[PathBuf]) -> Result<(), ClientError> {
    let mut all = Vec::new();
    for file in files {
        let signatures = signatures(file)?;
        let tried = format!("add {}", file.display());
        let mut added = client
            .upload(&tried, &format!("{PATH}/packages"), file)
            .await?;
        if let Some(signatures) = signatures {
            let tried = format!("add the signatures of {}", file.display());
            let sha256 = added["sha256"].as_str().unwrap_or_default();
            let path = format!("{PATH}/packages/{sha256}/signatures");
            let signed: Value = client
                .write(Method::PUT, &tried, &path, Some(&signatures))
                .await?;
            let changed = added["changed"] == true || signed["changed"] == true;
            added = signed;
            added["changed"] = json!(changed);
        }
        if !client.json {
            let keys = match added["signed_by"].as_array().map_or(0, Vec::len) {
                0 => "not signed".to_owned(),
                count => format!("signed by {count} key(s)"),
            };
            let done = if added["changed"] == true {
                "added"
            } else {
                "had already"
            };
            output::say(&format!(
                "release {}: {done} the {} for {}, {keys}",
                text(&added["release"]),
                text(&added["component"]),
                text(&added["platform"]),
            ));
        }
        all.push(added);
    }
    if client.json {
        output::json(&all);
    }
    Ok(())
}

/// What is in `<FILE>.sig`, if there is one.
fn signatures(file: &Path) -> Result<Option<Value>, ClientError> {
    let mut path = file.as_os_str().to_owned();
    path.push(".sig");
    let path = PathBuf::from(path);
    let wrong = |cause: String| {
        ClientError::Usage(format!(
            "cannot read the signatures in {}: {cause}; make them anew with `journeyman-package sign`, or \
             remove the file",
            path.display()
        ))
    };
    match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| wrong(error.to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(wrong(error.to_string())),
    }
}

async fn list(client: &Client) -> Result<(), ClientError> {
    let answer: Value = client.get("list releases", PATH).await?;
    let releases = answer
        .pointer("/_embedded/releases")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    if client.json {
        output::json(&releases);
        return Ok(());
    }
    let rows: Vec<Vec<String>> = releases
        .iter()
        .map(|release| {
            vec![
                text(&release["id"]),
                packages(release),
                release["running"].to_string(),
                states(release),
                text(&release["status"]),
            ]
        })
        .collect();
    output::table(
        &["RELEASE", "PACKAGES", "RUNNING", "PROGRESS", "STATUS"],
        &rows,
    );
    Ok(())
}

async fn show(client: &Client, id: &str) -> Result<(), ClientError> {
    let path = format!("{PATH}/{}", segment(id));
    let release: Value = client.get(&format!("show release {id}"), &path).await?;
    if client.json {
        output::json(&release);
        return Ok(());
    }
    output::say(&format!(
        "release {}: {}\n",
        text(&release["id"]),
        text(&release["status"])
    ));
    let items = |name: &str| release[name].as_array().cloned().unwrap_or_default();
    let rows: Vec<Vec<String>> = items("packages")
        .iter()
        .map(|package| {
            let keys = package["signed_by"].as_array().cloned().unwrap_or_default();
            let keys: Vec<String> = keys.iter().map(text).collect();
            vec![
                text(&package["component"]),
                text(&package["platform"]),
                output::size(package["size"].as_i64().unwrap_or(0)),
                keys.join(","),
                text(&package["sha256"]),
            ]
        })
        .collect();
    output::table(
        &["PACKAGE", "PLATFORM", "SIZE", "SIGNED BY", "SHA-256"],
        &rows,
    );
    let rows: Vec<Vec<String>> = items("offers").iter().map(offer_row).collect();
    if !rows.is_empty() {
        output::say("");
        output::table(
            &[
                "OFFER", "TO", "SINCE", "OVER", "ASKED", "DONE", "FAILED", "STATUS",
            ],
            &rows,
        );
    }
    let rows: Vec<Vec<String>> = items("machines").iter().map(machine_row).collect();
    if !rows.is_empty() {
        output::say("");
        output::table(&["AGENT", "RUNS", "BEFORE", "UPGRADE", "REASON"], &rows);
    }
    Ok(())
}

fn offer_row(offer: &Value) -> Vec<String> {
    let mut to = text(&offer["to"]);
    if offer["from_folder"] == true {
        to.push_str(" (the folder)");
    }
    if offer["downgrade"] == true {
        to.push_str(", downgrade");
    }
    let status = match offer["end_reason"].as_str() {
        Some(reason) => output::clean(reason),
        None => format!("under way, stops at {}%", offer["stop_at_percent"]),
    };
    vec![
        offer["id"].to_string(),
        to,
        moment(&offer["started_at"]),
        output::duration(offer["over_seconds"].as_i64().unwrap_or(0) * 1000),
        offer["asked"].to_string(),
        offer["done"].to_string(),
        offer["failed"].to_string(),
        status,
    ]
}

fn machine_row(machine: &Value) -> Vec<String> {
    let upgrade = &machine["upgrade"];
    let state = match upgrade["state"].as_str() {
        Some(state @ "scheduled") => format!("{state} for {}", moment(&upgrade["at"])),
        Some(state) => format!("{state} since {}", moment(&upgrade["at"])),
        None => String::new(),
    };
    vec![
        text(&machine["hostname"]),
        text(&machine["agent"]["release"]),
        text(&machine["previous"]["release"]),
        state,
        text(&upgrade["reason"]),
    ]
}

/// What there is for which platform: `agent,launcher linux-x86_64`.
fn packages(release: &Value) -> String {
    let mut platforms: Vec<(String, Vec<String>)> = Vec::new();
    for package in release["packages"].as_array().into_iter().flatten() {
        let (platform, component) = (text(&package["platform"]), text(&package["component"]));
        match platforms.iter_mut().find(|(known, _)| *known == platform) {
            Some((_, components)) => components.push(component),
            None => platforms.push((platform, vec![component])),
        }
    }
    let shown = platforms
        .iter()
        .map(|(platform, components)| format!("{} {platform}", components.join(",")));
    shown.collect::<Vec<_>>().join("; ")
}

fn states(release: &Value) -> String {
    let states = release["states"].as_object();
    let shown = states
        .into_iter()
        .flatten()
        .map(|(state, count)| format!("{count} {state}"));
    shown.collect::<Vec<_>>().join(", ")
}

fn moment(milliseconds: &Value) -> String {
    let time = milliseconds
        .as_i64()
        .and_then(|at| Timestamp::from_millisecond(at).ok());
    time.map_or(String::new(), |time| {
        time.to_zoned(jiff::tz::TimeZone::system())
            .strftime("%Y-%m-%d %H:%M:%S")
            .to_string()
    })
}

fn text(value: &Value) -> String {
    output::clean(value.as_str().unwrap_or_default())
}

/// An id as a part of a path.
fn segment(id: &str) -> String {
    percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn tell(client: &Client, answer: &Value) {
    if client.json {
        output::json(answer);
    } else {
        output::say(answer["message"].as_str().unwrap_or_default());
    }
}
