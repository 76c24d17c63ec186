//! The launcher's real executable against servers that do as they are told.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod fetching;
mod installing;
mod request;
mod upgrading;
