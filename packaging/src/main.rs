//! `journeyman-package`: builds a release out of compiled programs.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use journeyman_packaging::{Build, release};

/// Builds what a server offers its agents and what an operator copies to a build machine.
#[derive(Parser)]
#[command(name = "journeyman-package", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write the packages of launcher and agent, and the bootstrapper with its launcher inside.
    Build {
        /// Folder with the compiled programs, for example target/dist.
        #[arg(long, value_name = "DIR")]
        bin_dir: PathBuf,
        /// Folder to write to. Give the two packages to a server as its releases folder; copy
        /// journeyman-bootstrapper to a build machine.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Number of the build: of two builds the greater is the newer.
        #[arg(long, env = "JOURNEYMAN_BUILD", default_value_t = 0)]
        build: u64,
    },
}

#[expect(clippy::print_stdout, reason = "the answer of a command-line program")]
fn main() -> anyhow::Result<()> {
    let Command::Build {
        bin_dir,
        out,
        build,
    } = Arguments::parse().command;
    let written = release(&bin_dir, &out, &Build::new(build))?;
    println!("{}", written.launcher_package.display());
    println!("{}", written.agent_package.display());
    println!("{}", written.bootstrapper.display());
    Ok(())
}
