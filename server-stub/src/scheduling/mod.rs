//! Which job runs where, and what became of it.
