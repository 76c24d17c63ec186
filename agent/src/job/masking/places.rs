//! Where in a text secrets stand.

use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind};

use super::{
    blocks::{ANCHOR, Blocks},
    forms::{self, Form},
};

/// Up to that many patterns the search is a table, which is fast and takes about 2 KiB for each.
const MOST_IN_TABLE: usize = 2000;
/// Secrets with fewer bytes are not searched for in text that was encoded for a URL.
const SHORTEST_ENCODED: usize = 3;

/// Finds secrets, as they are and encoded.
pub(super) struct Finder {
    /// The secrets themselves, then their other forms.
    patterns: Vec<Form>,
    secrets: usize,
    /// The search itself goes by the beginnings of the texts, and the rest is compared where one
    /// was found. So its memory depends on how many secrets there are, and not on their length.
    anchors: Option<AhoCorasick>,
    /// Those that are shorter than an anchor.
    short: Option<AhoCorasick>,
    blocks: Blocks,
    /// Every text may hold a secret: one of them has the character that stands for bytes that are
    /// no text, or there is no automaton.
    always: bool,
    in_every_form: bool,
    /// A plus sign may stand for a blank of a secret.
    have_blanks: bool,
    longest: usize,
}

/// A part of a text with secrets in it that overlap each other.
#[derive(Debug, Clone, Copy)]
struct Place {
    start: usize,
    end: usize,
    encoded: bool,
}

/// What a text holds.
pub(super) struct Found {
    /// There may be a secret as it is.
    pub(super) as_they_are: bool,
    /// The parts of the text that hold an encoded secret, in order, as large as that they cut no
    /// other secret in two.
    pub(super) encoded: Vec<Range<usize>>,
}

/// A text with its URL encoding undone, and the way back.
struct Decoded {
    bytes: Vec<u8>,
    /// Which of the bytes were an escape of three.
    escapes: Vec<usize>,
}

impl Finder {
    pub(super) fn new<'a>(secrets: impl Iterator<Item = &'a str>, in_every_form: bool) -> Self {
        let mut patterns: Vec<Form> = secrets
            .map(|secret| Form {
                text: secret.to_owned(),
                open_start: false,
                open_end: false,
            })
            .collect();
        let secrets = patterns.len();
        if in_every_form {
            for at in 0..secrets {
                let forms = forms::of(&patterns[at].text);
                patterns.extend(forms);
            }
        }
        let table = patterns.len() <= MOST_IN_TABLE;
        let build = |anchors: Vec<&[u8]>| {
            AhoCorasick::builder()
                .kind(table.then_some(AhoCorasickKind::DFA))
                .build(anchors)
        };
        let (short, long): (Vec<&[u8]>, Vec<&[u8]>) = patterns
            .iter()
            .map(Form::anchor)
            .partition(|anchor| anchor.len() < ANCHOR);
        let blocks = Blocks::of(long.into_iter());
        let has_short = !short.is_empty();
        let short = build(short).ok().filter(|_| has_short);
        let anchors = build(patterns.iter().map(Form::anchor).collect())
            .inspect_err(|error| tracing::error!(%error, "Secrets are masked as they are only"))
            .ok();
        let longest = patterns.iter().map(|pattern| pattern.text.len()).max();
        Self {
            have_blanks: patterns.iter().any(|pattern| pattern.text.contains(' ')),
            // Each byte may have become three in a URL.
            longest: longest.unwrap_or(0) * if in_every_form { 3 } else { 1 },
            always: anchors.is_none()
                || has_short && short.is_none()
                || patterns
                    .iter()
                    .any(|pattern| pattern.text.contains('\u{fffd}')),
            patterns,
            secrets,
            anchors,
            short,
            blocks,
            in_every_form,
        }
    }

    /// Bytes of the longest text that may be found.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// A quick look. False: no secret stands in the text, or in one of its lines, as it is or in
    /// base64.
    pub(super) fn may_hold(&self, text: &[u8]) -> bool {
        let is_in = |automaton: &Option<AhoCorasick>, text: &[u8]| {
            let automaton = automaton.as_ref();
            automaton.is_some_and(|automaton| automaton.is_match(text))
        };
        self.always
            || is_in(&self.short, text)
            || self
                .blocks
                .suspects(text)
                .any(|part| is_in(&self.anchors, &text[part]))
    }

    /// Whether something in the text may be encoded for a URL.
    pub(super) fn is_coded(&self, text: &[u8]) -> bool {
        self.in_every_form && has_escape(text)
    }

    fn has_plus(&self, text: &[u8]) -> bool {
        self.have_blanks && memchr::memchr(b'+', text).is_some()
    }

    /// Where the text holds secrets.
    pub(super) fn find(&self, text: &str) -> Found {
        let text = text.as_bytes();
        let mut as_they_are = self.always;
        let mut places = Vec::new();
        self.search(text, |range, encoded| {
            as_they_are |= !encoded;
            if self.in_every_form {
                join(&mut places, range, encoded);
            }
        });
        let mut decode = |plus_is_blank| {
            let decoded = Decoded::from(text, plus_is_blank);
            let mut inside = Vec::new();
            self.search(&decoded.bytes, |range, _| {
                if range.len() < SHORTEST_ENCODED {
                    return;
                }
                let original = decoded.original(&range);
                // What is the same before and after was found already.
                if text[original.clone()] != decoded.bytes[range] {
                    join(&mut inside, original, true);
                }
            });
            places.append(&mut inside);
        };
        if self.is_coded(text) {
            decode(false);
            if self.has_plus(text) {
                decode(true);
            }
        }
        places.sort_unstable_by_key(|place| place.start);
        for place in std::mem::take(&mut places) {
            join(&mut places, place.start..place.end, place.encoded);
        }
        places.retain(|place| place.encoded);
        Found {
            as_they_are,
            encoded: places.iter().map(|place| place.start..place.end).collect(),
        }
    }

    /// Tells each occurrence of each pattern, about in the order in which they end, and whether
    /// it is an encoded form.
    fn search(&self, text: &[u8], mut found: impl FnMut(Range<usize>, bool)) {
        let Some(anchors) = &self.anchors else { return };
        for anchor in anchors.find_overlapping_iter(text) {
            let index = anchor.pattern().as_usize();
            let pattern = &self.patterns[index];
            let (mut start, length) = (anchor.start(), pattern.text.len());
            if !text[start..].starts_with(pattern.text.as_bytes()) {
                continue;
            }
            let mut end = start + length;
            if index >= self.secrets {
                start -=
                    usize::from(pattern.open_start && text[..start].last().is_some_and(is_digit));
                end += usize::from(pattern.open_end && text[end..].first().is_some_and(is_digit));
                end += text[end..]
                    .iter()
                    .take(2)
                    .take_while(|b| **b == b'=')
                    .count();
            }
            found(start..end, index >= self.secrets);
        }
    }
}

