//! Text that must not end up in a log.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Stands for a secret wherever one would be shown, as on GoCD's console.
pub const MASK: &str = "********";

/// A password, token or other text that `Debug` does not show. On the wire it is a plain string:
/// GoCD sends every secret in clear text and leaves hiding it to TLS.
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is no text at all, as in the empty fields of a registration.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}
