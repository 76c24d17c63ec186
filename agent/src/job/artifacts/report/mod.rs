//! The merged report of test artifacts: GoCD's `index.html`.
//!
//! GoCD joins all result files into one document and turns it into HTML by a style sheet. Here the
//! files are read once, from front to back, and what the style sheet would pick is collected.

mod html;
mod input;
mod results;

use std::{
    fs::{self, File},
    io::{self, BufReader},
    path::{Path, PathBuf},
};

use results::Results;

/// The HTML for what was matched: of folders all `*.xml` below, and files whatever they are called.
/// Names of files that are no test results go to `ignored`. Blocks.
///
/// # Errors
/// A folder cannot be read.
pub(super) fn make(matched: &[PathBuf], mut ignored: impl FnMut(&str)) -> io::Result<String> {
    let mut results = Results::default();
    for item in matched {
        let mut files = Vec::new();
        if item.is_dir() {
            collect(item, &mut Vec::new(), &mut files)?;
        } else {
            files.push(item.clone());
        }
        for path in files {
            if let Err(reason) = add(&mut results, &path) {
                tracing::info!(path = %path.display(), reason, "Not a test result");
                let name = path.file_name().unwrap_or_default();
                ignored(&name.to_string_lossy());
            }
        }
    }
    Ok(html::page(&results))
}

/// Adds the results in a file, all or none of them.
fn add(results: &mut Results, path: &Path) -> Result<(), String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    results.read(BufReader::new(input::Shortened::new(BufReader::new(file))))
}

/// GoCD: the files of a folder, in the file system's order, before those of its folders.
fn collect(folder: &Path, above: &mut Vec<PathBuf>, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let real = folder.canonicalize()?;
    if above.contains(&real) {
        return Ok(());
    }
    above.push(real);
    let mut folders = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            folders.push(path);
        } else if path.is_file() && path.as_os_str().as_encoded_bytes().ends_with(b".xml") {
            files.push(path);
        }
    }
    for folder in folders {
        collect(&folder, above, files)?;
    }
    above.pop();
    Ok(())
}

#[cfg(test)]
mod tests;
