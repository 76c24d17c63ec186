//! Reading XML of any size with little memory.

use std::io::{self, BufRead, Read};

/// Of a longer run of text the rest is dropped, in bytes: what a test printed may be gigabytes.
const LONGEST_TEXT: usize = 256 * 1024;
/// A longer tag is an error, in bytes.
const LONGEST_TAG: usize = 1024 * 1024;

/// Cuts long texts, `CDATA` sections and comments short, so that the parser behind it never has to
/// hold one.
pub(super) struct Shortened<R> {
    input: R,
    place: Place,
    /// Bytes since the place was entered.
    length: usize,
    /// Whether what comes now is left out.
    dropping: bool,
    last: [u8; 3],
    out: Vec<u8>,
    given: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Text,
    /// An entity in a text.
    Entity,
    /// After `<`: a tag, or the beginning of something else.
    Tag,
    /// An attribute's value in a tag, up to this quote.
    Value(u8),
    Instruction,
    Cdata,
    Comment,
}

impl<R: BufRead> Shortened<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            place: Place::Text,
            length: 0,
            dropping: false,
            last: [0; 3],
            out: Vec::new(),
            given: 0,
        }
    }

    fn push(&mut self, byte: u8) -> io::Result<()> {
        let [_, b, c] = self.last;
        self.last = [b, c, byte];
        self.length += 1;
        let next = match (self.place, byte) {
            (Place::Text | Place::Entity, b'<') => Place::Tag,
            (Place::Text, b'&') => Place::Entity,
            (Place::Entity, b';') => Place::Text,
            (Place::Tag, b'?') if self.length == 1 => Place::Instruction,
            (Place::Tag, b'-') if self.length == 3 && self.last == *b"!--" => Place::Comment,
            (Place::Tag, b'[') if self.length == 8 && self.last == *b"TA[" => Place::Cdata,
            (Place::Tag, b'"' | b'\'') => Place::Value(byte),
            (Place::Value(quote), _) if byte == quote => Place::Tag,
            (Place::Tag, b'>') => Place::Text,
            (Place::Instruction, b'>') if self.last[1] == b'?' => Place::Text,
            (Place::Cdata, b'>') if self.last == *b"]]>" => Place::Text,
            (Place::Comment, b'>') if self.last == *b"-->" => Place::Text,
            (place, _) => place,
        };
        match self.place {
            Place::Text | Place::Cdata | Place::Comment => {
                // Not in the middle of a letter that has several bytes.
                let is_boundary = !(0x80..0xc0).contains(&byte);
                self.dropping |= self.length > LONGEST_TEXT && is_boundary;
            }
            Place::Entity => {}
            Place::Tag | Place::Value(_) | Place::Instruction if self.length > LONGEST_TAG => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("a tag has more than {LONGEST_TAG} bytes"),
                ));
            }
            Place::Tag | Place::Value(_) | Place::Instruction => {}
        }
        let ends = next != self.place;
        // An entity is a part of its text, and a value one of its tag.
        let is_part = matches!(
            (self.place, next),
            (Place::Text, Place::Entity)
                | (Place::Entity, Place::Text)
                | (Place::Tag, Place::Value(_))
                | (Place::Value(_), Place::Tag)
        );
        if !self.dropping {
            self.out.push(byte);
        } else if ends && !is_part {
            match self.place {
                Place::Cdata => self.out.extend(b"]]>"),
                Place::Comment => self.out.extend(b"-->"),
                _ => self.out.push(byte),
            }
        }
        if ends && !is_part {
            (self.length, self.dropping) = (0, false);
        }
        self.place = next;
        Ok(())
    }
}

impl<R: BufRead> Read for Shortened<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.given == self.out.len() {
            self.out.clear();
            self.given = 0;
            let available = self.input.fill_buf()?;
            // A copy, since the input cannot be held meanwhile; it is small.
            let piece = available[..available.len().min(8 * 1024)].to_vec();
            if piece.is_empty() {
                return Ok(0);
            }
            self.input.consume(piece.len());
            for byte in piece {
                self.push(byte)?;
            }
        }
        let left = &self.out[self.given..];
        let length = left.len().min(buffer.len());
        buffer[..length].copy_from_slice(&left[..length]);
        self.given += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shortened(text: &str) -> String {
        let mut out = String::new();
        Shortened::new(text.as_bytes())
            .read_to_string(&mut out)
            .unwrap();
        out
    }

    #[test]
    fn short_documents_stay_as_they_are() {
        let text = "<?xml version='1.0'?><!-- a > b --><a b='<' c=\"it's\">x &amp; é<![CDATA[<]]>]]>\
                    </a><!DOCTYPE a [<!ENTITY b 'c'>]><?p it's?>";
        assert_eq!(shortened(text), text);
    }

    #[test]
    fn long_runs_are_cut_between_letters() {
        for (begin, end) in [
            ("<a>", "</a>"),
            ("<a><![CDATA[", "]]></a>"),
            ("<a><!--", "--></a>"),
        ] {
            for letter in ["x", "é", "&amp;"] {
                let text = letter.repeat(2 * LONGEST_TEXT / letter.len());
                let short = shortened(&format!("{begin}{text}{end}"));
                let kept = short
                    .strip_prefix(begin)
                    .unwrap()
                    .strip_suffix(end)
                    .unwrap();
                assert!(
                    kept.len().abs_diff(LONGEST_TEXT) < 10,
                    "{begin} {letter} {}",
                    kept.len()
                );
                if begin == "<a>" || letter.len() < 3 {
                    assert!(kept == letter.repeat(kept.len() / letter.len()));
                }
            }
        }
    }

    #[test]
    fn an_endless_tag_is_an_error() {
        let text = format!("<a b='{}'/>", "x".repeat(LONGEST_TAG));
        let mut out = Vec::new();
        Shortened::new(text.as_bytes())
            .read_to_end(&mut out)
            .unwrap_err();
    }
}
