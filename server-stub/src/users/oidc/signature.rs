//! Signatures of ID tokens, verified by ring.
//!
//! `jsonwebtoken` reads tokens and keys; what computes is a provider of ours, because its own ones
//! would bring a second library for what is here already.

use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind,
    crypto::{CryptoProvider, JwtVerifier, KeyUtils},
    errors::{ErrorKind, Result},
    signature::{Error, Verifier},
};
use ring::signature as by_ring;

static RING: CryptoProvider = CryptoProvider {
    // Nothing is signed here.
    signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

/// To be called before the first token is read.
pub(super) fn install() {
    // Only the first call of a process does anything.
    let _ = RING.install_default();
}

struct ByRing {
    algorithm: Algorithm,
    how: How,
    key: DecodingKey,
}

#[derive(Clone, Copy)]
enum How {
    Rsa(&'static by_ring::RsaParameters),
    /// The key is its bytes.
    Plain(&'static dyn by_ring::VerificationAlgorithm),
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    let how = match algorithm {
        Algorithm::RS256 => How::Rsa(&by_ring::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => How::Rsa(&by_ring::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => How::Rsa(&by_ring::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => How::Rsa(&by_ring::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => How::Rsa(&by_ring::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => How::Rsa(&by_ring::RSA_PSS_2048_8192_SHA512),
        Algorithm::ES256 => How::Plain(&by_ring::ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => How::Plain(&by_ring::ECDSA_P384_SHA384_FIXED),
        Algorithm::EdDSA => How::Plain(&by_ring::ED25519),
        // A secret that both sides know proves nothing about who has signed.
        _ => return Err(ErrorKind::UnsupportedAlgorithm.into()),
    };
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidKeyFormat.into());
    }
    Ok(Box::new(ByRing {
        algorithm: *algorithm,
        how,
        key: key.clone(),
    }))
}

impl Verifier<Vec<u8>> for ByRing {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        let verified = match (self.how, self.key.kind()) {
            (How::Rsa(how), DecodingKeyKind::RsaModulusExponent { n, e }) => {
                by_ring::RsaPublicKeyComponents { n, e }.verify(how, message, signature)
            }
            (How::Plain(how), DecodingKeyKind::SecretOrDer(key)) => {
                by_ring::UnparsedPublicKey::new(how, key).verify(message, signature)
            }
            _ => return Err(Error::new()),
        };
        verified.map_err(|_| Error::new())
    }
}

impl JwtVerifier for ByRing {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
