//! The job runner: one job from its first report to its last, in a process of its own.
//!
//! The agent starts the runner ([`runner::run`]) with a [`channel::RunnerInput`] on its standard
//! input and talks to it through the socket in the job's folder ([`channel`]). Everything the
//! runner has done is in the [`journal`], everything the job has printed in the [`spool`]: with
//! these two an agent can follow a runner it did not start, and bury one that died: end what is
//! left of its processes ([`leftovers`]), send the rest of the console ([`streaming`]) and report
//! the job.
//!
//! What a job does, and to the letter what it prints, is GoCD's (26.2): server and users must not
//! see a difference. Where a doc comment says "GoCD:" it states such a fact.

pub mod channel;
pub mod folder;
pub mod journal;
pub mod leftovers;
pub mod runner;
pub mod server;
pub mod spool;
pub mod streaming;
pub mod trial;

mod artifacts;
#[cfg(test)]
mod bench;
mod cancelled;
mod console;
mod containment;
mod credentials;
mod environment;
mod fetch;
mod masking;
mod materials;
pub(crate) mod shortage;
mod tasks;

pub use materials::built_in_git;
