//! The argument rules of exec tasks: splitting one string into arguments, and quoting arguments
//! for display. No shell is involved anywhere.

use thiserror::Error;

/// An arguments string whose quotes do not pair up.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("unbalanced quotes in {text}")]
pub(crate) struct UnbalancedQuotes {
    text: String,
}

/// Splits an arguments string as GoCD does.
///
/// Only `'`, `"` and the space are special. Quotes may begin anywhere in a word and are removed;
/// inside one kind the other is literal. A backslash, a tab and a line feed are ordinary
/// characters. Empty words are dropped, quoted ones too.
///
/// # Errors
/// When a quote is left open. GoCD: the task fails and nothing is printed.
pub(crate) fn split(text: &str) -> Result<Vec<String>, UnbalancedQuotes> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut open: Option<char> = None;
    for c in text.chars() {
        match open {
            Some(quote) if c == quote => open = None,
            Some(_) => word.push(c),
            None if c == '\'' || c == '"' => open = Some(c),
            None if c == ' ' => finish_word(&mut word, &mut words),
            None => word.push(c),
        }
    }
    if open.is_some() {
        return Err(UnbalancedQuotes {
            text: text.to_owned(),
        });
    }
    finish_word(&mut word, &mut words);
    Ok(words)
}

fn finish_word(word: &mut String, words: &mut Vec<String>) {
    if !word.is_empty() {
        words.push(std::mem::take(word));
    }
}

/// Quotes one argument for display (task descriptions, errors of materials).
///
/// Left as it is when it is already wrapped in a pair of quotes, or has no blank and no quote that
/// is not escaped by a backslash.
pub(crate) fn quote(argument: &str) -> String {
    if is_wrapped(argument) || !needs_quotes(argument) {
        return argument.to_owned();
    }
    format!("\"{}\"", argument.replace('"', "\\\""))
}

fn is_wrapped(argument: &str) -> bool {
    argument.len() > 2
        && ['\'', '"']
            .iter()
            .any(|q| argument.starts_with(*q) && argument.ends_with(*q))
}

fn needs_quotes(argument: &str) -> bool {
    let mut escaped = false;
    for c in argument.chars() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if matches!(c, ' ' | '\'' | '"') {
            return true;
        }
    }
    false
}

/// A whole command line for display, each word quoted by [`quote`].
pub(crate) fn quoted_line<S: AsRef<str>>(words: &[S]) -> String {
    words
        .iter()
        .map(|word| quote(word.as_ref()))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn splits_as_gocd_does() {
        let table: &[(&str, &[&str])] = &[
            ("", &[]),
            ("a b", &["a", "b"]),
            ("  a   b  ", &["a", "b"]),
            (r#""a b" c"#, &["a b", "c"]),
            (r#"a"b c"d"#, &["ab cd"]),
            ("'' x", &["x"]),
            (r"a\ b", &[r"a\", "b"]),
            (r#""it's""#, &["it's"]),
            ("a\tb c", &["a\tb", "c"]),
            ("a\nb c", &["a\nb", "c"]),
            (r#"-Dk='v w' """#, &["-Dk=v w"]),
        ];
        for (input, expected) in table {
            assert_eq!(split(input).unwrap(), *expected, "{input}");
        }
    }

    #[test]
    fn open_quote_is_an_error() {
        assert_eq!(
            split("'a").unwrap_err().to_string(),
            "unbalanced quotes in 'a"
        );
        assert!(split("a \"b").is_err());
    }

    #[test]
    fn quotes_as_gocd_does() {
        let table = [
            ("I have nothing", "\"I have nothing\""),
            (
                r#"java is a "fun" language"#,
                r#""java is a \"fun\" language""#,
            ),
            ("ohrly?", "ohrly?"),
            ("\"already quoted\"", "\"already quoted\""),
            (r"no\ spaces", r"no\ spaces"),
        ];
        for (input, expected) in table {
            assert_eq!(quote(input), expected);
        }
        assert_eq!(
            quoted_line(&["bash", "-c", "a \"b\""]),
            r#"bash -c "a \"b\"""#
        );
    }

    proptest! {
        #[test]
        fn single_quoted_words_come_back(words in prop::collection::vec("[a-z \"\t]{1,8}", 0..5)) {
            let line = words.iter().map(|w| format!("'{w}'")).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(split(&line).unwrap(), words);
        }
    }
}
