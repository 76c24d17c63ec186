//! Finding a job by the path that agents and people use for its files, and keeping writers of one
//! job's files apart.

mod locate;
mod locks;
mod stage_locator;

pub use locate::{LocatedJob, Locator, LocatorError, locate};
pub use locks::JobLocks;
pub use stage_locator::StageLocator;
