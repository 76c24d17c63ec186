//! The launcher inside the bootstrapper's own file.
//!
//! Layout, fixed for ever: `executable | launcher file | SHA-256 of it | u64 LE length of it |
//! MAGIC`.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use ring::digest::{SHA256, digest};

const MAGIC: &[u8; 8] = b"JMBTSTR1";
/// Bytes behind the launcher file.
const TRAILER: u64 = 48;

/// Reads the launcher out of the bootstrapper's file.
///
/// # Errors
/// When the file cannot be read, carries no launcher, or carries one that is damaged.
pub(crate) fn read(bootstrapper: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(bootstrapper)?;
    let length = file.seek(SeekFrom::End(0))?;
    let mut trailer = [0; TRAILER as usize];
    let end = length
        .checked_sub(TRAILER)
        .ok_or_else(|| damaged("it carries no launcher"))?;
    file.seek(SeekFrom::Start(end))?;
    file.read_exact(&mut trailer)?;
    let (checksum, rest) = trailer.split_at(32);
    let (size, magic) = rest.split_at(8);
    if magic != MAGIC {
        return Err(damaged("it carries no launcher"));
    }
    let size = size
        .iter()
        .rev()
        .fold(0_u64, |size, byte| size << 8 | u64::from(*byte));
    let start = end
        .checked_sub(size)
        .ok_or_else(|| damaged("the launcher inside it is cut off"))?;
    file.seek(SeekFrom::Start(start))?;
    let mut launcher = Vec::new();
    file.take(size).read_to_end(&mut launcher)?;
    if digest(&SHA256, &launcher).as_ref() == checksum {
        Ok(launcher)
    } else {
        Err(damaged("the launcher inside it is damaged"))
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{what}; copy the bootstrapper to this machine again"),
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_launcher_is_read_back_and_damage_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bootstrapper");
        let mut bytes = [
            b"ELF".as_slice(),
            b"launcher",
            digest(&SHA256, b"launcher").as_ref(),
            &8_u64.to_le_bytes(),
            MAGIC,
        ]
        .concat();
        fs::write(&path, &bytes).unwrap();
        assert_eq!(read(&path).unwrap(), b"launcher");

        bytes[4] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("damaged"));
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("no launcher"));
        fs::write(&path, b"short").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("no launcher"));
    }
}
