//! The registry of agents: who is known, who may work, who is heard from.
//!
//! Config state (what an admin decided) and runtime status (what the agent does, or what its
//! silence means) are two things, as in GoCD; [`ShownStatus`] is the one word people see.

mod admin;
mod contact;
mod record;
mod status;

pub use admin::{
    AdminError, Change, ListChange, NameKind, change, delete, disable, enable, kill_running_tasks,
};
pub use contact::{
    ContactError, Contacts, SWEEP_INTERVAL, heard, instruction, new_cookie, server_started, sweep,
    watch,
};
pub use record::{Agent, AgentRow, ConfigState, ShownStatus, find, insert, list};
pub use status::{mark_building, mark_cancelled, mark_free};

#[cfg(test)]
mod tests;
