//! `journeyman-launcher`: started by the bootstrapper in the agent's working directory.

use std::process::ExitCode;

use clap::Parser;
use journeyman_host::arguments;
use journeyman_launcher::{Arguments, Command, exit_code, run};

fn main() -> ExitCode {
    let words = std::iter::once("journeyman-launcher".into()).chain(arguments::of_process());
    let code = match Arguments::try_parse_from(words) {
        Ok(Arguments {
            command: Command::Run(arguments),
        }) => run(&arguments),
        Err(error) => {
            // Help goes to standard output, complaints to standard error.
            let _ = error.print();
            if error.use_stderr() {
                exit_code::USAGE
            } else {
                exit_code::DONE
            }
        }
    };
    ExitCode::from(code)
}
