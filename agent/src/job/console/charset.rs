//! The console charset a server names in its work: task output is read in it and the console is
//! sent in it.

use std::borrow::Cow;

use encoding_rs::{EncoderResult, Encoding, UTF_8, UTF_16BE, UTF_16LE};

/// A console charset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Charset {
    /// Every byte is the character of that number. The encoding standard of the web has no such
    /// thing (it reads the name as windows-1252), Java has.
    Latin1,
    /// 7 bits; anything else is unknown.
    Ascii,
    Other(&'static Encoding),
}

impl Charset {
    /// The charset of this name; UTF-8 when there is none, or it cannot be split into lines
    /// bytewise (UTF-16), which GoCD's own console pages cannot show either.
    pub(crate) fn for_name(name: &str) -> Self {
        match name.trim().to_ascii_uppercase().as_str() {
            "ISO-8859-1" | "ISO8859_1" | "LATIN1" | "ISO_8859-1" => return Self::Latin1,
            "US-ASCII" | "ASCII" => return Self::Ascii,
            _ => {}
        }
        match Encoding::for_label(name.as_bytes()) {
            Some(encoding) if encoding == UTF_16LE || encoding == UTF_16BE => Self::Other(UTF_8),
            Some(encoding) => Self::Other(encoding),
            None => Self::Other(UTF_8),
        }
    }

    /// Bytes as text; what the charset does not know becomes U+FFFD.
    pub(crate) fn decode<'a>(self, bytes: &'a [u8]) -> Cow<'a, str> {
        match self {
            Self::Other(encoding) if encoding == UTF_8 => String::from_utf8_lossy(bytes),
            Self::Other(encoding) => encoding.decode_without_bom_handling(bytes).0,
            Self::Latin1 => match str::from_utf8(bytes) {
                Ok(text) if text.is_ascii() => Cow::Borrowed(text),
                _ => Cow::Owned(bytes.iter().map(|b| char::from(*b)).collect()),
            },
            Self::Ascii => Cow::Owned(
                bytes
                    .iter()
                    .map(|b| {
                        if b.is_ascii() {
                            char::from(*b)
                        } else {
                            '\u{fffd}'
                        }
                    })
                    .collect(),
            ),
        }
    }

    /// Text as bytes, appended; what the charset cannot say becomes `?`, as in Java.
    pub(crate) fn encode_into(self, text: &str, out: &mut Vec<u8>) {
        let limit = match self {
            Self::Other(encoding) if encoding == UTF_8 => {
                out.extend_from_slice(text.as_bytes());
                return;
            }
            Self::Other(encoding) => return encode_other(encoding, text, out),
            Self::Latin1 => 0x100,
            Self::Ascii => 0x80,
        };
        if text.is_ascii() {
            out.extend_from_slice(text.as_bytes());
            return;
        }
        out.extend(text.chars().map(|c| match u8::try_from(u32::from(c)) {
            Ok(byte) if u32::from(byte) < limit => byte,
            _ => b'?',
        }));
    }
}

fn encode_other(encoding: &'static Encoding, text: &str, out: &mut Vec<u8>) {
    let mut encoder = encoding.new_encoder();
    let mut rest = text;
    let mut buffer = [0u8; 4096];
    loop {
        let (result, read, written) =
            encoder.encode_from_utf8_without_replacement(rest, &mut buffer, true);
        out.extend_from_slice(&buffer[..written]);
        rest = &rest[read..];
        match result {
            EncoderResult::InputEmpty => return,
            EncoderResult::OutputFull => {}
            EncoderResult::Unmappable(_) => out.push(b'?'),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(name: &str, text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        Charset::for_name(name).encode_into(text, &mut out);
        out
    }

    #[test]
    fn latin1_is_javas_not_the_webs() {
        assert_eq!(encode("ISO-8859-1", "é\u{80}€"), b"\xe9\x80?");
        assert_eq!(
            Charset::for_name("ISO-8859-1").decode(b"a\x80\xe9"),
            "a\u{80}é"
        );
    }

    #[test]
    fn others_put_a_question_mark() {
        assert_eq!(encode("windows-1252", "€→x"), b"\x80?x");
        assert_eq!(encode("US-ASCII", "aé"), b"a?");
        assert_eq!(encode("Shift_JIS", "日本"), b"\x93\xfa\x96\x7b");
    }

    #[test]
    fn unknown_names_are_utf_8() {
        assert_eq!(Charset::for_name("no-such"), Charset::for_name("utf-8"));
        assert_eq!(Charset::for_name("UTF-16"), Charset::for_name("utf-8"));
        assert_eq!(
            Charset::for_name("utf-8").decode(b"a\xffb\xc3"),
            "a\u{fffd}b\u{fffd}"
        );
    }
}
