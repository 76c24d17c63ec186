//! Where the programs under test are.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The folder cargo builds programs into: the one this test's own executable is in or below.
pub fn folder() -> PathBuf {
    let own = env::current_exe().expect("the path of this executable");
    let parent = own.parent().expect("an executable is in a folder");
    if parent.ends_with("deps") {
        parent.parent().expect("deps is in a folder").to_owned()
    } else {
        parent.to_owned()
    }
}

/// The path of a program of this workspace.
///
/// # Panics
/// When it was not built: `cargo test` builds only the programs of the package it tests.
pub fn binary(name: &str) -> PathBuf {
    let path = folder().join(name);
    assert!(
        path.is_file(),
        "{} is missing: run `cargo build --workspace --bins` first, as `make test` does",
        path.display()
    );
    path
}

/// The top of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this crate is in the workspace")
}
