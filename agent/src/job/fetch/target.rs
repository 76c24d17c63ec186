//! The three things that are fetched: the file of checksums, a file, a folder.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::Path,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use journeyman_protocol::{console::Tag, zip::ZipReader};
use md5::{Digest, Md5};
use reqwest::StatusCode;
use sha1::Sha1;

use super::{
    checksums::Checksums,
    download::{Body, FetchError, Target, is_good},
    place::{self, Inside},
};
use crate::job::tasks::TaskContext;

/// How much is copied at once, in bytes.
const CHUNK: usize = 64 * 1024;

/// The MD5 sums of the other job's artifacts. It stays beside what was fetched.
pub(super) struct ChecksumFile<'a> {
    pub(super) path: &'a Path,
}

/// A file.
pub(super) struct OneFile<'a> {
    pub(super) path: &'a Path,
    /// The path as the console has it.
    pub(super) shown: String,
    /// Its name among the checksums.
    pub(super) key: &'a str,
    pub(super) verification: Checksums,
}

/// A folder, which comes as a zip.
pub(super) struct WholeFolder<'a> {
    pub(super) path: &'a Path,
    /// The path as the console has it.
    pub(super) shown: String,
    /// What is in front of the zip's names among the checksums.
    pub(super) above: &'a str,
    pub(super) verification: Checksums,
}

impl Target for ChecksumFile<'_> {
    fn take(&mut self, body: Body<'_>, context: &TaskContext) -> Result<(), FetchError> {
        save(body, self.path, &context.scratch).map(drop)
    }

    fn judge(&mut self, status: StatusCode, context: &TaskContext) -> Result<bool, FetchError> {
        if status == StatusCode::NOT_FOUND {
            // What an earlier fetch left says nothing about this one.
            let _ = fs::remove_file(self.path);
            context.console.line(
                Tag::Err,
                "[go] [WARN] The md5checksum property file was not found on the server. Hence, Go \
                 can not verify the integrity of the artifacts.",
            );
            return Ok(true);
        }
        Ok(is_good(status))
    }
}

impl Target for OneFile<'_> {
    fn take(&mut self, body: Body<'_>, context: &TaskContext) -> Result<(), FetchError> {
        self.verification.start();
        let md5 = save(body, self.path, &context.scratch)?;
        self.verification.check(self.key, &md5);
        Ok(())
    }

    fn judge(&mut self, status: StatusCode, context: &TaskContext) -> Result<bool, FetchError> {
        self.verification
            .publish(status, &self.shown, &context.console)?;
        Ok(is_good(status))
    }
}

impl Target for WholeFolder<'_> {
    fn take(&mut self, body: Body<'_>, context: &TaskContext) -> Result<(), FetchError> {
        self.verification.start();
        let failed = |source| FetchError::File {
            action: "make the folder",
            path: self.path.to_owned(),
            source,
        };
        let mut inside = Inside::make(self.path).map_err(failed)?;
        let mut zip = ZipReader::new(body);
        while let Some(name) = zip
            .next_entry()
            .map_err(|source| FetchError::Zip { source })?
        {
            // GoCD: two dots anywhere in a name are too many.
            if name.contains("..") || name.contains('\0') {
                return Err(FetchError::Leaves(name.replace('\0', "?")));
            }
            let below = name.strip_prefix('/').unwrap_or(&name);
            let failed = |source| FetchError::File {
                action: "unpack",
                path: self.path.join(below.trim_start_matches('/')),
                source,
            };
            if below.ends_with('/') {
                inside.folder(below).map_err(failed)?;
                continue;
            }
            let (folder, file) = below.rsplit_once('/').unwrap_or(("", below));
            let to = inside.folder(folder).map_err(failed)?.join(file);
            let mut temporary = place::temporary(&context.scratch).map_err(failed)?;
            let mut digest = Md5::new();
            zip.content(|piece| {
                digest.update(piece);
                temporary.write_all(piece)
            })
            .map_err(failed)?;
            place::put(temporary, &to).map_err(failed)?;
            let key = format!("{}/{}", self.above, below);
            self.verification
                .check(key.trim_start_matches('/'), &hex(&digest.finalize()));
        }
        Ok(())
    }

    fn judge(&mut self, status: StatusCode, context: &TaskContext) -> Result<bool, FetchError> {
        self.verification
            .publish(status, &self.shown, &context.console)?;
        Ok(is_good(status))
    }
}

/// Saves a body as a file, with the folders above it, and returns its MD5 in hex.
fn save(mut body: impl Read, to: &Path, scratch: &Path) -> Result<String, FetchError> {
    let failed = |source| FetchError::File {
        action: "save",
        path: to.to_owned(),
        source,
    };
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut temporary = place::temporary(scratch).map_err(failed)?;
    let mut digest = Md5::new();
    copy(&mut body, |piece| {
        digest.update(piece);
        temporary.write_all(piece)
    })
    .map_err(failed)?;
    place::put(temporary, to).map_err(failed)?;
    Ok(hex(&digest.finalize()))
}

/// The SHA-1 of a file in base64, as the server compares it; none when there is no file.
pub(super) fn sha1(path: &Path) -> Result<Option<String>, FetchError> {
    let failed = |source| FetchError::File {
        action: "read",
        path: path.to_owned(),
        source,
    };
    if !path.is_file() {
        return Ok(None);
    }
    let mut file = File::open(path).map_err(failed)?;
    let mut digest = Sha1::new();
    copy(&mut file, |piece| {
        digest.update(piece);
        Ok(())
    })
    .map_err(failed)?;
    Ok(Some(STANDARD.encode(digest.finalize())))
}

fn copy(from: &mut impl Read, mut to: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => to(&buffer[..length])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
