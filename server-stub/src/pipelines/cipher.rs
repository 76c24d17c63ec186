//! Encrypted values in configuration files, as GoCD writes them: `AES:<iv>:<text>`, both base64,
//! encrypted with AES-128 in CBC mode. The key is a file of hexadecimal digits in the data folder,
//! of GoCD's form: with the `cipher.aes` of a GoCD server its values can be read here.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use openssl::error::ErrorStack;
use openssl::rand::rand_bytes;
use openssl::symm;

use crate::{durable, hex::hex};

/// What an encrypted value begins with.
const PREFIX: &str = "AES:";

/// Bytes of a block, of the initialisation vector, and of the key.
const BLOCK: usize = 16;

/// Permissions of the key's file.
const MODE: u32 = 0o600;

/// The key could not be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("cannot read the key {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{} is no key: 32 hexadecimal digits are needed. Put back the file that the values were \
         encrypted with; without it they must all be encrypted again",
        path.display()
    )]
    Malformed { path: PathBuf },
    #[error(transparent)]
    Write(#[from] durable::WriteError),
    #[error("cannot make a random key")]
    Random(#[from] ErrorStack),
}

/// A value could not be decrypted. The message has no part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecryptError {
    #[error(
        "this is no encrypted value such as `journeyman-server encrypt` answers (`AES:<iv>:<text>`)"
    )]
    Malformed,
    #[error(
        "the value was not encrypted with this server's key; encrypt it again with \
         `journeyman-server encrypt`"
    )]
    OtherKey,
}

/// Encrypts and decrypts with one server's key.
pub struct Cipher {
    key: [u8; BLOCK],
}

impl Cipher {
    /// Reads the key; makes one when there is none.
    ///
    /// # Errors
    ///
    /// See [`KeyError`].
    pub fn open(path: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::Read {
            path: path.to_path_buf(),
            source,
        };
        if !path.try_exists().map_err(failed)? {
            let mut key = [0; BLOCK];
            rand_bytes(&mut key)?;
            // Of two that do this at once one wins, and both take that key.
            durable::write_new(path, hex(&key).as_bytes(), MODE)?;
        }
        let text = fs::read_to_string(path).map_err(failed)?;
        // A key that was copied from elsewhere may have come with other permissions.
        if fs::metadata(path).map_err(failed)?.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(path, Permissions::from_mode(MODE)).map_err(failed)?;
        }
        let key = unhex(text.trim()).ok_or_else(|| KeyError::Malformed {
            path: path.to_path_buf(),
        })?;
        Ok(Self { key })
    }

    /// Encrypts a value; twice the same value does not give the same text.
    ///
    /// # Errors
    ///
    /// There is no randomness to be had.
    pub fn encrypt(&self, value: &str) -> Result<String, ErrorStack> {
        let mut iv = [0; BLOCK];
        rand_bytes(&mut iv)?;
        let cipher = symm::Cipher::aes_128_cbc();
        let text = symm::encrypt(cipher, &self.key, Some(&iv), value.as_bytes())?;
        Ok(format!(
            "{PREFIX}{}:{}",
            STANDARD.encode(iv),
            STANDARD.encode(text)
        ))
    }

    /// Decrypts a value.
    ///
    /// # Errors
    ///
    /// See [`DecryptError`].
    pub fn decrypt(&self, value: &str) -> Result<String, DecryptError> {
        let (iv, text) = parts(value)?;
        let cipher = symm::Cipher::aes_128_cbc();
        let plain = symm::decrypt(cipher, &self.key, Some(&iv), &text);
        let plain = plain.map_err(|_| DecryptError::OtherKey)?;
        String::from_utf8(plain).map_err(|_| DecryptError::OtherKey)
    }

    /// A value that may be encrypted, in plain. What is not of the form of an encrypted value is
    /// taken for plain: a trigger can put anything in the place of a variable's value.
    ///
    /// # Errors
    ///
    /// It was encrypted with another key.
    pub fn reveal(&self, value: &str) -> Result<String, DecryptError> {
        if check_form(value).is_ok() {
            self.decrypt(value)
        } else {
            Ok(value.to_owned())
        }
    }
}

