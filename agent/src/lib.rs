//! The build agent.
//!
//! One process that keeps an agent's identity at the server: it registers ([`registration`]),
//! pings, asks for work and passes instructions on ([`loops`]), and starts, follows, adopts or
//! buries the job runners that do the work ([`supervision`]). What it is doing at any moment is
//! one value of one state machine ([`lifecycle`]). The job runner, in [`job`], is the same
//! executable in a process of its own.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod job;
pub mod lifecycle;
pub mod loops;
pub mod registration;
pub mod remoting;
pub mod settings;
pub mod state;
pub mod status_api;
pub mod supervision;
pub mod take_over;

#[cfg(test)]
mod fake_server;
