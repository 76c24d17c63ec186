//! The configuration file: keys and values with the lines they are on.

use std::{any::TypeId, ffi::OsString, ops::Range, path::Path};

use clap::Arg;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// A key with values as they would be given to its flag.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) values: Vec<OsString>,
    pub(super) at: Position,
}

/// Where something is in a file, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// What is wrong at a place of the file.
pub(super) type Wrong = (Position, String);

/// Reads a file's text; `known` are the settings, `folder` is what relative paths start at.
pub(super) fn read(text: &str, folder: &Path, known: &[&Arg]) -> (Vec<Entry>, Vec<Wrong>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut wrong: Vec<Wrong> = errors
        .iter()
        .map(|error| {
            (
                position(text, error.span().unwrap_or_default()),
                error.message().to_owned(),
            )
        })
        .collect();
    let mut entries = Vec::new();
    for (key, value) in table.get_ref() {
        let at = position(text, key.span());
        let name = key.get_ref().as_ref();
        let Some(setting) = known.iter().find(|arg| arg.get_long() == Some(name)) else {
            wrong.push((at, unknown(name, known)));
            continue;
        };
        match values(setting, value, folder) {
            Ok(values) => entries.push(Entry {
                name: name.to_owned(),
                values,
                at,
            }),
            Err(expected) => wrong.push((
                position(text, value.span()),
                format!(
                    "{name}: expected {expected}, found {}",
                    kind(value.get_ref())
                ),
            )),
        }
    }
    (entries, wrong)
}

fn unknown(name: &str, known: &[&Arg]) -> String {
    let nearest = known
        .iter()
        .filter(|arg| !arg.is_hide_set())
        .filter_map(|arg| arg.get_long())
        .min_by_key(|known| strsim::damerau_levenshtein(known, &name.to_lowercase()));
    format!(
        "{name}: there is no such setting; the nearest is {}",
        nearest.unwrap_or_default()
    )
}

/// The values as text, or what kind was expected.
fn values(
    setting: &Arg,
    value: &Spanned<DeValue<'_>>,
    folder: &Path,
) -> Result<Vec<OsString>, &'static str> {
    let parsed = setting.get_value_parser().type_id();
    let is = |one: TypeId| parsed == one;
    let text = |value: &DeValue<'_>| match value {
        DeValue::String(text) if is(TypeId::of::<std::path::PathBuf>()) => {
            Some(folder.join(text.as_ref()).into_os_string())
        }
        DeValue::String(text) => Some(OsString::from(text.as_ref())),
        _ => None,
    };
    if is(TypeId::of::<bool>()) {
        return match value.get_ref() {
            DeValue::Boolean(flag) => Ok(vec![flag.to_string().into()]),
            _ => Err("true or false"),
        };
    }
    if is(TypeId::of::<u16>()) || is(TypeId::of::<u32>()) {
        return match value.get_ref() {
            DeValue::Integer(number) => {
                let number = i64::from_str_radix(number.as_str(), number.radix());
                Ok(vec![
                    number.map_err(|_| "a smaller number")?.to_string().into(),
                ])
            }
            _ => Err("a number"),
        };
    }
    if setting.get_value_delimiter().is_some() {
        const EXPECTED: &str = "a list of strings";
        return match value.get_ref() {
            DeValue::Array(items) => items
                .iter()
                .map(|item| text(item.get_ref()).ok_or(EXPECTED))
                .collect(),
            _ => Err(EXPECTED),
        };
    }
    Ok(vec![text(value.get_ref()).ok_or("a string")?])
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn position(text: &str, span: Range<usize>) -> Position {
    let before = text.get(..span.start).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    Position {
        line: before.matches('\n').count() + 1,
        column: line.chars().count() + 1,
    }
}
