//! Git's index, as far as it tells whether a checkout has submodules.

/// Mode of a submodule.
const GITLINK: u32 = 0o160_000;
/// An entry up to its flags, of a repository with SHA-1: ten numbers of four bytes, the object.
const FIXED: usize = 60;

/// Whether an index has an entry that is a submodule. `None` when it is not one that we can tell
/// it of: git can.
pub(super) fn has_submodules(index: &[u8]) -> Option<bool> {
    let number = |at: usize| -> Option<u32> {
        let bytes = index.get(at..at + 4)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    };
    let version = number(4)?;
    if index.get(..4)? != b"DIRC" || !(2..=4).contains(&version) {
        return None;
    }
    let mut at = 12;
    for _ in 0..number(8)? {
        if number(at + 24)? & 0o170_000 == GITLINK {
            return Some(true);
        }
        let flags = number(at + FIXED)? >> 16;
        let is_extended = flags & 0x4000 != 0;
        let mut name = at + FIXED + if is_extended { 4 } else { 2 };
        if version == 4 {
            // How much of the name before is kept: seven bits in each byte but the last.
            while index.get(name)? & 0x80 != 0 {
                name += 1;
            }
            name += 1;
            at = end_of_name(index, name)? + 1;
        } else {
            let end = match flags & 0xfff {
                0xfff => end_of_name(index, name)?,
                length => name + length as usize,
            };
            // One to eight zero bytes, to a multiple of eight.
            at += (end - at + 8) / 8 * 8;
        }
    }
    // A part of the tree may be in another file, or stand for whole folders.
    let extensions = index.get(at..index.len().checked_sub(20)?)?;
    let is_elsewhere = |name: &[u8]| extensions.windows(4).any(|window| window == name);
    (!is_elsewhere(b"link") && !is_elsewhere(b"sdir")).then_some(false)
}

fn end_of_name(index: &[u8], name: usize) -> Option<usize> {
    let length = index.get(name..)?.iter().position(|byte| *byte == 0)?;
    Some(name + length)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::{
        super::tests::{Repo, git},
        *,
    };

    #[test]
    fn submodules_are_found_in_every_version() {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repo::new(dir.path().join("r"));
        let head = repo.commit("a", "1");
        for length in [1, 2, 3, 4, 5, 6, 7, 8, 9, 200] {
            repo.commit(&"x".repeat(length), "1");
        }
        let deep = vec!["y".repeat(250); 17].join("/");
        let entry = |mode: &str, name: &str| format!("{mode},{head},{name}");
        let index = || fs::read(repo.path.join(".git/index")).unwrap();
        let link = |name: &str| {
            let info = entry("160000", name);
            git(&repo.path, &["update-index", "--add", "--cacheinfo", &info]);
        };
        let blob = git(&repo.path, &["rev-parse", "HEAD:a"]);
        let info = format!("100644,{blob},{deep}");
        git(&repo.path, &["update-index", "--add", "--cacheinfo", &info]);
        for version in ["2", "3", "4"] {
            let words = ["update-index", "--force-write-index", "--index-version"];
            git(&repo.path, &[&words[..], &[version]].concat());
            assert_eq!(has_submodules(&index()), Some(false), "{version}");
            // An extended entry.
            git(&repo.path, &["update-index", "--skip-worktree", "a"]);
            assert_eq!(has_submodules(&index()), Some(false), "{version}");
            link("zz");
            assert_eq!(has_submodules(&index()), Some(true), "{version}");
            git(&repo.path, &["update-index", "--force-remove", "zz"]);
            git(&repo.path, &["update-index", "--no-skip-worktree", "a"]);
        }
        git(&repo.path, &["update-index", "--split-index"]);
        assert_eq!(has_submodules(&index()), None);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(version in 0u8..6, count in 0u8..4, rest: Vec<u8>) {
            let mut index = b"DIRC\0\0\0".to_vec();
            index.extend([version, 0, 0, 0, count]);
            index.extend(rest);
            let _ = has_submodules(&index);
        }
    }
}
