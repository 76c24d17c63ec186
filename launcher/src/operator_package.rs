//! The agent's package that an operator put into the working directory: for servers that offer none,
//! such as GoCD's.

use std::{fs, path::PathBuf};

use journeyman_host::workdir::WorkDir;
use journeyman_protocol::release::{ComponentRelease, PackageRef, Signatures};
use tracing::warn;

use crate::{digest, offer::OWN_PLATFORM, package};

/// The package `agent-<platform>.tar.zst`, with the signatures of the file `.sig` beside it; none
/// without a readable one.
pub(crate) fn find(workdir: &WorkDir) -> Option<(ComponentRelease, PathBuf)> {
    let path = workdir.root().join(format!("agent-{OWN_PLATFORM}.tar.zst"));
    let size = fs::metadata(&path).ok()?.len();
    let read = package::peek(&path).and_then(|manifest| Ok((manifest, digest::of_file(&path)?)));
    let (manifest, sha256) = match read {
        Ok(read) => read,
        Err(error) => {
            warn!(path = %path.display(), %error, "the package in the working directory cannot be read");
            return None;
        }
    };
    let package = PackageRef {
        url: String::new(),
        size,
        sha256,
        signatures: signatures(&path.with_added_extension("sig")),
    };
    Some((ComponentRelease { manifest, package }, path))
}

fn signatures(path: &std::path::Path) -> Vec<journeyman_protocol::release::Signature> {
    let Ok(bytes) = fs::read(path) else {
        return Vec::new();
    };
    match serde_json::from_slice::<Signatures>(&bytes) {
        Ok(file) => file.signatures,
        Err(error) => {
            warn!(path = %path.display(), %error, "the signatures of the package cannot be read");
            Vec::new()
        }
    }
}
