//! What pipelines are built from, as the server has seen it: git repositories and their commits.
//!
//! A material is known by its fingerprint (address and branch). All pipelines that have it share
//! one look at it and what came of it: the table `modifications`. Nothing is decided here; whoever
//! looks for what to build ([`crate::scheduling`]) reads that table.

mod in_use;
mod poll;
mod store;
mod watch;

pub use in_use::{InUse, Kind, by_address, list};
pub use poll::{PollError, poll};
pub use store::{
    Cursor, File, Files, MODIFICATIONS_OF_A_RUN, Modification, Page, between, files_between, find,
    head, modifications,
};
pub use watch::{Materials, wake, watch};
