//! Names of installed releases.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// The most bytes that a folder's name can have.
const LONGEST: usize = 255;

/// Name of a release's folder in `releases/` and in `state/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseName(String);

/// It is no plain name of a folder.
#[derive(Debug, Error)]
#[error(
    "a release is named like its folder in releases/, for example 0.1.0-0123456789ab: without `/`, \
     and without a dot at its beginning"
)]
pub struct BadReleaseName;

impl ReleaseName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ReleaseName {
    type Err = BadReleaseName;

    fn from_str(name: &str) -> Result<Self, BadReleaseName> {
        let is_plain = !name.is_empty()
            && name.len() <= LONGEST
            && !name.starts_with('.')
            && !name.contains(|c: char| c == '/' || c.is_control());
        is_plain
            .then(|| Self(name.to_owned()))
            .ok_or(BadReleaseName)
    }
}

impl fmt::Display for ReleaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_of_folders_are_taken() {
        for good in ["0.1.0-0123456789ab", "a b", "-x"] {
            assert_eq!(good.parse::<ReleaseName>().unwrap().as_str(), good);
        }
        let long = "x".repeat(256);
        for bad in ["", ".", "..", ".x", "a/b", "/a", "a\nb", "a\0b", &long] {
            assert!(bad.parse::<ReleaseName>().is_err(), "{bad:?}");
        }
    }
}
