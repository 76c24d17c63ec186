//! What an agent must know after a restart and shares with nobody: today its cookie.
//!
//! Each release has its own, so that the release before it finds its state as it left it when an
//! upgrade is taken back. Only the agent of a release writes the state of that release; the only
//! one who reads another's is [`take_over`](crate::take_over), which makes its own out of a copy.
//!
//! | Format | Where | What |
//! |---|---|---|
//! | 1 | `config/cookie` | the cookie as text; of the oldest releases, and of an agent that is started by hand |
//! | 2 | `state/<release>/state.json` | an object with `format` (2) and `cookie`, which may be missing |
//!
//! Identity (GUID, token) and connection are not part of it: all releases share them.

mod file;
mod release_name;

pub use file::{AgentState, FORMAT, Place, StateError};
pub use release_name::{BadReleaseName, ReleaseName};
