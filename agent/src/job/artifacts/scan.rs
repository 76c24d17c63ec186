//! Finding what a rule matches.

use std::{
    collections::HashSet,
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{pattern::Pattern, tree::not_unicode};

/// A file or folder that a rule matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) path: PathBuf,
    /// Relative to the job's working directory.
    pub(super) relative: PathBuf,
}

/// What `source` matches below `base`: folders, each as a whole, then files. GoCD: a file whose
/// own folder matches too is left out, but folders inside matched ones come again by themselves.
/// The order is the file system's. Links are followed, but not back into a folder they are in.
///
/// # Errors
/// There is no such folder, or something that could match has a name that is not Unicode.
pub(super) fn scan(base: &Path, source: &str) -> io::Result<Vec<Match>> {
    let mut scan = Scan {
        base,
        pattern: Pattern::new(source),
        folders: Vec::new(),
        files: Vec::new(),
        above: Vec::new(),
    };
    let metadata = fs::metadata(base)?;
    if !metadata.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    if scan.pattern.matches(&[]) {
        scan.folders.push(PathBuf::new());
    }
    scan.read(&mut Vec::new(), &metadata)?;
    let Scan { folders, files, .. } = scan;
    let whole: HashSet<&Path> = folders.iter().map(PathBuf::as_path).collect();
    let files: Vec<PathBuf> = files
        .into_iter()
        .filter(|file| !file.parent().is_some_and(|parent| whole.contains(parent)))
        .collect();
    let matches = folders
        .into_iter()
        .chain(files)
        .map(|relative| Match {
            path: base.join(&relative),
            relative,
        })
        .collect();
    Ok(matches)
}

struct Scan<'a> {
    base: &'a Path,
    pattern: Pattern,
    folders: Vec<PathBuf>,
    files: Vec<PathBuf>,
    /// Device and number of each folder that this one is in.
    above: Vec<(u64, u64)>,
}

impl Scan<'_> {
    fn read(&mut self, parts: &mut Vec<String>, metadata: &Metadata) -> io::Result<()> {
        let identity = (metadata.dev(), metadata.ino());
        let folder: PathBuf = parts.iter().collect();
        // GoCD: what cannot be read is empty.
        let Ok(entries) = fs::read_dir(self.base.join(&folder)) else {
            return Ok(());
        };
        if self.above.contains(&identity) {
            return Ok(());
        }
        self.above.push(identity);
        for entry in entries.flatten() {
            let Ok(metadata) = fs::metadata(entry.path()) else {
                continue;
            };
            let name = entry.file_name();
            parts.push(name.to_string_lossy().into_owned());
            let names: Vec<&str> = parts.iter().map(String::as_str).collect();
            let matches = self.pattern.matches(&names);
            let leads_on = metadata.is_dir() && self.pattern.leads_into(&names);
            if (matches || leads_on) && name.to_str().is_none() {
                return Err(not_unicode(&entry.path()));
            }
            if metadata.is_dir() {
                if matches {
                    self.folders.push(parts.iter().collect());
                }
                if leads_on {
                    self.read(parts, &metadata)?;
                }
            } else if metadata.is_file() && matches {
                self.files.push(parts.iter().collect());
            }
            parts.pop();
        }
        self.above.pop();
        Ok(())
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
            .unwrap()
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

    #[test]
    fn links_that_lead_back_and_names_that_are_no_text_are_seen() {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir_all(base.path().join("a/b")).unwrap();
        fs::write(base.path().join("a/b/c.txt"), "x").unwrap();
        std::os::unix::fs::symlink("..", base.path().join("a/b/back")).unwrap();
        let found = scan(base.path(), "**/*.txt").unwrap();
        assert_eq!(found.len(), 1);
        let strange: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"caf\xe9.txt");
        fs::write(base.path().join(strange), "x").unwrap();
        assert_eq!(scan(base.path(), "a/**/*.txt").unwrap().len(), 1);
        let error = scan(base.path(), "*.txt").unwrap_err();
        assert!(error.to_string().contains("is not UTF-8"), "{error}");
        scan(&base.path().join("none"), "*").unwrap_err();
    }
}
