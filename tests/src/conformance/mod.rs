//! Jobs that GoCD's own agent ran, run again with ours, and what came out compared.
//!
//! A folder of cases holds one folder per job: `case.json` says what is there before, what the
//! server answers and which work it hands out; `expected.json` is what was recorded from GoCD's
//! agent: requests, console, uploads, result and files left. [`run_folders`] prepares a sandbox for
//! each case, starts a [recording server](recorder) and the real agent in it, brings what was
//! recorded into the [same form](normalise) and [compares](compare). What is meant to be different
//! is declared in one file, see [`differences`]. `tests/conformance/README.md` describes the format.

mod agent;
mod case;
mod compare;
#[cfg(test)]
mod compare_tests;
mod diff;
mod differences;
mod normalise;
mod order;
mod recorder;
mod recording;
mod report;
mod run;
mod sandbox;
mod upload;

use std::path::PathBuf;

use crate::binaries::repository;

pub use report::{Outcome, Summary};
pub use run::{Options, run_folders};

/// The cases of this repository: GoCD's, and our own where there are any.
pub fn own_folders() -> Vec<PathBuf> {
    let cases = repository().join("tests/conformance");
    let folders = ["gocd", "own"].map(|name| cases.join(name));
    folders
        .into_iter()
        .filter(|folder| folder.is_dir())
        .collect()
}
