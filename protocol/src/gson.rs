//! Reading and writing whole documents the way Gson does, GoCD's JSON library.

use std::io;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Result, Serializer, Value, ser::Formatter};

/// Reads a document. Members that are null count as absent, as they do for Gson.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let mut document = serde_json::from_slice(bytes)?;
    drop_null_members(&mut document);
    serde_json::from_value(document)
}

/// [`from_slice`] for text.
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T> {
    from_slice(text.as_bytes())
}

/// Writes a document letter for letter as GoCD would: on one line, and with the characters
/// `<`, `>`, `&`, `=` and `'` in strings as `\uXXXX`.
///
/// Fails only for a path that is not UTF-8.
pub fn to_string<T: Serialize>(document: &T) -> Result<String> {
    to_vec(document).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// [`to_string`] as the bytes of a body.
pub fn to_vec<T: Serialize>(document: &T) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    document.serialize(&mut Serializer::with_formatter(&mut bytes, HtmlSafe))?;
    Ok(bytes)
}

fn drop_null_members(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(drop_null_members);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_null_members),
        _ => {}
    }
}

/// Gson's default escaping, which makes JSON safe to put into an HTML page.
struct HtmlSafe;

impl Formatter for HtmlSafe {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '=', '\'', '\u{2028}', '\u{2029}']) {
            let (plain, from) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let mut chars = from.chars();
            if let Some(special) = chars.next() {
                write!(writer, "\\u{:04x}", u32::from(special))?;
            }
            rest = chars.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}
