//! The three loops of an agent. Each knows the state machine and the session, none another loop.
//!
//! GoCD: ping, instruction check and work retrieval, with the timings of
//! [`Settings`](crate::settings::Settings).

mod instruction;
mod ping;
mod properties;
mod work;

pub use instruction::{InstructionSlot, pass_instructions_on};
pub use ping::ping;
pub use work::ask_for_work;

#[cfg(test)]
mod tests;
