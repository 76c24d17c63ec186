//! `journeyman-bootstrapper`: what an operator copies to a build machine and starts there, in the
//! folder that is to be the agent's. All arguments go to the launcher; try `--help`.

use std::{env, path::Path, process::ExitCode};

use journeyman_bootstrapper::{Log, supervise};

fn main() -> ExitCode {
    let mut log = Log::new(Path::new("logs/go-agent-bootstrapper.log"));
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    match supervise(&arguments, &mut log) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            log.error(&format!("cannot watch over a launcher: {error}"));
            ExitCode::FAILURE
        }
    }
}
