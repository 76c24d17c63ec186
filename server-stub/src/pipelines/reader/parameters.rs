//! `#{name}` in values, replaced before anything else is read.

use std::sync::Arc;

use crate::pipelines::yaml::{Key, MAX_TEXT_BYTES, Node, Value};

use super::section::{Place, Report};

/// Keys whose text stays as it is: names, and what GoCD takes to be no place for parameters.
const UNTOUCHED: [&str; 7] = [
    "approval",
    "encrypted_password",
    "parameters",
    "password",
    "run_if",
    "template",
    "type",
];

/// Below these keys are names of the user's choice, which must not be taken for those above.
const FREE: [&str; 4] = [
    "environment_variables",
    "options",
    "secure_variables",
    "tabs",
];

/// The parameters of a pipeline.
pub(super) struct Parameters {
    values: Vec<(String, String)>,
}

/// The parameters that a pipeline has.
pub(super) fn read(place: &Place<'_>, report: &mut Report<'_>) -> Parameters {
    let mut values = Vec::new();
    if let Value::Map(entries) = &place.node.value
        && let Some((_, node)) = entries.iter().find(|(key, _)| key.text == "parameters")
        && !matches!(node.value, Value::Absent)
    {
        let section = Place {
            node,
            path: format!("{}.parameters", place.path),
        };
        for (key, value) in section.named(report) {
            report.check(&value, crate::pipelines::names::check_name(&key.text));
            let text = match &value.node.value {
                Value::Absent => Some(String::new()),
                _ => value.text(report),
            };
            values.push((key.text.clone(), text.unwrap_or_default()));
        }
    }
    Parameters { values }
}

impl Parameters {
    /// The same with all parameters replaced.
    pub(super) fn replace(&self, node: &Node, path: &str, report: &mut Report<'_>) -> Arc<Node> {
        let mut replacing = Replacing {
            parameters: &self.values,
            report,
            written: 0,
        };
        replacing.node(node, path, false)
    }
}

struct Replacing<'a, 'f> {
    parameters: &'a [(String, String)],
    report: &'a mut Report<'f>,
    /// Bytes put in so far: short texts can stand for long ones many times.
    written: usize,
}

impl Replacing<'_, '_> {
    /// `free` says that keys here are names of the user's choice.
    fn node(&mut self, node: &Node, path: &str, free: bool) -> Arc<Node> {
        let value = match &node.value {
            Value::Absent => Value::Absent,
            Value::Text(text) => Value::Text(self.text(node, text, path)),
            Value::List(items) => {
                let below = |(index, item): (usize, &Arc<Node>)| {
                    self.node(item, &format!("{path}[{index}]"), free)
                };
                Value::List(items.iter().enumerate().map(below).collect())
            }
            Value::Map(entries) => {
                let below = |(key, value): &(Key, Arc<Node>)| {
                    let name = key.text.as_str();
                    let is_text = matches!(value.value, Value::Text(_));
                    let untouched =
                        !free && UNTOUCHED.contains(&name) && (is_text || name == "parameters");
                    let value = if untouched {
                        value.clone()
                    } else {
                        let path = format!("{path}.{name}");
                        self.node(value, &path, free || FREE.contains(&name))
                    };
                    (key.clone(), value)
                };
                Value::Map(entries.iter().map(below).collect())
            }
        };
        Arc::new(node.with(value))
    }

    fn text(&mut self, node: &Node, text: &str, path: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("#{") {
            let (before, from) = rest.split_at(at);
            if let Some(before) = before.strip_suffix('#') {
                out.push_str(before);
                out.push_str("#{");
                rest = &from[2..];
                continue;
            }
            out.push_str(before);
            let Some(end) = from.find('}') else {
                let message = "a `#{` that is not closed; `##{` stands for itself";
                self.report.wrong(node.at, path, message);
                rest = "";
                break;
            };
            let name = &from[2..end];
            let mut known = self.parameters.iter();
            match known.find(|(known, _)| known.eq_ignore_ascii_case(name)) {
                Some((_, value)) => {
                    self.written = self.written.saturating_add(value.len());
                    if self.written > MAX_TEXT_BYTES {
                        let message = format!(
                            "more than {MAX_TEXT_BYTES} bytes when all parameters are written out"
                        );
                        self.report.wrong(node.at, path, message);
                        self.parameters = &[];
                        return String::new();
                    }
                    out.push_str(value);
                }
                None if self.written > MAX_TEXT_BYTES => {}
                None => {
                    let message = format!(
                        "the parameter `{name}` is not defined (`##{{{name}}}` stands for the text itself)"
                    );
                    self.report.wrong(node.at, path, message);
                }
            }
            rest = &from[end + 1..];
        }
        out.push_str(rest);
        out
    }
}
