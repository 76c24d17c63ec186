//! What is known of a checkout without starting git.
//!
//! GoCD starts a dozen programs per checkout, most of which can say nothing new: on a warm one
//! they take longer than the work. Here each of their answers is worked out in this process where
//! that is sure to give what git gives, and `None` means: ask git. Nothing here changes anything.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use git2::{ErrorCode, Index, Repository};

use super::config;

/// Variables that make git look elsewhere than we do.
const ELSEWHERE: [&str; 11] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_NAMESPACE",
    "GIT_CONFIG",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_PARAMETERS",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
];
/// Mode of a submodule in the index.
const GITLINK: u32 = 0o160_000;
/// git's own: `gc.auto` and `gc.autoPackLimit`.
const LOOSE_OBJECTS: i64 = 6700;
const PACKS: i64 = 50;

/// A checkout that both libgit2 and we understand wholly.
pub(super) struct Shortcuts {
    repository: Repository,
    dir: PathBuf,
}

/// Whether there is something to go on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// HEAD is at a commit.
    Whole,
    /// No repository, or one without a commit: a clone that was broken off. Git would look for a
    /// repository in the folders above, or fail for ever.
    Broken,
    /// Ask git.
    Unknown,
}

/// What is in a folder with a `.git` folder.
pub(super) fn state(dir: &Path) -> State {
    if is_elsewhere() {
        return State::Unknown;
    }
    let repository = match Repository::open(dir) {
        Ok(repository) => repository,
        Err(error) if error.code() == ErrorCode::NotFound => return State::Broken,
        Err(_) => return State::Unknown,
    };
    match repository.head() {
        Ok(_) => State::Whole,
        Err(error) if error.code() == ErrorCode::UnbornBranch => State::Broken,
        Err(_) => State::Unknown,
    }
}

/// Whether the folder holds nothing but the repository, so that there is nothing to clean.
pub(super) fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir)
        .is_ok_and(|mut items| items.all(|item| item.is_ok_and(|item| item.file_name() == ".git")))
}

fn is_elsewhere() -> bool {
    ELSEWHERE.iter().any(|name| env::var_os(name).is_some())
}

impl Shortcuts {
    pub(super) fn open(dir: &Path) -> Option<Self> {
        if is_elsewhere() {
            return None;
        }
        let text = fs::read_to_string(dir.join(".git/config")).ok()?;
        let text = text.to_ascii_lowercase();
        // Other files count as well then, by rules that libgit2 knows only in part.
        if text.contains("include") || text.contains("worktreeconfig") {
            return None;
        }
        let repository = Repository::open(dir).ok()?;
        Some(Self {
            repository,
            dir: dir.to_owned(),
        })
    }

    /// `git config --get-all <name>`, for names that only a checkout has.
    pub(super) fn config(&self, name: &str) -> Option<Vec<String>> {
        let values = config::get(&self.dir.join(".git/config"), name).ok()?;
        (!values.is_empty()).then_some(values)
    }

    /// `git rev-parse --abbrev-ref HEAD` on a branch.
    pub(super) fn branch(&self) -> Option<String> {
        let head = self.repository.find_reference("HEAD").ok()?;
        let target = head.symbolic_target().ok()??;
        let branch = target.strip_prefix("refs/heads/")?;
        self.repository.refname_to_id(target).ok()?;
        // Git writes more of the name when the short one is not clear.
        let others = ["", "refs/", "refs/tags/", "refs/remotes/"];
        let is_clear = others.iter().all(|prefix| {
            self.repository
                .find_reference(&format!("{prefix}{branch}"))
                .is_err()
        });
        is_clear.then(|| branch.to_owned())
    }

    /// Whether no command for submodules can have anything to do now.
    pub(super) fn has_no_submodules(&self) -> bool {
        if fs::symlink_metadata(self.dir.join(".gitmodules")).is_ok() {
            return false;
        }
        Index::open(&self.dir.join(".git/index"))
            .is_ok_and(|index| index.iter().all(|entry| entry.mode != GITLINK))
    }

    /// Whether the checkout's configuration has no submodule in it.
    pub(super) fn configures_no_submodules(&self) -> bool {
        config::submodule_urls(&self.dir.join(".git/config")).is_ok_and(|found| found.is_empty())
    }

