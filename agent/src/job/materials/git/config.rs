//! The configuration file of a checkout, read and written in this process: a value in git's
//! arguments could be read by everybody on the machine.
//!
//! Not with libgit2: it takes longer to begin than a warm checkout's git, and sets variables of
//! the process that the job's tasks would inherit.

use std::{fs, io, ops::Range, path::Path};

use journeyman_host::durable::{self, FileError};
use thiserror::Error;

/// A configuration file that cannot be read or changed. No text of it has a value in it.
#[derive(Debug, Error)]
pub(super) enum ConfigError {
    #[error("cannot read the configuration of the checkout, {path}: {source}")]
    Read {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot understand line {line} of the configuration of the checkout, {path}")]
    Syntax { path: String, line: usize },
    #[error("cannot change the configuration of the checkout: {0}")]
    Write(#[from] FileError),
}

/// The text of a configuration file, taken apart.
pub(super) struct ConfigFile {
    text: String,
    entries: Vec<Entry>,
    sections: Vec<Section>,
}

/// Name of a section as in [`Entry::name`], and where its header ends.
type Section = (String, usize);

struct Entry {
    /// `section.key` or `section.subsection.key`: section and key in lower case.
    name: String,
    value: String,
    /// From the first letter of the key to the end of the value.
    place: Range<usize>,
}

impl ConfigFile {
    /// # Errors
    /// It cannot be read, or is none.
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.display().to_string(),
            source,
        })?;
        Self::parse(text).map_err(|line| ConfigError::Syntax {
            path: path.display().to_string(),
            line,
        })
    }

    /// Every value of a name, in order.
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        let named = self.entries.iter().filter(|entry| entry.name == name);
        named.map(|entry| entry.value.as_str()).collect()
    }

    /// Names and URLs of the submodules.
    pub(super) fn submodules(&self) -> Vec<(&str, &str)> {
        let name = |entry: &Entry| -> Option<Range<usize>> {
            let rest = entry
                .name
                .strip_prefix("submodule.")?
                .strip_suffix(".url")?;
            Some(10..10 + rest.len())
        };
        let of = |entry| name(entry).map(|range| (&entry.name[range], entry.value.as_str()));
        self.entries.iter().filter_map(of).collect()
    }

    /// Whether it names other files that count as well.
    pub(super) fn is_more_than_one_file(&self) -> bool {
        let elsewhere = |name: &str| name.starts_with("include.") || name.starts_with("includeif.");
        self.entries.iter().any(|entry| elsewhere(&entry.name))
    }

    /// Whether it says that the repository is not as repositories always were.
    pub(super) fn has_extensions(&self) -> bool {
        self.entries
            .iter()
            .any(|entry| entry.name.starts_with("extensions."))
    }

    /// Gives a name one value, and leaves all else as it is.
    fn set(self, name: &str, value: &str) -> Result<Self, usize> {
        let (section, key) = name.rsplit_once('.').unwrap_or(("", name));
        let written = format!("{key} = {}", quoted(value));
        let mut text = self.text;
        let mut places: Vec<_> = self
            .entries
            .into_iter()
            .filter(|entry| entry.name == name)
            .map(|entry| entry.place)
            .collect();
        if places.is_empty() {
            let end = self
                .sections
                .iter()
                .rfind(|(name, _)| name == section)
                .map(|(_, end)| *end);
            match end {
                Some(end) => text.insert_str(end, &format!("\n\t{written}")),
                None => text.push_str(&format!("\n{}\n\t{written}\n", header(section))),
            }
        } else {
            let first = places.remove(0);
            for place in places.into_iter().rev() {
                text.replace_range(place, "");
            }
            text.replace_range(first, &written);
        }
        Self::parse(text)
    }

    /// The number of a line it does not understand is the error.
    fn parse(text: String) -> Result<Self, usize> {
        let mut parser = Parser { text: &text, at: 0 };
        let parsed = parser.file();
        let line = text[..parser.at.min(text.len())].matches('\n').count() + 1;
        let (entries, sections) = parsed.ok_or(line)?;
        Ok(Self {
            text,
            entries,
            sections,
        })
    }
}

/// Gives each name its value. The file is only its owner's from then on: values may hold
/// passwords.
///
/// # Errors
/// The file cannot be read or written; it is as it was then.
pub(super) fn set(path: &Path, values: &[(String, &str)]) -> Result<(), ConfigError> {
    let mut file = ConfigFile::read(path)?;
    for (name, value) in values {
        file = file.set(name, value).map_err(|line| ConfigError::Syntax {
            path: path.display().to_string(),
            line,
        })?;
    }
    durable::write_secret(path, file.text.as_bytes())?;
    Ok(())
}

