//! What hosts of git repositories prove themselves with: one secret for all of them, in a file of
//! the data folder that whoever administers the server may replace by their own.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use ring::{digest, hmac};
use secrecy::{ExposeSecret as _, SecretString};

use crate::durable;
use crate::users::secret::{self, NoRandomness};

/// Permissions of the secret's file.
const MODE: u32 = 0o600;

/// Characters of the shortest secret that is taken.
const SHORTEST: usize = 16;

/// The secret could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("cannot read the secret of webhooks {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "the secret of webhooks in {} has less than {SHORTEST} characters: write a longer one \
         there, or remove the file to have one made",
        path.display()
    )]
    TooShort { path: PathBuf },
    #[error(transparent)]
    Write(#[from] durable::WriteError),
    #[error(transparent)]
    Random(#[from] NoRandomness),
}

/// The secret of webhooks.
pub struct WebhookSecret {
    text: SecretString,
}

impl WebhookSecret {
    /// Reads the secret; makes one when there is none.
    ///
    /// # Errors
    ///
    /// See [`SecretError`].
    pub fn open(path: &Path) -> Result<Self, SecretError> {
        let failed = |source| SecretError::Read {
            path: path.to_path_buf(),
            source,
        };
        if !path.try_exists().map_err(failed)? {
            durable::write_new(path, format!("{}\n", secret::new()?).as_bytes(), MODE)?;
        }
        let text = fs::read_to_string(path).map_err(failed)?;
        if fs::metadata(path).map_err(failed)?.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(path, Permissions::from_mode(MODE)).map_err(failed)?;
        }
        let text = text.trim();
        if text.chars().count() < SHORTEST {
            return Err(SecretError::TooShort {
                path: path.to_path_buf(),
            });
        }
        Ok(Self {
            text: text.to_owned().into(),
        })
    }

    /// One that was set, in place of the file's.
    pub fn given(text: SecretString) -> Self {
        Self { text }
    }

    /// The secret itself, for whoever sets up a webhook.
    pub fn text(&self) -> &str {
        self.text.expose_secret()
    }

    /// Whether somebody who knows the secret has signed a body: HMAC with SHA-256, in hex.
    pub(super) fn has_signed(&self, body: &[u8], signature: &str) -> bool {
        let Some(tag) = unhex(signature) else {
            return false;
        };
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.text().as_bytes());
        hmac::verify(&key, body, &tag).is_ok()
    }

    /// Whether a text is the secret. Takes the same time whatever the text is.
    pub(super) fn is(&self, text: &str) -> bool {
        let digest = |text: &str| digest::digest(&digest::SHA256, text.as_bytes());
        openssl::memcmp::eq(digest(text).as_ref(), digest(self.text()).as_ref())
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.chunks(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_made_once_and_may_be_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("webhook.secret");
        let made = WebhookSecret::open(&path).unwrap().text().to_owned();
        assert_eq!(made.len(), 64);
        assert_eq!(WebhookSecret::open(&path).unwrap().text(), made);
        fs::write(&path, "a secret of our own\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let own = WebhookSecret::open(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!((own.text(), mode & 0o777), ("a secret of our own", MODE));
        fs::write(&path, "short\n").unwrap();
        assert!(WebhookSecret::open(&path).is_err());
    }

    #[test]
    fn signatures_are_those_that_hosts_make() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        // The example of GitHub's documentation.
        fs::write(&path, "It's a Secret to Everybody").unwrap();
        let secret = WebhookSecret::open(&path).unwrap();
        let good = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert!(secret.has_signed(b"Hello, World!", good));
        for bad in ["", "7", "75", "é", &good[..62], &good.replace('7', "8")] {
            assert!(!secret.has_signed(b"Hello, World!", bad), "{bad}");
        }
        assert!(!secret.has_signed(b"Hello, World", good));
        assert!(secret.is("It's a Secret to Everybody"));
        assert!(!secret.is("It's a Secret to Everybod") && !secret.is(""));
    }
}
