//! Console lines as a page shows them: colours kept, all other control sequences taken out.

use journeyman_protocol::console;

use crate::console::ShownLine;

/// A line of a console.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) class: &'static str,
    /// Time of day; empty for a line without a tag.
    pub(super) clock: String,
    pub(super) spans: Vec<Span>,
    /// Bytes that are left out.
    pub(super) cut: u64,
}

/// A piece of a line in one style.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Names of the style sheet; empty for plain text.
    pub(super) class: String,
    pub(super) text: String,
}

/// Takes a line apart.
pub(super) fn line(shown: &ShownLine) -> Line {
    let text = String::from_utf8_lossy(&shown.text);
    let text = text.trim_end_matches('\r');
    let (class, clock, text) = match console::parse_line(text) {
        None => ("", "", text),
        Some(line) => {
            // `TT|HH:mm:ss.SSS text`, where TT are two characters of any length.
            let head = text.len() - line.text.len();
            let clock = text.get(head - 13..head - 1).unwrap_or_default();
            (class(line.tag), clock, line.text)
        }
    };
    Line {
        class,
        clock: clock.to_owned(),
        spans: spans(text),
        cut: shown.cut,
    }
}

fn class(tag: &str) -> &'static str {
    match tag {
        "##" | "ex" => "agent",
        "pr" | "ar" => "quiet-line",
        "pe" | "&2" | "ae" => "error",
        "!!" | "!x" => "task",
        "?0" | "x0" | "j0" => "good",
        "?1" | "^C" | "x1" | "j1" => "bad",
        _ => "",
    }
}

/// The text of a line without its tag, time and control sequences.
pub(super) fn plain(shown: &ShownLine) -> String {
    line(shown)
        .spans
        .into_iter()
        .map(|span| span.text)
        .collect()
}

/// What escape sequences have asked for so far. It ends with the line: a page that begins in the
/// middle shows the same as one that begins at the top.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Style {
    bold: bool,
    faint: bool,
    italic: bool,
    underlined: bool,
    inverse: bool,
    hidden: bool,
    struck: bool,
    /// Colours of the 256 of xterm.
    ink: Option<u8>,
    paper: Option<u8>,
}

fn spans(text: &str) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut style = Style::default();
    let mut rest = text;
    loop {
        let end = rest.find(['\x1b', '\u{9b}']).unwrap_or(rest.len());
        let shown: String = rest[..end].chars().filter(|c| is_shown(*c)).collect();
        if !shown.is_empty() {
            let class = style.class();
            match spans.last_mut() {
                Some(last) if last.class == class => last.text.push_str(&shown),
                _ => spans.push(Span { class, text: shown }),
            }
        }
        if end == rest.len() {
            return spans;
        }
        let (sequence, after) = sequence(&rest[end..]);
        if let Some(numbers) = sequence {
            style.change(numbers);
        }
        rest = after;
    }
}

/// Control characters show nothing, and those that turn the direction of text would show another
/// text than there is.
fn is_shown(c: char) -> bool {
    let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (!c.is_control() || c == '\t') && !turns
}

/// Takes the sequence off the beginning of a text. Answers the numbers of one that is about colour.
fn sequence(text: &str) -> (Option<&str>, &str) {
    let mut chars = text.chars();
    let kind = match chars.next() {
        Some('\u{9b}') => '[',
        _ => match chars.next() {
            Some(kind) => kind,
            None => return (None, ""),
        },
    };
    let rest = chars.as_str();
    match kind {
        '[' => {
            // Parameters and intermediates, then one letter (ECMA-48).
            let end = rest.find(|c: char| !(' '..='?').contains(&c));
            let Some(end) = end else { return (None, "") };
            let (numbers, after) = rest.split_at(end);
            let mut after = after.chars();
            let last = after.next();
            // Not a letter: the sequence is broken off, and the character is text or begins another.
            let after = match last {
                Some('@'..='~') => after.as_str(),
                _ => &rest[end..],
            };
            ((last == Some('m')).then_some(numbers), after)
        }
        // Titles, links and other strings, up to BEL or ST.
        ']' | 'P' | 'X' | '^' | '_' => match rest.find(['\x07', '\x1b', '\u{9c}']) {
            Some(end) if rest[end..].starts_with("\x1b\\") => (None, &rest[end + 2..]),
            Some(end) if rest[end..].starts_with('\x1b') => (None, &rest[end..]),
            Some(end) => {
                let mut after = rest[end..].chars();
                after.next();
                (None, after.as_str())
            }
            None => (None, ""),
        },
        // A character set: its name follows.
        ' '..='/' => {
            let mut after = rest
                .trim_start_matches(|c: char| (' '..='/').contains(&c))
                .chars();
            after.next();
            (None, after.as_str())
        }
        _ => (None, rest),
    }
}

