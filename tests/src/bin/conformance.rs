//! Runs jobs that were recorded from GoCD's agent with ours and shows what differs.
//!
//! `make conformance` runs it. Arguments are folders of cases; without one it takes those of this
//! repository.

use std::{env, path::PathBuf, process::ExitCode};

use journeyman_tests::conformance::{Options, Summary, own_folders, run_folders};

const USAGE: &str = "usage: conformance [--only NAME] [--keep] [FOLDER...]
  --only NAME  the cases with this in their names
  --keep       keep the sandboxes of failed cases";

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the output of this program"
)]
fn main() -> ExitCode {
    match run() {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::from(u8::from(summary.failed > 0))
        }
        Err(error) => {
            eprintln!("conformance: {error}");
            ExitCode::from(2)
        }
    }
}

#[expect(clippy::print_stdout, reason = "the output of this program")]
fn run() -> Result<Summary, String> {
    let mut options = Options::declared()?;
    let mut folders: Vec<PathBuf> = Vec::new();
    let mut arguments = env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--only") => {
                let name = arguments.next().ok_or(USAGE)?;
                options.only = Some(name.to_string_lossy().into_owned());
            }
            Some("--keep") => options.keep = true,
            Some(option) if option.starts_with('-') => return Err(USAGE.to_owned()),
            _ => folders.push(argument.into()),
        }
    }
    if folders.is_empty() {
        folders = own_folders();
    }
    run_folders(&folders, &options, |outcome| println!("{outcome}"))
}
