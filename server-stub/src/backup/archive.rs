//! The two forms of a backup, written and read alike.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use ring::digest::{Context, SHA256};

use super::{ARCHIVE_SUFFIX, FileEntry, inside};
use crate::hex::hex;

/// Writes a backup.
pub(super) enum Writer {
    Folder(PathBuf),
    Archive(Box<tar::Builder<zstd::Encoder<'static, File>>>),
}

/// Whether a file ever changes where it lies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is replaced at most: a second name for it is a copy.
    Fixed,
    /// It may grow.
    Growing,
}

impl Writer {
    /// Begins at a place where nothing is. `name` is what it will be called.
    pub(super) fn new(place: &Path, name: &Path) -> io::Result<Self> {
        if !name.to_string_lossy().ends_with(ARCHIVE_SUFFIX) {
            crate::durable::private_folder(place)?;
            return Ok(Self::Folder(place.to_path_buf()));
        }
        let encoder = zstd::Encoder::new(secret_file(place)?, 0)?;
        Ok(Self::Archive(Box::new(tar::Builder::new(encoder))))
    }

    /// Adds a file as it is now.
    pub(super) fn add(
        &mut self,
        relative: &str,
        source: &Path,
        kind: Kind,
    ) -> io::Result<FileEntry> {
        let file = File::open(source)?;
        let size = file.metadata()?.len();
        let mut reader = Hashing::new(file.take(size));
        match self {
            Self::Folder(folder) => {
                let to = folder.join(relative);
                if let Some(parent) = to.parent() {
                    fs::create_dir_all(parent)?;
                }
                // On the same disk it costs nothing.
                if kind == Kind::Fixed && fs::hard_link(source, &to).is_ok() {
                    io::copy(&mut reader, &mut io::sink())?;
                } else {
                    io::copy(&mut reader, &mut secret_file(&to)?)?;
                }
            }
            Self::Archive(archive) => {
                let mut header = tar::Header::new_gnu();
                header.set_size(size);
                header.set_mode(0o600);
                header.set_entry_type(tar::EntryType::Regular);
                archive.append_data(&mut header, relative, &mut reader)?;
            }
        }
        let entry = reader.finish();
        if entry.size != size {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file became shorter while it was read",
            ));
        }
        Ok(entry)
    }

    /// Adds a text, then makes everything lasting.
    pub(super) fn finish(self, relative: &str, text: &[u8]) -> io::Result<()> {
        match self {
            Self::Folder(folder) => {
                secret_file(&folder.join(relative))?.write_all(text)?;
                Ok(nix::unistd::syncfs(File::open(folder)?)?)
            }
            Self::Archive(mut archive) => {
                let mut header = tar::Header::new_gnu();
                header.set_size(text.len() as u64);
                header.set_mode(0o600);
                archive.append_data(&mut header, relative, text)?;
                archive.into_inner()?.finish()?.sync_all()
            }
        }
    }
}

/// Reads all files of a backup, each with its path. Links and what else a file system may hold are
/// refused.
pub(super) fn read(
    place: &Path,
    mut take: impl FnMut(&str, &mut dyn Read) -> io::Result<()>,
) -> io::Result<()> {
    if place.is_dir() {
        return read_folder(place, "", &mut take);
    }
    let decoder = zstd::Decoder::new(File::open(place)?)?;
    let mut archive = tar::Archive::new(decoder);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        if entry.header().entry_type() != tar::EntryType::Regular {
            return Err(not_plain(&path));
        }
        take(&path, &mut entry)?;
    }
    Ok(())
}

fn read_folder(
    folder: &Path,
    above: &str,
    take: &mut impl FnMut(&str, &mut dyn Read) -> io::Result<()>,
) -> io::Result<()> {
    for item in fs::read_dir(folder)? {
        let item = item?;
        let relative = format!("{above}{}", item.file_name().to_string_lossy());
        let kind = item.file_type()?;
        if kind.is_dir() {
            read_folder(&item.path(), &format!("{relative}/"), take)?;
        } else if kind.is_file() {
            take(&relative, &mut File::open(item.path())?)?;
        } else {
            return Err(not_plain(&relative));
        }
    }
    Ok(())
}

fn not_plain(path: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("`{path}` in it is no plain file"),
    )
}

/// Puts a file of a backup to its place below a folder.
pub(super) fn put(folder: &Path, relative: &str, content: &mut dyn Read) -> io::Result<FileEntry> {
    let to = inside(folder, relative).ok_or_else(|| not_plain(relative))?;
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut reader = Hashing::new(content);
    io::copy(&mut reader, &mut secret_file(&to)?)?;
    Ok(reader.finish())
}

/// Makes a file that only its owner may read.
fn secret_file(path: &Path) -> io::Result<File> {
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// Size and checksum of what is read through it.
pub(super) struct Hashing<R> {
    inner: R,
    context: Context,
    size: u64,
}

impl<R> Hashing<R> {
    pub(super) fn new(inner: R) -> Self {
        Self {
            inner,
            context: Context::new(&SHA256),
            size: 0,
        }
    }

    pub(super) fn finish(self) -> FileEntry {
        FileEntry {
            size: self.size,
            sha256: hex(self.context.finish().as_ref()),
        }
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.context.update(buffer.get(..read).unwrap_or_default());
        self.size += read as u64;
        Ok(read)
    }
}
