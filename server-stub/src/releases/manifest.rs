//! The manifest at the beginning of a package.

use std::{
    fs::File,
    io::{BufReader, Read as _},
    path::{Component as Part, Path, PathBuf},
};

use journeyman_protocol::release::{MANIFEST_FORMAT, Manifest};

/// The largest manifest that is read.
const LARGEST_MANIFEST: u64 = 1024 * 1024;
/// Files in a package at most.
const MOST_FILES: usize = 10_000;
/// Letters of a version or a platform at most: they become names of folders.
const LONGEST_NAME: usize = 64;
const MANIFEST_NAME: &str = "manifest.json";

/// What is in a file is no package that can be offered.
#[derive(Debug, thiserror::Error)]
#[error("the package {} does not begin with a manifest that this server can read: {why}; build it anew with `journeyman-package build`", path.display())]
pub struct ManifestError {
    path: PathBuf,
    why: String,
}

/// Reads the manifest of a package. `name` is what people call the file. Blocks.
///
/// # Errors
///
/// The file is no package, or its manifest is not one of this format.
pub(super) fn read(name: &Path, file: &File) -> Result<Manifest, ManifestError> {
    read_text(file)
        .and_then(|text| {
            serde_json::from_slice::<Manifest>(&text).map_err(|error| error.to_string())
        })
        .and_then(|manifest| check(&manifest).map(|()| manifest))
        .map_err(|why| ManifestError {
            path: name.to_path_buf(),
            why,
        })
}

fn read_text(file: &File) -> Result<Vec<u8>, String> {
    let told = |error: std::io::Error| error.to_string();
    let unpacked = zstd::stream::read::Decoder::with_buffer(BufReader::new(file)).map_err(told)?;
    let mut archive = tar::Archive::new(unpacked);
    let entry = archive
        .entries()
        .map_err(told)?
        .next()
        .ok_or("it is empty")?
        .map_err(told)?;
    if entry.path_bytes().as_ref() != MANIFEST_NAME.as_bytes() {
        return Err(format!("its first file is not {MANIFEST_NAME}"));
    }
    let mut text = Vec::new();
    entry
        .take(LARGEST_MANIFEST + 1)
        .read_to_end(&mut text)
        .map_err(told)?;
    if text.len() as u64 > LARGEST_MANIFEST {
        return Err(format!("it is larger than {LARGEST_MANIFEST} bytes"));
    }
    Ok(text)
}

fn check(manifest: &Manifest) -> Result<(), String> {
    if manifest.format != MANIFEST_FORMAT {
        return Err(format!(
            "its format is {}, not {MANIFEST_FORMAT}",
            manifest.format
        ));
    }
    for (what, name) in [
        ("version", &manifest.version),
        ("platform", &manifest.platform),
    ] {
        if !is_name(name) {
            return Err(format!(
                "its {what} {name:?} is not made of 1 to {LONGEST_NAME} letters, digits and `._+~-`"
            ));
        }
    }
    if i64::try_from(manifest.build).is_err() {
        return Err(format!(
            "its build sequence {} is too large",
            manifest.build
        ));
    }
    if manifest.files.len() > MOST_FILES {
        return Err(format!(
            "it names {} files, and {MOST_FILES} is the most",
            manifest.files.len()
        ));
    }
    let files = manifest.files.iter().map(|file| &file.path);
    let entry_points = &manifest.entry_points;
    let programs = [Some(&entry_points.start), entry_points.take_over.as_ref()];
    for path in files.chain(programs.into_iter().flatten().map(|program| &program.path)) {
        if path.is_empty()
            || !Path::new(path)
                .components()
                .all(|part| matches!(part, Part::Normal(_)))
        {
            return Err(format!("its path {path:?} leads outside"));
        }
    }
    Ok(())
}

/// Whether this can be part of a release's id and of the name of a folder.
pub(super) fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+~-".contains(c);
    (1..=LONGEST_NAME).contains(&name.len()) && !name.starts_with('.') && name.chars().all(plain)
}