/// Whether a value is meant to be an encrypted one.
#[must_use]
pub fn is_encrypted(value: &str) -> bool {
    value.starts_with(PREFIX)
}

/// Whether a value can be an encrypted one; nothing is decrypted.
///
/// # Errors
///
/// It is [`DecryptError::Malformed`].
pub fn check_form(value: &str) -> Result<(), DecryptError> {
    parts(value).map(drop)
}

fn parts(value: &str) -> Result<(Vec<u8>, Vec<u8>), DecryptError> {
    let (iv, text) = value
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.split_once(':'))
        .ok_or(DecryptError::Malformed)?;
    let decode = |text: &str| STANDARD.decode(text).map_err(|_| DecryptError::Malformed);
    let (iv, text) = (decode(iv)?, decode(text)?);
    if iv.len() != BLOCK || text.is_empty() || text.len() % BLOCK != 0 {
        return Err(DecryptError::Malformed);
    }
    Ok((iv, text))
}

fn unhex(text: &str) -> Option<[u8; BLOCK]> {
    let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if text.len() != 2 * BLOCK || !digits {
        return None;
    }
    let mut bytes = [0; BLOCK];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_and_never_looks_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cipher.aes");
        let cipher = Cipher::open(&path).unwrap();
        let again = Cipher::open(&path).unwrap();
        for value in [
            "",
            "sesame",
            "exactly 16 bytes",
            "¶ more than one block of text",
        ] {
            let text = cipher.encrypt(value).unwrap();
            assert_ne!(text, cipher.encrypt(value).unwrap());
            assert_eq!(check_form(&text), Ok(()));
            assert_eq!(again.decrypt(&text).as_deref(), Ok(value));
        }
        assert_eq!(cipher.reveal("plain").as_deref(), Ok("plain"));
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, MODE);
    }

    #[test]
    fn a_known_text_is_read() {
        // Made with `openssl enc -aes-128-cbc` and the key and vector of NIST SP 800-38A, F.2.1.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cipher.aes");
        fs::write(&path, "2b7e151628aed2a6abf7158809cf4f3c\n").unwrap();
        let cipher = Cipher::open(&path).unwrap();
        let text = "AES:AAECAwQFBgcICQoLDA0ODw==:zBg4B4yLnIoNqSAo3KZLfg==";
        assert_eq!(cipher.decrypt(text).as_deref(), Ok("sesame"));
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, MODE);
    }

    #[test]
    fn what_cannot_be_decrypted_is_said_without_showing_it() {
        let folder = tempfile::tempdir().unwrap();
        let cipher = Cipher::open(&folder.path().join("a")).unwrap();
        let block = "AAAAAAAAAAAAAAAAAAAAAA==";
        for malformed in [
            "AES:",
            "AES::",
            "AES:a:b",
            "AES:AAAA:AAAA",
            &format!("AES:{block}:"),
            &format!("AES:{block}:{block}:"),
            &format!("AES: {block}:{block}"),
        ] {
            assert_eq!(
                cipher.decrypt(malformed),
                Err(DecryptError::Malformed),
                "{malformed}"
            );
        }
        // One key in 256 takes any text for a padded one, and this is none of them.
        fs::write(folder.path().join("b"), "0".repeat(32)).unwrap();
        let other = Cipher::open(&folder.path().join("b")).unwrap();
        assert_eq!(
            other.decrypt(&format!("AES:{block}:{block}")),
            Err(DecryptError::OtherKey)
        );
        for wrong in ["", "12", &"g".repeat(32), &"é".repeat(16)] {
            fs::write(folder.path().join("c"), wrong).unwrap();
            assert!(Cipher::open(&folder.path().join("c")).is_err(), "{wrong}");
        }
    }
}