    /// Whether `git gc --auto` would do nothing, by git's own rules.
    pub(super) fn needs_no_gc(&self) -> bool {
        let Ok(config) = self.repository.config() else {
            return false;
        };
        let limit = |name, otherwise| match config.get_i64(name) {
            Ok(value) => Some(value),
            Err(error) if error.code() == ErrorCode::NotFound => Some(otherwise),
            Err(_) => None,
        };
        let limits = (
            limit("gc.auto", LOOSE_OBJECTS),
            limit("gc.autoPackLimit", PACKS),
        );
        let (Some(loose), Some(packs)) = limits else {
            return false;
        };
        if loose <= 0 {
            return true;
        }
        let objects = self.dir.join(".git/objects");
        // Git looks into one of 256 folders.
        let in_one = loose.saturating_add(255) / 256;
        let is_object = |name: &str| name.len() == 38 && name.bytes().all(is_hex);
        let is_kept = |name: &str| objects.join("pack").join(name).exists();
        let is_pack = |name: &str| {
            name.strip_suffix(".pack")
                .is_some_and(|name| !is_kept(&format!("{name}.keep")))
        };
        count(&objects.join("17"), is_object) <= in_one
            && (packs <= 0 || count(&objects.join("pack"), is_pack) <= packs)
    }
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

fn count(folder: &Path, counts: impl Fn(&str) -> bool) -> i64 {
    let Ok(items) = fs::read_dir(folder) else {
        return 0;
    };
    let found = items
        .flatten()
        .filter(|item| item.file_name().to_str().is_some_and(&counts))
        .count();
    i64::try_from(found).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{Repo, git},
        *,
    };

    #[test]
    fn a_branch_is_told_as_git_tells_it() {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repo::new(dir.path().join("r"));
        assert_eq!(state(&repo.path), State::Broken);
        let branch = || {
            let told = Shortcuts::open(&repo.path).unwrap().branch();
            if let Some(told) = &told {
                assert_eq!(
                    git(&repo.path, &["rev-parse", "--abbrev-ref", "HEAD"]),
                    *told
                );
            }
            told
        };
        repo.commit("a", "1");
        assert_eq!(state(&repo.path), State::Whole);
        assert_eq!(branch().as_deref(), Some("main"));
        git(&repo.path, &["pack-refs", "--all"]);
        git(&repo.path, &["checkout", "-q", "-b", "a/b"]);
        assert_eq!(branch().as_deref(), Some("a/b"));
        // Git says heads/a/b now.
        git(&repo.path, &["tag", "a/b"]);
        assert_eq!(branch(), None);
        git(&repo.path, &["checkout", "-q", "--detach"]);
        assert_eq!(branch(), None);
        assert_eq!(state(&repo.path), State::Whole);
    }

    #[test]
    fn configuration_in_other_files_is_left_to_git() {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repo::new(dir.path().join("r"));
        let known = Shortcuts::open(&repo.path).unwrap();
        assert_eq!(known.config("remote.origin.url"), None);
        git(&repo.path, &["config", "remote.origin.url", "x"]);
        assert_eq!(known.config("remote.origin.url").unwrap(), ["x"]);
        git(&repo.path, &["config", "include.path", "other"]);
        assert!(Shortcuts::open(&repo.path).is_none());
    }

    #[test]
    fn git_is_asked_to_collect_when_its_rules_say_so() {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repo::new(dir.path().join("r"));
        let needs_none = || Shortcuts::open(&repo.path).unwrap().needs_no_gc();
        assert!(needs_none());
        let folder = repo.path.join(".git/objects/17");
        fs::create_dir_all(&folder).unwrap();
        for number in 0..28 {
            assert!(needs_none(), "{number}");
            fs::write(folder.join(format!("{number:038x}")), "").unwrap();
        }
        // 6700 / 256, rounded up, is 27.
        assert!(!needs_none());
        git(&repo.path, &["config", "gc.auto", "0"]);
        assert!(needs_none());
        git(&repo.path, &["config", "gc.auto", "10k"]);
        assert!(needs_none());
        git(&repo.path, &["config", "gc.autoPackLimit", "1"]);
        let packs = repo.path.join(".git/objects/pack");
        for name in ["a.pack", "b.pack", "b.keep"] {
            fs::write(packs.join(name), "").unwrap();
        }
        assert!(needs_none());
        fs::write(packs.join("c.pack"), "").unwrap();
        assert!(!needs_none());
    }
}
