//! People: who they are, what they may do, and what they have done.
//!
//! A person says who they are by a password (Basic, or a form that opens a session), by a provider
//! that vouches for them ([`oidc`]) or by an access token; [`guard`] finds out who that is and whether they may, for every request but those of
//! [`access`] that are open to all, and writes what was changed into the [`audit`] log. What a
//! handler sees of it is the [`Actor`].
//!
//! Agents are no people: what they call has an authentication of its own.

pub mod access;
mod actor;
mod attempts;
pub mod audit;
mod authentication;
pub mod details;
pub(crate) mod forms;
mod guard;
pub(crate) mod identities;
pub(crate) mod known;
pub mod login;
pub mod oidc;
mod open;
mod password_file;
mod passwords;
mod role;
pub(crate) mod secret;
mod sessions;
pub mod store;
#[cfg(test)]
mod tests;
pub mod tokens;

pub use actor::{Actor, Means};
pub use guard::guard;
pub use open::{FIRST_ADMIN, Login, OpenError, Users};
pub use passwords::{Password, PasswordError};
pub use role::{EVERY_GROUP, Grant, Rights, Role, RoleError};

/// What the holder of the command line's token is called. No user may have this name.
pub const LOCAL: &str = "local";

/// Who acts when there is no login. GoCD's name for it. No user may have this name.
pub const NOBODY: &str = "anonymous";
