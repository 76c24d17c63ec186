//! The list of MD5 sums that goes with an upload: a Java properties file.

use std::fmt::Write as _;

use jiff::Zoned;

/// The list under way.
#[derive(Debug)]
pub(super) struct Checksums {
    /// The destination, before each path.
    dest: String,
    text: String,
}

impl Checksums {
    pub(super) fn new(dest: &str, now: &Zoned) -> Self {
        Self {
            dest: dest.to_owned(),
            text: format!("#\n#{}\n", now.strftime("%a %b %d %H:%M:%S %Z %Y")),
        }
    }

    /// Adds a file by its path in the zip.
    pub(super) fn add(&mut self, path: &str, md5: &[u8]) {
        // GoCD takes both for a path of Java's, which has no empty parts, and backslashes for
        // slashes even where they are part of a name.
        let key = format!("{}/{path}", self.dest).replace('\\', "/");
        let parts: Vec<&str> = key.split('/').filter(|part| !part.is_empty()).collect();
        self.text.push_str(&escaped(&parts.join("/")));
        self.text.push('=');
        for byte in md5 {
            // Writing to a String cannot fail.
            let _ = write!(self.text, "{byte:02x}");
        }
        self.text.push('\n');
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }
}

/// A key as Java writes it: what has a meaning gets a backslash, all outside printable ASCII its
/// UTF-16 units in hex.
fn escaped(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for c in key.chars() {
        match c {
            ' ' | ':' | '=' | '#' | '!' | '\\' => out.extend(['\\', c]),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04X}");
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_javas() {
        let now: Zoned = "2026-08-01T10:11:12[UTC]".parse().unwrap();
        let mut list = Checksums::new("pkg/out", &now);
        list.add("artdir/a b.txt", &[0x5d, 0x41]);
        list.add("artdir/sub/c#.txt", &[0x00]);
        list.add("é😀", &[0xff]);
        assert_eq!(
            list.into_text(),
            "#\n#Sat Aug 01 10:11:12 UTC 2026\npkg/out/artdir/a\\ b.txt=5d41\n\
             pkg/out/artdir/sub/c\\#.txt=00\npkg/out/\\u00E9\\uD83D\\uDE00=ff\n"
        );
        for (dest, path, key) in [
            ("/dest/path", "file.txt", "dest/path/file.txt"),
            ("", "file.txt", "file.txt"),
            ("/", "file.txt", "file.txt"),
            ("a//b/", "file.txt", "a/b/file.txt"),
            ("./c", "d/a\\b", "./c/d/a/b"),
        ] {
            let mut list = Checksums::new(dest, &now);
            list.add(path, &[1]);
            assert!(
                list.into_text().ends_with(&format!("\n{key}=01\n")),
                "{dest}"
            );
        }
    }
}
