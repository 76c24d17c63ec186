//! Where in a text secrets stand.

use std::ops::Range;

use aho_corasick::AhoCorasick;

use super::forms::{self, Form};

/// How much of each text the search itself goes by; the rest is compared where that was found. So
/// its memory depends on how many secrets there are, and not on how long they are.
const ANCHOR: usize = 32;
/// Secrets with fewer bytes are not searched for in text that was encoded for a URL.
const SHORTEST_ENCODED: usize = 3;

/// Finds secrets, as they are and encoded.
pub(super) struct Finder {
    /// The secrets themselves, then their other forms.
    patterns: Vec<Form>,
    secrets: usize,
    anchors: Option<AhoCorasick>,
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
        let anchors = AhoCorasick::new(patterns.iter().map(Form::anchor))
            .inspect_err(|error| tracing::error!(%error, "Secrets are masked as they are only"))
            .ok();
        let longest = patterns.iter().map(|pattern| pattern.text.len()).max();
        Self {
            have_blanks: patterns.iter().any(|pattern| pattern.text.contains(' ')),
            // Each byte may have become three in a URL.
            longest: longest.unwrap_or(0) * if in_every_form { 3 } else { 1 },
            always: anchors.is_none()
                || patterns
                    .iter()
                    .any(|pattern| pattern.text.contains('\u{fffd}')),
            patterns,
            secrets,
            anchors,
            in_every_form,
        }
    }

    /// Bytes of the longest text that may be found.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// A quick look. False: neither in the text nor in one of its lines is there any secret.
    pub(super) fn may_find(&self, text: &[u8]) -> bool {
        self.always
            || self
                .anchors
                .as_ref()
                .is_some_and(|anchors| anchors.is_match(text))
            || self.in_every_form && (has_escape(text) || self.has_plus(text))
    }

    fn has_plus(&self, text: &[u8]) -> bool {
        self.have_blanks && memchr::memchr(b'+', text).is_some()
    }

    /// The parts of a text that hold an encoded secret, in order, as large as that they cut no
    /// other secret in two.
    pub(super) fn encoded(&self, text: &str) -> Vec<Range<usize>> {
        if !self.in_every_form {
            return Vec::new();
        }
        let text = text.as_bytes();
        let mut places = Vec::new();
        self.find(text, |range, form| {
            join(&mut places, range, form);
        });
        if has_escape(text) || self.has_plus(text) {
            let mut decode = |plus_is_blank| {
                let decoded = Decoded::from(text, plus_is_blank);
                let mut inside = Vec::new();
                self.find(&decoded.bytes, |range, _| {
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
            decode(false);
            if self.has_plus(text) {
                decode(true);
            }
            places.sort_unstable_by_key(|place| place.start);
            let found = std::mem::take(&mut places);
            for place in found {
                join(&mut places, place.start..place.end, place.encoded);
            }
        }
        places.retain(|place| place.encoded);
        places.iter().map(|place| place.start..place.end).collect()
    }

    /// Tells each occurrence of each pattern, about in the order in which they end, and whether
    /// it is an encoded form.
    fn find(&self, text: &[u8], mut found: impl FnMut(Range<usize>, bool)) {
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
