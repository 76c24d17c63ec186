//! Random secrets, and what is stored of them.

use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom as _, SystemRandom},
};

use crate::hex::hex;

/// The system gave no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random bytes to make a secret of; look at /dev/urandom")]
pub struct NoRandomness;

/// A new secret of 256 bits, in hex.
pub(crate) fn new() -> Result<String, NoRandomness> {
    let mut bytes = [0; 32];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| NoRandomness)?;
    Ok(hex(&bytes))
}

/// A password for people to copy, of letters that are not mistaken for others: more than 110 bits.
pub(super) fn new_password() -> Result<String, NoRandomness> {
    const LETTERS: &[u8; 31] = b"abcdefghjkmnpqrstuvwxyz23456789";
    let mut bytes = [0; 24];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| NoRandomness)?;
    Ok(bytes
        .iter()
        .map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]))
        .collect())
}

/// What is stored of a secret of [`new`]. It has 256 bits: no salt and no slow digest is needed,
/// and looking one up by its digest tells nothing about others.
pub(super) fn digest_of(secret: &str) -> String {
    hex(digest(&SHA256, secret.as_bytes()).as_ref())
}

/// What follows from a secret for another purpose, and does not lead back to it.
pub(super) fn derived(secret: &str, purpose: &str) -> String {
    digest_of(&format!("{purpose}:{secret}"))
}

/// Compares in a time that does not tell where two texts differ.
pub(crate) fn same(left: &str, right: &str) -> bool {
    left.len() == right.len() && openssl::memcmp::eq(left.as_bytes(), right.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_differ_and_compare() {
        let (one, two) = (new().unwrap(), new().unwrap());
        assert!(one.len() == 64 && one != two);
        assert!(same(&one, &one) && !same(&one, &two) && !same(&one, ""));
        assert_ne!(digest_of(&one), one);
        assert_ne!(derived(&one, "a"), derived(&one, "b"));
        assert_eq!(new_password().unwrap().len(), 24);
    }
}
