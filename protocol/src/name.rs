//! Names whose letter case does not matter.

use std::{
    fmt,
    hash::{Hash, Hasher},
};

use serde::{Deserialize, Serialize};

/// A name whose letter case does not matter: `{"name":"Libs","hashCode":3321486}` on the wire.
/// The hash is computed when written, and not looked at when read.
#[derive(Clone, Debug, Default, Eq, Serialize, Deserialize)]
#[serde(
    from = "CaseInsensitiveStringOnWire",
    into = "CaseInsensitiveStringOnWire"
)]
pub struct CaseInsensitiveString(String);

// === impl CaseInsensitiveString ===

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CaseInsensitiveStringOnWire {
    #[serde(default)]
    name: String,
    #[serde(skip_deserializing)]
    hash_code: i32,
}

impl CaseInsensitiveString {
    /// A name in the letter case to show.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name in its own letter case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Java's `String.hashCode` of the name in lower case. The Java agent uses it in hash maps
    /// without checking.
    pub fn hash_code(&self) -> i32 {
        self.0
            .to_lowercase()
            .encode_utf16()
            .fold(0_i32, |hash, unit| {
                hash.wrapping_mul(31).wrapping_add(i32::from(unit))
            })
    }
}

impl PartialEq for CaseInsensitiveString {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_lowercase() == other.0.to_lowercase()
    }
}

impl Hash for CaseInsensitiveString {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_lowercase().hash(state);
    }
}

impl fmt::Display for CaseInsensitiveString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<CaseInsensitiveStringOnWire> for CaseInsensitiveString {
    fn from(wire: CaseInsensitiveStringOnWire) -> Self {
        Self(wire.name)
    }
}

impl From<CaseInsensitiveString> for CaseInsensitiveStringOnWire {
    fn from(name: CaseInsensitiveString) -> Self {
        Self {
            hash_code: name.hash_code(),
            name: name.0,
        }
    }
}
