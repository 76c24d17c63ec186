//! Finding what a rule matches.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use super::pattern::Pattern;

/// Deeper than this only links that lead back lead.
const DEEPEST: usize = 200;

/// A file or folder that a rule matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) path: PathBuf,
    /// Relative to the job's working directory.
    pub(super) relative: PathBuf,
}

/// What `source` matches below `base`: folders, each as a whole, then files. GoCD: a file whose
/// own folder matches too is left out, but folders inside matched ones come again by themselves.
/// The order is the file system's. Links are followed.
pub(super) fn scan(base: &Path, source: &str) -> Vec<Match> {
    let mut scan = Scan {
        base,
        pattern: Pattern::new(source),
        folders: Vec::new(),
        files: Vec::new(),
    };
    if scan.pattern.matches(&[]) {
        scan.folders.push(PathBuf::new());
    }
    scan.read(&mut Vec::new());
    let Scan { folders, files, .. } = scan;
    let whole: HashSet<&Path> = folders.iter().map(PathBuf::as_path).collect();
    let files: Vec<PathBuf> = files
        .into_iter()
        .filter(|file| !file.parent().is_some_and(|parent| whole.contains(parent)))
        .collect();
    folders
        .into_iter()
        .chain(files)
        .map(|relative| Match {
            path: base.join(&relative),
            relative,
        })
        .collect()
}

struct Scan<'a> {
    base: &'a Path,
    pattern: Pattern,
    folders: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

impl Scan<'_> {
    fn read(&mut self, parts: &mut Vec<String>) {
        let folder: PathBuf = parts.iter().collect();
        let Ok(entries) = fs::read_dir(self.base.join(&folder)) else {
            return;
        };
        for entry in entries.flatten() {
            // A name that is not Unicode cannot be in a URL of the server's either.
            let Ok(name) = entry.file_name().into_string() else {
                tracing::warn!(path = %entry.path().display(), "Not published: its name is not Unicode");
                continue;
            };
            let Ok(kind) = fs::metadata(entry.path()) else {
                continue;
            };
            parts.push(name);
            let names: Vec<&str> = parts.iter().map(String::as_str).collect();
            if kind.is_dir() {
                if self.pattern.matches(&names) {
                    self.folders.push(parts.iter().collect());
                }
                if parts.len() < DEEPEST && self.pattern.may_match_below(&names) {
                    self.read(parts);
                }
            } else if kind.is_file() && self.pattern.matches(&names) {
                self.files.push(parts.iter().collect());
            }
            parts.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(source: &str) -> Vec<String> {
        let base = tempfile::tempdir().unwrap();
        for file in [
            "README",
            "target/a.jar",
            "target/sub/deep/b.jar",
            ".hidden/c",
        ] {
            let path = base.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        let mut found: Vec<String> = scan(base.path(), source)
            .into_iter()
            .map(|item| item.relative.to_str().unwrap().to_owned())
            .collect();
        found.sort();
        found
    }

    #[test]
    fn folders_count_as_a_whole_and_nested_ones_again() {
        assert_eq!(
            found("target/**"),
            ["target", "target/sub", "target/sub/deep"]
        );
        assert_eq!(
            found("**/*"),
            [
                ".hidden",
                "README",
                "target",
                "target/sub",
                "target/sub/deep"
            ]
        );
        assert_eq!(found("**/*.jar"), ["target/a.jar", "target/sub/deep/b.jar"]);
        assert_eq!(found("target"), ["target"]);
        assert_eq!(
            found("**"),
            ["", ".hidden", "target", "target/sub", "target/sub/deep"]
        );
        assert_eq!(found("../*"), Vec::<String>::new());
        assert_eq!(found("nothing/*.zip"), Vec::<String>::new());
    }
}
