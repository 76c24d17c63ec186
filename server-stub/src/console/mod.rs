//! Consoles of jobs: one file for each job, whose length is how much of the console there is.

mod follow;
mod http;
mod index;
mod read;
mod sections;
mod store;

pub use follow::Follower;
pub use http::{get, put};
pub use index::Outline;
pub use read::{Found, ShownLine};
pub use sections::{Outcome, Section, SectionKind};
pub use store::{AppendError, Console, Consoles};

/// The names of the file among a job's files, as segments.
pub const CONSOLE: [&str; 2] = ["cruise-output", "console.log"];

/// Consoles are served at the paths of artifacts: see [`artifacts::router`](crate::artifacts::router).
pub fn is_console(path: &[String]) -> bool {
    path.iter().map(String::as_str).eq(CONSOLE)
}
