//! Unpacking an uploaded zip, which may lie in every field.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::Path,
};

use ring::digest;
use zip::{ZipArchive, result::ZipError};

/// A file or folder out of a zip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    Folder(Vec<String>),
    File {
        path: Vec<String>,
        staged: usize,
        size: u64,
        sha256: String,
    },
}

/// Why a zip is not unpacked.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnpackError {
    #[error("the upload is not a zip that can be read")]
    Zip(#[from] ZipError),
    #[error("the zip holds the name `{0}`, which leads out of its folder")]
    Leaves(String),
    #[error("the zip holds a symbolic link, `{0}`: publish what it points to instead")]
    Link(String),
    #[error("the zip says `{name}` has {announced} bytes, and it has another size")]
    Lies { name: String, announced: u64 },
    #[error("the zip unpacks to more than the {0} bytes the server has to give")]
    TooLarge(u64),
    #[error("cannot write what the zip holds")]
    Io(#[from] io::Error),
}

/// Unpacks into `staging`, flat: file `n` of the result is `staging/n`. So no name from the zip
/// touches the disk before all of them were looked at. Stops after `budget` bytes.
pub(super) fn unpack(zip: File, staging: &Path, budget: u64) -> Result<Vec<Entry>, UnpackError> {
    let mut archive = ZipArchive::new(zip)?;
    let mut entries = Vec::with_capacity(archive.len().min(1024));
    let mut left = budget;
    for index in 0..archive.len() {
        let mut member = archive.by_index(index)?;
        let name = member.name()?.into_owned();
        let path = segments(&name).ok_or_else(|| UnpackError::Leaves(name.clone()))?;
        if member.is_symlink() {
            return Err(UnpackError::Link(name));
        }
        if member.is_dir() {
            entries.push(Entry::Folder(path));
            continue;
        }
        if path.is_empty() {
            return Err(UnpackError::Leaves(name));
        }
        let announced = member.size();
        if announced > left {
            return Err(UnpackError::TooLarge(budget));
        }
        let mut file = File::create_new(staging.join(index.to_string()))?;
        // One byte more than announced is enough to know.
        let (size, sha256) = copy(
            &mut (&mut member).take(announced.saturating_add(1)),
            &mut file,
        )?;
        if size != announced {
            return Err(UnpackError::Lies { name, announced });
        }
        file.sync_data()?;
        left -= size;
        entries.push(Entry::File {
            path,
            staged: index,
            size,
            sha256,
        });
    }
    Ok(entries)
}

/// Copies and answers size and SHA-256.
pub(super) fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<(u64, String)> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut size = 0;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return Ok((size, hex(context.finish().as_ref()))),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        context.update(&buffer[..read]);
        to.write_all(&buffer[..read])?;
        size += read as u64;
    }
}

/// Size and SHA-256 of a file.
pub(super) fn measure(path: &Path) -> io::Result<(u64, String)> {
    copy(&mut fs::File::open(path)?, &mut io::sink())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The names in a path, or nothing when it does not stay below where it starts.
fn segments(name: &str) -> Option<Vec<String>> {
    if name.starts_with('/') || name.contains('\0') {
        return None;
    }
    let mut path = Vec::new();
    for segment in name.split('/') {
        // On this side a backslash is a letter; on the sender's it may have been a slash.
        if segment == ".." || segment.split('\\').any(|part| part == "..") {
            return None;
        }
        if !segment.is_empty() && segment != "." {
            path.push(segment.to_owned());
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, Write as _};

    use pretty_assertions::assert_eq;
    use zip::{ZipWriter, write::SimpleFileOptions};

    use super::*;

    fn zip(entries: &[(&str, &str)]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        let mut writer = ZipWriter::new(&mut file);
        for (name, content) in entries {
            if name.ends_with('/') {
                writer
                    .add_directory(*name, SimpleFileOptions::default())
                    .unwrap();
            } else {
                writer
                    .start_file(*name, SimpleFileOptions::default())
                    .unwrap();
                writer.write_all(content.as_bytes()).unwrap();
            }
        }
        writer.finish().unwrap();
        file.rewind().unwrap();
        file
    }

    #[test]
    fn files_and_folders_come_out() {
        let staging = tempfile::tempdir().unwrap();
        let entries = unpack(
            zip(&[("d/", ""), ("d/a b.txt", "hello")]),
            staging.path(),
            100,
        )
        .unwrap();
        assert_eq!(
            entries,
            [
                Entry::Folder(vec!["d".to_owned()]),
                Entry::File {
                    path: vec!["d".to_owned(), "a b.txt".to_owned()],
                    staged: 1,
                    size: 5,
                    sha256: "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
                        .to_owned(),
                }
            ]
        );
        assert_eq!(
            fs::read_to_string(staging.path().join("1")).unwrap(),
            "hello"
        );
    }

    #[test]
    fn names_that_lead_out_are_refused() {
        for name in ["../x", "a/../../x", "/etc/passwd", "a\\..\\x"] {
            let staging = tempfile::tempdir().unwrap();
            let error = unpack(zip(&[(name, "x")]), staging.path(), 100).unwrap_err();
            assert!(matches!(error, UnpackError::Leaves(_)), "{name}: {error}");
        }
    }

    #[test]
    fn links_and_bombs_are_refused() {
        let mut file = tempfile::tempfile().unwrap();
        let mut writer = ZipWriter::new(&mut file);
        writer
            .add_symlink("link", "/etc/passwd", SimpleFileOptions::default())
            .unwrap();
        writer.finish().unwrap();
        file.rewind().unwrap();
        let staging = tempfile::tempdir().unwrap();
        assert!(matches!(
            unpack(file, staging.path(), 100),
            Err(UnpackError::Link(_))
        ));

        let large = "0".repeat(101);
        assert!(matches!(
            unpack(zip(&[("a", &large)]), staging.path(), 100),
            Err(UnpackError::TooLarge(100))
        ));
    }
}
