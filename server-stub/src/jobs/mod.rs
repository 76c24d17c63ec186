//! Finding a job by the path that agents and people use for its files.

mod locate;

pub use locate::{LocatedJob, Locator, LocatorError, locate};
