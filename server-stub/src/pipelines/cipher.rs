//! Encrypted values in configuration files, as GoCD writes them: `AES:<iv>:<text>`, both base64.

use base64::{Engine, engine::general_purpose::STANDARD};

/// What an encrypted value begins with.
const PREFIX: &str = "AES:";

/// Bytes of a block, and of the initialisation vector.
const BLOCK: usize = 16;

/// Whether a value is meant to be an encrypted one.
#[must_use]
pub fn is_encrypted(value: &str) -> bool {
    value.starts_with(PREFIX)
}

/// Whether a value can be an encrypted one; nothing is decrypted.
///
/// # Errors
///
/// What is wrong with it, without a part of it.
pub fn check_form(value: &str) -> Result<(), String> {
    parts(value).map(drop)
}

fn parts(value: &str) -> Result<(Vec<u8>, Vec<u8>), String> {
    let malformed = || {
        "this is no encrypted value such as `journeyman-server encrypt` answers (`AES:<iv>:<text>`)"
            .to_owned()
    };
    let (iv, text) = value
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.split_once(':'))
        .ok_or_else(malformed)?;
    let decode = |text: &str| STANDARD.decode(text).map_err(|_| malformed());
    let (iv, text) = (decode(iv)?, decode(text)?);
    if iv.len() != BLOCK || text.is_empty() || text.len() % BLOCK != 0 {
        return Err(malformed());
    }
    Ok((iv, text))
}
