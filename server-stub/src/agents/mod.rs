//! The registry of agents.
