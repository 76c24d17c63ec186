//! Checksums of files.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

use ring::digest::{Context, SHA256};

/// SHA-256 of a file, in lower-case hex.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn of_file(path: &Path) -> io::Result<String> {
    let mut hashing = Hashing::new(io::sink());
    io::copy(&mut File::open(path)?, &mut hashing)?;
    Ok(hashing.finish().sha256)
}

/// Passes on what is written to it and digests it.
pub(crate) struct Hashing<W> {
    inner: W,
    context: Context,
    size: u64,
}

/// What went through a [`Hashing`].
pub(crate) struct Digested {
    /// Bytes.
    pub(crate) size: u64,
    /// Lower-case hex.
    pub(crate) sha256: String,
}

impl<W: Write> Hashing<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self {
            inner,
            context: Context::new(&SHA256),
            size: 0,
        }
    }

    pub(crate) fn finish(self) -> Digested {
        let digest = self.context.finish();
        Digested {
            size: self.size,
            sha256: digest.as_ref().iter().map(|b| format!("{b:02x}")).collect(),
        }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.context.update(buffer.get(..written).unwrap_or(buffer));
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Reading counts as well: for content that is checked while it is read.
pub(crate) fn copy(from: &mut impl Read, to: impl Write) -> io::Result<Digested> {
    let mut hashing = Hashing::new(to);
    io::copy(from, &mut hashing)?;
    Ok(hashing.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_what_passes() {
        let mut out = Vec::new();
        let digested = copy(&mut b"abc".as_slice(), &mut out).unwrap();
        assert_eq!((out.as_slice(), digested.size), (b"abc".as_slice(), 3));
        assert_eq!(
            digested.sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
