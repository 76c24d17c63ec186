//! How an agent becomes known.
