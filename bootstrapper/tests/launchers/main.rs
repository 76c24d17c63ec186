//! The real bootstrapper, as an operator starts it, with launchers that are good and bad.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod faults;
mod going_back;
mod scene;
