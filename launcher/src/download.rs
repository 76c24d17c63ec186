//! Downloading a package: to a temporary file, verified before anybody uses it.

use std::{
    fs,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use journeyman_host::{connection::Connection, durable, workdir::WorkDir};
use journeyman_protocol::release::{Component, PackageRef};
use reqwest::StatusCode;
use tempfile::TempPath;
use thiserror::Error;
use tracing::{info, warn};

use crate::digest::Hashing;

/// No package is larger, whatever a server announces. Bytes.
const LARGEST: u64 = 1024 * 1024 * 1024;
/// A server that sends nothing for so long has stalled.
const STALLED: Duration = Duration::from_secs(30);
/// Refused downloads that are kept to be looked at.
const REFUSED_KEPT: usize = 3;

/// A package could not be downloaded. Trying again may help.
#[derive(Debug, Error)]
pub(crate) enum DownloadError {
    /// The connection failed or broke; says why.
    #[error("downloading the {component} stopped after {got} of {size} bytes: {reason}", component = component.as_str())]
    Broken {
        component: Component,
        got: u64,
        size: u64,
        reason: String,
    },
    /// Not the answer of a server that has the package.
    #[error("{url} answered {status} instead of the {component}", component = component.as_str())]
    Status {
        component: Component,
        url: String,
        status: StatusCode,
    },
    /// Larger than anything we would install.
    #[error("the {component} is said to have {size} bytes, and no package may have more than {LARGEST}", component = component.as_str())]
    TooLarge { component: Component, size: u64 },
    /// Not the bytes the server announced.
    #[error(
        "the downloaded {component} is not what the server announced ({reason}); it was refused and kept as {}",
        kept.display(), component = component.as_str()
    )]
    Refused {
        component: Component,
        reason: String,
        kept: PathBuf,
    },
    /// It could not be stored.
    #[error("cannot store the downloaded {component} in {}: {source}; the disk may be full", folder.display(), component = component.as_str())]
    Store {
        component: Component,
        folder: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Downloads a package and verifies its size and checksum. The file goes when it is dropped.
pub(crate) async fn download(
    connection: &Connection,
    workdir: &WorkDir,
    component: Component,
    package: &PackageRef,
) -> Result<TempPath, DownloadError> {
    let size = package.size;
    if size > LARGEST {
        return Err(DownloadError::TooLarge { component, size });
    }
    let url = connection.url(&package.url);
    let broken = |got, reason| DownloadError::Broken {
        component,
        got,
        size,
        reason,
    };
    let answer = match connection.client().get(&url).send().await {
        Ok(answer) if answer.status() == StatusCode::OK => answer,
        Ok(answer) => {
            return Err(DownloadError::Status {
                component,
                status: answer.status(),
                url,
            });
        }
        Err(error) => return Err(broken(0, connection.explain(&error).await)),
    };
    let store = |source| DownloadError::Store {
        component,
        folder: workdir.data(),
        source,
    };
    let file = durable::temporary_file(&workdir.data()).map_err(store)?;
    let mut hashing = Hashing::new(file.as_file());
    let bar = progress(component, size);
    let mut body = answer.bytes_stream();
    loop {
        let chunk = match tokio::time::timeout(STALLED, body.next()).await {
            Ok(Some(Ok(chunk))) => chunk,
            Ok(Some(Err(error))) => return Err(broken(hashing.size(), error.to_string())),
            Ok(None) => break,
            Err(_) => {
                let reason = format!("nothing came for {} s", STALLED.as_secs());
                return Err(broken(hashing.size(), reason));
            }
        };
        // One byte too many is enough to know that it is not what was announced.
        let room = size.saturating_sub(hashing.size()).saturating_add(1);
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let part = chunk.get(..room).unwrap_or(&chunk);
        hashing.write_all(part).map_err(store)?;
        bar.inc(part.len() as u64);
        if hashing.size() > size {
            break;
        }
    }
    bar.finish_and_clear();
    let got = hashing.finish();
    let reason = if got.size != size {
        Some(format!("{} bytes instead of {size}", got.size))
    } else if got.sha256 != package.sha256 {
        Some(format!(
            "SHA-256 {} instead of {}",
            got.sha256, package.sha256
        ))
    } else {
        None
    };
    if let Some(reason) = reason {
        return Err(DownloadError::Refused {
            component,
            reason,
            kept: refuse(workdir, component, file.path()),
        });
    }
    file.as_file().sync_all().map_err(store)?;
    info!(
        component = component.as_str(),
        bytes = size,
        "downloaded and verified"
    );
    Ok(file.into_temp_path())
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
    }
    place(0)
}

/// A bar on a terminal; a line in the log otherwise.
fn progress(component: Component, size: u64) -> ProgressBar {
    info!(component = component.as_str(), bytes = size, "downloading");
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(size);
    let style = "{msg} [{bar:40}] {bytes} of {total_bytes}, {bytes_per_sec}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.with_message(format!("downloading the {}", component.as_str()))
}
