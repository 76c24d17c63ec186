//! What every process on a build machine shares: the layout of the working directory, identity
//! files, locks, crash-safe writes, connection arguments, the HTTP client with its trust, logs.
//!
//! The state here is files; every function takes the [`workdir::WorkDir`] or path it works on.
//! Nothing here knows what a launcher or an agent does with it.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod arguments;
pub mod autoregister;
pub mod certificate;
pub mod connection;
pub mod durable;
pub mod identity;
pub mod lifeline;
pub mod lock;
pub mod logging;
pub mod machine;
pub mod memory;
pub mod properties;
pub mod trust;
pub mod workdir;

mod system_roots;
