//! The calls an agent makes to its server about itself: cookie, ping and work; and the
//! [`Session`] that its loops make them in.
//!
//! The calls that belong to a job are made by its runner, in [`crate::job::server`].

mod client;
mod error;
pub(crate) mod refusal;
mod session;

pub use client::{RemotingClient, WorkAnswer};
pub use error::CallError;
pub use session::{Health, Session, usable_space};
