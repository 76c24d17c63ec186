//! Signing in with an OpenID Connect provider: the authorization code flow with PKCE.
//!
//! Nothing is stored between the way there and the way back: state, nonce and verifier follow from
//! a secret in a cookie, so that a login that was begun in one browser ends in no other.

mod conversation;
mod failure;
mod flow;
mod person;
mod signature;
mod token;

pub use conversation::Conversation;
pub(super) use flow::{back, begin};
