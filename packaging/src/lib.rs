//! Builds what a server offers and an operator copies.
//!
//! - the *launcher file*: the launcher's executable with the manifest that a bootstrapper reads;
//! - the *packages* of launcher and agent, which a launcher downloads;
//! - the *bootstrapper file*: the bootstrapper's executable with a launcher file inside.
//!
//! All of it is reproducible: the same executables and the same [`Build`] give the same bytes.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod embedded;
mod package;

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use journeyman_protocol::release::{Component, Manifest};

pub use crate::{
    embedded::{bootstrapper_file, launcher_file},
    package::{entry_points, package},
};

/// The platform this was compiled for, as manifests name it, for example `linux-x86_64`.
pub const PLATFORM: &str = if cfg!(target_arch = "aarch64") {
    "linux-aarch64"
} else {
    "linux-x86_64"
};

/// What sets one build apart from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// Version for people, for example `0.1.0`.
    pub version: String,
    /// Number of the build; of two builds the greater is the newer.
    pub number: u64,
    /// Operating system and processor.
    pub platform: String,
}

impl Build {
    /// Build `number` of this workspace's version, for this platform.
    pub fn new(number: u64) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            number,
            platform: PLATFORM.to_owned(),
        }
    }
}

/// The files [`release`] wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The package of the launcher: goes into a server's folder of releases.
    pub launcher_package: PathBuf,
    /// The package of the agent: goes into a server's folder of releases.
    pub agent_package: PathBuf,
    /// What an operator copies to a build machine.
    pub bootstrapper: PathBuf,
}

/// The manifest and the bytes of a package, for a caller that keeps both.
pub type Packaged = (Manifest, Vec<u8>);

/// A release could not be built.
#[derive(Debug, thiserror::Error)]
pub enum PackagingError {
    /// An executable is missing or cannot be read.
    #[error(
        "cannot read {} to package it (build it first: cargo build --workspace --bins)",
        path.display()
    )]
    Read {
        /// The executable.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The result cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Packages the executables in `bin_dir` into `out`, which is made if it is missing.
///
/// # Errors
/// When an executable is missing or `out` cannot be written; files of an earlier build are then
/// left as they were, or replaced as a whole.
pub fn release(bin_dir: &Path, out: &Path, build: &Build) -> Result<Release, PackagingError> {
    let read = |name: &str| {
        let path = bin_dir.join(name);
        fs::read(&path).map_err(|source| PackagingError::Read { path, source })
    };
    let launcher = launcher_file(&read("journeyman-launcher")?, build);
    let agent = read("journeyman-agent")?;
    let bootstrapper = bootstrapper_file(&read("journeyman-bootstrapper")?, &launcher);

    fs::create_dir_all(out).map_err(|source| PackagingError::Write {
        path: out.to_owned(),
        source,
    })?;
    let release = Release {
        launcher_package: out.join(package_name(Component::Launcher, build)),
        agent_package: out.join(package_name(Component::Agent, build)),
        bootstrapper: out.join("journeyman-bootstrapper"),
    };
    for (component, content, path) in [
        (Component::Launcher, &launcher, &release.launcher_package),
        (Component::Agent, &agent, &release.agent_package),
    ] {
        let (_, bytes) = package(component, content, build);
        write(path, &bytes, 0o644)?;
    }
    write(&release.bootstrapper, &bootstrapper, 0o755)?;
    Ok(release)
}

/// The name a server looks for in its folder of releases.
pub fn package_name(component: Component, build: &Build) -> String {
    format!("{}-{}.tar.zst", component.as_str(), build.platform)
}

/// Writes beside the target and renames, so that a server never reads half a package and an
/// executable that is running is replaced, not changed.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), PackagingError> {
    let part = path.with_extension("part");
    let written = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&part)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| fs::rename(&part, path));
    written.map_err(|source| PackagingError::Write {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_reproducible_and_replaces_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let (bin, out) = (folder.path().join("bin"), folder.path().join("out"));
        fs::create_dir(&bin).unwrap();
        for name in ["launcher", "agent", "bootstrapper"] {
            fs::write(bin.join(format!("journeyman-{name}")), name).unwrap();
        }
        let first = release(&bin, &out, &Build::new(7)).unwrap();
        let bytes = |release: &Release| {
            [
                &release.launcher_package,
                &release.agent_package,
                &release.bootstrapper,
            ]
            .map(|path| fs::read(path).unwrap())
        };
        let before = bytes(&first);
        let second = release(&bin, &out, &Build::new(7)).unwrap();
        assert_eq!(before, bytes(&second));
        assert_ne!(
            before,
            bytes(&release(&bin, &out, &Build::new(8)).unwrap()),
            "the build number is in the manifests"
        );
        assert_eq!(fs::read_dir(&out).unwrap().count(), 3);
    }

    #[test]
    fn a_missing_executable_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = release(folder.path(), folder.path(), &Build::new(0)).unwrap_err();
        assert!(error.to_string().contains("journeyman-launcher"), "{error}");
    }
}