impl Style {
    /// Takes the numbers of `ESC [ numbers m`.
    fn change(&mut self, numbers: &str) {
        let mut codes = numbers.split([';', ':']).map(|code| {
            if code.is_empty() {
                Some(0)
            } else {
                code.parse::<u16>().ok()
            }
        });
        while let Some(code) = codes.next() {
            let Some(code) = code else { continue };
            // In range by the patterns.
            let colour = |base: u16| u8::try_from(code - base).ok();
            match code {
                0 => *self = Self::default(),
                1 => self.bold = true,
                2 => self.faint = true,
                3 => self.italic = true,
                4 | 21 => self.underlined = true,
                7 => self.inverse = true,
                8 => self.hidden = true,
                9 => self.struck = true,
                22 => (self.bold, self.faint) = (false, false),
                23 => self.italic = false,
                24 => self.underlined = false,
                27 => self.inverse = false,
                28 => self.hidden = false,
                29 => self.struck = false,
                30..=37 => self.ink = colour(30),
                38 => self.ink = palette(&mut codes),
                39 => self.ink = None,
                40..=47 => self.paper = colour(40),
                48 => self.paper = palette(&mut codes),
                49 => self.paper = None,
                90..=97 => self.ink = colour(90 - 8),
                100..=107 => self.paper = colour(100 - 8),
                _ => {}
            }
        }
    }

    fn class(self) -> String {
        let flags = [
            (self.bold, "b"),
            (self.faint, "dim"),
            (self.italic, "i"),
            (self.underlined, "u"),
            (self.struck, "s"),
            (self.hidden, "hid"),
        ];
        let flags = flags.iter().filter(|(is_set, _)| *is_set);
        let mut names: Vec<String> = flags.map(|(_, name)| (*name).to_owned()).collect();
        let (ink, paper) = match self.inverse {
            true => (
                Some(self.paper.map_or("inv".to_owned(), |one| format!("c{one}"))),
                {
                    Some(
                        self.ink
                            .map_or("bginv".to_owned(), |one| format!("bg{one}")),
                    )
                },
            ),
            false => (
                self.ink.map(|one| format!("c{one}")),
                self.paper.map(|one| format!("bg{one}")),
            ),
        };
        names.extend(ink);
        names.extend(paper);
        names.join(" ")
    }
}

/// The colour that `5;N` or `2;R;G;B` names; of the latter the nearest of the 256, because a page
/// has no styles but those of its style sheet.
fn palette(codes: &mut impl Iterator<Item = Option<u16>>) -> Option<u8> {
    let mut byte = || codes.next().flatten().map(|code| code.min(255) as u8);
    match byte()? {
        5 => byte(),
        2 => {
            let (red, green, blue) = (byte()?, byte()?, byte()?);
            Some(nearest([red, green, blue]))
        }
        _ => None,
    }
}

/// The steps of the cube of xterm's colours.
const STEPS: [u8; 6] = [0, 95, 135, 175, 215, 255];

/// The colour of a number from 16 on.
fn cube_or_grey(number: u8) -> [u8; 3] {
    match number {
        232.. => [8 + (number - 232) * 10; 3],
        _ => {
            let number = usize::from(number.saturating_sub(16));
            [number / 36, number / 6 % 6, number % 6].map(|step| STEPS[step])
        }
    }
}

fn nearest(colour: [u8; 3]) -> u8 {
    let distance = |number: &u8| -> u32 {
        let pairs = cube_or_grey(*number).into_iter().zip(colour);
        pairs.map(|(a, b)| u32::from(a.abs_diff(b)).pow(2)).sum()
    };
    (16..=255).min_by_key(distance).unwrap_or(16)
}

/// The first sixteen, chosen to be read on the console's dark paper.
const SIXTEEN: [&str; 16] = [
    "#8a919c", "#f0948c", "#7fcf9a", "#e5c07b", "#82b4e4", "#cf9fe0", "#7fcfd0", "#c3c8d0",
    "#9aa1ac", "#ffaba3", "#98e4b1", "#f3d597", "#a2caf0", "#e0bbee", "#9ae4e4", "#ffffff",
];

