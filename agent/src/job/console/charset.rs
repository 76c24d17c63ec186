//! The console charset a server names in its work: task output is read in it and the console is
//! sent in it. In between everything is UTF-8.

use std::borrow::Cow;

use encoding_rs::{
    CoderResult, EncoderResult, Encoding, UTF_8, UTF_16BE, UTF_16LE, X_USER_DEFINED,
};

/// The six characters in which ISO-8859-9 differs from ISO-8859-1.
const TURKISH: [(u8, char); 6] = [
    (0xd0, 'Ğ'),
    (0xdd, 'İ'),
    (0xde, 'Ş'),
    (0xf0, 'ğ'),
    (0xfd, 'ı'),
    (0xfe, 'ş'),
];

/// A console charset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Charset {
    Utf8,
    /// 7 bits; anything else is unknown.
    Ascii,
    /// Every byte is the character of that number. The encoding standard of the web has no such
    /// thing (it reads the name as windows-1252), Java has.
    Latin1,
    /// ISO-8859-9, which the web reads as windows-1254.
    Latin5,
    Utf16(ByteOrder),
    /// A code page of Windows. The web reads its unassigned bytes as control characters, Java does
    /// not know them.
    Windows(&'static Encoding),
    Other(&'static Encoding),
}

/// The kinds of UTF-16 that Java has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ByteOrder {
    /// Text begins with a mark of its order; without one it is big-endian.
    Marked,
    Big,
    Little,
}

/// Turns a stream of bytes into UTF-8, in whatever pieces it comes.
pub(crate) struct Decoder {
    charset: Charset,
    /// For charsets in which a character may be torn between two pieces.
    decoder: Option<encoding_rs::Decoder>,
}

/// The text of bytes that should be UTF-8, with U+FFFD for what is not, as often as Java has it: one
/// for each sequence that is broken off, one for each other byte, and one for the three bytes of a
/// lone surrogate, where others count three.
pub(crate) fn text_of(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len() + 16);
    let mut rest = bytes;
    while let Some(chunk) = rest.utf8_chunks().next() {
        text.push_str(chunk.valid());
        let mut taken = chunk.valid().len() + chunk.invalid().len();
        if !chunk.invalid().is_empty() {
            text.push('\u{fffd}');
        }
        if chunk.invalid() == [0xed] {
            let more = rest[taken..].iter().take(2);
            taken += more.take_while(|byte| **byte & 0xc0 == 0x80).count();
        }
        rest = &rest[taken..];
    }
    Cow::Owned(text)
}

impl Charset {
    /// The charset of this name.
    ///
    /// GoCD's server sends the canonical names of the charsets its JVM knows. One that is not
    /// known here, such as IBM850, is taken for some charset that has ASCII in it: what tasks print
    /// goes to the server byte by byte, which is right, and in the agent's own lines everything but
    /// ASCII becomes `?`.
    pub(crate) fn for_name(name: &str) -> Self {
        match name.trim().to_ascii_uppercase().as_str() {
            "" => return Self::Utf8,
            "ISO-8859-1" | "ISO8859_1" | "LATIN1" | "ISO_8859-1" => return Self::Latin1,
            "ISO-8859-9" | "ISO8859_9" | "LATIN5" => return Self::Latin5,
            "US-ASCII" | "ASCII" => return Self::Ascii,
            "UTF-16" => return Self::Utf16(ByteOrder::Marked),
            "UTF-16BE" => return Self::Utf16(ByteOrder::Big),
            "UTF-16LE" => return Self::Utf16(ByteOrder::Little),
            _ => {}
        }
        match Encoding::for_label_no_replacement(name.as_bytes()) {
            Some(encoding) if encoding == UTF_8 => Self::Utf8,
            Some(encoding) if encoding.name().starts_with("windows-") => Self::Windows(encoding),
            Some(encoding) => Self::Other(encoding),
            None => Self::Other(X_USER_DEFINED),
        }
    }

    pub(crate) fn decoder(self) -> Decoder {
        let decoder = match self {
            Self::Utf8 | Self::Ascii | Self::Latin1 | Self::Latin5 => None,
            Self::Utf16(ByteOrder::Marked) => Some(UTF_16BE.new_decoder()),
            Self::Utf16(ByteOrder::Big) => Some(UTF_16BE.new_decoder_without_bom_handling()),
            Self::Utf16(ByteOrder::Little) => Some(UTF_16LE.new_decoder_without_bom_handling()),
            Self::Windows(encoding) | Self::Other(encoding) => {
                Some(encoding.new_decoder_without_bom_handling())
            }
        };
        Decoder {
            charset: self,
            decoder,
        }
    }

