//! The folder of releases of one server, where a test publishes packages.

use std::{
    fs,
    path::{Path, PathBuf},
};

use journeyman_packaging::{SigningKey, signatures_path};
use journeyman_protocol::release::{Component, Signatures};

use crate::{
    package::{Package, sha256},
    releases::Releases,
    scene::Scene,
};

/// What a server has to offer.
pub struct Shelf {
    folder: PathBuf,
}

impl Shelf {
    /// An empty one.
    pub fn new(scene: &Scene, name: &str) -> Self {
        Self {
            folder: scene.folder(name),
        }
    }

    /// With the launcher that this run's bootstrapper carries.
    pub fn with_launcher_of_this_run(self) -> Self {
        let package = Releases::of_this_run().package(Component::Launcher);
        let name = package.file_name().expect("a name").to_string_lossy();
        self.put_bytes(&name, &fs::read(&package).expect("the launcher's package"));
        self
    }

    /// The value of the server's `--releases`.
    pub fn folder(&self) -> &str {
        self.folder.to_str().expect("a name in UTF-8")
    }

    /// Publishes a package in the place of the one before.
    pub fn put(&self, package: &Package) {
        self.put_bytes(&package.name(), &package.bytes());
    }

    /// The same with a signature.
    pub fn put_signed(&self, package: &Package, key: &SigningKey) {
        let bytes = package.bytes();
        let signatures = Signatures {
            signatures: vec![key.sign(&sha256(&bytes))],
        };
        let path = self.folder.join(package.name());
        // First: a package that is there is offered.
        place(
            &signatures_path(&path),
            &serde_json::to_vec(&signatures).expect("plain data"),
        );
        place(&path, &bytes);
    }

    /// Publishes a package without a signature where a signed one was.
    pub fn put_unsigned(&self, package: &Package) {
        let path = self.folder.join(package.name());
        let _ = fs::remove_file(signatures_path(&path));
        self.put(package);
    }

    /// Publishes whatever this is under this name.
    pub fn put_bytes(&self, name: &str, bytes: &[u8]) {
        place(&self.folder.join(name), bytes);
    }
}

/// Writes a file so that nobody ever reads half of it.
fn place(path: &Path, bytes: &[u8]) {
    let new = path.with_extension("new");
    fs::write(&new, bytes).expect("a file beside it");
    fs::rename(new, path).expect("the file in its place");
}
