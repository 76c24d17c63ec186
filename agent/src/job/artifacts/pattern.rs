//! Patterns of artifact rules: Ant's, as GoCD's agent reads them.
//!
//! `?` is one character and `*` any number of them within one part of a path; `**` is any number
//! of parts. A pattern that ends with `/` takes all below. Letter case counts; nothing is
//! excluded, hidden or not; there are no lists and no negation.

/// A pattern, taken apart.
#[derive(Debug)]
pub(super) struct Pattern {
    parts: Vec<String>,
    /// GoCD: then no folder is entered for what may match in it, only for matching itself.
    is_rooted: bool,
}

/// The rule's source as patterns have it: no blanks around it, slashes only.
pub(super) fn normal(source: &str) -> String {
    source.trim().replace('\\', "/")
}

impl Pattern {
    pub(super) fn new(source: &str) -> Self {
        let mut text = normal(source);
        if text.ends_with('/') {
            text.push_str("**");
        }
        let parts: Vec<String> = text
            .split('/')
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect();
        Self {
            is_rooted: text.starts_with('/'),
            parts,
        }
    }

    /// Whether a path, given as its parts below the base, matches as a whole.
    pub(super) fn matches(&self, path: &[&str]) -> bool {
        match_parts(&self.parts, path)
    }

    /// Whether to look into a folder: it matches itself, or something below it could.
    pub(super) fn leads_into(&self, folder: &[&str]) -> bool {
        self.matches(folder) || (!self.is_rooted && may_match_below(&self.parts, folder))
    }
}

fn match_parts(pattern: &[String], path: &[&str]) -> bool {
    // One row of what the pattern's first parts can match, for each part of the path: linear in
    // both, however many `**` there are.
    let mut row = vec![false; pattern.len() + 1];
    row[0] = true;
    for (at, part) in pattern.iter().enumerate() {
        row[at + 1] = row[at] && part == "**";
    }
    for name in path {
        let mut next = vec![false; pattern.len() + 1];
        for (at, part) in pattern.iter().enumerate() {
            next[at + 1] = if part == "**" {
                row[at + 1] || next[at]
            } else {
                row[at] && match_name(part, name)
            };
        }
        row = next;
    }
    row.last() == Some(&true)
}

fn may_match_below(pattern: &[String], folder: &[&str]) -> bool {
    for (at, name) in folder.iter().enumerate() {
        match pattern.get(at) {
            Some(part) if part == "**" => return true,
            Some(part) if match_name(part, name) => {}
            _ => return false,
        }
    }
    pattern.len() > folder.len()
}

/// Matches one name, going back to the last `*` when it does not fit.
fn match_name(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    n = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        Pattern::new(pattern).matches(&parts)
    }

    #[test]
    fn patterns_match_as_ants_do() {
        for (pattern, path) in [
            ("a.jar", "a.jar"),
            ("*.jar", "a.jar"),
            ("?.jar", "a.jar"),
            ("target/**/*.jar", "target/a.jar"),
            ("target/**/*.jar", "target/x/y/a.jar"),
            ("target/**", "target"),
            ("target/**", "target/x/a"),
            ("target/", "target/x"),
            ("**", ""),
            ("**/*", ".git/HEAD"),
            ("a//b", "a/b"),
            ("/a.jar", "a.jar"),
            ("/*.jar", "a.jar"),
            (" a.jar ", "a.jar"),
            ("folder\\src", "folder/src"),
            ("test/**/*/a.log", "test/a/b/a.log"),
            ("a*b*c", "aXbYbZc"),
            ("", ""),
            ("/**", "a/b"),
        ] {
            assert!(matches(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("*.jar", "x/a.jar"),
            ("*.JAR", "a.jar"),
            ("**/*", ""),
            ("./x", "x"),
            ("a/../x", "x"),
            ("{a,b}", "a"),
            ("a*b*c", "aXbYbZ"),
            ("", "a"),
            ("../x", "x"),
        ] {
            assert!(!matches(pattern, path), "{pattern} {path}");
        }
    }

    #[test]
    fn a_leading_slash_keeps_to_the_root_unless_folders_match() {
        for (pattern, folder, leads) in [
            ("target/*.jar", "target", true),
            ("/target/*.jar", "target", false),
            ("/**/*.jar", "target", false),
            ("/**", "target", true),
            ("/*/", "target/sub", true),
            ("target", "target", true),
            ("target", "other", false),
        ] {
            let parts: Vec<&str> = folder.split('/').collect();
            assert_eq!(Pattern::new(pattern).leads_into(&parts), leads, "{pattern}");
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        let pattern = Pattern::new(&"**/a/".repeat(40));
        let path = vec!["a"; 400];
        assert!(pattern.matches(&path));
    }
}
