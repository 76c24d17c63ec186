//! Hiding the values of secure variables in what goes to the console.

use std::borrow::Cow;

use aho_corasick::AhoCorasick;

/// What stands in the place of a secret.
const MASK: &str = "******";

/// The secrets of one job, in the order of its variables.
///
/// GoCD: every occurrence of each secret is replaced, one secret after the other on the text that
/// the one before has left; no minimum length, case-sensitive, line by line. Only an empty value
/// is no secret.
#[derive(Clone, Default)]
pub(crate) struct Mask {
    /// Each secret with what stands in its place.
    secrets: Vec<(String, Cow<'static, str>)>,
    /// Tells in one pass whether any secret occurs, which is rare.
    any: Option<AhoCorasick>,
    longest: usize,
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mask({} secrets)", self.secrets.len())
    }
}

impl Mask {
    pub(crate) fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        Self::replacing(secrets.into_iter().map(|secret| (secret, MASK)))
    }

    /// Replaces each text by its own other one, in order.
    pub(crate) fn replacing(
        secrets: impl IntoIterator<Item = (String, impl Into<Cow<'static, str>>)>,
    ) -> Self {
        let mut kept: Vec<(String, Cow<'static, str>)> = Vec::new();
        for (secret, mask) in secrets {
            let pair = (secret, mask.into());
            // The second run of the same replacement finds nothing, unless the asterisks of
            // another one's mask can be part of it: then it must run again to give GoCD's text.
            let repeats = kept.contains(&pair) && !pair.0.contains('*') && pair.1 == MASK;
            if !pair.0.is_empty() && !repeats {
                kept.push(pair);
            }
        }
        let longest = kept
            .iter()
            .map(|(secret, _)| secret.len())
            .max()
            .unwrap_or(0);
        // A text without any secret is left alone by every replacement: the first one changes
        // nothing, so the second one sees the original text, and so on.
        let any = if kept.is_empty() {
            None
        } else {
            AhoCorasick::new(kept.iter().map(|(secret, _)| secret)).ok()
        };
        Self {
            secrets: kept,
            any,
            longest,
        }
    }

    /// Length of the longest secret in bytes, 0 without secrets.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    /// The text with each secret replaced.
    pub(crate) fn apply<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.secrets.is_empty() {
            return Cow::Borrowed(text);
        }
        if let Some(any) = &self.any
            && !any.is_match(text)
        {
            return Cow::Borrowed(text);
        }
        let mut masked = Cow::Borrowed(text);
        for (secret, mask) in &self.secrets {
            if masked.contains(secret.as_str()) {
                masked = Cow::Owned(masked.replace(secret.as_str(), mask));
            }
        }
        masked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mask(secrets: &[&str]) -> Mask {
        Mask::new(secrets.iter().map(|s| (*s).to_owned()))
    }

    #[test]
    fn masks_as_gocd_does() {
        let table: &[(&[&str], &str, &str)] = &[
            (&["s"], "secrets", "******ecret******"),
            (&["i am a secret"], "foo(i am a secret)", "foo(******)"),
            (&[""], "text", "text"),
            (&["abc", "abcdef"], "abcdef", "******def"),
            (&["abcdef", "abc"], "abcdef abc", "****** ******"),
            (&["x", "*"], "x", "************************************"),
            (&["Secret"], "secret", "secret"),
            (&["a\nb"], "a", "a"),
        ];
        for (secrets, input, expected) in table {
            assert_eq!(mask(secrets).apply(input), *expected, "{secrets:?}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", mask(&["hunter2"])), "Mask(1 secrets)");
    }

    proptest! {
        #[test]
        fn same_as_one_replacement_after_the_other(
            secrets in prop::collection::vec("[ab*]{0,3}", 0..5),
            text in "[abc*]{0,12}",
        ) {
            let mut expected = text.clone();
            for secret in &secrets {
                if !secret.is_empty() {
                    expected = expected.replace(secret.as_str(), MASK);
                }
            }
            prop_assert_eq!(Mask::new(secrets).apply(&text).into_owned(), expected);
        }
    }
}
