//! `journeyman-server config`: settings without a server.

use std::process::ExitCode;

use clap::{ArgMatches, Args, Command, Subcommand};
use serde_json::json;

use super::output;
use crate::configuration::{Settings, effective, without_environment};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Say everything that is wrong with the flags, the environment and the configuration file that
    /// `serve` would be started with; exits with 1 if anything is.
    Check(Box<Given>),
    /// Show every setting in force and where it comes from. Secrets are hidden.
    Show(Box<Given>),
}

#[derive(Args, Debug)]
struct Given {
    #[command(flatten)]
    settings: Settings,
    /// Answer with JSON, for programs.
    #[arg(long)]
    json: bool,
}

pub(super) fn for_parsing(command: Command) -> Command {
    ["check", "show"]
        .into_iter()
        .fold(command, |command, name| {
            command.mut_subcommand(name, without_environment)
        })
}

/// Checks or shows; 1 when something is wrong.
pub(super) fn run(arguments: &Arguments, matches: &ArgMatches) -> ExitCode {
    let flags = matches.subcommand().map_or(matches, |(_, matches)| matches);
    let (given, show) = match &arguments.action {
        Action::Check(given) => (given, false),
        Action::Show(given) => (given, true),
    };
    let found = effective(flags, |name| std::env::var_os(name));
    let problems = match &found {
        Ok(effective) => effective.unreadable(),
        Err(problems) => problems.clone(),
    };
    if given.json && (!show || found.is_err()) {
        let errors: Vec<String> = problems.iter().map(ToString::to_string).collect();
        output::json(&json!({ "errors": errors }));
    } else {
        for problem in &problems {
            output::complain(&output::clean(&problem.to_string()));
        }
    }
    if let (true, Ok(effective)) = (show, &found) {
        let shown = effective.shown();
        if given.json {
            let rows = shown.iter().map(|(name, value, origin)| {
                json!({ "name": name, "value": value, "origin": origin.to_string() })
            });
            output::json(&rows.collect::<Vec<_>>());
        } else {
            let rows: Vec<Vec<String>> = shown
                .iter()
                .map(|(name, value, origin)| {
                    vec![
                        name.clone(),
                        output::clean(value),
                        output::clean(&origin.to_string()),
                    ]
                })
                .collect();
            output::table(&["SETTING", "VALUE", "FROM"], &rows);
        }
    }
    if problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
