//! The seven calls of an agent.
