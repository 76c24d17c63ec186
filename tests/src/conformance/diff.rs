//! Differences between two lists of lines, for people.

/// Lines shown around a difference.
const CONTEXT: usize = 3;
/// Longer lines are shown by their beginning, in characters.
const SHOWN: usize = 400;

/// Both lists in one text: `-` before lines that only `expected` has, `+` before those that only
/// `got` has, some lines around them. None when they are equal.
pub(super) fn of(expected: &[String], got: &[String]) -> Option<String> {
    if expected == got {
        return None;
    }
    let lines: Vec<(char, &str)> = diff::slice(expected, got)
        .into_iter()
        .map(|result| match result {
            diff::Result::Left(line) => ('-', line.as_str()),
            diff::Result::Right(line) => ('+', line.as_str()),
            diff::Result::Both(line, _) => (' ', line.as_str()),
        })
        .collect();
    let is_near = |at: usize| {
        let from = at.saturating_sub(CONTEXT);
        let to = (at + CONTEXT + 1).min(lines.len());
        lines[from..to].iter().any(|(sign, _)| *sign != ' ')
    };
    let mut text = String::new();
    let mut left_out = false;
    for (at, (sign, line)) in lines.iter().enumerate() {
        if !is_near(at) {
            left_out = true;
            continue;
        }
        if left_out {
            text += "    ...\n";
            left_out = false;
        }
        text += &format!("  {sign} {}\n", shortened(line));
    }
    Some(text)
}

/// The lines of a text.
pub(super) fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

fn shortened(line: &str) -> String {
    match line.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{:?}... ({} characters)", &line[..at], line.chars().count()),
        None if line.chars().any(char::is_control) => format!("{line:?}"),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn a_difference_is_shown_with_what_is_around_it() {
        let expected = lines("1\n2\n3\n4\n5\n6\n7\n8\n9");
        let mut got = expected.clone();
        assert_eq!(of(&expected, &got), None);
        got[4] = "x".to_owned();
        let shown = "    ...\n    2\n    3\n    4\n  - 5\n  + x\n    6\n    7\n    8\n";
        assert_eq!(of(&expected, &got).as_deref(), Some(shown));
    }
}
