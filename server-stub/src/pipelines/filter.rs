//! Which changed files start a run of a pipeline.

use super::definition::Filter;

impl Filter {
    /// Whether changes start a run. `files` are those of all modifications since the last run, as
    /// paths with `/`. Where there is a filter, a modification without any file starts nothing.
    pub fn lets_through<'f>(&self, files: impl IntoIterator<Item = &'f str>) -> bool {
        let mut files = files.into_iter();
        match self {
            Self::None => true,
            Self::Ignore(patterns) => files.any(|file| !any_matches(patterns, file)),
            Self::Includes(patterns) => files.any(|file| any_matches(patterns, file)),
        }
    }
}

fn any_matches(patterns: &[String], path: &str) -> bool {
    patterns.iter().any(|pattern| matches(pattern, path))
}

/// Whether a pattern stands for a path, all of it: `**` is any number of folders, `*` any
/// characters but `/`. At the end `**` is everything below; in GoCD it matches no file there, which
/// nobody who writes `docs/**` means.
#[must_use]
pub fn matches(pattern: &str, path: &str) -> bool {
    let mut pattern: Vec<&str> = pattern.split('/').collect();
    if pattern.last() == Some(&"**") {
        pattern.push("*");
    }
    let path: Vec<&str> = path.split('/').collect();
    // reached[n]: the pattern so far stands for the first n segments of the path.
    let mut reached = vec![false; path.len() + 1];
    reached[0] = true;
    for segment in pattern {
        if segment == "**" {
            let from = reached.iter().position(|here| *here);
            for here in reached.iter_mut().skip(from.unwrap_or(path.len() + 1)) {
                *here = true;
            }
            // The last segment is a file, never a folder.
            if let Some(last) = reached.last_mut() {
                *last = false;
            }
        } else {
            for n in (0..path.len()).rev() {
                reached[n + 1] = reached[n] && segment_matches(segment, path[n]);
            }
            reached[0] = false;
        }
    }
    reached.last() == Some(&true)
}

/// `*` is any characters, everything else is itself.
fn segment_matches(pattern: &str, name: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let Some(last) = pieces.next_back() else {
        return rest.is_empty();
    };
    for piece in pieces {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_stands_for_the_whole_path() {
        let table = [
            ("*.md", "README.md", true),
            ("*.md", "docs/README.md", false),
            ("**/*.md", "README.md", true),
            ("**/*.md", "a/b/README.md", true),
            ("docs/**/*", "docs/a", true),
            ("docs/**/*", "docs/a/b", true),
            ("docs/**/*", "docs", false),
            ("docs/**", "docs/a/b", true),
            ("docs/**", "docs", false),
            ("docs/*", "docs/a/b", false),
            ("docs", "docs", true),
            ("docs", "docs/a", false),
            ("**/gen/**/*.rs", "gen/a.rs", true),
            ("**/gen/**/*.rs", "x/gen/y/z/a.rs", true),
            ("**/gen/**/*.rs", "x/gem/y/z/a.rs", false),
            ("**/**/a", "a", true),
            ("**", "a/b", true),
            ("a.c", "abc", false),
            ("a+(b)", "a+(b)", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "ac", false),
            ("*ab", "aab", true),
            ("a*a", "a", false),
            ("", "a", false),
        ];
        for (pattern, path, expected) in table {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn a_filter_looks_at_all_files_together() {
        let patterns = || vec!["docs/**/*".to_owned(), "*.md".to_owned()];
        let table: [(&[&str], bool, bool); 4] = [
            (&["docs/a", "README.md"], false, true),
            (&["docs/a", "src/a"], true, true),
            (&["src/a"], true, false),
            (&[], false, false),
        ];
        for (files, ignoring, including) in table {
            let files = || files.iter().copied();
            assert_eq!(Filter::Ignore(patterns()).lets_through(files()), ignoring);
            assert_eq!(
                Filter::Includes(patterns()).lets_through(files()),
                including
            );
            assert!(Filter::None.lets_through(files()));
        }
    }
}
