//! Certificates that a server is trusted by: root files, and pinned fingerprints.

use std::{
    fmt, fs, io,
    net::TcpStream,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use openssl::{
    error::ErrorStack,
    ssl::{Ssl, SslContext, SslMethod, SslVerifyMode},
    x509::{X509, X509Ref},
};
use ring::digest::{SHA256, digest};
use thiserror::Error;
use url::Url;

/// Longest wait for each step of looking at a server's certificates.
const PATIENCE: Duration = Duration::from_secs(5);

/// SHA-256 of a certificate in DER.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

/// Text is no fingerprint.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("`{0}` is no SHA-256 fingerprint: 64 hexadecimal digits, with or without colons")]
pub struct NoFingerprint(String);

/// A file of root certificates cannot be used.
#[derive(Debug, Error)]
pub enum RootFileError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It holds none.
    #[error("no certificate is in {}: it must hold one or more in PEM, or one in DER", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
}

/// A server's certificates could not be looked at, or are not the ones that were pinned.
#[derive(Debug, Error)]
pub enum PinError {
    /// No TLS connection came about.
    #[error("cannot see the certificates of {server}: {reason}")]
    Unreachable {
        /// Host and port.
        server: String,
        /// What went wrong.
        reason: String,
    },
    /// None of them has the fingerprint.
    #[error(
        "the server {server} shows no certificate with the fingerprint {wanted}; it shows {}. If \
         its certificate was renewed, give the new one with --server-fingerprint; if not, somebody \
         may be in between",
        listed(seen)
    )]
    Other {
        /// Host and port.
        server: String,
        /// What was pinned.
        wanted: Fingerprint,
        /// What the server shows, its own first.
        seen: Vec<Fingerprint>,
    },
    /// The certificate is one of many that its issuer may replace.
    #[error(
        "the certificate with the fingerprint {wanted} is issued by `{issuer}`, so it is no root to \
         trust: pin the fingerprint of a self-signed or root certificate{}, or give the root with \
         --root-cert-file",
        suggestion(root.as_ref())
    )]
    NoRoot {
        /// What was pinned.
        wanted: Fingerprint,
        /// Who signed it.
        issuer: String,
        /// The root that the server shows, if it does.
        root: Option<Fingerprint>,
    },
}

impl Fingerprint {
    /// The fingerprint of a certificate.
    pub fn of(certificate: &X509Ref) -> Result<Self, ErrorStack> {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, &certificate.to_der()?).as_ref());
        Ok(Self(bytes))
    }
}

