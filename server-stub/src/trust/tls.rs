//! TLS with optional client certificates.

use openssl::{
    error::ErrorStack,
    ssl::{
        AlpnError, SslAcceptor, SslMethod, SslOptions, SslRef, SslSessionCacheMode, SslVerifyMode,
        select_next_proto,
    },
    x509::store::X509StoreBuilder,
};

use super::{Trust, authority::first_common_name};

/// HTTP/2, then HTTP/1.1, in ALPN's form.
const PROTOCOLS: &[u8] = b"\x02h2\x08http/1.1";

/// Accepts TLS connections with the server's certificate. A client need not show a certificate (a
/// Java agent has none); one that is shown must come from our authority and be valid, or the
/// handshake fails.
pub fn acceptor(trust: &Trust) -> Result<SslAcceptor, ErrorStack> {
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    builder.set_certificate(&trust.server)?;
    builder.set_private_key(&trust.server_key)?;
    builder.check_private_key()?;
    // The authority goes along, so that an agent can pin it by its fingerprint.
    builder.add_extra_chain_cert(trust.authority.clone())?;

    let mut store = X509StoreBuilder::new()?;
    store.add_cert(trust.authority.clone())?;
    builder.set_verify_cert_store(store.build())?;
    builder.add_client_ca(&trust.authority)?;
    builder.set_verify(SslVerifyMode::PEER);

    // A resumed session would not look at the client's certificate again, whose end may have come.
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    builder.set_options(SslOptions::NO_TICKET);
    builder.set_num_tickets(0)?;

    builder.set_alpn_select_callback(|_, offered| {
        select_next_proto(PROTOCOLS, offered).ok_or(AlpnError::NOACK)
    });
    Ok(builder.build())
}

/// The common name of the certificate that the client has shown in the handshake, empty if it has
/// none.
pub fn common_name(connection: &SslRef) -> Option<String> {
    let certificate = connection.peer_certificate()?;
    Some(first_common_name(certificate.subject_name()).unwrap_or_default())
}
