//! `journeyman-server repos`.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

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
    /// Read pipelines from a git repository, now and whenever its branch moves.
    Add {
        /// Address of the repository, or a folder on the server's machine.
        url: String,
        #[arg(long, default_value = "main")]
        branch: String,
        /// Name of the repository here. Default: the last part of its address.
        #[arg(long)]
        id: Option<String>,
    },
    /// Show all repositories and what is wrong with them.
    List,
    /// Look for new commits now; all repositories when none is named.
    Update { ids: Vec<String> },
    /// Forget repositories and their pipelines.
    Remove { ids: Vec<String> },
}

const PATH: &str = "/api/admin/config_repos";

pub(super) async fn run(arguments: Arguments) -> Result<ExitCode, ClientError> {
    let client = Client::new(&arguments.server)?;
    match arguments.action {
        Action::Add { url, branch, id } => add(&client, &url, &branch, id).await,
        Action::List => {
            let repos = list(&client).await?;
            show(&client, &repos);
            Ok(ExitCode::SUCCESS)
        }
        Action::Update { ids } => update(&client, ids).await,
        Action::Remove { ids } => {
            for id in ids {
                let path = format!("{PATH}/{id}");
                let answer: Value = client
                    .write(Method::DELETE, "remove the repository", &path, None)
                    .await?;
                output::complain(answer["message"].as_str().unwrap_or_default());
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn add(
    client: &Client,
    url: &str,
    branch: &str,
    id: Option<String>,
) -> Result<ExitCode, ClientError> {
    // A relative folder would mean another one to the server.
    let url = match Path::new(url).canonicalize() {
        Ok(path) if path.is_dir() => path.to_string_lossy().into_owned(),
        _ => url.to_owned(),
    };
    let id = id.unwrap_or_else(|| id_of(&url));
    let body = json!({
        "id": id,
        "plugin_id": "yaml.config.plugin",
        "material": { "type": "git", "attributes": { "url": url, "branch": branch } },
    });
    let tried = "add the repository";
    let repo: Value = client.write(Method::POST, tried, PATH, Some(&body)).await?;
    finish(client, &[wait(client, repo).await?])
}

fn id_of(url: &str) -> String {
    let last = url
        .trim_end_matches('/')
        .rsplit(['/', ':'])
        .next()
        .unwrap_or(url);
    let last = last.strip_suffix(".git").unwrap_or(last);
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let id: String = last
        .chars()
        .map(|c| if allowed(c) { c } else { '-' })
        .collect();
    let id = id.trim_start_matches(['.', '-']).to_owned();
    if id.is_empty() {
        "repository".to_owned()
    } else {
        id
    }
}

async fn update(client: &Client, ids: Vec<String>) -> Result<ExitCode, ClientError> {
    let ids = if ids.is_empty() {
        let repos = list(client).await?;
        let all = repos.iter().filter_map(|repo| repo["id"].as_str());
        all.map(ToOwned::to_owned).collect()
    } else {
        ids
    };
    let mut repos = Vec::new();
    for id in ids {
        let path = format!("{PATH}/{id}/trigger_update");
        let asked: Result<Value, ClientError> = client
            .write(Method::POST, "look at the repository", &path, None)
            .await;
        match asked {
            Ok(_) => {}
            // Somebody else had it looked at a moment ago.
            Err(ClientError::Refused { status, .. }) if status == http::StatusCode::CONFLICT => {}
            Err(error) => return Err(error),
        }
        let repo: Value = client
            .get("show the repository", &format!("{PATH}/{id}"))
            .await?;
        repos.push(wait(client, repo).await?);
    }
    finish(client, &repos)
}

/// Waits until nobody looks at the repository any more.
async fn wait(client: &Client, repo: Value) -> Result<Value, ClientError> {
    let id = repo["id"].as_str().unwrap_or_default();
    loop {
        let path = format!("{PATH}/{id}/status");
        let status: Value = client.get("show the repository's status", &path).await?;
        if status["in_progress"] != true {
            return client
                .get("show the repository", &format!("{PATH}/{id}"))
                .await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Shows repositories; one whose newest revision was refused makes the command fail.
fn finish(client: &Client, repos: &[Value]) -> Result<ExitCode, ClientError> {
    show(client, repos);
    let refused = repos
        .iter()
        .any(|repo| repo["parse_info"]["error"].is_string());
    Ok(if refused {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

async fn list(client: &Client) -> Result<Vec<Value>, ClientError> {
    let answer: Value = client.get("list repositories", PATH).await?;
    let repos = answer
        .pointer("/_embedded/config_repos")
        .and_then(Value::as_array);
    Ok(repos.cloned().unwrap_or_default())
}

fn show(client: &Client, repos: &[Value]) {
    if client.json {
        output::json(&repos);
        return;
    }
    let text = |value: &Value| output::clean(value.as_str().unwrap_or_default());
    let rows: Vec<Vec<String>> = repos
        .iter()
        .map(|repo| {
            let attributes = &repo["material"]["attributes"];
            let good = text(&repo["parse_info"]["good_modification"]["revision"]);
            let state = if repo["parse_info"]["error"].is_string() {
                "refused"
            } else {
                "ok"
            };
            vec![
                text(&repo["id"]),
                state.to_owned(),
                good.chars().take(12).collect(),
                text(&attributes["branch"]),
                text(&attributes["url"]),
            ]
        })
        .collect();
    output::table(&["ID", "STATE", "IN FORCE", "BRANCH", "URL"], &rows);
    for repo in repos {
        if let Some(error) = repo["parse_info"]["error"].as_str() {
            output::complain(&format!(
                "{}: the newest revision was refused:",
                text(&repo["id"])
            ));
            for line in error.lines() {
                output::complain(&format!("  {}", output::clean(line)));
            }
        }
    }
}