fn header(section: &str) -> String {
    match section.split_once('.') {
        Some((section, sub)) => {
            let sub = sub.replace('\\', "\\\\").replace('"', "\\\"");
            format!("[{section} \"{sub}\"]")
        }
        None => format!("[{section}]"),
    }
}

fn quoted(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 2);
    for letter in value.chars() {
        match letter {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            other => text.push(other),
        }
    }
    if value.contains(['#', ';', '\r']) || value.trim() != value {
        format!("\"{text}\"")
    } else {
        text
    }
}

/// Git's grammar of configuration files.
struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn file(&mut self) -> Option<(Vec<Entry>, Vec<Section>)> {
        let (mut entries, mut sections) = (Vec::new(), Vec::<Section>::new());
        // A byte order mark, as some editors leave.
        if self.text.starts_with('\u{feff}') {
            self.at = 3;
        }
        while let Some(letter) = self.peek() {
            match letter {
                '#' | ';' => self.skip_line(),
                '[' => {
                    let name = self.header()?;
                    sections.push((name, self.at));
                }
                letter if letter.is_ascii_whitespace() => self.at += 1,
                _ => {
                    let begin = self.at;
                    let (section, _) = sections.last()?;
                    let (key, value) = self.entry()?;
                    entries.push(Entry {
                        name: format!("{section}.{key}"),
                        value,
                        place: begin..self.at,
                    });
                }
            }
        }
        Some((entries, sections))
    }

    /// `[section]`, `[section "subsection"]` or the old `[section.subsection]`.
    fn header(&mut self) -> Option<String> {
        self.at += 1;
        let mut name = self.word(|letter| letter.is_ascii_alphanumeric() || "-.".contains(letter));
        if name.is_empty() {
            return None;
        }
        if self.peek()? == ']' {
            self.at += 1;
            return Some(name);
        }
        self.word(|letter| matches!(letter, ' ' | '\t'));
        if self.next()? != '"' {
            return None;
        }
        name.push('.');
        loop {
            match self.next()? {
                '"' => break,
                '\n' => return None,
                '\\' => name.push(self.next().filter(|letter| *letter != '\n')?),
                letter => name.push(letter),
            }
        }
        (self.next()? == ']').then_some(name)
    }

    fn entry(&mut self) -> Option<(String, String)> {
        let key = self.word(|letter| letter.is_ascii_alphanumeric() || letter == '-');
        if !key.starts_with(|letter: char| letter.is_ascii_alphabetic()) {
            return None;
        }
        self.word(|letter| matches!(letter, ' ' | '\t' | '\r'));
        match self.peek() {
            Some('=') => {
                self.at += 1;
                self.value().map(|value| (key, value))
            }
            // No value at all: true.
            None | Some('\n') => Some((key, String::new())),
            Some(_) => None,
        }
    }

    fn value(&mut self) -> Option<String> {
        self.word(|letter| matches!(letter, ' ' | '\t'));
        let mut value = String::new();
        // Blanks at the end count only in quotes.
        let mut solid = 0;
        let mut in_quotes = false;
        while let Some(letter) = self.peek() {
            match letter {
                '\n' if in_quotes => return None,
                '\n' => break,
                '#' | ';' if !in_quotes => break,
                '"' => {
                    in_quotes = !in_quotes;
                    self.at += 1;
                    solid = value.len();
                    continue;
                }
                '\\' => {
                    self.at += 1;
                    match self.next()? {
                        '\n' => continue,
                        'n' => value.push('\n'),
                        't' => value.push('\t'),
                        'b' => value.push('\u{8}'),
                        letter @ ('"' | '\\') => value.push(letter),
                        _ => return None,
                    }
                    solid = value.len();
                    continue;
                }
                letter => value.push(letter),
            }
            self.at += letter.len_utf8();
            if in_quotes || !letter.is_ascii_whitespace() {
                solid = value.len();
            }
        }
        value.truncate(solid);
        (!in_quotes).then_some(value)
    }

    /// The longest run of such letters, in lower case.
    fn word(&mut self, belongs: impl Fn(char) -> bool) -> String {
        let rest = &self.text[self.at..];
        let end = rest.find(|letter| !belongs(letter)).unwrap_or(rest.len());
        self.at += end;
        rest[..end].to_ascii_lowercase()
    }

    fn skip_line(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.find('\n').unwrap_or(rest.len());
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let letter = self.peek()?;
        self.at += letter.len_utf8();
        Some(letter)
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, process::Command};

    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    use super::*;

    /// All names and values as git itself reads them; none when it finds a flaw.
    fn as_git_reads(path: &Path) -> Option<Vec<(String, String)>> {
        let output = Command::new("git")
            .args(["config", "--list", "--null", "--no-includes", "--file"])
            .arg(path)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let pair = |entry: &str| match entry.split_once('\n') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (entry.to_owned(), String::new()),
        };
        let entries = text.split_terminator('\0').map(pair).collect();
        output.status.success().then_some(entries)
    }

    fn as_we_read(path: &Path) -> Option<Vec<(String, String)>> {
        let file = ConfigFile::read(path).ok()?;
        let pair = |entry: &Entry| (entry.name.clone(), entry.value.clone());
        Some(file.entries.iter().map(pair).collect())
    }

    #[test]
    fn files_are_read_as_git_reads_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        for text in [
            "[core]\n\tbare = false # why\n\tx=\" a \" b ; c\n",
            "[Remote \"Origin\"] URL = a\n fetch=+x:y\n[remote \"Origin\"]\n\turl = b",
            "[a \"q\\\"\\\\x\"]\n\tlong = one \\\n  two\\tthree\n\tflag\n\tother-flag\n",
            "[a]\n\tflag ; c\n",
            "[Old.Sub]\nk = v\n; [no]\n# x = y\n[e]\n\tempty =\n\tquoted = \"\"\n",
            "\u{feff}[a]\r\n\tb = c\r\n",
            "[a]\n\tb = \"c\n",
            "[a]\n\t1b = c\n",
            "[a b]\n\tb = c\n",
            "[a]\n\tb = \\q\n",
            "[a]\n\tb = \u{e4}\u{1f600} x\n",
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(as_we_read(&path), as_git_reads(&path), "{text:?}");
        }
    }

    #[test]
    fn one_value_is_changed_and_the_file_closed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config");
        let text = "[core]\n\tbare = false # why\n[remote \"origin\"]\n\turl = a\n\tfetch = +x:y\n";
        fs::write(&file, text).unwrap();
        let url = "http://u:p@h/\"x\"";
        set(&file, &[("remote.origin.url".to_owned(), url)]).unwrap();
        let read = ConfigFile::read(&file).unwrap();
        assert_eq!(read.all("remote.origin.url"), [url]);
        let expected = text.replace("url = a", "url = http://u:p@h/\\\"x\\\"");
        assert_eq!(read.text, expected);
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(read.all("remote.other.url").is_empty());
    }

    #[test]
    fn of_several_values_one_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config");
        let text = "[remote \"origin\"]\n\turl = a\n[x]\n\ty\n[remote \"origin\"]\n\turl = b\n";
        fs::write(&file, text).unwrap();
        set(&file, &[("remote.origin.url".to_owned(), "c")]).unwrap();
        assert_eq!(
            ConfigFile::read(&file).unwrap().all("remote.origin.url"),
            ["c"]
        );
    }

    #[test]
    fn submodules_and_other_files_are_found() {
        let parse = |text: &str| ConfigFile::parse(text.to_owned()).unwrap();
        let file = parse("[submodule \"Libs/a.b\"]\n\tpath = p\n\turl = ../x\n");
        assert_eq!(file.submodules(), [("Libs/a.b", "../x")]);
        assert!(!file.is_more_than_one_file());
        assert!(parse("[include]\n\tpath = x\n").is_more_than_one_file());
        assert!(parse("[includeIf \"gitdir:x\"]\n\tpath = x\n").is_more_than_one_file());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_written_is_what_git_reads(
            value in "[ -~\u{e4}\t\n]{0,20}",
            sub in "[ -~]{1,8}",
            before in prop::sample::select(vec![
                "", "[core]\n\tbare = false\n", "[remote \"other\"] url = x",
            ]),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("config");
            fs::write(&path, before).unwrap();
            let name = format!("remote.{sub}.url");
            set(&path, &[(name.clone(), &value)]).unwrap();
            let mut expected: Vec<_> = as_git_reads(&path).unwrap();
            prop_assert_eq!(as_we_read(&path).unwrap(), expected.clone());
            let (written, read) = expected.pop().unwrap();
            prop_assert_eq!(written, name);
            prop_assert_eq!(read, value);
        }

        #[test]
        fn no_text_is_too_strange(text in "[\\[\\]a.=\"\\\\ #;\t\n\u{e4}]{0,40}") {
            if let Ok(file) = ConfigFile::parse(text) {
                let _ = file.set("a.b.c", "x");
            }
        }
    }
}
