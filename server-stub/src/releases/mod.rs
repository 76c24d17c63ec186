//! Releases: the versions of launcher and agent that agents should run.
//!
//! [`store`] keeps packages, [`offers`] says what is offered to whom, [`rollout`] computes which
//! machine hears of it and when. A machine says the whole truth about itself in every call
//! ([`machines`]) and hears the whole truth ([`answer`]); [`progress`] is what people see of it.

pub mod answer;
pub mod folder;
pub mod machines;
mod manifest;
pub mod offers;
pub mod progress;
mod report;
pub mod rollout;
mod routes;
pub mod store;
#[cfg(test)]
pub(crate) mod tests;

pub use folder::Folder;
pub use manifest::ManifestError;
pub use routes::router;
pub use store::Releases;
