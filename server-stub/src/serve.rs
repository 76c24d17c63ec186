//! `journeyman-server serve`.

use std::process::ExitCode;

use crate::configuration::ServeArguments;

/// Runs the server until it is asked to stop.
pub async fn main(arguments: ServeArguments) -> ExitCode {
    drop(arguments);
    ExitCode::FAILURE
}

/// Says on standard error why the program ends.
#[expect(clippy::print_stderr, reason = "the command line's own output")]
pub fn complain(message: &str) {
    eprintln!("journeyman-server: {message}");
}
