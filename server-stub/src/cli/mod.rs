//! The command line. Subcommands that speak to a running server do it over its REST API; `serve`,
//! `config`, `check`, `encrypt` and `webhook-secret` need none.
//!
//! What was asked for goes to standard output, everything else to standard error. Exit codes:
//! 0 done (for `pipelines trigger --follow`: passed), 1 the run did not pass or files are not good,
//! 2 an error.

mod agents;
mod audit;
mod backup;
mod check;
mod client;
mod config;
mod documents;
mod encrypt;
mod follow;
mod health;
mod jobs;
mod maintenance;
mod output;
mod pipelines;
mod releases;
mod repos;
mod secret;
mod stages;
mod users;
pub mod webhook_secret;

use std::process::ExitCode;

use clap::{ArgMatches, Args, Parser, Subcommand};

use crate::{configuration, serve};
use client::{Client, ClientError};
pub(crate) use output::{duration, size};

/// Something went wrong, as opposed to: the run failed.
const ERROR: u8 = 2;

/// A GoCD-compatible job server.
#[derive(Parser, Debug)]
#[command(name = "journeyman-server", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// All subcommands.
#[derive(Subcommand, Debug)]
enum Command {
    /// Run the server until SIGTERM or Ctrl-C.
    Serve(Box<configuration::Settings>),
    /// Check the server's settings, or show them with where each comes from.
    Config(config::Arguments),
    /// List agents, let them work, or take them out of work.
    Agents(agents::Arguments),
    /// Git repositories whose *.gocd.yaml files define the pipelines.
    Repos(repos::Arguments),
    /// List, trigger, pause and cancel pipelines, look back on their runs, and keep runs.
    Pipelines(pipelines::Arguments),
    /// Run stages, run their jobs again, and cancel them.
    Stages(stages::Arguments),
    /// Look at jobs, their consoles and artifacts, and run them again.
    Jobs(jobs::Arguments),
    /// Show what is wrong with the server; exits with 1 if it is an error.
    Health(health::Arguments),
    /// Versions of launcher and agent: add them, offer them to agents, and see how far they have come.
    Releases(releases::Arguments),
    /// Check *.gocd.yaml files as the server would, for use before a commit. Needs no server; exits
    /// with 1 if anything is wrong, and prints a line for each error.
    Check(check::Arguments),
    /// Encrypt a value from standard input for `secure_variables` or `encrypted_password`.
    Encrypt(encrypt::Arguments),
    /// Show the secret that webhooks of GitHub, GitLab, Gitea or Bitbucket are set up with.
    /// Give it the settings of `serve`.
    WebhookSecret(Box<webhook_secret::Arguments>),
    /// People: who may log in, what they may do, and their access tokens.
    Users(users::Arguments),
    /// Keep the server still, while its machine or its repositories are worked on.
    Maintenance(maintenance::Arguments),
    /// Show who changed what.
    Audit(audit::Arguments),
    /// Copy the database and all files that belong to it, also while the server runs. The copy is
    /// read once more before it gets its name.
    Backup(backup::Backup),
    /// Put a backup in the place of the data folder of a server that is stopped. Nothing is touched
    /// unless every file of the backup is what it was.
    Restore(backup::Restore),
    /// Print what makes a shell complete this program's arguments.
    Completions(documents::Completions),
    /// Write manual pages.
    Man(documents::Man),
}

/// Where the server is.
#[derive(Args, Debug, Clone)]
pub struct Server {
    /// The server's address, up to and including /go. Default: the server of --data, else
    /// <http://127.0.0.1:8153/go>.
    #[arg(long, env = "JOURNEYMAN_SERVER_URL", value_name = "URL", global = true)]
    server_url: Option<String>,

    /// The data folder of a server on this machine, whose address is taken from there.
    #[arg(long, env = "JOURNEYMAN_DATA", value_name = "DIR", global = true)]
    data: Option<std::path::PathBuf>,