/// The same as paper, under light ink.
const SIXTEEN_PAPERS: [&str; 16] = [
    "#000000", "#8c2f28", "#22633c", "#7a5a12", "#1f5687", "#6b3580", "#1c6a6b", "#5f6670",
    "#3b4048", "#a63d35", "#2c7a4b", "#916c18", "#2b6ba6", "#82449b", "#278283", "#9aa1ac",
];

/// The style sheet of all colours.
pub(super) fn style_sheet() -> String {
    let mut sheet = String::new();
    for number in 0..=255_u8 {
        let [ink, paper] = match SIXTEEN.get(usize::from(number)) {
            Some(ink) => [*ink, SIXTEEN_PAPERS[usize::from(number)]].map(str::to_owned),
            None => {
                let [red, green, blue] = cube_or_grey(number);
                let colour = format!("#{red:02x}{green:02x}{blue:02x}");
                [colour.clone(), colour]
            }
        };
        sheet.push_str(&format!(
            ".c{number}{{color:{ink}}}.bg{number}{{background:{paper}}}\n"
        ));
    }
    sheet
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn shown(text: &str) -> Line {
        line(&ShownLine {
            text: text.as_bytes().to_vec(),
            cut: 0,
        })
    }

    fn check(text: &str, expected: &[(&str, &str)]) {
        let line = shown(text);
        let spans = line.spans.iter();
        let spans: Vec<_> = spans
            .map(|span| (span.class.as_str(), span.text.as_str()))
            .collect();
        assert_eq!(spans, expected, "{text:?}");
    }

    #[test]
    fn colours_become_classes_and_the_rest_goes() {
        let line = shown("&1|10:11:12.123 text");
        assert_eq!((line.class, line.clock.as_str()), ("", "10:11:12.123"));
        check(
            "a\x1b[1;31mred\x1b[0m\x1b[2K\x1b]b\x07c",
            &[("", "a"), ("b c1", "red"), ("", "c")],
        );
        check(
            "\x1b[38;5;208mo\x1b[48;2;255;0;1mp\x1b[39;49mq\x1b[97;104mr",
            &[
                ("c208", "o"),
                ("c208 bg196", "p"),
                ("", "q"),
                ("c15 bg12", "r"),
            ],
        );
        check(
            "\x1b[2;3;4;9mall\x1b[22;23;24;29mnone\x1b[7mturned\x1b[32mgreen\x1b[27;8mhid",
            &[
                ("dim i u s", "all"),
                ("", "none"),
                ("inv bginv", "turned"),
                ("inv bg2", "green"),
                ("hid c2", "hid"),
            ],
        );
        check("\x1b[38:2:0:255:0mx", &[("c46", "x")]);
        check("\x1b[mplain\x1b[;1mb", &[("", "plain"), ("b", "b")]);
    }

    #[test]
    fn hostile_sequences_leave_only_text() {
        for (text, expected) in [
            ("\x1b", ""),
            ("\x1b[", ""),
            ("\x1b[38;5", ""),
            ("\x1b[38;5m", ""),
            ("\x1b[999999999999;1mx", "x"),
            ("\x1b]8;;http://evil/\x1b\\link\x1b]8;;\x1b\\", "link"),
            ("\x1b]0;title\x07x", "x"),
            ("\x1b]never ends", ""),
            ("\x1bP1$r\x1b[31mx", "x"),
            ("\x1b(Bx", "x"),
            ("\x1b7x\x1b8", "x"),
            ("\u{9b}31mx", "x"),
            ("\x1b[3\u{e9}x", "\u{e9}x"),
            ("a\u{202e}b\u{2066}c\0\x08d", "abcd"),
        ] {
            let text: Vec<String> = shown(text).spans.into_iter().map(|one| one.text).collect();
            assert_eq!(text.concat(), expected);
        }
    }

    #[test]
    fn a_line_without_a_tag_is_shown_as_it_is() {
        let line = shown("just <text>\r");
        assert_eq!(line.clock, "");
        assert_eq!(line.spans[0].text, "just <text>");
        let odd = shown("\u{e9}\u{e9}|10:11:12.123 x");
        assert_eq!(
            (odd.clock.as_str(), odd.spans[0].text.as_str()),
            ("10:11:12.123", "x")
        );
    }

    #[test]
    fn the_style_sheet_has_every_colour() {
        let sheet = style_sheet();
        assert!(sheet.contains(".c208{color:#ff8700}.bg208{background:#ff8700}"));
        assert!(sheet.contains(".c255{color:#eeeeee}"));
    }
}
