//! Consoles of jobs.
/// The consoles that are being written.
pub struct Consoles;
