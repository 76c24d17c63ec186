//! End-to-end tests: the real programs, with real processes, sockets and git.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

mod artifacts;
#[cfg(target_arch = "x86_64")]
mod backups;
mod bad_input;
mod cancel;
mod clients;
mod console;
mod control;
mod git;
mod gocd_server;
mod kill_nine;
mod people;
mod releases;
mod secrets;
mod shortage;
mod sign_in;
mod stop;
mod triggers;
mod trust;
mod upgrade;
mod whole_run;
