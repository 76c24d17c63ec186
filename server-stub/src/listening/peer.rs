//! Who is at the other end of a connection.

use std::net::SocketAddr;

use http::{HeaderMap, header};

/// The other end of the connection a request came by; in the request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub address: SocketAddr,
    /// Whether the connection is TLS.
    pub secure: bool,
    /// The common name of the client certificate that was shown: an agent's uuid.
    pub certificate: Option<String>,
}

impl Peer {
    /// Whether the connection may be used for this agent: it has shown no certificate, or that
    /// agent's.
    pub fn may_speak_for(&self, uuid: &str) -> bool {
        self.certificate.as_deref().is_none_or(|name| name == uuid)
    }

    /// The address of the server as this caller knows it, up to and including `/go`, for the
    /// absolute links of GoCD's documents.
    pub fn base_url(&self, headers: &HeaderMap) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        let host = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok())
            .filter(|host| {
                host.bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte))
            })
            .unwrap_or("localhost");
        format!("{scheme}://{host}/go")
    }
}
