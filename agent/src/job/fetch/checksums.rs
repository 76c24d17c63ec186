//! Whether what came is what was published.

use std::{
    collections::{HashMap, HashSet},
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
    /// Paths without a checksum, in the order of the zip. GoCD: what Gson makes of the set in
    /// the message keeps the order, and has each path once.
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
        saved: &str,
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
        let mut told = HashSet::new();
        for path in self.unknown.iter().filter(|path| told.insert(*path)) {
            console.line(
                Tag::Err,
                &format!(
                    "[go] [WARN] The md5checksum value of the artifact [{path}] was not found on \
                     the server. Hence, Go could not verify the integrity of its contents."
                ),
            );
        }
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