    /// A file that holds an access token to say who you are with (also as a text:
    /// JOURNEYMAN_TOKEN). Not needed with --data: the server's own token is in that folder.
    #[arg(
        long,
        env = "JOURNEYMAN_TOKEN_FILE",
        value_name = "FILE",
        global = true
    )]
    token_file: Option<std::path::PathBuf>,

    /// Answer with JSON, for programs.
    #[arg(long, global = true)]
    json: bool,
}

/// The command as its arguments are parsed: the environment variables of settings are not clap's.
pub fn for_parsing(command: clap::Command) -> clap::Command {
    command
        .mut_subcommand("serve", configuration::without_environment)
        .mut_subcommand("webhook-secret", configuration::without_environment)
        .mut_subcommand("config", config::for_parsing)
}

/// Runs a subcommand to its end. `matches` is what the arguments were made of.
pub async fn run(arguments: Arguments, matches: &ArgMatches) -> ExitCode {
    let of_subcommand = matches.subcommand().map_or(matches, |(_, matches)| matches);
    let outcome = match arguments.command {
        Command::Serve(_) => return serve::main(of_subcommand).await,
        Command::Config(arguments) => Ok(config::run(&arguments, of_subcommand)),
        Command::Agents(arguments) => agents::run(arguments).await,
        Command::Repos(arguments) => repos::run(arguments).await,
        Command::Pipelines(arguments) => pipelines::run(arguments).await,
        Command::Stages(arguments) => stages::run(arguments).await,
        Command::Jobs(arguments) => jobs::run(arguments).await,
        Command::Health(arguments) => health::run(arguments).await,
        Command::Completions(arguments) => Ok(documents::completions(&arguments)),
        Command::Man(arguments) => Ok(documents::man(&arguments)),
        Command::Releases(arguments) => releases::run(arguments).await,
        Command::Check(arguments) => Ok(check::run(&arguments)),
        Command::Encrypt(arguments) => Ok(encrypt::run(&arguments)),
        Command::WebhookSecret(_) => Ok(webhook_secret::run(of_subcommand)),
        Command::Users(arguments) => users::run(arguments).await,
        Command::Maintenance(arguments) => maintenance::run(arguments).await,
        Command::Audit(arguments) => audit::run(arguments).await,
        Command::Backup(arguments) => Ok(backup::back_up(arguments).await),
        Command::Restore(arguments) => Ok(backup::restore(arguments).await),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            output::complain(&format!("journeyman-server: {error}"));
            ExitCode::from(ERROR)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    /// Every subcommand with its name as it is typed.
    fn all(command: &clap::Command, above: &str, found: &mut Vec<(String, clap::Command)>) {
        for one in command.get_subcommands() {
            let name = format!("{above}{}", one.get_name());
            all(one, &format!("{name} "), found);
            found.push((name, one.clone()));
        }
    }

    #[test]
    fn every_subcommand_says_what_it_does() {
        super::Arguments::command().debug_assert();
        let mut found = Vec::new();
        all(&super::Arguments::command(), "", &mut found);
        for (name, command) in found {
            let about = command.get_about().map(ToString::to_string);
            assert!(about.is_some_and(|text| !text.is_empty()), "{name}");
        }
    }

    #[test]
    fn manual_pages_and_completions_are_of_all_subcommands() {
        let folder = tempfile::tempdir().unwrap();
        clap_mangen::generate_to(super::Arguments::command(), folder.path()).unwrap();
        for page in ["", "-serve", "-pipelines-trigger", "-backup"] {
            let page = folder.path().join(format!("journeyman-server{page}.1"));
            assert!(page.exists(), "{}", page.display());
        }
        for shell in [
            clap_complete::Shell::Bash,
            clap_complete::Shell::Zsh,
            clap_complete::Shell::Fish,
        ] {
            let mut script = Vec::new();
            let mut command = super::Arguments::command();
            clap_complete::generate(shell, &mut command, "journeyman-server", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("retention-days") && script.contains("restore"));
        }
    }
}
