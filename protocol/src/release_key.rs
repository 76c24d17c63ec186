//! Keys that sign releases, as machines and operators know them: the public half.
//!
//! Written as one line everywhere, `<id> <base64 of the public key>`: in a `.pub` file, and behind
//! `release-key:` in the manifest at the end of a launcher's file. Both are fixed for ever.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{
    digest::{SHA256, digest},
    signature::{ED25519, UnparsedPublicKey},
};

use crate::release::{Signature, signed_text};

/// Bytes of an Ed25519 public key.
const LENGTH: usize = 32;
/// Bytes of the SHA-256 that are an id.
const ID_BYTES: usize = 8;

/// A key whose signature makes a package trustworthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseKey {
    id: String,
    public: [u8; LENGTH],
}

/// A line that is no release key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseKeyError {
    /// Not two words in one line.
    Form,
    /// The second word is not the base64 of an Ed25519 public key.
    PublicKey,
    /// The first word is not the id of that key: one of the two was altered.
    Id,
}

/// What the signatures of a package are worth to who trusts some keys. One good signature is enough,
/// whatever the others are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Ids of trusted keys that have signed it.
    pub good: Vec<String>,
    /// Ids of trusted keys that are said to have signed it and have not.
    pub bad: Vec<String>,
    /// What else is said to have signed it.
    pub unknown: Vec<String>,
}

/// Judges the signatures of the package with this SHA-256.
pub fn judge(trusted: &[ReleaseKey], package_sha256: &str, signatures: &[Signature]) -> Judgement {
    let mut judgement = Judgement::default();
    for signature in signatures {
        let key = trusted.iter().find(|key| key.id == signature.key);
        let heap = match key {
            Some(key) if key.has_signed(package_sha256, signature) => &mut judgement.good,
            Some(_) => &mut judgement.bad,
            None => &mut judgement.unknown,
        };
        if !heap.contains(&signature.key) {
            heap.push(signature.key.clone());
        }
    }
    judgement
}

/// Whether a text can be the id of a key: 16 digits of lower-case hex.
pub fn is_key_id(text: &str) -> bool {
    text.len() == 2 * ID_BYTES
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

// === impl ReleaseKey ===

impl ReleaseKey {
    /// The key with these bytes.
    pub fn new(public: [u8; LENGTH]) -> Self {
        let id = digest(&SHA256, &public);
        let id = id.as_ref().iter().take(ID_BYTES);
        Self {
            id: id.map(|byte| format!("{byte:02x}")).collect(),
            public,
        }
    }

    /// Reads `<id> <base64 of the public key>`.
    ///
    /// # Errors
    /// It is not such a line, or its parts do not fit each other.
    pub fn parse(line: &str) -> Result<Self, ReleaseKeyError> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [id, public] = words[..] else {
            return Err(ReleaseKeyError::Form);
        };
        let public = STANDARD
            .decode(public)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(ReleaseKeyError::PublicKey)?;
        let key = Self::new(public);
        if key.id == id {
            Ok(key)
        } else {
            Err(ReleaseKeyError::Id)
        }
    }

    /// The first 16 digits of the SHA-256 of the public key.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether this key has made the signature, for the package with this SHA-256.
    pub fn has_signed(&self, package_sha256: &str, signature: &Signature) -> bool {
        let Ok(bytes) = STANDARD.decode(&signature.signature) else {
            return false;
        };
        UnparsedPublicKey::new(&ED25519, &self.public)
            .verify(signed_text(package_sha256).as_bytes(), &bytes)
            .is_ok()
    }
}

impl fmt::Display for ReleaseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.id, STANDARD.encode(self.public))
    }
}

// === impl ReleaseKeyError ===

impl fmt::Display for ReleaseKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "it is not one line `<id> <base64 of the public key>`",
            Self::PublicKey => "its second word is not the base64 of an Ed25519 public key",
            Self::Id => "its first word is not the id of the key behind it",
        })
    }
}

impl std::error::Error for ReleaseKeyError {}

#[cfg(test)]
mod tests {
    use std::slice;

    use ring::signature::{Ed25519KeyPair, KeyPair};

    use super::*;

    /// RFC 8032, section 7.1, test 1.
    const PUBLIC: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

    #[test]
    fn a_key_is_one_line_that_proves_itself() {
        let key = ReleaseKey::new(STANDARD.decode(PUBLIC).unwrap().try_into().unwrap());
        assert_eq!(key.to_string(), format!("{} {PUBLIC}", key.id()));
        assert!(is_key_id(key.id()), "{}", key.id());
        assert_eq!(ReleaseKey::parse(&format!("{key}\n")).unwrap(), key);
        let id = key.id();
        for (line, error) in [
            (String::new(), ReleaseKeyError::Form),
            (format!("{key} more"), ReleaseKeyError::Form),
            (format!("{id} !"), ReleaseKeyError::PublicKey),
            (format!("{id} AAAA"), ReleaseKeyError::PublicKey),
            (format!("0123456789abcdef {PUBLIC}"), ReleaseKeyError::Id),
        ] {
            assert_eq!(ReleaseKey::parse(&line), Err(error), "{line}");
        }
    }

    #[test]
    fn one_good_signature_is_told_from_bad_and_unknown_ones() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let public = pair.public_key().as_ref().try_into().unwrap();
        let key = ReleaseKey::new(public);
        let sign = |sha256: &str, by: &str| Signature {
            key: by.to_owned(),
            signature: STANDARD.encode(pair.sign(signed_text(sha256).as_bytes())),
        };
        let broken = Signature {
            key: key.id().to_owned(),
            signature: "no base64".to_owned(),
        };
        let judge = |signatures: &[Signature]| judge(slice::from_ref(&key), "abc", signatures);
        let ids = |ids: &[&str]| ids.iter().map(|&id| id.to_owned()).collect::<Vec<_>>();

        let good = sign("abc", key.id());
        let judged = judge(&[broken.clone(), sign("abc", "stranger"), good]);
        assert_eq!(judged.good, ids(&[key.id()]));
        assert_eq!(judged.bad, ids(&[key.id()]));
        assert_eq!(judged.unknown, ids(&["stranger"]));
        let judged = judge(&[broken, sign("abd", key.id())]);
        assert_eq!((judged.good, judged.bad), (ids(&[]), ids(&[key.id()])));
        assert_eq!(judge(&[]), Judgement::default());
    }

    #[test]
    fn ids_are_16_digits() {
        for no in [
            "",
            "0123456789abcde",
            "0123456789ABCDEF",
            "0123456789abcdefg",
        ] {
            assert!(!is_key_id(no), "{no}");
        }
    }
}
