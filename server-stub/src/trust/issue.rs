//! Making certificates.

use std::time::Duration;

use jiff::Timestamp;
use openssl::{
    asn1::{Asn1Integer, Asn1TimeRef},
    bn::{BigNum, MsbOption},
    error::ErrorStack,
    hash::MessageDigest,
    nid::Nid,
    pkey::{HasPrivate, HasPublic, PKey, PKeyRef, Private},
    x509::{
        X509, X509Builder, X509NameBuilder, X509Ref, X509Req,
        extension::{
            AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage,
            SubjectAlternativeName, SubjectKeyIdentifier,
        },
    },
};

use super::{
    Trust,
    authority::{after, slightly_before},
};

/// The most a common name may hold (X.509, ub-common-name).
const LONGEST_COMMON_NAME: usize = 64;

/// Why a signing request is refused.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("the certificate request is not a PKCS#10 request in PEM")]
    Malformed(#[source] ErrorStack),
    #[error("the certificate request is not signed with the key it asks for")]
    NotItsKey,
    #[error(
        "the certificate request asks for a key that is too weak: use P-256, or RSA of 2048 bits or more"
    )]
    WeakKey,
    #[error("cannot make a certificate")]
    Openssl(#[from] ErrorStack),
}

/// A certificate for an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The agent's certificate, then the authority's, as PEM.
    pub chain: String,
    /// When the agent's certificate ends.
    pub not_after: Timestamp,
}

impl Trust {
    /// Signs an agent's request. Only the key is taken from it: the name is the agent's uuid,
    /// whatever it asked for.
    ///
    /// # Errors
    ///
    /// The request is malformed, not signed with its own key, or its key is weak.
    pub fn issue(
        &self,
        request: &str,
        uuid: &str,
        now: Timestamp,
        life: Duration,
    ) -> Result<Issued, RequestError> {
        let request = X509Req::from_pem(request.as_bytes()).map_err(RequestError::Malformed)?;
        let key = request.public_key().map_err(RequestError::Malformed)?;
        if !request.verify(&key).unwrap_or(false) {
            return Err(RequestError::NotItsKey);
        }
        if key.security_bits() < 112 {
            return Err(RequestError::WeakKey);
        }
        let leaf = Leaf {
            common_name: uuid,
            server_names: &[],
        };
        let certificate = sign(&self.authority, &self.authority_key, &key, &leaf, now, life)?;
        let not_after = now
            .as_second()
            .saturating_add(seconds_until(now, certificate.not_after())?);
        let mut chain = certificate.to_pem()?;
        chain.extend(self.authority.to_pem()?);
        Ok(Issued {
            chain: String::from_utf8_lossy(&chain).into_owned(),
            not_after: Timestamp::from_second(not_after).unwrap_or(now),
        })
    }
}

/// What a certificate is for: a server when it has names, else a client.
pub(super) struct Leaf<'a> {
    pub(super) common_name: &'a str,
    pub(super) server_names: &'a [String],
}

pub(super) fn sign<K: HasPublic>(
    authority: &X509Ref,
    authority_key: &PKey<Private>,
    key: &PKeyRef<K>,
    leaf: &Leaf<'_>,
    now: Timestamp,
    life: Duration,
) -> Result<X509, ErrorStack> {
    let mut builder = begin(leaf.common_name, key)?;
    builder.set_issuer_name(authority.subject_name())?;
    builder.set_not_before(&*slightly_before(now, life)?)?;
    let end = after(now, life)?;
    // Nothing outlives what signed it.
    let end: &Asn1TimeRef = if *authority.not_after() < *end {
        authority.not_after()
    } else {
        &end
    };
    builder.set_not_after(end)?;
    builder.append_extension(BasicConstraints::new().critical().build()?)?;
    builder.append_extension(KeyUsage::new().critical().digital_signature().build()?)?;
    let mut usage = ExtendedKeyUsage::new();
    if leaf.server_names.is_empty() {
        usage.client_auth();
    } else {
        usage.server_auth();
        let mut alternatives = SubjectAlternativeName::new();
        for name in leaf.server_names {
            if name.parse::<std::net::IpAddr>().is_ok() {
                alternatives.ip(name);
            } else {
                alternatives.dns(name);
            }
        }
        let extension = alternatives.build(&builder.x509v3_context(Some(authority), None))?;
        builder.append_extension(extension)?;
    }
    builder.append_extension(usage.build()?)?;
    let own = SubjectKeyIdentifier::new().build(&builder.x509v3_context(Some(authority), None))?;
    builder.append_extension(own)?;
    let issuer = AuthorityKeyIdentifier::new()
        .keyid(true)
        .build(&builder.x509v3_context(Some(authority), None))?;
    builder.append_extension(issuer)?;
    builder.sign(authority_key, MessageDigest::sha256())?;
    Ok(builder.build())
}

pub(super) fn self_signed<K: HasPrivate + HasPublic>(
    key: &PKeyRef<K>,
    now: Timestamp,
    life: Duration,
) -> Result<X509, ErrorStack> {
    // Two authorities never share a name: whoever trusts both must be able to tell them apart.
    let mut id = [0; 4];
    openssl::rand::rand_bytes(&mut id)?;
    let name = format!("Journeyman CA {:08x}", u32::from_be_bytes(id));
    let mut builder = begin(&name, key)?;
    builder.set_issuer_name(&*common_name(&name)?)?;
    builder.set_not_before(&*slightly_before(now, life)?)?;
    builder.set_not_after(&*after(now, life)?)?;
    builder.append_extension(BasicConstraints::new().critical().ca().pathlen(0).build()?)?;
    builder.append_extension(
        KeyUsage::new()
            .critical()
            .key_cert_sign()
            .crl_sign()
            .build()?,
    )?;
    let own = SubjectKeyIdentifier::new().build(&builder.x509v3_context(None, None))?;
    builder.append_extension(own)?;
    builder.sign(key, MessageDigest::sha256())?;
    Ok(builder.build())
}

fn begin<K: HasPublic>(name: &str, key: &PKeyRef<K>) -> Result<X509Builder, ErrorStack> {
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    let mut serial = BigNum::new()?;
    serial.rand(127, MsbOption::MAYBE_ZERO, false)?;
    builder.set_serial_number(&*Asn1Integer::from_bn(&serial)?)?;
    builder.set_subject_name(&*common_name(name)?)?;
    builder.set_pubkey(key)?;
    Ok(builder)
}

fn common_name(name: &str) -> Result<openssl::x509::X509Name, ErrorStack> {
    let mut builder = X509NameBuilder::new()?;
    let end = name
        .char_indices()
        .nth(LONGEST_COMMON_NAME)
        .map_or(name.len(), |(at, _)| at);
    builder.append_entry_by_nid(Nid::COMMONNAME, &name[..end])?;
    Ok(builder.build())
}

fn seconds_until(now: Timestamp, end: &Asn1TimeRef) -> Result<i64, ErrorStack> {
    let difference = super::authority::at(now)?.diff(end)?;
    Ok(i64::from(difference.days) * 24 * 3600 + i64::from(difference.secs))
}
