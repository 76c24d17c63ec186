//! What a case asks for: `case.json`.

use std::{collections::BTreeMap, fmt::Display, fs, path::Path};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::recording::Recording;

/// A job, what surrounds it, and what GoCD's agent did with it.
pub(super) struct Case {
    pub(super) job: Job,
    pub(super) expected: Recording,
    /// The text of `expected.json`.
    pub(super) recorded: String,
}

/// `case.json`. Strings of `work`, `instructions`, `server` and `agent_environment` hold
/// placeholders.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Job {
    /// That of the folder.
    #[serde(rename = "name")]
    _name: String,
    /// One line on the purpose.
    #[serde(rename = "about")]
    _about: String,
    /// Lines of a bash script that is run in the empty sandbox.
    pub(super) setup: Vec<String>,
    /// The answer to `get_work`.
    pub(super) work: Value,
    #[serde(default)]
    pub(super) instructions: Vec<Instruction>,
    #[serde(default)]
    pub(super) server: Server,
    /// All of the agent's environment.
    pub(super) agent_environment: BTreeMap<String, String>,
}

/// What a ping is answered with, once the console has a text.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Instruction {
    pub(super) when_console_contains: String,
    pub(super) instruction: String,
}

/// What the server does that is not usual.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    #[serde(default)]
    pub(super) files: Vec<ServedFile>,
    /// Answers in order; the last one repeats.
    #[serde(default)]
    pub(super) is_ignored: Vec<bool>,
    #[serde(default)]
    pub(super) responses: Vec<ForcedResponse>,
    /// `user:password` wanted for `/git/...`, which serves the files below `repos/` of the sandbox.
    pub(super) git_auth: Option<String>,
}

/// A file that GET answers.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServedFile {
    /// After the server's URL.
    pub(super) path: String,
    pub(super) text: Option<String>,
    pub(super) base64: Option<String>,
    /// Of the first, second, ... request; the last one repeats.
    #[serde(default)]
    pub(super) statuses: Vec<u16>,
}

/// An answer instead of the usual one.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ForcedResponse {
    pub(super) method: String,
    pub(super) path_contains: String,
    pub(super) status: u16,
    #[serde(default)]
    pub(super) body: String,
    /// How often; always when absent.
    pub(super) times: Option<usize>,
}

/// What the placeholders of a case stand for in this run.
#[derive(Clone)]
pub(super) struct Places {
    pub(super) sandbox: String,
    /// `127.0.0.1:<port>`
    pub(super) hostport: String,
}

impl Case {
    /// Reads the case in a folder.
    ///
    /// # Errors
    /// What cannot be read, and why.
    pub(super) fn read(folder: &Path) -> Result<Self, String> {
        let (_, job) = read_json(&folder.join("case.json"))?;
        let (recorded, expected) = read_json(&folder.join("expected.json"))?;
        Ok(Self {
            job,
            expected,
            recorded,
        })
    }
}

impl Places {
    pub(super) fn server_url(&self) -> String {
        format!("http://{}/go", self.hostport)
    }

    /// The text with its placeholders replaced.
    pub(super) fn fill(&self, text: &str) -> String {
        text.replace("${SANDBOX}", &self.sandbox)
            .replace("${SERVER}", &self.server_url())
            .replace("${HOSTPORT}", &self.hostport)
    }
}

/// Changes every string inside of a JSON value.
pub(super) fn map_strings(value: &mut Value, change: &impl Fn(&str) -> String) {
    match value {
        Value::String(text) => *text = change(text),
        Value::Array(values) => values
            .iter_mut()
            .for_each(|value| map_strings(value, change)),
        Value::Object(members) => members
            .values_mut()
            .for_each(|value| map_strings(value, change)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The text of a file and what it says.
fn read_json<T: DeserializeOwned>(path: &Path) -> Result<(String, T), String> {
    let failed = |error: &dyn Display| format!("read {}: {error}", path.display());
    let text = fs::read_to_string(path).map_err(|error| failed(&error))?;
    let value = serde_json::from_str(&text).map_err(|error| failed(&error))?;
    Ok((text, value))
}
