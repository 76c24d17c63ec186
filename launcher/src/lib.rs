//! One run of the launcher: take the lock, compare checksums with the server's, download and
//! verify what differs, start the agent and end when it ends.
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
mod offer;
mod package;
mod releases;
mod round;
mod space;
mod stop;

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
    /// Something failed; starting again may help.
    pub const FAILED: u8 = 1;
    /// The launcher was replaced by another version: start that at once.
    pub const OUT_OF_DATE: u8 = 60;
    /// Bad arguments: starting again is hopeless.
    pub const USAGE: u8 = 64;
    /// A launcher or a Java agent runs in this folder already: starting again is hopeless.
    pub const LOCKED: u8 = 73;
    /// All that was asked for is done (`--help`, `--version`).
    pub const DONE: u8 = 80;
}
