//! Environment variables of a job, and the secrets that come with them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::secret::{MASK, Secret};

/// The variables of a job in order: of two with one name the later counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EnvironmentVariableContext {
    /// The variables.
    pub properties: Vec<EnvironmentVariable>,
}

/// One variable. `Debug` shows the value only if it is not secure.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvironmentVariable {
    /// Name as the job sees it.
    pub name: String,
    /// Value, with references to [`secret_params`](Self::secret_params) still in it: see
    /// [`resolved_value`](Self::resolved_value).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Whether the value must be masked on the console.
    pub secure: bool,
    /// The secrets that the value refers to, in order of the references.
    pub secret_params: Vec<SecretParam>,
}

/// A secret that the server has looked up for a reference `{{SECRET:[configId][key]}}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SecretParam {
    /// Which of the server's secret stores.
    pub secret_config_id: String,
    /// Which secret in it.
    pub key: String,
    /// The secret, once looked up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Secret>,
    /// Whether it was looked up.
    pub resolved: bool,
}

/// Replaces the references in `text` by their secrets, each param its own first occurrence, in
/// order. A param without a value leaves its reference in place.
pub fn resolve_secrets(text: &str, params: &[SecretParam]) -> String {
    let mut resolved = text.to_owned();
    for param in params {
        if let Some(value) = &param.value {
            resolved = resolved.replacen(&param.reference(), value.expose(), 1);
        }
    }
    resolved
}

// === impl EnvironmentVariableContext ===

impl EnvironmentVariableContext {
    /// Adds a variable at the end, where it overrides one of the same name.
    pub fn push(&mut self, variable: EnvironmentVariable) {
        self.properties.push(variable);
    }

    /// The variable that counts for `name`: the last one. Letter case counts.
    pub fn get(&self, name: &str) -> Option<&EnvironmentVariable> {
        self.properties
            .iter()
            .rfind(|variable| variable.name == name)
    }
}

// === impl EnvironmentVariable ===

impl EnvironmentVariable {
    /// A variable whose value may be shown.
    pub fn plain(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            value: Some(value.into()),
            ..Self::default()
        }
    }

    /// A variable whose value must be masked.
    pub fn secure(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            secure: true,
            ..Self::plain(name, value)
        }
    }

    /// The value a job gets: with every reference replaced by its secret.
    pub fn resolved_value(&self) -> Option<String> {
        let value = self.value.as_deref()?;
        Some(resolve_secrets(value, &self.secret_params))
    }
}

impl fmt::Debug for EnvironmentVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = match &self.value {
            Some(_) if self.secure => Some(MASK),
            value => value.as_deref(),
        };
        f.debug_struct("EnvironmentVariable")
            .field("name", &self.name)
            .field("value", &value)
            .field("secure", &self.secure)
            .field("secret_params", &self.secret_params)
            .finish()
    }
}

// === impl SecretParam ===

impl SecretParam {
    /// The text that stands for this secret in a value.
    pub fn reference(&self) -> String {
        format!("{{{{SECRET:[{}][{}]}}}}", self.secret_config_id, self.key)
    }
}
