//! The subcommands that speak to a running server.

use std::process::ExitCode;

/// Subcommands besides `serve`.
#[derive(clap::Subcommand, Debug)]
pub enum Command {}

/// Runs a subcommand to its end.
pub async fn run(command: Command) -> ExitCode {
    match command {}
}
