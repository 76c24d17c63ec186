//! Certificates.
/// The certificate authority.
pub struct Trust;