/// Adds a place behind all others, as one with those it overlaps.
fn join(places: &mut Vec<Place>, range: Range<usize>, encoded: bool) {
    let mut next = Place {
        start: range.start,
        end: range.end,
        encoded,
    };
    while let Some(last) = places.last()
        && last.end > next.start
    {
        next.start = next.start.min(last.start);
        next.end = next.end.max(last.end);
        next.encoded |= last.encoded;
        places.pop();
    }
    places.push(next);
}

/// Whether it is a digit of base64, in either alphabet.
fn is_digit(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/-_".contains(byte)
}

/// The byte that an escape at the beginning of the text stands for.
fn escape(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = text else {
        return None;
    };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()
}

fn has_escape(text: &[u8]) -> bool {
    memchr::memchr_iter(b'%', text).any(|at| escape(&text[at..]).is_some())
}

impl Form {
    fn anchor(&self) -> &[u8] {
        let bytes = self.text.as_bytes();
        &bytes[..bytes.len().min(ANCHOR)]
    }
}

impl Decoded {
    fn from(text: &[u8], plus_is_blank: bool) -> Self {
        let mut decoded = Self {
            bytes: Vec::with_capacity(text.len()),
            escapes: Vec::new(),
        };
        let mut rest = text;
        while let Some(first) = rest.first() {
            if let Some(byte) = escape(rest) {
                decoded.escapes.push(decoded.bytes.len());
                decoded.bytes.push(byte);
                rest = &rest[3..];
                continue;
            }
            let blank = plus_is_blank && *first == b'+';
            decoded.bytes.push(if blank { b' ' } else { *first });
            rest = &rest[1..];
        }
        decoded
    }

    /// Where something that is in the decoded text is in the original.
    fn original(&self, range: &Range<usize>) -> Range<usize> {
        let back = |at: usize| at + 2 * self.escapes.partition_point(|escape| *escape < at);
        back(range.start)..back(range.end)
    }
}