    /// Text as bytes; what the charset cannot say becomes `?`, as in Java.
    pub(crate) fn encode(self, text: &str) -> Cow<'_, [u8]> {
        match self {
            Self::Utf8 => Cow::Borrowed(text.as_bytes()),
            Self::Ascii | Self::Latin1 | Self::Latin5 if text.is_ascii() => {
                Cow::Borrowed(text.as_bytes())
            }
            Self::Ascii | Self::Latin1 | Self::Latin5 => {
                let bytes = text.chars().map(|c| self.byte_of(c).unwrap_or(b'?'));
                Cow::Owned(bytes.collect())
            }
            Self::Utf16(order) => Cow::Owned(encode_utf16(text, order)),
            Self::Windows(encoding) => {
                let text = text.replace(|c| matches!(c, '\u{80}'..='\u{9f}'), "?");
                Cow::Owned(encode(&text, encoding))
            }
            Self::Other(encoding) => Cow::Owned(encode(text, encoding)),
        }
    }

    /// For charsets of one byte a character that are not in the web's standard.
    fn byte_of(self, c: char) -> Option<u8> {
        let own = TURKISH
            .iter()
            .find(|(byte, turkish)| *turkish == c || char::from(*byte) == c);
        match (self, u8::try_from(c).ok(), own) {
            (Self::Ascii, byte, _) => byte.filter(u8::is_ascii),
            (Self::Latin5, _, Some((byte, turkish))) => (*turkish == c).then_some(*byte),
            (_, byte, _) => byte,
        }
    }

    fn char_of(self, byte: u8) -> char {
        let own = TURKISH.iter().find(|(turkish, _)| *turkish == byte);
        match (self, own) {
            (Self::Ascii, _) if !byte.is_ascii() => '\u{fffd}',
            (Self::Latin5, Some((_, c))) => *c,
            _ => char::from(byte),
        }
    }
}

impl Decoder {
    /// The next bytes as UTF-8; `last` when none will follow. Bytes that should be UTF-8 are given
    /// as they are: see [`text_of`].
    pub(crate) fn decode<'a>(&mut self, bytes: &'a [u8], last: bool) -> Cow<'a, [u8]> {
        let Some(decoder) = &mut self.decoder else {
            return match self.charset {
                Charset::Utf8 => Cow::Borrowed(bytes),
                _ if bytes.is_ascii() => Cow::Borrowed(bytes),
                charset => {
                    let text: String = bytes.iter().map(|byte| charset.char_of(*byte)).collect();
                    Cow::Owned(text.into_bytes())
                }
            };
        };
        let mut text = String::with_capacity(bytes.len() + 16);
        let mut rest = bytes;
        loop {
            let (result, read, _) = decoder.decode_to_string(rest, &mut text, last);
            rest = &rest[read..];
            match result {
                CoderResult::InputEmpty => break,
                CoderResult::OutputFull => text.reserve(rest.len() + 16),
            }
        }
        if matches!(self.charset, Charset::Windows(_)) && !text.is_ascii() {
            text = text.replace(|c| matches!(c, '\u{80}'..='\u{9f}'), "\u{fffd}");
        }
        Cow::Owned(text.into_bytes())
    }
}

fn encode(text: &str, encoding: &'static Encoding) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut encoder = encoding.new_encoder();
    let mut rest = text;
    let mut buffer = [0; 4096];
    loop {
        let (result, read, written) =
            encoder.encode_from_utf8_without_replacement(rest, &mut buffer, true);
        bytes.extend_from_slice(&buffer[..written]);
        rest = &rest[read..];
        match result {
            EncoderResult::InputEmpty => return bytes,
            EncoderResult::OutputFull => {}
            EncoderResult::Unmappable(_) => bytes.push(b'?'),
        }
    }
}

