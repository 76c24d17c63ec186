//! Console lines as a page shows them: colours kept, all other control sequences taken out.

use journeyman_protocol::console;

/// A line of a console.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) class: &'static str,
    pub(super) clock: String,
    pub(super) spans: Vec<Span>,
}

/// A piece of a line in one colour.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) class: String,
    pub(super) text: String,
}

/// Takes a line apart.
pub(super) fn line(text: &str) -> Line {
    let text = text.trim_end_matches('\r');
    if console::parse_line(text).is_none() {
        return Line {
            class: "",
            clock: String::new(),
            spans: spans(text),
        };
    }
    // `TT|HH:mm:ss.SSS text`: a line that was parsed has these parts.
    let tag = text.get(..2).unwrap_or_default();
    let clock = text.get(3..15).unwrap_or_default();
    let rest = text.get(15..).unwrap_or_default();
    let class = match tag {
        "##" | "ex" => "agent",
        "pr" | "ar" => "quiet-line",
        "pe" | "&2" | "ae" => "error",
        "!!" | "!x" => "task",
        "?0" | "x0" | "j0" => "good",
        "?1" | "^C" | "x1" | "j1" => "bad",
        _ => "",
    };
    Line {
        class,
        clock: clock.to_owned(),
        spans: spans(rest.strip_prefix(' ').unwrap_or(rest)),
    }
}

fn spans(text: &str) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let (mut bold, mut colour) = (false, None);
    let mut rest = text;
    loop {
        let end = rest.find('\x1b').unwrap_or(rest.len());
        let shown: String = rest[..end]
            .chars()
            .filter(|c| !c.is_control() || *c == '\t')
            .collect();
        if !shown.is_empty() {
            let mut classes = Vec::new();
            if bold {
                classes.push("b".to_owned());
            }
            if let Some(colour) = colour {
                classes.push(format!("c{colour}"));
            }
            spans.push(Span {
                class: classes.join(" "),
                text: shown,
            });
        }
        if end == rest.len() {
            return spans;
        }
        rest = &rest[end + 1..];
        let Some(sequence) = rest.strip_prefix('[') else {
            // Another kind of sequence: its first character goes with it.
            let mut chars = rest.chars();
            chars.next();
            rest = chars.as_str();
            continue;
        };
        let end = sequence
            .find(|c: char| !(c.is_ascii_digit() || c == ';' || c == '?'))
            .unwrap_or(sequence.len());
        let (numbers, after) = sequence.split_at(end);
        if after.starts_with('m') {
            for code in numbers.split(';').map(|code| code.parse().unwrap_or(0_u8)) {
                match code {
                    0 => (bold, colour) = (false, None),
                    1 => bold = true,
                    30..=37 => colour = Some(code - 30),
                    90..=97 => colour = Some(code - 90),
                    39 => colour = None,
                    _ => {}
                }
            }
        }
        let mut chars = after.chars();
        chars.next();
        rest = chars.as_str();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_become_classes_and_the_rest_goes() {
        let line = line("&1|10:11:12.123 a\x1b[1;31mred\x1b[0m\x1b[2K\x1b]b\x07c");
        assert_eq!((line.class, line.clock.as_str()), ("", "10:11:12.123"));
        let shown: Vec<_> = line
            .spans
            .iter()
            .map(|span| (span.class.as_str(), span.text.as_str()))
            .collect();
        assert_eq!(shown, [("", "a"), ("b c1", "red"), ("", "bc")]);
    }

    #[test]
    fn a_line_without_a_tag_is_shown_as_it_is() {
        let line = line("just <text>\r");
        assert_eq!(line.clock, "");
        assert_eq!(line.spans[0].text, "just <text>");
    }
}
