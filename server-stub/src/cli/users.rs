//! `journeyman-server users`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use http::Method;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::{Client, ClientError, Server, output, secret};
use crate::users::Grant;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    server: Server,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Make a user; the password is read from standard input, or asked for.
    Add {
        name: String,
        /// What the user may do: view, operate or admin, and :GROUP behind it for one group of
        /// pipelines only. Repeatable.
        #[arg(long = "role", value_name = "ROLE[:GROUP]")]
        roles: Vec<Grant>,
    },
    /// Show all users and what they may do.
    List,
    /// Give a user another password, from standard input or asked for; all sessions end.
    Password { name: String },
    /// Give a user these roles in place of all others; without any the user may do nothing.
    Role {
        name: String,
        #[arg(value_name = "ROLE[:GROUP]")]
        roles: Vec<Grant>,
    },
    /// Let a user sign in with the OpenID provider (--oidc-issuer): whoever it calls by that name next
    /// is the user from then on. Makes the user, without a password, if there is none.
    SignIn {
        name: String,
        /// What a new user may do, or another in place of all else: as with `users add`.
        #[arg(long = "role", value_name = "ROLE[:GROUP]")]
        roles: Vec<Grant>,
        /// No longer; sessions end.
        #[arg(long, conflicts_with = "roles")]
        off: bool,
    },
    /// Forget a user, with all sessions and access tokens.
    Remove { name: String },
    /// Make an access token for a user and print it, once.
    Token {
        name: String,
        /// What it is for.
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Show access tokens, of one user or of all.
    Tokens {
        name: Option<String>,
        /// Revoked ones as well.
        #[arg(long)]
        all: bool,
    },
    /// Revoke an access token, by its number in `users tokens`.
    Revoke {
        id: i64,
        #[arg(long, default_value = "")]
        cause: String,
    },
}

const PATH: &str = "/api/journeyman/users";
const TOKENS: &str = "/api/admin/access_tokens";

pub(super) async fn run(arguments: Arguments) -> Result<ExitCode, ClientError> {
    let client = Client::new(&arguments.server)?;
    match arguments.action {
        Action::Add { name, roles } => {
            let password = secret::read(&format!("Password of {name}"))?;
            let body = json!({ "new": true, "password": password.expose_secret(), "roles": roles });
            set(&client, "add the user", &name, &body).await?;
            if roles.is_empty() {
                output::complain(&format!(
                    "{name} may do nothing yet: `journeyman-server users role {name} view` changes that."
                ));
            }
        }
        Action::List => list(&client).await?,
        Action::Password { name } => {
            let password = secret::read(&format!("New password of {name}"))?;
            let body = json!({ "password": password.expose_secret() });
            set(&client, "change the password", &name, &body).await?;
        }
        Action::Role { name, roles } => {
            let body = json!({ "roles": roles });
            set(&client, "change the roles", &name, &body).await?;
        }
        Action::SignIn { name, roles, off } => {
            let mut body = json!({ "sign_in": !off });
            if !roles.is_empty() {
                body["roles"] = json!(roles);
            }
            let tried = "change how the user signs in";
            set(&client, tried, &name, &body).await?;
        }
        Action::Remove { name } => {
            let path = format!("{PATH}/{}", segment(&name));
            let answer: Value = client
                .write(Method::DELETE, "remove the user", &path, None)
                .await?;
            output::complain(answer["message"].as_str().unwrap_or_default());
        }
        Action::Token { name, description } => {
            let path = format!("{PATH}/{}/access_tokens", segment(&name));
            let body = json!({ "description": description });
            let tried = "make an access token";
            let token: Value = client
                .write(Method::POST, tried, &path, Some(&body))
                .await?;
            if client.json {
                output::json(&token);
            } else {
                output::say(token["token"].as_str().unwrap_or_default());
                output::complain("It is shown only now. Send it as `Authorization: Bearer TOKEN`.");
            }
        }
        Action::Tokens { name, all } => tokens(&client, name.as_deref(), all).await?,
        Action::Revoke { id, cause } => {
            let path = format!("{TOKENS}/{id}/revoke");
            let body = json!({ "revoke_cause": cause });
            let _: Value = client
                .write(Method::POST, "revoke the token", &path, Some(&body))
                .await?;
            output::complain(&format!("Token {id} is revoked."));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A name as a segment of a path.
fn segment(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string()
}

async fn set(client: &Client, tried: &str, name: &str, body: &Value) -> Result<(), ClientError> {
    let path = format!("{PATH}/{}", segment(name));
    let user: Value = client.write(Method::PUT, tried, &path, Some(body)).await?;
    show(client, &[user]);
    Ok(())
}

async fn list(client: &Client) -> Result<(), ClientError> {
    let answer: Value = client.get("list users", PATH).await?;
    let users = answer["users"].as_array().cloned().unwrap_or_default();
    show(client, &users);
    Ok(())
}

fn show(client: &Client, users: &[Value]) {
    if client.json {
        output::json(&users);
        return;
    }
    let rows: Vec<Vec<String>> = users
        .iter()
        .map(|user| {
            let grants: Vec<Grant> =
                serde_json::from_value(user["roles"].clone()).unwrap_or_default();
            let grants: Vec<String> = grants.iter().map(ToString::to_string).collect();
            let text = |name: &str| output::clean(user[name].as_str().unwrap_or_default());
            let grants = if grants.is_empty() {
                "none".to_owned()
            } else {
                output::clean(&grants.join(", "))
            };
            let sign_in = match user["sign_in"].as_bool() {
                Some(true) => "yes",
                _ => "no",
            };
            vec![text("name"), grants, text("password"), sign_in.to_owned()]
        })
        .collect();
    output::table(&["USER", "ROLES", "PASSWORD", "SIGN-IN"], &rows);
}

async fn tokens(client: &Client, name: Option<&str>, all: bool) -> Result<(), ClientError> {
    let filter = if all { "all" } else { "active" };
    let path = format!("{TOKENS}?filter={filter}");
    let answer: Value = client.get("list access tokens", &path).await?;
    let found = answer.pointer("/_embedded/access_tokens");
    let mut tokens = found.and_then(Value::as_array).cloned().unwrap_or_default();
    if let Some(name) = name {
        tokens.retain(|token| {
            let user = token["username"].as_str().unwrap_or_default();
            user.eq_ignore_ascii_case(name)
        });
    }
    if client.json {
        output::json(&tokens);
        return Ok(());
    }
    let rows: Vec<Vec<String>> = tokens
        .iter()
        .map(|token| {
            let text = |name: &str| output::clean(token[name].as_str().unwrap_or("-"));
            vec![
                token["id"].to_string(),
                text("username"),
                text("created_at"),
                text("last_used_at"),
                text("revoked_at"),
                text("description"),
            ]
        })
        .collect();
    let head = [
        "ID",
        "USER",
        "CREATED",
        "LAST USED",
        "REVOKED",
        "DESCRIPTION",
    ];
    output::table(&head, &rows);
    Ok(())
}
