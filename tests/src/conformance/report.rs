//! What is said about a run, case by case.

use std::fmt::{self, Display, Write};

/// One thing that differs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Finding {
    /// Where in `expected.json`.
    pub(super) section: String,
    /// What is different, in lines.
    pub(super) text: String,
}

/// What came of a case.
pub struct Outcome {
    pub(super) name: String,
    pub(super) findings: Vec<Finding>,
    /// Names of the declared differences that were met.
    pub(super) meant: Vec<String>,
    /// In seconds.
    pub(super) took: f32,
}

/// What came of all cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub passed: usize,
    pub failed: usize,
}

impl Finding {
    pub(super) fn new(section: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            section: section.into(),
            text: text.into(),
        }
    }
}

impl Outcome {
    pub fn passed(&self) -> bool {
        self.findings.is_empty()
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, took, .. } = self;
        if self.passed() {
            write!(f, "ok      {name} ({took:.1} s)")?;
            if !self.meant.is_empty() {
                write!(f, ", meant to differ: {}", self.meant.join(", "))?;
            }
            return Ok(());
        }
        write!(f, "FAILED  {name} ({took:.1} s): - recorded, + this agent")?;
        for Finding { section, text } in &self.findings {
            write!(f, "\n  {section}:\n")?;
            f.write_str(text.trim_end_matches('\n'))?;
        }
        f.write_char('\n')
    }
}

impl Summary {
    /// Counts another case.
    pub fn add(&mut self, outcome: &Outcome) {
        match outcome.passed() {
            true => self.passed += 1,
            false => self.failed += 1,
        }
    }
}

impl Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}