fn encode_utf16(text: &str, order: ByteOrder) -> Vec<u8> {
    // Java marks each text that it encodes.
    let mark = (order == ByteOrder::Marked).then_some(0xfeff);
    mark.into_iter()
        .chain(text.encode_utf16())
        .flat_map(|unit| match order {
            ByteOrder::Little => unit.to_le_bytes(),
            ByteOrder::Marked | ByteOrder::Big => unit.to_be_bytes(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn encode(name: &str, text: &str) -> Vec<u8> {
        Charset::for_name(name).encode(text).into_owned()
    }

    /// Decodes the bytes one by one.
    fn decode(name: &str, bytes: &[u8]) -> String {
        let mut decoder = Charset::for_name(name).decoder();
        let mut decoded = Vec::new();
        for byte in bytes {
            decoded.extend_from_slice(&decoder.decode(&[*byte], false));
        }
        decoded.extend_from_slice(&decoder.decode(&[], true));
        text_of(&decoded).into_owned()
    }

    #[test]
    fn charsets_are_javas_not_the_webs() {
        let table: &[(&str, &str, &[u8])] = &[
            ("UTF-8", "é€", b"\xc3\xa9\xe2\x82\xac"),
            ("ISO-8859-1", "é\u{80}", b"\xe9\x80"),
            ("ISO-8859-9", "ğ\u{80}Şé", b"\xf0\x80\xde\xe9"),
            ("ISO-8859-15", "€\u{80}", b"\xa4\x80"),
            ("windows-1252", "€é", b"\x80\xe9"),
            ("windows-1251", "Привет", b"\xcf\xf0\xe8\xe2\xe5\xf2"),
            ("KOI8-R", "Привет", b"\xf0\xd2\xc9\xd7\xc5\xd4"),
            ("Shift_JIS", "日本", b"\x93\xfa\x96\x7b"),
            ("windows-31j", "日本", b"\x93\xfa\x96\x7b"),
            ("EUC-JP", "日本", b"\xc6\xfc\xcb\xdc"),
            ("ISO-2022-JP", "日\n", b"\x1b$BF|\x1b(B\n"),
            ("GBK", "中文", b"\xd6\xd0\xce\xc4"),
            ("GB18030", "中€", b"\xd6\xd0\xa2\xe3"),
            ("Big5", "中文", b"\xa4\xa4\xa4\xe5"),
            ("EUC-KR", "한글", b"\xc7\xd1\xb1\xdb"),
            ("UTF-16BE", "a\n€😀", b"\0a\0\n\x20\xac\xd8\x3d\xde\0"),
            ("UTF-16LE", "a\n€", b"a\0\n\0\xac\x20"),
            ("UTF-16", "a€", b"\xfe\xff\0a\x20\xac"),
        ];
        for (name, text, bytes) in table {
            assert_eq!(encode(name, text), *bytes, "{name}");
            assert_eq!(decode(name, bytes), *text, "{name}");
        }
        assert_eq!(decode("UTF-16", b"\xff\xfea\0"), "a");
        assert_eq!(decode("UTF-16", b"\0a"), "a");
    }

    #[test]
    fn what_a_charset_does_not_know_is_replaced() {
        assert_eq!(encode("ISO-8859-1", "a€😀b"), b"a??b");
        assert_eq!(encode("ISO-8859-9", "ýğ"), b"?\xf0");
        assert_eq!(encode("US-ASCII", "aé"), b"a?");
        assert_eq!(encode("windows-1252", "→\u{81}x"), b"??x");
        assert_eq!(encode("ISO-2022-JP", "日é"), b"\x1b$BF|\x1b(B?");
        assert_eq!(decode("US-ASCII", b"a\x80"), "a\u{fffd}");
        assert_eq!(decode("windows-1252", b"\x81\x80"), "\u{fffd}€");
        assert_eq!(decode("Shift_JIS", b"\x81 x"), "\u{fffd} x");
    }

    #[test]
    fn bytes_of_an_unknown_charset_go_through_as_they_are() {
        for name in ["IBM850", "no-such"] {
            let text = decode(name, b"caf\x82");
            assert_eq!(encode(name, &text), b"caf\x82");
            assert_eq!(encode(name, "é"), b"?");
        }
    }

    /// What the JDK's decoder gives for each.
    #[test]
    fn bytes_that_are_no_utf_8_are_counted_as_java_counts_them() {
        let table: &[(&[u8], usize)] = &[
            (b"\xff", 1),
            (b"\xc3", 1),
            (b"\xc0\x80", 2),
            (b"\xe0\x80\x80", 3),
            (b"\xe2\x82", 1),
            (b"\xed\xa0\x80", 1),
            (b"\xed\xa0", 1),
            (b"\xed\xbf\xbf\xed\xa0\x80", 2),
            (b"\xed\x41", 1),
            (b"\xf0\x9f", 1),
            (b"\xf0\x9f\x98", 1),
            (b"\xf0\x80\x80\x80", 4),
            (b"\xf4\x90\x80\x80", 4),
            (b"\xf5\x80", 2),
            (b"\xf8\x88\x80\x80\x80", 5),
        ];
        for (bytes, count) in table {
            let line = [b"a", *bytes, b"z"].concat();
            let text = text_of(&line);
            let replaced = text.matches('\u{fffd}').count();
            assert_eq!(replaced, *count, "{bytes:x?}");
            assert!(text.starts_with('a') && text.ends_with('z'));
        }
    }
}
