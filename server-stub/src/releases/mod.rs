//! Releases offered to agents.
/// The packages in the releases folder.
pub struct Releases;
