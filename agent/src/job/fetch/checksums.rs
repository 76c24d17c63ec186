//! Whether what came is what was published.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufReader},
    path::Path,
};

use java_properties::PropertiesIter;
use journeyman_protocol::console::Tag;
use reqwest::StatusCode;

use super::download::FetchError;
use crate::job::console::Console;

/// The checksums that a fetch is held against, and what that gave so far.
#[derive(Debug, Default)]
pub(super) struct Checksums {
    /// MD5 in hex by path among the artifacts; none when the server has no list.
    known: Option<HashMap<String, String>>,
    /// Paths without a checksum.
    unknown: Vec<String>,
    mismatch: Option<String>,
}

impl Checksums {
    /// Reads the list, if there is one: what is at `path` among the artifacts or below.
    pub(super) fn of(list: &Path, path: &str) -> Result<Self, FetchError> {
        let failed = |source| FetchError::File {
            action: "read the checksums in",
            path: list.to_owned(),
            source,
        };
        let file = match File::open(list) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(failed(error)),
        };
        let path = path.trim_matches('/');
        let mut known = HashMap::new();
        PropertiesIter::new_with_encoding(BufReader::new(file), encoding_rs::UTF_8)
            .read_into(|key, md5| {
                let is_below = |rest: &str| rest.is_empty() || rest.starts_with('/');
                if path.is_empty() || key.strip_prefix(path).is_some_and(is_below) {
                    known.insert(key, md5);
                }
            })
            .map_err(|error| failed(io::Error::other(error)))?;
        Ok(Self {
            known: Some(known),
            ..Self::default()
        })
    }

    /// Forgets what an earlier try gave. GoCD does not, so that nothing can mend a file that was
    /// damaged on its way.
    pub(super) fn start(&mut self) {
        self.unknown.clear();
        self.mismatch = None;
    }

    /// Compares a file that came.
    pub(super) fn check(&mut self, path: &str, md5: &str) {
        let Some(known) = &self.known else { return };
        match known.get(path).map(|known| known.trim()) {
            None | Some("") => self.unknown.push(path.to_owned()),
            Some(known) if known == md5 => {}
            Some(_) => {
                self.mismatch.get_or_insert_with(|| path.to_owned());
            }
        }
    }

    /// Says what became of the whole, in GoCD's words.
    pub(super) fn publish(
        &mut self,
        status: StatusCode,
        saved: &Path,
        console: &Console,
    ) -> Result<(), FetchError> {
        if let Some(path) = self.mismatch.take() {
            console.line(
                Tag::Err,
                &format!(
                    "[go] [ERROR] Verification of the integrity of the artifact [{path}] failed. \
                     The artifact file on the server may have changed since its original upload."
                ),
            );
            return Err(FetchError::Mismatch(path));
        }
        for path in in_order_of_java(&self.unknown) {
            console.line(
                Tag::Err,
                &format!(
                    "[go] [WARN] The md5checksum value of the artifact [{path}] was not found on \
                     the server. Hence, Go could not verify the integrity of its contents."
                ),
            );
        }
        let saved = saved.display();
        match status {
            StatusCode::NOT_MODIFIED => console.line(
                Tag::Out,
                "[go] Artifact is not modified, skipped fetching it",
            ),
            StatusCode::OK if self.known.is_none() || !self.unknown.is_empty() => console.line(
                Tag::Err,
                &format!(
                    "[go] Saved artifact to [{saved}] without verifying the integrity of its \
                     contents."
                ),
            ),
            StatusCode::OK => console.line(
                Tag::Out,
                &format!(
                    "[go] Saved artifact to [{saved}] after verifying the integrity of its \
                     contents."
                ),
            ),
            _ => {}
        }
        Ok(())
    }
}

/// The order in which a Java `HashSet` gives its strings back, which is the one GoCD's lines have.
fn in_order_of_java(paths: &[String]) -> Vec<&str> {
    let mut buckets = 16_u32;
    while paths.len() as u64 * 4 > u64::from(buckets) * 3 {
        buckets *= 2;
    }
    let bucket = |path: &str| {
        let hash = path.encode_utf16().fold(0_u32, |hash, unit| {
            hash.wrapping_mul(31).wrapping_add(u32::from(unit))
        });
        (hash ^ (hash >> 16)) & (buckets - 1)
    };
    let mut ordered: Vec<&str> = paths.iter().map(String::as_str).collect();
    ordered.sort_by_key(|path| bucket(path));
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_come_in_the_order_of_a_java_set() {
        // What `new HashSet<>(List.of(...))` with these, in this order, gave on a JVM.
        let paths: Vec<String> = ["pkg/a.txt", "pkg/sub/b.txt", "pkg/c", "pkg/é"]
            .map(str::to_owned)
            .to_vec();
        assert_eq!(
            in_order_of_java(&paths),
            ["pkg/a.txt", "pkg/é", "pkg/c", "pkg/sub/b.txt"]
        );
        let paths: Vec<String> = (0..30).map(|n| format!("pkg/file{n}")).collect();
        let numbers: Vec<&str> = in_order_of_java(&paths)
            .into_iter()
            .filter_map(|path| path.strip_prefix("pkg/file"))
            .collect();
        assert_eq!(
            numbers.join(" "),
            "1 25 2 26 23 0 24 5 29 6 3 27 4 28 9 7 8 10 11 14 15 12 13 18 19 16 17 21 22 20"
        );
    }
}
