//! The agent's key and certificate for mutual TLS with our own server.
//!
//! Four files in `config/journeyman/`, which a crash at any instant leaves usable: the key is made
//! once and kept for renewals, so that certificate and key always belong together; `server.json`
//! is written last and removed first, and only its presence makes the others count.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use journeyman_protocol::{registration::Certificate, secret::Secret};
use openssl::{
    asn1::{Asn1Time, Asn1TimeRef},
    ec::{EcGroup, EcKey},
    error::ErrorStack,
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    x509::{X509, X509NameBuilder, X509ReqBuilder},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing::warn;
use url::Url;

use crate::{
    durable::{self, FileError},
    workdir::WorkDir,
};

/// Parts of a certificate's life after which it is renewed: two of three.
const RENEW_AFTER: (i32, i32) = (2, 3);

/// A secure connection as it was kept: all four files were there and fit together.
#[derive(Clone, Debug)]
pub struct SecureConnection {
    /// Base URL of mutual TLS, without a slash at its end.
    pub secure_url: Url,
    /// The agent's certificate and chain, PEM.
    pub certificate: String,
    /// The agent's private key, PKCS#8 PEM.
    pub key: Secret,
    /// Certificates to trust the server by, PEM.
    pub trust_store: String,
    /// When the certificate began.
    pub not_before: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
}

/// A request for a certificate, or what came back, could not be used.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// OpenSSL refused.
    #[error("cannot {action}: {source}")]
    OpenSsl {
        /// What was tried.
        action: &'static str,
        /// What OpenSSL said.
        #[source]
        source: ErrorStack,
    },
    /// What the server sent does not fit.
    #[error("the certificate from the server cannot be used: {0}; the agent goes on without it")]
    Unusable(String),
}

/// `server.json`.
#[derive(Serialize, Deserialize)]
struct SecureServer {
    secure_url: String,
    /// The configured URL it was got over: with another one, it is another server.
    for_url: String,
}

/// A signing request (PKCS#10, PEM) with the GUID as common name. The key is P-256; it is made and
/// kept at the first need and never leaves this machine.
///
/// # Errors
/// The key cannot be made or written.
pub fn request(workdir: &WorkDir, guid: &str) -> Result<String, CertificateError> {
    let key = match kept_key(workdir)? {
        Some(key) => key,
        None => new_key(workdir)?,
    };
    let pem = signing_request(&key, guid).map_err(openssl("make a certificate request"))?;
    Ok(String::from_utf8_lossy(&pem).into_owned())
}

/// Keeps what the server answered to [`request`], to be used from now on with the server that is
/// configured as `configured_url`.
///
/// # Errors
/// The certificate does not belong to our key, or something in it cannot be read; nothing is kept
/// then. Or a file cannot be written.
pub fn save(
    workdir: &WorkDir,
    answer: &Certificate,
    configured_url: &str,
) -> Result<(), CertificateError> {
    let unusable = |reason: &str| CertificateError::Unusable(reason.to_owned());
    let key = kept_key(workdir)?.ok_or_else(|| unusable("its key is gone"))?;
    let secure_url = parse_secure_url(&answer.secure_url)
        .ok_or_else(|| unusable("its address is no https:// URL"))?;
    read_pair(&answer.certificate, &key).map_err(CertificateError::Unusable)?;
    read_trust(&answer.trust_store).map_err(CertificateError::Unusable)?;
    let server = SecureServer {
        secure_url: secure_url.to_string(),
        for_url: configured_url.to_owned(),
    };
    let server = serde_json::to_vec_pretty(&server)
        .map_err(|error| CertificateError::Unusable(error.to_string()))?;
    // Between these writes a crash may come. With the same server each mixture of old and new
    // works; with another one, nothing counts until the last is written.
    if kept_server(workdir)?.is_some_and(|kept| kept.for_url != configured_url) {
        durable::remove(&workdir.secure_server())?;
    }
    durable::write_secret(&workdir.trust_store(), answer.trust_store.as_bytes())?;
    durable::write_secret(&workdir.agent_certificate(), answer.certificate.as_bytes())?;
    durable::write_secret(&workdir.secure_server(), &server)?;
    Ok(())
}

/// The kept secure connection, if there is one for this configured URL and its certificate has not
/// ended at `now`. A corrupt file is set aside with a warning and counts as none.
///
/// # Errors
/// A file is there and cannot be read or renamed.
pub fn load(
    workdir: &WorkDir,
    configured_url: &str,
    now: Timestamp,
) -> Result<Option<SecureConnection>, CertificateError> {
    let Some(server) = kept_server(workdir)? else {
        return Ok(None);
    };
    if server.for_url != configured_url {
        return Ok(None);
    }
    let Some(secure_url) = parse_secure_url(&server.secure_url) else {
        set_aside(&workdir.secure_server(), "its address is no https:// URL")?;
        return Ok(None);
    };
    let Some(key) = kept_key(workdir)? else {
        return Ok(None);
    };
    let Some((certificate, first)) =
        kept_text(&workdir.agent_certificate(), |text| read_pair(text, &key))?
    else {
        return Ok(None);
    };
    let Some((trust_store, ())) = kept_text(&workdir.trust_store(), read_trust)? else {
        return Ok(None);
    };
    let times = timestamp(first.not_before()).zip(timestamp(first.not_after()));
    let Some((not_before, not_after)) = times else {
        set_aside(&workdir.agent_certificate(), "its times cannot be read")?;
        return Ok(None);
    };
    if not_after <= now {
        warn!(%not_after, "the agent's certificate has ended; asking for a new one");
        return Ok(None);
    }
    let key = key
        .private_key_to_pem_pkcs8()
        .map_err(openssl("read the agent's key"))?;
    Ok(Some(SecureConnection {
        secure_url,
        certificate,
        key: String::from_utf8_lossy(&key).into_owned().into(),
        trust_store,
        not_before,
        not_after,
    }))
}

