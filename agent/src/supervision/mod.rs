//! Job runners: starting them, following them, taking over those an earlier agent has left, and
//! burying the dead; and the agent process around that.
//!
//! A job outlives its agent. Nothing here keeps a job alive, and nothing of a job is only in this
//! process: the runner's lock says whether it lives, its socket what it is doing, its journal what
//! it has done.

mod burial;
mod executor;
mod follow;
mod process;
mod reaper;
mod recovery;
mod refusal;
mod reporting;
mod start;

pub use process::{AgentOptions, Ending, StartError, run};

#[cfg(test)]
mod tests;
