//! The folder `trust/`: the authority and the server's certificate, made when missing.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use openssl::{
    asn1::Asn1Time,
    ec::{EcGroup, EcKey},
    error::ErrorStack,
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    x509::{X509, X509NameRef},
};

use super::issue::{self, Leaf};
use crate::{durable, hex::hex};

const DAY: Duration = Duration::from_secs(24 * 3600);
const AUTHORITY_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// What clients accept at most from a server.
const SERVER_LIFE: Duration = Duration::from_secs(397 * 24 * 3600);
/// The server's certificate is renewed at a start this long before its end.
const SERVER_RENEWAL: Duration = Duration::from_secs(60 * 24 * 3600);

/// Why there is no trust to start with.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Write(#[from] durable::WriteError),
    #[error("cannot make the folder {}", path.display())]
    Folder {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{} does not hold a key or certificate in PEM; restore it from a backup, or move the folder away \
         to begin with a new authority (every agent then has to be pointed at it anew)",
        path.display()
    )]
    Malformed {
        path: PathBuf,
        #[source]
        source: ErrorStack,
    },
    #[error(
        "{} has no key beside it: restore ca.key from a backup, or move the folder away to begin with a \
         new authority (every agent then has to be pointed at it anew)",
        certificate.display()
    )]
    KeyMissing { certificate: PathBuf },
    #[error("{} and ca.key beside it do not belong together: restore both from one backup", certificate.display())]
    KeyMismatch { certificate: PathBuf },
    #[error("the certificate authority {} ended on {ended}: move the folder away to begin with a new one", certificate.display())]
    Ended { certificate: PathBuf, ended: String },
    #[error("cannot make a certificate")]
    Openssl(#[from] ErrorStack),
}

/// The certificate authority and the server's own certificate.
pub struct Trust {
    pub(super) authority: X509,
    pub(super) authority_key: PKey<Private>,
    pub(super) server: X509,
    pub(super) server_key: PKey<Private>,
}

impl Trust {
    /// Reads the folder; makes what is missing and renews the server's certificate when it is near
    /// its end or lacks one of `names` (host names and addresses).
    ///
    /// # Errors
    ///
    /// Something is there that cannot be used: it is never replaced silently, since agents trust it.
    pub fn open(folder: &Path, names: &[String], now: Timestamp) -> Result<Self, TrustError> {
        durable::private_folder(folder).map_err(|source| TrustError::Folder {
            path: folder.to_path_buf(),
            source,
        })?;
        let (authority, authority_key) = open_authority(folder, now)?;
        let mut trust = Self {
            server: authority.clone(),
            server_key: authority_key.clone(),
            authority,
            authority_key,
        };
        match read_server(folder)? {
            Some((certificate, key)) if trust.serves(&certificate, &key, names, now) => {
                (trust.server, trust.server_key) = (certificate, key);
            }
            _ => trust.renew_server(folder, names, now)?,
        }
        Ok(trust)
    }

    /// SHA-256 of the authority's certificate in lower-case hex: what an agent can pin.
    pub fn fingerprint(&self) -> Result<String, ErrorStack> {
        let digest = self.authority.digest(MessageDigest::sha256())?;
        Ok(hex(&digest))
    }

    /// The authority's certificate as PEM: what an agent trusts.
    pub fn trust_store(&self) -> Result<String, ErrorStack> {
        Ok(String::from_utf8_lossy(&self.authority.to_pem()?).into_owned())
    }

    fn serves(
        &self,
        certificate: &X509,
        key: &PKey<Private>,
        names: &[String],
        now: Timestamp,
    ) -> bool {
        let ours = certificate.verify(&self.authority_key).unwrap_or(false);
        let matches = certificate
            .public_key()
            .is_ok_and(|public| public.public_eq(key));
        let lasting = after(now, SERVER_RENEWAL).is_ok_and(|later| certificate.not_after() > later);
        let alternatives = alternative_names(certificate);
        ours && matches && lasting && names.iter().all(|name| alternatives.contains(name))
    }

    fn renew_server(
        &mut self,
        folder: &Path,
        names: &[String],
        now: Timestamp,
    ) -> Result<(), TrustError> {
        let key = new_key()?;
        let certificate = issue::sign(
            &self.authority,
            &self.authority_key,
            &key,
            &Leaf {
                common_name: names.first().map_or("journeyman-server", String::as_str),
                server_names: names,
            },
            now,
            SERVER_LIFE,
        )?;
        durable::write(
            &folder.join("server.key"),
            &key.private_key_to_pem_pkcs8()?,
            0o600,
        )?;
        // Written last: if power goes in between, the pair does not match and is made again.
        durable::write(&folder.join("server.crt"), &certificate.to_pem()?, 0o644)?;
        (self.server, self.server_key) = (certificate, key);
        Ok(())
    }
}