/// Forgets the secure connection: the configured URL is used until a new certificate is got. The
/// key stays for the next request.
///
/// # Errors
/// The file cannot be removed.
pub fn discard(workdir: &WorkDir) -> Result<(), FileError> {
    durable::remove(&workdir.secure_server())
}

impl SecureConnection {
    /// When to ask for the next certificate: two thirds into the life of this one.
    pub fn renew_at(&self) -> Timestamp {
        let life = self.not_after.duration_since(self.not_before);
        let (parts, of) = RENEW_AFTER;
        self.not_before
            + SignedDuration::from_secs(life.as_secs() / i64::from(of) * i64::from(parts))
    }
}

fn openssl(action: &'static str) -> impl FnOnce(ErrorStack) -> CertificateError {
    move |source| CertificateError::OpenSsl { action, source }
}

fn new_key(workdir: &WorkDir) -> Result<PKey<Private>, CertificateError> {
    let make = || {
        let curve = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
        let key = PKey::from_ec_key(EcKey::generate(&curve)?)?;
        let pem = key.private_key_to_pem_pkcs8()?;
        Ok((key, pem))
    };
    let (key, pem) = make().map_err(openssl("make a key"))?;
    durable::write_secret(&workdir.agent_key(), &pem)?;
    Ok(key)
}

fn signing_request(key: &PKey<Private>, guid: &str) -> Result<Vec<u8>, ErrorStack> {
    let mut name = X509NameBuilder::new()?;
    name.append_entry_by_nid(Nid::COMMONNAME, guid)?;
    let mut request = X509ReqBuilder::new()?;
    request.set_version(0)?;
    request.set_subject_name(&name.build())?;
    request.set_pubkey(key)?;
    request.sign(key, MessageDigest::sha256())?;
    request.build().to_pem()
}

fn kept_key(workdir: &WorkDir) -> Result<Option<PKey<Private>>, CertificateError> {
    let read = |text: &str| PKey::private_key_from_pem(text.as_bytes()).map_err(|e| e.to_string());
    Ok(kept_text(&workdir.agent_key(), read)?.map(|(_, key)| key))
}

fn kept_server(workdir: &WorkDir) -> Result<Option<SecureServer>, CertificateError> {
    let read = |text: &str| serde_json::from_str(text).map_err(|error| error.to_string());
    Ok(kept_text(&workdir.secure_server(), read)?.map(|(_, server)| server))
}

/// The text of a file and what `read` makes of it; a file it refuses is set aside.
fn kept_text<T>(
    path: &Path,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<(String, T)>, FileError> {
    let Some(content) = durable::read_tolerant(path)? else {
        return Ok(None);
    };
    let read = String::from_utf8(content)
        .map_err(|_| "it is not text".to_owned())
        .and_then(|text| read(&text).map(|value| (text, value)));
    match read {
        Ok(found) => Ok(Some(found)),
        Err(reason) => {
            set_aside(path, &reason)?;
            Ok(None)
        }
    }
}

fn set_aside(path: &Path, reason: &str) -> Result<(), FileError> {
    let aside = durable::set_aside(path)?;
    warn!(
        file = %path.display(),
        kept_as = %aside.display(),
        reason,
        "a file of the secure connection is corrupt; going on with the configured URL"
    );
    Ok(())
}

fn parse_secure_url(text: &str) -> Option<Url> {
    let url = Url::parse(text.trim_end_matches('/')).ok()?;
    (url.scheme() == "https" && url.has_host()).then_some(url)
}

fn read_pair(certificate: &str, key: &PKey<Private>) -> Result<X509, String> {
    let first = X509::stack_from_pem(certificate.as_bytes())
        .ok()
        .and_then(|chain| chain.into_iter().next())
        .ok_or("no certificate in PEM is in it")?;
    let public = first.public_key().map_err(|error| error.to_string())?;
    if !key.public_eq(&public) {
        return Err("it does not belong to the agent's key".to_owned());
    }
    Ok(first)
}

fn read_trust(text: &str) -> Result<(), String> {
    match X509::stack_from_pem(text.as_bytes()) {
        Ok(certificates) if !certificates.is_empty() => Ok(()),
        _ => Err("no certificate to trust the server by is in it".to_owned()),
    }
}

fn timestamp(time: &Asn1TimeRef) -> Option<Timestamp> {
    let since = Asn1Time::from_unix(0).ok()?.diff(time).ok()?;
    Timestamp::from_second(i64::from(since.days) * 86_400 + i64::from(since.secs)).ok()
}
