//! `pipeline/counter/stage/counter`: a run of a stage, and the revision of a dependency.

use std::fmt;

/// A run of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageLocator {
    pub pipeline: String,
    pub counter: i64,
    pub stage: String,
    pub stage_counter: i64,
}

impl StageLocator {
    /// Takes a text apart; none when it is another kind of revision.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let locator = Self {
            pipeline: parts.next()?.to_owned(),
            counter: parts.next()?.parse().ok()?,
            stage: parts.next()?.to_owned(),
            stage_counter: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(locator)
    }
}

impl fmt::Display for StageLocator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            pipeline,
            counter,
            stage,
            stage_counter,
        } = self;
        write!(formatter, "{pipeline}/{counter}/{stage}/{stage_counter}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_four_parts_are_a_locator() {
        let found = StageLocator::parse("lib/8/compile/1").unwrap();
        assert_eq!((found.counter, found.stage_counter), (8, 1));
        assert_eq!(found.to_string(), "lib/8/compile/1");
        for text in [
            "",
            "4b825dc",
            "lib/8/compile",
            "lib/x/compile/1",
            "a/1/b/2/c",
        ] {
            assert_eq!(StageLocator::parse(text), None, "{text}");
        }
    }
}
