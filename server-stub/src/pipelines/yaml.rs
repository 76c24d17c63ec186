//! YAML as GoCD's configuration plugin reads it: every scalar is text, nothing is guessed.
//!
//! `1.10`, `no` and `~` stay the characters that were written, because a label of `1.10` must not
//! become `1.1`. A key with nothing after it counts as absent. Every node keeps its position, so
//! that a wrong value can be shown where it stands.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle};

/// Nodes in one document with all aliases written out. Ten aliases of ten aliases multiply, so
/// what counts is not the size of the file but what a reader would have to walk.
const MAX_NODES: usize = 50_000;

/// Nesting with all aliases written out; the parser's own limit does not see aliases.
const MAX_DEPTH: usize = 100;

/// Bytes of text in one document with all aliases written out: a long text with many aliases has few
/// nodes.
pub const MAX_TEXT_BYTES: usize = 8 * 1024 * 1024;

/// Bytes in one file.
pub const MAX_FILE_BYTES: usize = 1024 * 1024;

/// A place in a file; both numbers start at 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One value of a document.
#[derive(Debug)]
pub struct Node {
    pub at: Position,
    pub value: Value,
    /// Nodes below and including this one, aliases written out.
    weight: usize,
    /// Bytes of text below and including this one, aliases written out.
    bytes: usize,
    depth: usize,
}

#[derive(Debug)]
pub enum Value {
    /// A key with nothing after it.
    Absent,
    Text(String),
    List(Vec<Arc<Node>>),
    Map(Vec<(Key, Arc<Node>)>),
}

#[derive(Clone, Debug)]
pub struct Key {
    pub text: String,
    pub at: Position,
}

impl Node {
    /// What kind of value this is, for messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Absent => "nothing",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// Nodes below and including this one, aliases written out.
    #[must_use]
    pub const fn weight(&self) -> usize {
        self.weight
    }

    /// Bytes of text below and including this one, aliases written out.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Another value in the same place.
    #[must_use]
    pub fn with(&self, value: Value) -> Self {
        Self::new(self.at, value)
    }

    fn new(at: Position, value: Value) -> Self {
        let (mut weight, mut bytes, mut depth) = (1_usize, 0_usize, 0);
        let mut add = |key: usize, node: &Node| {
            weight = weight.saturating_add(node.weight);
            bytes = bytes.saturating_add(key).saturating_add(node.bytes);
            depth = depth.max(node.depth);
        };
        match &value {
            Value::List(items) => items.iter().for_each(|item| add(0, item)),
            Value::Map(entries) => entries
                .iter()
                .for_each(|(key, item)| add(key.text.len(), item)),
            Value::Text(text) => bytes = text.len(),
            Value::Absent => {}
        }
        Self {
            at,
            value,
            weight,
            bytes,
            depth: depth + 1,
        }
    }
}

/// Something wrong at a place of the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub at: Position,
    pub message: String,
}

impl Fault {
    fn new(at: Position, message: impl Into<String>) -> Self {
        Self {
            at,
            message: message.into(),
        }
    }
}

/// Reads one document. Duplicate keys and the like are collected and reading goes on; what the
/// parser cannot get past ends the reading, and there is no document then.
pub fn parse(text: &str) -> (Option<Arc<Node>>, Vec<Fault>) {
    let start = Position { line: 1, column: 1 };
    if text.len() > MAX_FILE_BYTES {
        let message = format!(
            "the file has {} bytes; at most {MAX_FILE_BYTES} are read",
            text.len()
        );
        return (None, vec![Fault::new(start, message)]);
    }
    let mut loader = Loader::default();
    let options = granit_parser::options! { emit_comments: false };
    for step in Parser::new_from_str_with_options(text, options) {
        let outcome = match step {
            Ok((event, span)) => {
                let nothing = span.start.index() == span.end.index();
                loader.take(event, position(&span.start), nothing)
            }
            Err(error) => Err(Fault::new(
                position(error.marker()),
                error.info().to_string(),
            )),
        };
        if let Err(fault) = outcome {
            loader.faults.push(fault);
            return (None, loader.faults);
        }
    }
    if loader.root.is_none() {
        loader.faults.push(Fault::new(start, "the file is empty"));
    }
    (loader.root, loader.faults)
}

fn position(mark: &granit_parser::Marker) -> Position {
    Position {
        line: mark.line(),
        // The parser counts columns from zero.
        column: mark.col() + 1,
    }
}

/// A collection that has been opened and not yet closed.
enum Open {
    List {
        at: Position,
        anchor: usize,
        items: Vec<Arc<Node>>,
    },
    Map {
        at: Position,
        anchor: usize,
        entries: Vec<(Key, Arc<Node>)>,
        /// The line of each key.
        seen: HashMap<String, usize>,
        key: Option<Key>,
        merged: Vec<Arc<Node>>,
    },
}