impl FromStr for Fingerprint {
    type Err = NoFingerprint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || NoFingerprint(text.to_owned());
        let digits: Vec<u8> = text
            .trim()
            .chars()
            .filter(|character| *character != ':')
            .map(|character| {
                character
                    .to_digit(16)
                    .and_then(|digit| u8::try_from(digit).ok())
            })
            .collect::<Option<_>>()
            .ok_or_else(invalid)?;
        let bytes: Vec<u8> = digits
            .chunks(2)
            .map(|pair| match pair {
                [high, low] => Some(high << 4 | low),
                _ => None,
            })
            .collect::<Option<_>>()
            .ok_or_else(invalid)?;
        Ok(Self(bytes.try_into().map_err(|_| invalid())?))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The certificates in a file: PEM, one or more, or one in DER.
///
/// # Errors
/// The file cannot be read or holds none.
pub fn certificates_in(path: &Path) -> Result<Vec<X509>, RootFileError> {
    let content = fs::read(path).map_err(|source| RootFileError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    let certificates = X509::stack_from_pem(&content)
        .ok()
        .filter(|certificates| !certificates.is_empty())
        .or_else(|| X509::from_der(&content).ok().map(|one| vec![one]));
    certificates.ok_or_else(|| RootFileError::NoCertificate {
        path: path.to_owned(),
    })
}

/// Fetches the pinned certificate from the server. Nothing is believed but its fingerprint, and
/// nothing is sent. Blocks.
///
/// # Errors
/// The server is out of reach, shows other certificates, or the pinned one is no root.
pub fn fetch_pinned(server: &Url, wanted: Fingerprint) -> Result<X509, PinError> {
    let chain = presented_chain(server)?;
    let name = authority(server);
    let seen: Vec<Fingerprint> = chain
        .iter()
        .filter_map(|certificate| Fingerprint::of(certificate).ok())
        .collect();
    let found = chain
        .iter()
        .find(|certificate| Fingerprint::of(certificate).is_ok_and(|own| own == wanted));
    let Some(found) = found else {
        return Err(PinError::Other {
            server: name,
            wanted,
            seen,
        });
    };
    if !is_self_signed(found) {
        let root = chain.iter().find(|certificate| is_self_signed(certificate));
        return Err(PinError::NoRoot {
            wanted,
            issuer: format!("{:?}", found.issuer_name()),
            root: root.and_then(|root| Fingerprint::of(root).ok()),
        });
    }
    Ok(found.clone())
}

/// The certificates a server shows, its own first, without believing any of them. Blocks for some
/// seconds at most.
///
/// # Errors
/// No connection or no TLS.
pub fn presented_chain(server: &Url) -> Result<Vec<X509>, PinError> {
    let name = authority(server);
    let unreachable = |reason: String| PinError::Unreachable {
        server: name.clone(),
        reason,
    };
    let addresses = server
        .socket_addrs(|| None)
        .map_err(|error| unreachable(error.to_string()))?;
    let mut last = "its name has no address".to_owned();
    let stream = addresses
        .iter()
        .find_map(|address| {
            TcpStream::connect_timeout(address, PATIENCE)
                .map_err(|error| last = error.to_string())
                .ok()
        })
        .ok_or_else(|| unreachable(last))?;
    for result in [
        stream.set_read_timeout(Some(PATIENCE)),
        stream.set_write_timeout(Some(PATIENCE)),
    ] {
        result.map_err(|error| unreachable(error.to_string()))?;
    }
    let ssl = unverifying(server).map_err(|error| unreachable(error.to_string()))?;
    let connection = ssl
        .connect(stream)
        .map_err(|error| unreachable(error.to_string()))?;
    let chain = connection
        .ssl()
        .peer_cert_chain()
        .map(|chain| chain.iter().map(ToOwned::to_owned).collect::<Vec<_>>());
    chain
        .filter(|chain| !chain.is_empty())
        .ok_or_else(|| unreachable("it shows none".to_owned()))
}

/// Whether nobody but the certificate itself vouches for it.
fn is_self_signed(certificate: &X509Ref) -> bool {
    certificate
        .public_key()
        .and_then(|key| certificate.verify(&key))
        .unwrap_or(false)
}

fn unverifying(server: &Url) -> Result<Ssl, ErrorStack> {
    let mut context = SslContext::builder(SslMethod::tls_client())?;
    context.set_verify(SslVerifyMode::NONE);
    let mut ssl = Ssl::new(&context.build())?;
    if let Some(host) = server.domain() {
        ssl.set_hostname(host)?;
    }
    Ok(ssl)
}

/// Host and port for messages.
fn authority(server: &Url) -> String {
    let host = server.host_str().unwrap_or_default();
    match server.port_or_known_default() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

fn listed(seen: &[Fingerprint]) -> String {
    seen.iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

fn suggestion(root: Option<&Fingerprint>) -> String {
    root.map(|root| format!(" (the server shows the root {root})"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_read_in_all_usual_forms() {
        let plain = "0123456789abcdef".repeat(4);
        let colons = plain
            .as_bytes()
            .chunks(2)
            .map(|pair| String::from_utf8_lossy(pair).to_uppercase())
            .collect::<Vec<_>>()
            .join(":");
        let one: Fingerprint = plain.parse().unwrap();
        assert_eq!(one, colons.parse().unwrap());
        assert_eq!(one.to_string(), plain);
        for bad in ["", "ab", &plain[1..], "zz", &format!("{plain}00"), "é"] {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.pem");
        fs::write(&path, "hello").unwrap();
        assert!(matches!(
            certificates_in(&path),
            Err(RootFileError::NoCertificate { .. })
        ));
    }
}
