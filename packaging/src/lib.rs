//! Builds what a server offers and an operator copies.
//!
//! - the *launcher file*: the launcher's executable with the manifest that a bootstrapper reads;
//! - the *bootstrapper file*: the bootstrapper's executable with a launcher file inside;
//! - the *packages* of all three: a launcher downloads those of launcher and agent, an operator takes
//!   the bootstrapper out of its own;
//! - the *signatures* of packages, and the keys that make them.
//!
//! All of it is reproducible: the same executables and the same [`Build`] give the same bytes, and
//! the same keys the same signatures.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod embedded;
mod key;
mod package;
mod signing;

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use journeyman_protocol::{
    release::{Component, Manifest},
    release_key::ReleaseKey,
};

pub use crate::{
    embedded::{bootstrapper_file, launcher_file},
    key::{KeyError, SigningKey, keygen, public_path, read_public},
    package::{Package, PackageError, PackageFile, entry_points, package},
    signing::{SignError, sign, signatures_path, verify},
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
    /// Keys that a machine trusts once it runs this build's launcher.
    pub release_keys: Vec<ReleaseKey>,
    /// Ids of keys that a machine trusts no more once it has verified a package of this build.
    pub retired_keys: Vec<String>,
}

impl Build {
    /// Build `number` of this workspace's version, for this platform.
    pub fn new(number: u64) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            number,
            platform: PLATFORM.to_owned(),
            release_keys: Vec::new(),
            retired_keys: Vec::new(),
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
    /// The package of the bootstrapper: may go there too, so that operators find it.
    pub bootstrapper_package: PathBuf,
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
    /// A key cannot be both.
    #[error(
        "the key {key} is both trusted and retired by this build: a machine could never verify          another one with it; leave out --release-key or --retire-key"
    )]
    TrustedAndRetired {
        /// Its id.
        key: String,
    },
}

/// Packages the executables in `bin_dir` into `out`, which is made if it is missing.
///
/// # Errors
/// When an executable is missing or `out` cannot be written; files of an earlier build are then
/// left as they were, or replaced as a whole. Signatures of a package that changes are removed first.
pub fn release(bin_dir: &Path, out: &Path, build: &Build) -> Result<Release, PackagingError> {
    let trusted = build.release_keys.iter().map(ReleaseKey::id);
    if let Some(key) = trusted
        .into_iter()
        .find(|id| build.retired_keys.iter().any(|key| key == id))
    {
        return Err(PackagingError::TrustedAndRetired {
            key: key.to_owned(),
        });
    }
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
        bootstrapper_package: out.join(package_name(Component::Bootstrapper, build)),
        bootstrapper: out.join("journeyman-bootstrapper"),
    };
    for (component, content, path) in [
        (Component::Launcher, &launcher, &release.launcher_package),
        (Component::Agent, &agent, &release.agent_package),
        (
            Component::Bootstrapper,
            &bootstrapper,
            &release.bootstrapper_package,
        ),
    ] {
        let (_, bytes) = package(component, content, build);
        remove_stale_signatures(path, &bytes)?;
        write(path, &bytes, 0o644)?;
    }
    write(&release.bootstrapper, &bootstrapper, 0o755)?;
    Ok(release)
}

/// The name a server looks for in its folder of releases.
pub fn package_name(component: Component, build: &Build) -> String {
    format!("{}-{}.tar.zst", component.as_str(), build.platform)
}

/// A signature that does not fit its package makes machines refuse it, whoever else has signed.
fn remove_stale_signatures(package: &Path, new: &[u8]) -> Result<(), PackagingError> {
    if fs::read(package).is_ok_and(|old| old == new) {
        return Ok(());
    }
    let path = signatures_path(package);
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(PackagingError::Write { path, source })
        }
        _ => Ok(()),
    }
}

/// Writes beside the target and renames, so that a server never reads half a package and an
/// executable that is running is replaced, not changed.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), PackagingError> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let written = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&part)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&part, path))
        .and_then(|()| File::open(folder_of(path))?.sync_all());
    written.map_err(|source| PackagingError::Write {
        path: path.to_owned(),
        source,
    })
}

/// The folder a path is in; of a bare file name the current one.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs(folder: &tempfile::TempDir) -> (PathBuf, PathBuf) {
        let (bin, out) = (folder.path().join("bin"), folder.path().join("out"));
        fs::create_dir(&bin).unwrap();
        for name in ["launcher", "agent", "bootstrapper"] {
            fs::write(bin.join(format!("journeyman-{name}")), name).unwrap();
        }
        (bin, out)
    }

    fn bytes(release: &Release) -> [Vec<u8>; 4] {
        [
            &release.launcher_package,
            &release.agent_package,
            &release.bootstrapper_package,
            &release.bootstrapper,
        ]
        .map(|path| fs::read(path).unwrap())
    }

    #[test]
    fn a_release_is_reproducible_and_replaces_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let (bin, out) = programs(&folder);
        let build = |number| Build {
            release_keys: vec![ReleaseKey::new([1; 32])],
            retired_keys: vec!["0123456789abcdef".to_owned()],
            ..Build::new(number)
        };
        let first = release(&bin, &out, &build(7)).unwrap();
        let before = bytes(&first);
        let second = release(&bin, &out, &build(7)).unwrap();
        assert_eq!(before, bytes(&second));
        assert_ne!(
            before,
            bytes(&release(&bin, &out, &build(8)).unwrap()),
            "the build number is in the manifests"
        );
        assert_eq!(fs::read_dir(&out).unwrap().count(), 4);
    }

    #[test]
    fn the_package_of_the_bootstrapper_holds_the_file_an_operator_copies() {
        let folder = tempfile::tempdir().unwrap();
        let (bin, out) = programs(&folder);
        let built = release(&bin, &out, &Build::new(7)).unwrap();
        let file = fs::read(&built.bootstrapper).unwrap();
        let expected = package(Component::Bootstrapper, &file, &Build::new(7));
        assert_eq!(fs::read(&built.bootstrapper_package).unwrap(), expected.1);
        assert_eq!(expected.0.component, Component::Bootstrapper);
    }

    #[test]
    fn signatures_stay_with_what_they_sign() {
        let folder = tempfile::tempdir().unwrap();
        let (bin, out) = programs(&folder);
        let built = release(&bin, &out, &Build::new(7)).unwrap();
        let key = keygen(&folder.path().join("key")).unwrap();
        let signatures = sign(&key, &built.agent_package).unwrap();
        release(&bin, &out, &Build::new(7)).unwrap();
        verify(&[key.public().clone()], &built.agent_package).unwrap();
        release(&bin, &out, &Build::new(8)).unwrap();
        assert!(!signatures.exists());
    }

    #[test]
    fn a_build_cannot_trust_what_it_retires() {
        let folder = tempfile::tempdir().unwrap();
        let (bin, out) = programs(&folder);
        let key = ReleaseKey::new([1; 32]);
        let build = Build {
            retired_keys: vec![key.id().to_owned()],
            release_keys: vec![key],
            ..Build::new(7)
        };
        let error = release(&bin, &out, &build).unwrap_err().to_string();
        assert!(error.contains("both trusted and retired"), "{error}");
        assert!(!out.exists());
    }

    #[test]
    fn a_missing_executable_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = release(folder.path(), folder.path(), &Build::new(0)).unwrap_err();
        assert!(error.to_string().contains("journeyman-launcher"), "{error}");
    }
}
