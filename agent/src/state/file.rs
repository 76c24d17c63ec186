//! The files, one per format.

use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use journeyman_host::{
    durable::{self, FileError},
    identity,
    workdir::WorkDir,
};
use journeyman_protocol::secret::Secret;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::ReleaseName;

/// The newest format, which this release writes.
pub const FORMAT: u32 = 2;

/// What an agent keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentState {
    /// By which the server tells two agents with one GUID apart.
    pub cookie: Option<Secret>,
}

/// Where a state is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Format 1: the file.
    Cookie(PathBuf),
    /// Format 2: the release's folder.
    Release(PathBuf),
}

/// A state that is there and cannot be used.
#[derive(Debug, Error)]
pub enum StateError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(
        "the state {} has the format {format}, and this release knows none after {FORMAT}",
        path.display()
    )]
    Newer { path: PathBuf, format: u64 },
    #[error("the state {} is corrupt: {reason}", path.display())]
    Corrupt { path: PathBuf, reason: String },
}

/// What every format from the second on has.
#[derive(Deserialize)]
struct Head {
    format: u64,
}

#[derive(Serialize, Deserialize)]
struct Format2 {
    format: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cookie: Option<Secret>,
}

// === impl Place ===

impl Place {
    /// Where the agent of this release keeps its state; one that is started by hand keeps it where
    /// the oldest releases do.
    pub fn of(workdir: &WorkDir, release: Option<&ReleaseName>) -> Self {
        match release {
            Some(release) => Self::Release(workdir.state().join(release.as_str())),
            None => Self::Cookie(workdir.cookie()),
        }
    }

    /// The file of the state.
    pub fn file(&self) -> PathBuf {
        match self {
            Self::Cookie(file) => file.clone(),
            Self::Release(folder) => folder.join("state.json"),
        }
    }

    /// The state, if there is one. Changes nothing.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn read(&self) -> Result<Option<AgentState>, StateError> {
        let path = self.file();
        let Some(content) = durable::read_tolerant(&path)? else {
            return Ok(None);
        };
        let cookie = match self {
            Self::Cookie(_) => Some(Secret::from(String::from_utf8_lossy(&content).trim())),
            Self::Release(_) => cookie_in(&content, &path)?,
        };
        match cookie {
            Some(cookie) if !identity::is_plausible_secret(cookie.expose()) => {
                Err(corrupt(&path, "its cookie is no text of one word"))
            }
            cookie => Ok(Some(AgentState { cookie })),
        }
    }

    /// The state for the agent it belongs to. One that cannot be read is set aside, and a new one
    /// begins.
    ///
    /// # Errors
    /// The disk cannot be read, or the file not be renamed.
    pub fn load(&self) -> Result<AgentState, FileError> {
        if let Self::Release(folder) = self {
            durable::remove_leftovers(folder);
        }
        match self.read() {
            Ok(state) => Ok(state.unwrap_or_default()),
            Err(StateError::File(error)) => Err(error),
            Err(error) => {
                let aside = durable::set_aside(&self.file())?;
                tracing::warn!(
                    %error,
                    kept_as = %aside.display(),
                    "The agent's state cannot be read; going on without"
                );
                Ok(AgentState::default())
            }
        }
    }

    /// Keeps the state: after a crash at any instant the old one or this one is there.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, state: &AgentState) -> Result<(), FileError> {
        match (self, &state.cookie) {
            (Self::Cookie(file), Some(cookie)) => {
                durable::write_secret(file, cookie.expose().as_bytes())
            }
            (Self::Cookie(file), None) => durable::remove(file),
            (Self::Release(folder), cookie) => {
                make(folder)?;
                let file = self.file();
                let content = serde_json::to_vec(&Format2 {
                    format: FORMAT,
                    cookie: cookie.clone(),
                })
                .map_err(|error| FileError::new("write", &file, io::Error::other(error)))?;
                durable::write_secret(&file, &content)
            }
        }
    }
}

