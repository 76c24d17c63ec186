//! Pipelines: their definitions, read from `*.gocd.yaml` files in git repositories.

pub mod cipher;
pub mod cron;
pub mod definition;
pub mod filter;
pub mod git;
pub mod label;
pub mod location;
pub mod names;
pub mod outline;
pub mod reader;
pub mod repositories;
mod seal;
pub mod store;
pub mod watch;
pub mod yaml;
