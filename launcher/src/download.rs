//! Downloading a package: into `data/download-<sha256>.part`, which outlives a break of the
//! connection and the launcher itself, and is verified before anybody uses it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, IsTerminal, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use journeyman_host::{connection::Connection, durable, workdir::WorkDir};
use journeyman_protocol::release::{Component, ComponentRelease, Manifest, UpgradeState};
use reqwest::{
    Response, StatusCode,
    header::{ACCEPT_ENCODING, CONTENT_RANGE, RANGE},
};
use thiserror::Error;
use tokio::{task::spawn_blocking, time::timeout};
use tracing::{info, warn};

use crate::{
    digest,
    keys::{KeyError, Keys, Verified},
    package,
    space::{self, SpaceError},
};

/// No package is larger, whatever a server announces. Bytes.
const LARGEST: u64 = 1024 * 1024 * 1024;
/// A server that sends nothing for so long has stalled.
const STALLED: Duration = Duration::from_secs(30);
/// Refused downloads that are kept to be looked at.
const REFUSED_KEPT: usize = 3;
/// Digits of a SHA-256.
const DIGITS: usize = 64;

/// A package could not be downloaded.
#[derive(Debug, Error)]
pub(crate) enum DownloadError {
    /// The connection failed or broke; says why.
    #[error(
        "downloading the {what} from {url} stopped after {got} of {size} bytes: {reason}; the next \
         attempt goes on from there"
    )]
    Broken {
        what: String,
        url: String,
        got: u64,
        size: u64,
        reason: String,
    },
    /// Not the answer of a server that has the package.
    #[error(
        "{url} answered {status} instead of the {what}; if that stays so, offer the release on the \
         server anew"
    )]
    Status {
        what: String,
        url: String,
        status: StatusCode,
    },
    /// Larger than anything we would install.
    #[error("the {what} is said to have {size} bytes, and no package may have more than {LARGEST}")]
    TooLarge { what: String, size: u64 },
    /// What is announced as its checksum is none.
    #[error("the {what} is offered without a SHA-256 in lower-case hex, but with {sha256:?}")]
    NoChecksum { what: String, sha256: String },
    /// Not signed by whom this machine trusts.
    #[error("the {what} is refused: {source}")]
    Untrusted {
        what: String,
        #[source]
        source: KeyError,
    },
    /// Not the bytes the server announced.
    #[error(
        "the downloaded {what} is not what the server announced ({reason}); it was refused and kept \
         as {}, and the next attempt starts afresh", kept.display()
    )]
    Refused {
        what: String,
        reason: String,
        kept: PathBuf,
    },
    /// The disk has no room for it.
    #[error("the {what} is not downloaded: {source}")]
    Space {
        what: String,
        #[source]
        source: SpaceError,
    },
    /// It could not be stored.
    #[error("cannot store the downloaded {what} as {}: {source}", path.display())]
    Store {
        what: String,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// A verified package on the disk, where it stays until it is installed: a launcher that is killed
/// before that finds it again.
#[derive(Debug)]
pub(crate) struct Downloaded {
    path: PathBuf,
    keys: Keys,
    verified: Verified,
}

/// Downloads a package, or what is missing of it, and verifies its signature, size and checksum.
pub(crate) async fn download(
    connection: &Connection,
    workdir: &WorkDir,
    offered: &ComponentRelease,
    on_step: &dyn Fn(UpgradeState),
) -> Result<Downloaded, DownloadError> {
    let component = offered.manifest.component;
    let package = &offered.package;
    let what = format!("{} {}", component.as_str(), offered.build());
    on_step(UpgradeState::Downloading);
    check_announced(&what, offered)?;
    // The signature is of the checksum: there is no need to download what would be refused.
    let keys = Keys::of(workdir);
    let verified = keys.verify(package).map_err(|source| {
        on_step(UpgradeState::Verifying);
        DownloadError::Untrusted {
            what: what.clone(),
            source,
        }
    })?;
    let mut part = Part::open(workdir, what.clone(), offered)?;
    if part.have < part.size {
        let missing = part.size - part.have;
        let bytes = missing.saturating_add(package::content(&offered.manifest));
        space::ensure("download and unpack it", &workdir.data(), bytes)
            .map_err(|source| DownloadError::Space { what, source })?;
        let bar = progress(&part);
        let received = part.receive(connection, &package.url, &bar).await;
        bar.finish_and_clear();
        received?;
    }
    on_step(UpgradeState::Verifying);
    let path = part.verify(workdir, component, &package.sha256).await?;
    Ok(Downloaded {
        path,
        keys,
        verified,
    })
}

/// Puts a file that failed verification where it can be looked at and never be started.
pub(crate) fn refuse(workdir: &WorkDir, component: Component, file: &Path) -> PathBuf {
    let folder = workdir.refused();
    let place = |number: usize| folder.join(format!("{}.{number}", component.as_str()));
    let moved = fs::create_dir_all(&folder).and_then(|()| {
        for number in (0..REFUSED_KEPT - 1).rev() {
            // One that is not there leaves a gap, no more.
            let _ = fs::rename(place(number), place(number + 1));
        }
        fs::rename(file, place(0))
    });
    if let Err(error) = moved {
        warn!(%error, "cannot keep the refused download; it is deleted");
        let _ = fs::remove_file(file);
    }
    place(0)
}

fn check_announced(what: &str, offered: &ComponentRelease) -> Result<(), DownloadError> {
    let what = what.to_owned();
    let (size, sha256) = (offered.package.size, &offered.package.sha256);
    if size > LARGEST {
        return Err(DownloadError::TooLarge { what, size });
    }
    // It becomes the name of a file.
    let digits = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if sha256.len() != DIGITS || !sha256.bytes().all(digits) {
        let sha256 = sha256.chars().take(DIGITS).collect();
        return Err(DownloadError::NoChecksum { what, sha256 });
    }
    Ok(())
}

/// A bar on a terminal; a line in the log otherwise.
fn progress(part: &Part) -> ProgressBar {
    let Part {
        what, size, have, ..
    } = part;
    info!(what, bytes = size, from = have, "downloading");
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(*size).with_position(*have);
    let style = "{msg} [{bar:40}] {bytes} of {total_bytes}, {bytes_per_sec}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.with_message(format!("downloading the {what}"))
}

/// A download under way.
struct Part {
    what: String,
    path: PathBuf,
    file: File,
    have: u64,
    size: u64,
}

// === impl Downloaded ===

impl Downloaded {
    /// The package.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// To be called once it is unpacked, which has proved that this manifest is the package's own:
    /// stores which keys it retires, and deletes it.
    pub(crate) fn installed(self, manifest: &Manifest) {
        self.keys.retire(manifest, &self.verified);
        if let Err(error) = durable::remove(&self.path) {
            warn!(%error, "a package that is installed stays until the next download");
        }
    }
}

// === impl Part ===

impl Part {
    /// What there is of this package. Parts of others are removed: nobody wants them any more.
    fn open(
        workdir: &WorkDir,
        what: String,
        offered: &ComponentRelease,
    ) -> Result<Self, DownloadError> {
        let name = format!("download-{}.part", offered.package.sha256);
        for entry in fs::read_dir(workdir.data()).into_iter().flatten().flatten() {
            let other = entry.file_name();
            let other = other.to_string_lossy();
            if other.starts_with("download-") && other.ends_with(".part") && other != name {
                let _ = fs::remove_file(entry.path());
            }
        }
        let path = workdir.data().join(name);
        let opened = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .and_then(|file| Ok((file.metadata()?.len(), file)));
        let (have, file) = match opened {
            Ok(opened) => opened,
            Err(source) => return Err(DownloadError::Store { what, path, source }),
        };
        let size = offered.package.size;
        let mut part = Self {
            what,
            path,
            file,
            have,
            size,
        };
        if have > size {
            part.start_over()?;
        }
        Ok(part)
    }

    async fn receive(
        &mut self,
        connection: &Connection,
        url: &str,
        bar: &ProgressBar,
    ) -> Result<(), DownloadError> {
        let url = connection.url(url);
        let answer = self.ask(connection, &url).await?;
        bar.set_position(self.have);
        let mut body = answer.bytes_stream();
        while self.have <= self.size {
            let chunk = match timeout(STALLED, body.next()).await {
                Ok(Some(Ok(chunk))) => chunk,
                Ok(Some(Err(error))) => return Err(self.broken(&url, error.to_string())),
                Ok(None) if self.have < self.size => {
                    return Err(self.broken(&url, "the answer ended there".to_owned()));
                }
                Ok(None) => return Ok(()),
                Err(_) => return Err(self.broken(&url, stalled())),
            };
            // One byte too many is enough to know that it is not what was announced.
            let room = (self.size - self.have).saturating_add(1);
            let room = usize::try_from(room).unwrap_or(usize::MAX);
            self.append(chunk.get(..room).unwrap_or(&chunk))?;
            bar.set_position(self.have);
        }
        Ok(())
    }

    /// Asks for what is missing. A server that sends all of it, or knows of no such rest, makes the
    /// download start over.
    async fn ask(&mut self, connection: &Connection, url: &str) -> Result<Response, DownloadError> {
        loop {
            let mut request = connection
                .client()
                .get(url)
                .header(ACCEPT_ENCODING, "identity");
            if self.have > 0 {
                // The URL is that of one checksum, so what it leads to never changes.
                request = request.header(RANGE, format!("bytes={}-", self.have));
            }
            let answer = match timeout(STALLED, request.send()).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(error)) => {
                    return Err(self.broken(url, connection.explain(&error).await));
                }
                Err(_) => return Err(self.broken(url, stalled())),
            };
            match answer.status() {
                StatusCode::OK => {
                    self.start_over()?;
                    return Ok(answer);
                }
                StatusCode::PARTIAL_CONTENT if self.have > 0 && self.is_next(&answer) => {
                    return Ok(answer);
                }
                StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE
                    if self.have > 0 =>
                {
                    warn!(
                        what = self.what,
                        "the server has no such rest of it; starting over"
                    );
                    self.start_over()?;
                }
                status => {
                    return Err(DownloadError::Status {
                        what: self.what.clone(),
                        url: url.to_owned(),
                        status,
                    });
                }
            }
        }
    }

    /// Whether an answer goes on where this part ends, in a file of the size that was announced.
    fn is_next(&self, answer: &Response) -> bool {
        let expected = format!("bytes {}-{}/{}", self.have, self.size - 1, self.size);
        let range = answer.headers().get(CONTENT_RANGE);
        range.is_some_and(|range| range.as_bytes() == expected.as_bytes())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), DownloadError> {
        if let Err(source) = self.file.write_all(bytes) {
            if is_full(&source) {
                // A running job needs the room more.
                let _ = fs::remove_file(&self.path);
            }
            return Err(self.not_stored(source));
        }
        self.have += bytes.len() as u64;
        Ok(())
    }

    fn start_over(&mut self) -> Result<(), DownloadError> {
        if self.have > 0 {
            self.file
                .set_len(0)
                .map_err(|error| self.not_stored(error))?;
            self.have = 0;
        }
        Ok(())
    }

    /// Compares size and checksum of all of it, whichever launcher downloaded which part.
    async fn verify(
        self,
        workdir: &WorkDir,
        component: Component,
        sha256: &str,
    ) -> Result<PathBuf, DownloadError> {
        let reason = if self.have == self.size {
            let path = self.path.clone();
            let read = spawn_blocking(move || digest::of_file(&path)).await;
            let got = read
                .unwrap_or_else(|error| Err(io::Error::other(error)))
                .map_err(|error| self.not_stored(error))?;
            (got != sha256).then(|| format!("SHA-256 {got} instead of {sha256}"))
        } else {
            Some(format!("more than {} bytes", self.size))
        };
        if let Some(reason) = reason {
            let kept = refuse(workdir, component, &self.path);
            let what = self.what;
            return Err(DownloadError::Refused { what, reason, kept });
        }
        info!(
            what = self.what,
            bytes = self.size,
            "downloaded and verified"
        );
        Ok(self.path)
    }

    fn broken(&self, url: &str, reason: String) -> DownloadError {
        DownloadError::Broken {
            what: self.what.clone(),
            url: url.to_owned(),
            got: self.have,
            size: self.size,
            reason,
        }
    }

    fn not_stored(&self, source: io::Error) -> DownloadError {
        DownloadError::Store {
            what: self.what.clone(),
            path: self.path.clone(),
            source,
        }
    }
}

fn stalled() -> String {
    format!("nothing came for {} s", STALLED.as_secs())
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

#[cfg(test)]
mod tests;