fn cookie_in(content: &[u8], path: &Path) -> Result<Option<Secret>, StateError> {
    // Without the error's own text, which may quote a secret.
    let unreadable = |error: serde_json::Error| {
        let (line, column) = (error.line(), error.column());
        corrupt(path, &format!("it breaks at line {line}, column {column}"))
    };
    let head: Head = serde_json::from_slice(content).map_err(unreadable)?;
    match head.format {
        2 => {
            let state: Format2 = serde_json::from_slice(content).map_err(unreadable)?;
            Ok(state.cookie)
        }
        format if format > u64::from(FORMAT) => Err(StateError::Newer {
            path: path.to_owned(),
            format,
        }),
        format => Err(corrupt(
            path,
            &format!("no release wrote a format {format}"),
        )),
    }
}

fn corrupt(path: &Path, reason: &str) -> StateError {
    StateError::Corrupt {
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}

/// Makes the folder of a release's state, and makes it last; there is no more to do if it is there.
fn make(folder: &Path) -> Result<(), FileError> {
    if folder.is_dir() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|source| FileError::new("create", folder, source))?;
    // `state/`, and the working directory, where it may be new itself.
    for parent in folder.ancestors().skip(1).take(2) {
        durable::sync_folder(parent)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn places() -> (tempfile::TempDir, [Place; 2]) {
        let folder = tempfile::tempdir().unwrap();
        let workdir = WorkDir::new(folder.path());
        workdir.prepare().unwrap();
        let name = "1-a".parse().unwrap();
        let places = [Place::of(&workdir, None), Place::of(&workdir, Some(&name))];
        (folder, places)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_saved_is_loaded_and_hidden_from_others() {
        let (_folder, places) = places();
        for place in &places {
            assert_eq!(place.read().unwrap(), None);
            assert_eq!(place.load().unwrap(), AgentState::default());
            let state = AgentState {
                cookie: Some("c0".into()),
            };
            place.save(&state).unwrap();
            assert_eq!(place.load().unwrap(), state);
            assert_eq!(mode(&place.file()), 0o600);
            place.save(&AgentState::default()).unwrap();
            assert_eq!(place.load().unwrap(), AgentState::default());
        }
        let Place::Release(folder) = &places[1] else {
            panic!("{places:?}");
        };
        assert_eq!(mode(folder), 0o700);
        assert_eq!(mode(folder.parent().unwrap()), 0o700);
        assert_eq!(
            fs::read_to_string(places[1].file()).unwrap(),
            r#"{"format":2}"#
        );
    }

    #[test]
    fn a_corrupt_state_is_set_aside() {
        let (_folder, [cookie, release]) = places();
        release.save(&AgentState::default()).unwrap();
        let cases = [
            (&cookie, &b"\x00\xff"[..]),
            (&cookie, b"two words"),
            (&release, b""),
            (&release, b"{\"format\":2,\"cook"),
            (&release, b"{\"format\":2,\"cookie\":\"two words\"}"),
            (&release, b"{\"format\":2,\"cookie\":7}"),
            (&release, b"{\"format\":0}"),
            (&release, b"{\"format\":3,\"cookie\":[]}"),
        ];
        for (place, content) in cases {
            fs::write(place.file(), content).unwrap();
            assert_eq!(place.load().unwrap(), AgentState::default());
            let mut aside = place.file().into_os_string();
            aside.push(".corrupt");
            assert_eq!(fs::read(aside).unwrap(), content);
            assert!(!place.file().exists());
        }
    }

    #[test]
    fn members_of_later_releases_are_skipped_and_later_formats_told_apart() {
        let (_folder, [_, release]) = places();
        release.save(&AgentState::default()).unwrap();
        fs::write(release.file(), r#"{"format":2,"cookie":"c","more":1}"#).unwrap();
        let cookie = release.read().unwrap().unwrap().cookie.unwrap();
        assert_eq!(cookie.expose(), "c");
        fs::write(release.file(), r#"{"format":3,"cookie":["c"]}"#).unwrap();
        let error = release.read().unwrap_err();
        assert!(
            matches!(error, StateError::Newer { format: 3, .. }),
            "{error}"
        );
        assert!(release.file().exists());
    }
}
