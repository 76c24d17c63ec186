//! Labels of runs: a text with `${...}` in it.

use super::definition::{Material, Variable};

/// GoCD's default: the counter alone.
pub const DEFAULT_TEMPLATE: &str = "${COUNT}";

/// Characters of a label; what is longer is cut.
const MAX_LABEL: usize = 255;

/// One piece of a template.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'t> {
    Text(&'t str),
    Count,
    Variable(&'t str),
    Material { name: &'t str, first: Option<usize> },
}

/// Whether every token of a template means something.
pub fn check(template: &str, materials: &[Material], variables: &[Variable]) -> Result<(), String> {
    let pieces = parse(template)?;
    if !pieces.iter().any(|piece| !matches!(piece, Piece::Text(_))) {
        return Err(format!(
            "`{template}` has no token such as `${{COUNT}}`, so all runs would have one label"
        ));
    }
    for piece in pieces {
        match piece {
            Piece::Variable(name) => {
                let known = variables.iter().any(|one| one.name == name && !one.secure);
                if !known {
                    return Err(format!(
                        "the label names `env:{name}`, which is no plain variable of the pipeline"
                    ));
                }
            }
            Piece::Material { name, first } => {
                let known = materials
                    .iter()
                    .find(|one| one.name().eq_ignore_ascii_case(name));
                match known {
                    None => {
                        return Err(format!("the label names `{name}`, which is no material"));
                    }
                    Some(Material::Dependency(_)) if first.is_some() => {
                        return Err(format!(
                            "the label cuts `{name}`, but only revisions of repositories can be cut"
                        ));
                    }
                    Some(_) => {}
                }
            }
            Piece::Text(_) | Piece::Count => {}
        }
    }
    Ok(())
}

/// The label of a run. `revision` answers, by a material's name, its newest revision, or
/// of a dependency the upstream run's label.
pub fn render<'r>(
    template: &str,
    counter: i64,
    variables: &[Variable],
    revision: impl Fn(&str) -> Option<&'r str>,
) -> String {
    let Ok(pieces) = parse(template) else {
        return counter.to_string();
    };
    let mut label = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => label.push_str(text),
            Piece::Count => label.push_str(&counter.to_string()),
            Piece::Variable(name) => {
                let found = variables.iter().find(|one| one.name == name && !one.secure);
                label.push_str(found.map_or("", |one| &one.value));
            }
            Piece::Material { name, first } => {
                let full = revision(name).unwrap_or_default();
                label.extend(full.chars().take(first.unwrap_or(usize::MAX)));
            }
        }
    }
    // A label is part of addresses and of console lines.
    label
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_LABEL)
        .collect()
}

fn parse(template: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some(start) = rest.find("${") {
        if start > 0 {
            pieces.push(Piece::Text(&rest[..start]));
        }
        let Some(length) = rest[start + 2..].find('}') else {
            return Err(format!("`{template}` has a `${{` that is not closed"));
        };
        pieces.push(token(&rest[start + 2..start + 2 + length])?);
        rest = &rest[start + 3 + length..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    Ok(pieces)
}

fn token(text: &str) -> Result<Piece<'_>, String> {
    if text.eq_ignore_ascii_case("COUNT") {
        return Ok(Piece::Count);
    }
    if let Some(name) = text.strip_prefix("env:") {
        return Ok(Piece::Variable(name));
    }
    let Some((name, range)) = text.split_once('[') else {
        return Ok(Piece::Material {
            name: text,
            first: None,
        });
    };
    let first = range
        .strip_prefix(':')
        .and_then(|range| range.strip_suffix(']'))
        .and_then(|count| count.parse().ok())
        .filter(|count| *count > 0);
    match first {
        Some(first) => Ok(Piece::Material {
            name,
            first: Some(first),
        }),
        None => Err(format!(
            "`${{{text}}}` is no token; `${{{name}[:7]}}` is how to cut"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render_all(template: &str) -> String {
        let variables = [Variable {
            name: "TIER".into(),
            value: "gold".into(),
            secure: false,
        }];
        render(template, 12, &variables, |name| {
            name.eq_ignore_ascii_case("src")
                .then_some("4b825dc642cb6eb9")
        })
    }

    #[test]
    fn tokens_are_replaced() {
        let table = [
            ("${COUNT}", "12"),
            ("1.0.${COUNT}", "1.0.12"),
            ("${src[:7]}-${COUNT}", "4b825dc-12"),
            ("${SRC}", "4b825dc642cb6eb9"),
            ("${env:TIER}/${count}", "gold/12"),
        ];
        for (template, expected) in table {
            assert_eq!(render_all(template), expected, "{template}");
        }
    }

    #[test]
    fn a_long_label_is_cut() {
        let template = format!("{}${{COUNT}}", "x".repeat(300));
        assert_eq!(render_all(&template).len(), 255);
    }

    #[test]
    fn templates_that_mean_nothing_are_refused() {
        for template in [
            "1.10",
            "${nope}",
            "${env:NOPE}",
            "${COUNT",
            "${COUNT}${src[7]}",
        ] {
            assert!(check(template, &[], &[]).is_err(), "{template}");
        }
        assert_eq!(check("${COUNT}", &[], &[]), Ok(()));
    }
}
