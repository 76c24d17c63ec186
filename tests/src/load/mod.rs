//! A load generator that speaks the agents' protocol: any number of simulated agents in one
//! process, each with connections of its own as a real agent has them. They register, ping, ask for
//! work and run what they get as jobs that do nothing, but report and write all that a job does.
//!
//! It is light, because it shares the machine with the server that it loads.

mod agent;
mod connection;
mod fleet;
mod meter;
mod nginx;

pub use agent::Agent;
pub use connection::{Answer, Body, Connection, Target, bytes, streamed};
pub use fleet::{Counts, Fleet, Polling};
pub use meter::Meter;
pub use nginx::Nginx;
