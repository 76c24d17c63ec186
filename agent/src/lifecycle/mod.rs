//! What the agent is doing: one state machine, told of everything that happens.
//!
//! [`State::step`] is the only place where a state becomes another one. It does no I/O: what has
//! to be done is returned as [`Effect`]s. [`Lifecycle`] holds the current state, lets the loops
//! watch it, and hands the effects to whoever carries them out.
//!
//! ```text
//! Unregistered -> Pending -> Registered -> Idle <-> Disabled
//!                                           |
//!              Preparing -> Building -> Completing -> (Idle)
//!                   \__________\____________\____-> Cancelled -> (Idle)
//! any -> Stopping -> Stopped
//! ```

mod event;
mod handle;
mod state;
mod step;

pub use event::{Effect, Event};
pub use handle::Lifecycle;
pub use state::{Remaining, Run, State};
pub use step::{IllegalTransition, Step};
