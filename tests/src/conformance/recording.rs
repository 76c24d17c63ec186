//! What an agent did with a job, in the form of `expected.json`.

use std::collections::BTreeMap;

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// A line of the console with more characters than this is recorded by its digest.
pub(super) const LONGEST_LINE: usize = 20_000;
/// A console with more lines than this is recorded by its digest.
pub(super) const MOST_LINES: usize = 1500;
/// Characters kept at each end of a long line.
const LINE_ENDS: usize = 100;
/// Lines kept at each end of a long console.
const CONSOLE_ENDS: usize = 20;

/// What an agent did with a job.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recording {
    pub(super) order: Order,
    pub(super) requests: Vec<Request>,
    pub(super) console_put: Option<ConsolePut>,
    #[serde(default)]
    pub(super) console: Vec<Line>,
    pub(super) console_digest: Option<ConsoleDigest>,
    pub(super) result: JobOutcome,
    pub(super) files: Vec<LeftFile>,
}

/// How the lines of the console are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Order {
    /// The same lines in the same order.
    Exact,
    /// Standard output and error output mix by chance.
    Streams,
    /// A task and its on-cancel task ran beside each other.
    Any,
    /// GoCD's agent lost lines: what it has is in ours.
    Lost,
}

/// A request to the server; pings and uploads of console lines are not among them.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    pub(super) method: String,
    /// After the server's URL.
    pub(super) path: String,
    pub(super) query: String,
    /// Names in lower case.
    #[serde(deserialize_with = "lower_case_names")]
    pub(super) headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) body: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) upload: Option<Upload>,
    /// The status, where it was not the usual one, and of every GET.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) answered: Option<u16>,
    /// Lines of console that the server had at a report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) console_lines_before: Option<usize>,
}

/// The first upload of console lines, without them.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConsolePut {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: String,
    /// Names in lower case.
    #[serde(deserialize_with = "lower_case_names")]
    pub(super) headers: BTreeMap<String, String>,
}

/// An upload of an artifact.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Upload {
    pub(super) parts: Vec<Part>,
    /// By name.
    pub(super) zip: Vec<ZipEntry>,
    pub(super) checksum_comment_lines: usize,
    /// Sorted.
    pub(super) checksum_entries: Vec<String>,
}

/// A part of a multipart body.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    pub(super) name: Option<String>,
    pub(super) filename: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) transfer_encoding: Option<String>,
}

/// A file or folder in an uploaded zip.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ZipEntry {
    /// A folder's ends in `/`.
    pub(super) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sha256: Option<String>,
    /// Of `index.html`: the text without tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) visible_text: Option<String>,
}

/// A line of the console.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Line {
    Text(String),
    Long {
        /// In characters.
        length: usize,
        sha256: String,
        head: String,
        tail: String,
    },
}

/// A console of very many lines.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConsoleDigest {
    pub(super) lines: usize,
    pub(super) sha256: String,
    pub(super) head: Vec<String>,
    pub(super) tail: Vec<String>,
}

/// What was reported.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JobOutcome {
    /// States and results in their order.
    pub(super) reports: Vec<String>,
    /// The result in `report_completed`, if that was called.
    #[serde(rename = "final")]
    pub(super) last: Option<String>,
}

/// Something that is left in the job's working directory.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LeftFile {
    pub(super) path: String,
    #[serde(rename = "type")]
    pub(super) kind: FileKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) target: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum FileKind {
    Dir,
    File,
    Link,
}

impl Request {
    pub(super) fn is_report(&self) -> bool {
        self.action()
            .is_some_and(|name| name.starts_with("report_"))
    }

    pub(super) fn is_artifact_upload(&self) -> bool {
        self.upload.is_some()
    }

    /// The remoting action, if it is one.
    pub(super) fn action(&self) -> Option<&str> {
        self.path.strip_prefix("/remoting/api/agent/")
    }

    /// In one line, for people.
    pub(super) fn summary(&self) -> String {
        let body = self.body.as_ref();
        let told = body.and_then(|body| body.get("jobState").or(body.get("jobResult")));
        let mut text = format!("{} {}", self.method, self.path);
        if !self.query.is_empty() {
            text += &format!("?{}", self.query);
        }
        if let Some(told) = told.and_then(Value::as_str) {
            text += &format!(" {told}");
        }
        if let Some(status) = self.answered {
            text += &format!(" -> {status}");
        }
        text
    }
}

impl Line {
    /// A line as it is recorded.
    pub(super) fn from_text(text: String) -> Self {
        let length = text.chars().count();
        if length <= LONGEST_LINE {
            return Self::Text(text);
        }
        Self::Long {
            length,
            sha256: sha256(text.as_bytes()),
            head: text.chars().take(LINE_ENDS).collect(),
            tail: text.chars().skip(length - LINE_ENDS).collect(),
        }
    }

    /// The line in one text, to compare and to show.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Long {
                length,
                sha256,
                head,
                tail,
            } => format!("{head} [...] {tail} <{length} characters, SHA-256 {sha256}>"),
        }
    }
}

impl ConsoleDigest {
    pub(super) fn of(lines: &[String]) -> Self {
        Self {
            lines: lines.len(),
            sha256: sha256(lines.join("\n").as_bytes()),
            head: lines[..lines.len().min(CONSOLE_ENDS)].to_vec(),
            tail: lines[lines.len().saturating_sub(CONSOLE_ENDS)..].to_vec(),
        }
    }
}

impl JobOutcome {
    /// What these requests reported.
    pub(super) fn of(requests: &[Request]) -> Self {
        let mut outcome = Self {
            reports: Vec::new(),
            last: None,
        };
        for request in requests.iter().filter(|request| request.is_report()) {
            let member = |name: &str| {
                let value = request.body.as_ref().and_then(|body| body.get(name));
                value.and_then(Value::as_str).unwrap_or("?").to_owned()
            };
            match request.action() {
                Some("report_current_status") => outcome.reports.push(member("jobState")),
                Some(action) => {
                    let result = member("jobResult");
                    outcome.reports.push(format!("{action}:{result}"));
                    if action == "report_completed" {
                        outcome.last = Some(result);
                    }
                }
                None => {}
            }
        }
        outcome
    }
}

/// Names of headers are the same in any case.
fn lower_case_names<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let headers = BTreeMap::<String, String>::deserialize(deserializer)?;
    Ok(headers
        .into_iter()
        .map(|(name, value)| (name.to_lowercase(), value))
        .collect())
}

/// SHA-256 in hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    let digest = digest(&SHA256, bytes);
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
