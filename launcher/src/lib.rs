//! One run of the launcher: take the lock, start the agent, fetch what the server offers while it
//! runs, hand over to a new version, watch it and go back when it fails; end when the agent ends.
//!
//! The bootstrapper starts it again whenever it ends; what its exit codes mean is in the manifest
//! that packaging appends to it.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod agent;
mod command_line;
mod digest;
mod download;
mod java_agent;
mod keys;
mod launcher_file;
mod machine;
mod offer;
mod operator_package;
mod package;
mod polling;
mod releases;
mod round;
mod space;
mod stop;
mod take;
mod upgrade;
mod watch;

pub use crate::{
    command_line::{Arguments, Command, RunArguments},
    round::run,
};

/// The version of this launcher.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the launcher's exit codes mean to the bootstrapper.
pub mod exit_code {
    /// The agent was stopped, as asked.
    pub const STOPPED: u8 = 0;
    /// This launcher failed; starting again may help, or going back to the one before.
    pub const FAILED: u8 = 1;
    /// This launcher is well, and cannot go on: the agent ended, or the folder cannot be used. Start it
    /// again after the usual pause.
    pub const AGAIN: u8 = 61;
    /// The launcher was replaced by another version: start that at once.
    pub const OUT_OF_DATE: u8 = 60;
    /// Bad arguments: starting again is hopeless.
    pub const USAGE: u8 = 64;
    /// A launcher or a Java agent runs in this folder already: starting again is hopeless.
    pub const LOCKED: u8 = 73;
    /// All that was asked for is done (`--help`, `--version`).
    pub const DONE: u8 = 80;
}
