//! Passwords: what is stored of them (bcrypt), and whether one is right.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use ring::hmac;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Semaphore;

use super::secret::NoRandomness;

/// 2^10 rounds, the least that is recommended: some 50 ms of one core.
const COST: u32 = 10;
/// Bytes. Bcrypt takes no more, and shortens nothing here.
const LONGEST: usize = 72;
const SHORTEST: usize = 8;
/// Passwords checked at a time: logins do not take all cores from the jobs.
const AT_A_TIME: usize = 2;
/// Milliseconds for which a password that was right needs no second check: Basic sends it with
/// every request.
const MEMORY: i64 = 600_000;
const MOST_REMEMBERED: usize = 1000;
/// Compared with for a user who is not there, so that time does not tell.
const NOBODYS: &str = "$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy";

/// A password that may be set.
#[derive(Clone, Debug)]
pub struct Password(SecretString);

/// Why a password was not taken.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    #[error("a password has {SHORTEST} characters or more")]
    Short,
    #[error("a password has at most {LONGEST} bytes")]
    Long,
    #[error("a password has no control characters; it is one line of text")]
    Control,
    #[error("the password could not be digested")]
    Digest(#[from] bcrypt::BcryptError),
    #[error("the password could not be digested: its thread ended")]
    Thread(#[from] tokio::task::JoinError),
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
}

/// Checks passwords.
pub(super) struct Passwords {
    turns: Semaphore,
    key: hmac::Key,
    /// Digests of user, stored hash and password that belong together, and until when that is
    /// remembered.
    right: Mutex<HashMap<Vec<u8>, i64>>,
}

impl Password {
    /// # Errors
    ///
    /// See [`PasswordError`].
    pub fn new(text: SecretString) -> Result<Self, PasswordError> {
        let given = text.expose_secret();
        if given.chars().count() < SHORTEST {
            return Err(PasswordError::Short);
        }
        if given.len() > LONGEST {
            return Err(PasswordError::Long);
        }
        if given.chars().any(char::is_control) {
            return Err(PasswordError::Control);
        }
        Ok(Self(text))
    }

    /// What is stored of it.
    ///
    /// # Errors
    ///
    /// See [`PasswordError`].
    pub async fn hash(self) -> Result<String, PasswordError> {
        let hash = move || bcrypt::non_truncating_hash(self.0.expose_secret(), COST);
        Ok(tokio::task::spawn_blocking(hash).await??)
    }
}

impl Passwords {
    pub(super) fn new() -> Result<Self, NoRandomness> {
        let key = super::secret::new()?;
        Ok(Self {
            turns: Semaphore::new(AT_A_TIME),
            key: hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()),
            right: Mutex::default(),
        })
    }

    /// Waits until a password may be checked.
    pub(super) async fn turn(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        // It is never closed.
        self.turns.acquire().await.ok()
    }

    /// Whether this was found right lately.
    pub(super) fn is_known(&self, user: &str, hash: &str, given: &SecretString, now: i64) -> bool {
        let tag = self.tag(user, hash, given);
        let right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        right.get(&tag).is_some_and(|until| now < *until)
    }

    /// Whether this is the password with that hash. Takes as long when there is no hash.
    pub(super) async fn is_right(
        &self,
        user: &str,
        hash: Option<&str>,
        given: &SecretString,
        now: i64,
    ) -> Result<bool, PasswordError> {
        let stored = hash.unwrap_or(NOBODYS).to_owned();
        let secret = given.clone();
        let verified = tokio::task::spawn_blocking(move || {
            let given = secret.expose_secret().as_bytes();
            // One that is too long is wrong, and that takes its time as well.
            let right = bcrypt::verify(&given[..given.len().min(LONGEST)], &stored)?;
            Ok::<_, bcrypt::BcryptError>(right && given.len() <= LONGEST)
        })
        .await??;
        let Some(hash) = hash.filter(|_| verified) else {
            return Ok(false);
        };
        let tag = self.tag(user, hash, given);
        let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        if right.len() >= MOST_REMEMBERED {
            right.clear();
        }
        right.insert(tag, now + MEMORY);
        Ok(true)
    }

    fn tag(&self, user: &str, hash: &str, given: &SecretString) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [user, hash, given.expose_secret()] {
            context.update(&part.len().to_le_bytes());
            context.update(part.as_bytes());
        }
        context.sign().as_ref().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn right_and_wrong_passwords() {
        let passwords = Passwords::new().unwrap();
        let given = SecretString::from("correct horse");
        let hash = Password::new(given.clone()).unwrap().hash().await.unwrap();
        assert!(!passwords.is_known("ann", &hash, &given, 0));
        assert!(
            passwords
                .is_right("ann", Some(&hash), &given, 0)
                .await
                .unwrap()
        );
        assert!(passwords.is_known("ann", &hash, &given, MEMORY - 1));
        assert!(!passwords.is_known("ann", &hash, &given, MEMORY));
        assert!(!passwords.is_known("bob", &hash, &given, 1));
        let wrong = SecretString::from("correct horsf");
        assert!(
            !passwords
                .is_right("ann", Some(&hash), &wrong, 0)
                .await
                .unwrap()
        );
        assert!(!passwords.is_right("ann", None, &given, 0).await.unwrap());
        let long = SecretString::from("x".repeat(100));
        assert!(
            !passwords
                .is_right("ann", Some(&hash), &long, 0)
                .await
                .unwrap()
        );
        // As `htpasswd -B` writes them.
        let php = hash.replacen("$2b$", "$2y$", 1);
        assert!(
            passwords
                .is_right("ann", Some(&php), &given, 0)
                .await
                .unwrap()
        );
    }

    #[test]
    fn not_everything_is_a_password() {
        for bad in ["short", "1234567", "with a\nline end", &"x".repeat(73)] {
            assert!(Password::new(SecretString::from(bad)).is_err(), "{bad}");
        }
        assert!(Password::new(SecretString::from("x".repeat(72))).is_ok());
    }
}
