//! Packing an item while it is sent.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

use bytes::{Bytes, BytesMut};
use jiff::{Timestamp, Zoned};
use journeyman_protocol::zip::ZipWriter;
use md5::{Digest, Md5};
use tokio::sync::mpsc;

use super::{checksums::Checksums, tree};

/// How much is handed on at once, in bytes.
const CHUNK: usize = 64 * 1024;

/// Packs an item into `to`, and returns the list of its checksums. Blocks.
///
/// # Errors
/// The item cannot be read, or nobody takes what is packed: see [`Chunks::is_unwanted`].
pub(super) fn pack(item: &Path, dest: &str, now: &Zoned, to: &mut Chunks) -> io::Result<Vec<u8>> {
    let mut checksums = Checksums::new(dest, now);
    let mut zip = ZipWriter::new(&mut *to);
    tree::walk(item, &mut |node| {
        let modified = Timestamp::try_from(node.metadata.modified()?)
            .unwrap_or_default()
            .to_zoned(now.time_zone().clone())
            .datetime();
        if node.metadata.is_dir() {
            return zip.folder(node.name, modified);
        }
        let mut file = Digesting {
            file: File::open(node.path)?,
            digest: Md5::new(),
        };
        zip.file(node.name, modified, &mut file)?;
        checksums.add(node.name, &file.digest.finalize());
        Ok(())
    })?;
    zip.finish()?.flush()?;
    Ok(checksums.into_text().into_bytes())
}

/// A file whose content is digested as it is read.
struct Digesting {
    file: File,
    digest: Md5,
}

impl Read for Digesting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(buffer)?;
        self.digest.update(&buffer[..length]);
        Ok(length)
    }
}

/// Hands on what is written, in pieces.
pub(super) struct Chunks {
    to: mpsc::Sender<io::Result<Bytes>>,
    buffer: BytesMut,
    is_unwanted: bool,
}

impl Chunks {
    pub(super) fn new(to: mpsc::Sender<io::Result<Bytes>>) -> Self {
        Self {
            to,
            buffer: BytesMut::with_capacity(CHUNK),
            is_unwanted: false,
        }
    }

    /// Whether writing failed because nobody takes it any more.
    pub(super) fn is_unwanted(&self) -> bool {
        self.is_unwanted
    }

    /// Lets the taker know that what it has got is not the whole.
    pub(super) fn fail(&mut self, error: io::Error) {
        let _ = self.to.blocking_send(Err(error));
    }

    fn hand_on(&mut self) -> io::Result<()> {
        let chunk = std::mem::replace(&mut self.buffer, BytesMut::with_capacity(CHUNK)).freeze();
        if self.to.blocking_send(Ok(chunk)).is_err() {
            self.is_unwanted = true;
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    }
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len().min(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..length]);
        if self.buffer.len() == CHUNK {
            self.hand_on()?;
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.hand_on()
    }
}