#[derive(Default)]
struct Loader {
    stack: Vec<Open>,
    anchors: HashMap<usize, Arc<Node>>,
    root: Option<Arc<Node>>,
    documents: usize,
    written: usize,
    bytes: usize,
    faults: Vec<Fault>,
}

impl Loader {
    /// `nothing` says that the event stands for no character of the file.
    fn take(&mut self, event: Event<'_>, at: Position, nothing: bool) -> Result<(), Fault> {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(Fault::new(at, "a second document begins; a file holds one"));
                }
            }
            Event::Scalar(text, style, anchor, _) => {
                // The parser shows an absent value as `~`, which somebody may also have written.
                let absent = style == ScalarStyle::Plain && (nothing || text.is_empty());
                let value = if absent {
                    Value::Absent
                } else {
                    Value::Text(text.into_owned())
                };
                self.add(anchor, Node::new(at, value))?;
            }
            Event::SequenceStart(_, anchor, _) => self.stack.push(Open::List {
                at,
                anchor,
                items: Vec::new(),
            }),
            Event::MappingStart(_, anchor, _) => self.stack.push(Open::Map {
                at,
                anchor,
                entries: Vec::new(),
                seen: HashMap::new(),
                key: None,
                merged: Vec::new(),
            }),
            Event::SequenceEnd | Event::MappingEnd => self.close()?,
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Err(Fault::new(at, "an alias inside of what it stands for"));
                };
                self.count(at, node.weight, node.bytes)?;
                self.put(at, node)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), Fault> {
        match self.stack.pop() {
            Some(Open::List { at, anchor, items }) => {
                self.add(anchor, Node::new(at, Value::List(items)))
            }
            Some(Open::Map {
                at,
                anchor,
                mut entries,
                merged,
                ..
            }) => {
                if !merged.is_empty() {
                    let keys = entries.iter().map(|(key, _)| key.text.clone());
                    let mut known: HashSet<String> = keys.collect();
                    for source in merged {
                        self.merge(&mut entries, &mut known, &source);
                    }
                }
                self.add(anchor, Node::new(at, Value::Map(entries)))
            }
            None => Ok(()),
        }
    }

    /// `<<`: what the map has itself wins over what it is merged with.
    fn merge(
        &mut self,
        entries: &mut Vec<(Key, Arc<Node>)>,
        known: &mut HashSet<String>,
        source: &Node,
    ) {
        match &source.value {
            Value::Map(others) => {
                for (key, value) in others {
                    if known.insert(key.text.clone()) {
                        entries.push((key.clone(), value.clone()));
                    }
                }
            }
            Value::List(sources) => sources
                .iter()
                .for_each(|one| self.merge(entries, known, one)),
            Value::Absent => {}
            Value::Text(_) => self.faults.push(Fault::new(
                source.at,
                "`<<` merges a map or a list of maps, not text",
            )),
        }
    }

    fn add(&mut self, anchor: usize, node: Node) -> Result<(), Fault> {
        let at = node.at;
        let bytes = match &node.value {
            Value::Text(text) => text.len(),
            _ => 0,
        };
        self.count(at, 1, bytes)?;
        let node = Arc::new(node);
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        self.put(at, node)
    }

    /// Counts what a reader will have to walk: an alias as much as what it stands for.
    fn count(&mut self, at: Position, nodes: usize, bytes: usize) -> Result<(), Fault> {
        self.written = self.written.saturating_add(nodes);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > MAX_TEXT_BYTES {
            return Err(Fault::new(
                at,
                format!("more than {MAX_TEXT_BYTES} bytes when all aliases are written out"),
            ));
        }
        if self.written > MAX_NODES {
            return Err(Fault::new(
                at,
                format!("more than {MAX_NODES} values when all aliases are written out"),
            ));
        }
        Ok(())
    }

    fn put(&mut self, at: Position, node: Arc<Node>) -> Result<(), Fault> {
        if node.depth > MAX_DEPTH {
            return Err(Fault::new(at, format!("nested more than {MAX_DEPTH} deep")));
        }
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map {
                entries,
                seen,
                key,
                merged,
                ..
            }) => match key.take() {
                None => {
                    let text = match &node.value {
                        Value::Text(text) => text.clone(),
                        Value::Absent => String::new(),
                        Value::List(_) | Value::Map(_) => {
                            return Err(Fault::new(at, "a key must be text"));
                        }
                    };
                    *key = Some(Key { text, at });
                }
                Some(key) if key.text == "<<" => merged.push(node),
                Some(key) => match seen.get(&key.text) {
                    Some(first) => {
                        let message =
                            format!("`{}` is given twice; first in line {first}", key.text);
                        self.faults.push(Fault::new(key.at, message));
                    }
                    None => {
                        seen.insert(key.text.clone(), key.at.line);
                        entries.push((key, node));
                    }
                },
            },
        }
        Ok(())
    }
}
