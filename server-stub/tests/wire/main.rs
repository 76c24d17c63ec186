//! What the real server says on the wire, asked by plain HTTP as any agent asks.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod agent;
mod artifacts;
mod console;
mod full_disk;
mod pipeline;
mod registration;
mod remoting;
mod serve;
mod server;
mod trust;
