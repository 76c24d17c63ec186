//! JSON objects that are kept without being understood.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, Error},
    ser::SerializeMap,
};
use serde_json::{Map, Value};

/// GoCD's `ConfigErrors`: messages by field. Always `{}` in work.
pub type ConfigErrors = BTreeMap<String, Vec<String>>;

/// An object that names its kind in the member `type`, as do Work, Builder, Material and the
/// other families of GoCD's `RuntimeTypeAdapterFactory`. An object without `type` is an error,
/// as it is in GoCD.
///
/// `Debug` shows the names of the members only, since any of them may hold a password.
#[derive(Clone, PartialEq)]
pub struct Document {
    /// The value of `type`.
    pub kind: String,
    /// All other members, in the order they came.
    pub members: Map<String, Value>,
}

/// A value that is handed on as it came, because nobody on our side looks into it. `Debug` does
/// not show it: it may hold a password.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Opaque(pub Value);

// === impl Document ===

impl Document {
    /// Reads the members as a `T`, for a kind that is known after all.
    pub(crate) fn read<T: DeserializeOwned, E: Error>(self) -> Result<T, E> {
        serde_json::from_value(Value::Object(self.members))
            .map_err(|error| E::custom(format_args!("{}: {error}", self.kind)))
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut members = Map::deserialize(deserializer)?;
        match members.shift_remove("type") {
            Some(Value::String(kind)) => Ok(Self { kind, members }),
            Some(_) => Err(D::Error::custom("member `type` is not a string")),
            None => Err(D::Error::missing_field("type")),
        }
    }
}

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.members.len() + 1))?;
        map.serialize_entry("type", &self.kind)?;
        for (name, value) in &self.members {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.members.keys().collect();
        f.debug_struct("Document")
            .field("kind", &self.kind)
            .field("members", &names)
            .finish()
    }
}

// === impl Opaque ===

impl fmt::Debug for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opaque(..)")
    }
}
