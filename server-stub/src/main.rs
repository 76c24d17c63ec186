//! `journeyman-server`: the server (`serve`) and the commands that speak to one.

use std::process::ExitCode;

use clap::Parser;
use journeyman_server::{cli, configuration::ServeArguments, serve};

/// A GoCD-compatible job server.
#[derive(Parser)]
#[command(name = "journeyman-server", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Run the server until SIGTERM or Ctrl-C.
    Serve(Box<ServeArguments>),
    #[command(flatten)]
    ForPeople(cli::Command),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
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
    match arguments.command {
        Command::Serve(arguments) => runtime.block_on(serve::main(*arguments)),
        Command::ForPeople(command) => runtime.block_on(cli::run(command)),
    }
}
