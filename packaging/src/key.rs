//! The private keys that releases are signed with.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use journeyman_protocol::{
    release::{Signature, signed_text},
    release_key::{ReleaseKey, ReleaseKeyError},
};
use ring::{
    rand::{SecureRandom, SystemRandom},
    signature::{Ed25519KeyPair, KeyPair},
};

/// What comes before the 32 bytes of an Ed25519 private key in PKCS#8 (RFC 8410, version 1, which
/// every tool reads).
const PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// A key that signs packages.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: ReleaseKey,
}

/// A key could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Something is there already.
    #[error(
        "{} exists already, and a key that is lost cannot be made again: name another file, or \
         move that one away first",
        path.display()
    )]
    Exists {
        /// The key's file or that of its public half.
        path: PathBuf,
    },
    /// The key cannot be written.
    #[error("cannot write the key to {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The key cannot be read.
    #[error("cannot read the key {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Not a private key of ours.
    #[error(
        "{} is not an Ed25519 private key (PKCS#8, PEM): give the file that `journeyman-package \
         keygen` wrote, not the one that ends in .pub",
        path.display()
    )]
    Private {
        /// The file.
        path: PathBuf,
    },
    /// Not the public half of a key.
    #[error(
        "{} is not a release key: {source}; give the .pub file that `journeyman-package keygen` wrote",
        path.display()
    )]
    Public {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: ReleaseKeyError,
    },
    /// The system has no random numbers.
    #[error("cannot make a key: the system gives no random numbers")]
    Random,
}

/// Makes a key: its private half into `path`, readable by its owner alone, its public half into
/// `<path>.pub`. Never overwrites one.
///
/// # Errors
/// Either file exists, or cannot be written.
pub fn keygen(path: &Path) -> Result<SigningKey, KeyError> {
    let public_path = public_path(path);
    for path in [path, &public_path] {
        if path.symlink_metadata().is_ok() {
            return Err(KeyError::Exists {
                path: path.to_owned(),
            });
        }
    }
    let mut seed = [0; 32];
    SystemRandom::new()
        .fill(&mut seed)
        .map_err(|_| KeyError::Random)?;
    let key = SigningKey::of_pkcs8(&[PKCS8.as_slice(), &seed].concat()).ok_or(KeyError::Random)?;
    let pem = format!(
        "{BEGIN}\n{}\n{END}\n",
        STANDARD.encode([PKCS8.as_slice(), &seed].concat())
    );
    create(path, &pem, 0o600)?;
    create(&public_path, &format!("{}\n", key.public), 0o644)?;
    Ok(key)
}

/// Where the public half of a key is.
pub fn public_path(private: &Path) -> PathBuf {
    let mut name = private.as_os_str().to_owned();
    name.push(".pub");
    PathBuf::from(name)
}

/// Reads the public half of a key.
///
/// # Errors
/// The file cannot be read or is something else.
pub fn read_public(path: &Path) -> Result<ReleaseKey, KeyError> {
    let text = fs::read(path).map_err(|source| KeyError::Read {
        path: path.to_owned(),
        source,
    })?;
    ReleaseKey::parse(&String::from_utf8_lossy(&text)).map_err(|source| KeyError::Public {
        path: path.to_owned(),
        source,
    })
}

fn create(path: &Path, content: &str, mode: u32) -> Result<(), KeyError> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| {
            file.write_all(content.as_bytes())?;
            file.sync_all()?;
            File::open(crate::folder_of(path))?.sync_all()
        });
    written.map_err(|source| {
        let path = path.to_owned();
        if source.kind() == io::ErrorKind::AlreadyExists {
            KeyError::Exists { path }
        } else {
            KeyError::Write { path, source }
        }
    })
}

// === impl SigningKey ===

impl SigningKey {
    /// Reads a private key.
    ///
    /// # Errors
    /// The file cannot be read or is something else.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let text = fs::read(path).map_err(|source| KeyError::Read {
            path: path.to_owned(),
            source,
        })?;
        let no_key = || KeyError::Private {
            path: path.to_owned(),
        };
        let text = String::from_utf8(text).map_err(|_| no_key())?;
        let (_, rest) = text.split_once(BEGIN).ok_or_else(no_key)?;
        let (body, _) = rest.split_once(END).ok_or_else(no_key)?;
        let body: String = body.split_whitespace().collect();
        let pkcs8 = STANDARD.decode(body).map_err(|_| no_key())?;
        Self::of_pkcs8(&pkcs8).ok_or_else(no_key)
    }

    fn of_pkcs8(pkcs8: &[u8]) -> Option<Self> {
        // Version 1 has no public half to compare with.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).ok()?;
        let public = ReleaseKey::new(pair.public_key().as_ref().try_into().ok()?);
        Some(Self { pair, public })
    }

    /// Its public half.
    pub const fn public(&self) -> &ReleaseKey {
        &self.public
    }

    /// Signs the package with this SHA-256.
    pub fn sign(&self, package_sha256: &str) -> Signature {
        let signature = self.pair.sign(signed_text(package_sha256).as_bytes());
        Signature {
            key: self.public.id().to_owned(),
            signature: STANDARD.encode(signature),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("release.key");
        let made = keygen(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        let public = read_public(&folder.path().join("release.key.pub")).unwrap();
        assert_eq!(&public, made.public());
        assert_eq!(SigningKey::read(&path).unwrap().public(), &public);

        let before = fs::read(&path).unwrap();
        assert!(matches!(keygen(&path), Err(KeyError::Exists { .. })));
        assert_eq!(fs::read(&path).unwrap(), before);
        fs::remove_file(&path).unwrap();
        let error = keygen(&path).err().unwrap().to_string();
        assert!(error.contains("release.key.pub exists"), "{error}");
        assert!(!path.exists());
    }

    #[test]
    fn keys_of_other_tools_are_read() {
        // openssl genpkey -algorithm ed25519
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let pem = "-----BEGIN PRIVATE KEY-----\n\
             MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
             -----END PRIVATE KEY-----\n";
        fs::write(&path, pem).unwrap();
        // RFC 8032, section 7.1, test 1.
        let public = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
        let read = SigningKey::read(&path).unwrap();
        assert!(read.public().to_string().ends_with(public));
    }

    #[test]
    fn what_is_no_key_is_named_with_what_to_give_instead() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        keygen(&path).unwrap();
        let public = public_path(&path);
        let error = SigningKey::read(&public).err().unwrap().to_string();
        assert!(error.contains("key.pub is not an Ed25519"), "{error}");
        let error = read_public(&path).unwrap_err().to_string();
        assert!(error.contains("key is not a release key"), "{error}");
        let missing = folder.path().join("missing");
        assert!(matches!(
            SigningKey::read(&missing),
            Err(KeyError::Read { .. })
        ));
        assert!(matches!(read_public(&missing), Err(KeyError::Read { .. })));
        let error = keygen(&missing.join("key")).err().unwrap();
        assert!(matches!(error, KeyError::Write { .. }), "{error}");
    }
}
