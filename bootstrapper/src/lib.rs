//! Starts a launcher again and again, for ever.
//!
//! It must never need an upgrade, so it knows as little as possible: no argument, no exit code,
//! no protocol. It passes its arguments on as they are and learns the rest from the manifest at
//! the end of the launcher's file. It depends on nothing else of Journeyman.
//!
//! It keeps the last launcher that worked, and goes back to it when another one does not.
//!
//! One thread, no allocation to speak of while it waits: below 3 MiB of resident memory.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod good;
mod launcher;
mod log;
mod manifest;
mod payload;
mod relaunch;
mod signals;
mod supervise;

pub use crate::{log::Log, supervise::supervise};

/// The version of this bootstrapper, as the agent reports it to the server.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
