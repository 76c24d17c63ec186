//! A harness for end-to-end tests: the real programs as real processes, real sockets, real git.
//!
//! A test makes a [`Scene`](scene::Scene) (a temporary folder that knows every process started in
//! it), a [`Server`](server::Server), a [`Repo`](repo::Repo) with a pipeline and one or more
//! [`Chain`](chain::Chain)s (bootstrapper, launcher, agent, job runner). Dropping them stops the
//! processes politely and fails the test if one of them, or anything it started, is left.
//!
//! Nothing here knows how the programs work inside: it sees what an operator sees, which is the
//! REST API, files in the working directory, `/proc` and what is printed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a harness for tests: a panic is how it says that an expectation was not met"
)]

pub mod api;
pub mod binaries;
pub mod browser;
pub mod chain;
pub mod conformance;
pub mod console;
pub mod fake_server;
#[cfg(target_arch = "x86_64")]
pub mod faults;
pub mod gate;
pub mod installed;
pub mod load;
pub mod package;
pub mod patience;
pub mod processes;
pub mod provider;
pub mod releases;
pub mod repo;
pub mod scene;
pub mod server;
pub mod shelf;
