//! Certificates: the server's own authority, its certificate, and those of its agents.
//!
//! The authority is made at the first start and signs everything else. An agent's key never comes
//! here: it sends a signing request, and gets a certificate for its uuid and nothing else.

mod authority;
mod issue;
mod tls;

pub use authority::{Trust, TrustError};
pub use issue::{Issued, RequestError};
pub use tls::{acceptor, common_name};

#[cfg(test)]
mod tests;
