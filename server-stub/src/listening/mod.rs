//! Listening on HTTP and HTTPS, and serving connections until the server stops.

mod bind;
mod connection;
mod peer;

pub use bind::{BindError, bind};
pub use connection::{HANDSHAKE_TIMEOUT, Listener, STOP_GRACE, serve};
pub use peer::Peer;
