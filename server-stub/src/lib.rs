//! Journeyman's job server: enough of GoCD's server to run real pipelines on one machine.
//!
//! Everything is under `/go`, as in GoCD. A folder is a capability:
//!
//! - for agents: [`registration`], [`remoting`], [`console`], [`artifacts`], [`releases`], with
//!   [`agents`] as their registry and [`trust`] for certificates;
//! - for work: [`pipelines`] (definitions out of git), [`scheduling`] (trigger, assignment, results);
//! - for people: [`users`] (login, roles, audit log), [`api`] (REST), [`pages`] (HTML), [`cli`] (the other subcommands).
//!
//! State lives in the database and the blob folder; [`App`] holds only handles to them and what
//! wakes waiting requests.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod agents;
pub mod answer;
pub mod api;
pub mod app;
pub mod artifacts;
pub mod backup;
pub mod body_limit;
pub mod cctray;
pub mod cli;
pub mod clock;
pub mod compare;
pub mod configuration;
pub mod console;
pub mod dashboard;
pub mod database;
pub mod download;
pub mod durable;
pub mod health;
pub mod hex;
pub mod history;
pub mod jobs;
pub mod listening;
pub mod log;
pub mod maintenance;
pub mod materials;
pub mod metrics;
pub mod pages;
pub mod pipelines;
pub mod registration;
pub mod releases;
pub mod remoting;
pub mod retention;
pub mod router;
pub mod scheduling;
pub mod serve;
pub mod space;
pub mod start;
pub mod test_results;
pub mod trust;
pub mod users;
pub mod value_stream;
pub mod webhooks;

pub use app::App;
