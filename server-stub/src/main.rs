//! `journeyman-server`: the server (`serve`) and the commands that speak to one.

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, error::ErrorKind};
use journeyman_server::{cli, serve};

fn main() -> ExitCode {
    // Settings read the environment themselves, but the help is to name their variables.
    let matches = match cli::for_parsing(cli::Arguments::command()).try_get_matches() {
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            cli::Arguments::command().get_matches()
        }
        outcome => outcome.unwrap_or_else(|error| error.exit()),
    };
    let arguments = cli::Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            serve::complain(&format!("cannot start the asynchronous runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(cli::run(arguments, &matches))
}