fn open_authority(folder: &Path, now: Timestamp) -> Result<(X509, PKey<Private>), TrustError> {
    let key_path = folder.join("ca.key");
    let certificate_path = folder.join("ca.crt");
    let key = read(&key_path)?.map(|pem| {
        PKey::private_key_from_pem(&pem).map_err(|source| TrustError::Malformed {
            path: key_path.clone(),
            source,
        })
    });
    let certificate = read(&certificate_path)?.map(|pem| {
        X509::from_pem(&pem).map_err(|source| TrustError::Malformed {
            path: certificate_path.clone(),
            source,
        })
    });
    let key = key.transpose()?;
    let Some(certificate) = certificate.transpose()? else {
        // The first start, or one that a power cut ended between the two files.
        let key = match key {
            Some(key) => key,
            None => {
                let key = new_key()?;
                durable::write(&key_path, &key.private_key_to_pem_pkcs8()?, 0o600)?;
                key
            }
        };
        let certificate = issue::self_signed(&key, now, AUTHORITY_LIFE)?;
        durable::write(&certificate_path, &certificate.to_pem()?, 0o644)?;
        return Ok((certificate, key));
    };
    let Some(key) = key else {
        return Err(TrustError::KeyMissing {
            certificate: certificate_path,
        });
    };
    if !certificate.public_key()?.public_eq(&key) {
        return Err(TrustError::KeyMismatch {
            certificate: certificate_path,
        });
    }
    if certificate.not_after() <= at(now)? {
        let ended = certificate.not_after().to_string();
        return Err(TrustError::Ended {
            certificate: certificate_path,
            ended,
        });
    }
    Ok((certificate, key))
}

/// `None` when one of the two is missing or cannot be read as PEM: then both are made again, which
/// loses nothing, since agents trust the authority only.
fn read_server(folder: &Path) -> Result<Option<(X509, PKey<Private>)>, TrustError> {
    let key = read(&folder.join("server.key"))?;
    let certificate = read(&folder.join("server.crt"))?;
    Ok(key.zip(certificate).and_then(|(key, certificate)| {
        Some((
            X509::from_pem(&certificate).ok()?,
            PKey::private_key_from_pem(&key).ok()?,
        ))
    }))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, TrustError> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TrustError::Read {
            path: path.to_path_buf(),
            source,
        }),
    }
}

/// A new key on the curve P-256, which every TLS library speaks.
pub(super) fn new_key() -> Result<PKey<Private>, ErrorStack> {
    PKey::from_ec_key(EcKey::generate(
        EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?.as_ref(),
    )?)
}

pub(super) fn at(time: Timestamp) -> Result<Asn1Time, ErrorStack> {
    Asn1Time::from_unix(time.as_second())
}

pub(super) fn after(time: Timestamp, life: Duration) -> Result<Asn1Time, ErrorStack> {
    Asn1Time::from_unix(
        time.as_second()
            .saturating_add(i64::try_from(life.as_secs()).unwrap_or(i64::MAX)),
    )
}

/// A day before, since the clocks of build machines are not all right; less for a short life, two
/// thirds of which must not be over at once: that is when an agent renews.
pub(super) fn slightly_before(time: Timestamp, life: Duration) -> Result<Asn1Time, ErrorStack> {
    let before = DAY.min(life / 8);
    Asn1Time::from_unix(
        time.as_second()
            .saturating_sub(i64::try_from(before.as_secs()).unwrap_or(0)),
    )
}

pub(super) fn first_common_name(name: &X509NameRef) -> Option<String> {
    let entry = name.entries_by_nid(Nid::COMMONNAME).next()?;
    entry.data().to_string().ok()
}

fn alternative_names(certificate: &X509) -> Vec<String> {
    let Some(names) = certificate.subject_alt_names() else {
        return Vec::new();
    };
    names
        .iter()
        .filter_map(|name| {
            name.dnsname()
                .map(ToOwned::to_owned)
                .or_else(|| match *name.ipaddress()? {
                    [a, b, c, d] => Some(IpAddr::from([a, b, c, d]).to_string()),
                    ref address => {
                        Some(IpAddr::from(<[u8; 16]>::try_from(address).ok()?).to_string())
                    }
                })
        })
        .collect()
}
