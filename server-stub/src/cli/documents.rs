//! `journeyman-server completions` and `journeyman-server man`: what is made of the command line's
//! own description.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{ERROR, output};

#[derive(Args, Debug)]
pub(super) struct Completions {
    /// The shell.
    shell: Shell,
}

#[derive(Args, Debug)]
pub(super) struct Man {
    /// The folder to write the pages to, one for each subcommand; made when missing.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

pub(super) fn completions(arguments: &Completions) -> ExitCode {
    let mut command = super::Arguments::command();
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut command,
        "journeyman-server",
        &mut script,
    );
    output::say(String::from_utf8_lossy(&script).trim_end());
    ExitCode::SUCCESS
}

pub(super) fn man(arguments: &Man) -> ExitCode {
    match write(&arguments.folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let folder = arguments.folder.display();
            output::complain(&format!(
                "journeyman-server: cannot write manual pages to {folder}: {error}"
            ));
            ExitCode::from(ERROR)
        }
    }
}

fn write(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(super::Arguments::command(), folder)
}
