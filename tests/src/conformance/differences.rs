//! What is meant to be different from GoCD's agent.

use super::{case::Case, recording::Recording};

/// The declared differences.
#[derive(Default)]
pub struct Differences {}

impl Differences {
    /// Those that this repository declares.
    ///
    /// # Errors
    /// The file cannot be read or understood.
    pub fn declared() -> Result<Self, String> {
        Ok(Self {})
    }

    /// Changes what was recorded to what is meant; gives the names of the differences that apply.
    pub(super) fn apply(
        &self,
        _case: &Case,
        _expected: &mut Recording,
        _got: &Recording,
    ) -> Vec<String> {
        Vec::new()
    }
}
