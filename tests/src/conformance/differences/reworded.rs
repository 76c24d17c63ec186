//! Words that GoCD's agent has and ours has others for.

use regex::Regex;
use serde::{Deserialize, Deserializer, de::Error};

use super::Pattern;

/// A part of a line with what ours has there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reworded {
    /// Recorded lines like this.
    lines: Pattern,
    #[serde(deserialize_with = "part")]
    recorded: Regex,
    /// May have groups of `recorded` in it, as `${1}`.
    ours: String,
}

impl Reworded {
    /// Whether ours is the recorded line with nothing but these words changed.
    pub(super) fn fits(&self, recorded: &str, ours: &str) -> bool {
        self.lines.is_match(recorded)
            && self.recorded.is_match(recorded)
            && self.recorded.replace_all(recorded, &self.ours) == ours
    }
}

fn part<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Regex, D::Error> {
    let text = String::deserialize(deserializer)?;
    Regex::new(&text).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_else_may_differ() {
        let reworded: Reworded = serde_json::from_value(json!({
            "lines": "pr.*", "recorded": "--old(>?) x", "ours": "--new${1}",
        }))
        .unwrap();
        assert!(reworded.fits("pr <--old> x y", "pr <--new> y"));
        assert!(reworded.fits("pr --old x y", "pr --new y"));
        assert!(!reworded.fits("pr --old x y", "pr --new z"));
        assert!(!reworded.fits("pe --old x y", "pe --new y"));
        assert!(!reworded.fits("pr y", "pr z"));
        assert!(!reworded.fits("pr y", "pr y"));
    }
}
