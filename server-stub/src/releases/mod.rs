//! Releases: the launcher and the agent that agents should run.

mod package;
mod routes;

pub use package::{PackageError, Releases};
pub use routes::router;
