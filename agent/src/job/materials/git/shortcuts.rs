//! What is known of a checkout without starting git.
//!
//! GoCD starts a dozen programs per checkout, most of which can say nothing new: on a warm one
//! they take longer than the work. Here each of their answers is worked out in this process where
//! that is sure to give what git gives, and `None` means: ask git. Nothing here changes anything.

use std::{
    env, fs,
    io::ErrorKind,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{config::ConfigFile, index};

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
/// git's own: `gc.auto` and `gc.autoPackLimit`.
const LOOSE_OBJECTS: usize = 6700;
const PACKS: usize = 50;

/// A checkout that we understand wholly.
pub(super) struct Shortcuts {
    dir: PathBuf,
    config: ConfigFile,
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
    let repository = dir.join(".git");
    let parts = ["HEAD", "config", "objects", "refs"];
    if !parts.iter().all(|part| repository.join(part).exists()) {
        return State::Broken;
    }
    let Some(known) = Shortcuts::open(dir) else {
        return State::Unknown;
    };
    match known.head() {
        Some(Head::Branch { is_born: true, .. } | Head::Commit) => State::Whole,
        Some(Head::Branch { is_born: false, .. }) => State::Broken,
        None => State::Unknown,
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

/// Where HEAD is.
enum Head {
    Branch { name: String, is_born: bool },
    Commit,
}

impl Shortcuts {
    pub(super) fn open(dir: &Path) -> Option<Self> {
        if is_elsewhere() {
            return None;
        }
        let config = ConfigFile::read(&dir.join(".git/config")).ok()?;
        // Extensions change where things are, and how they are written.
        let is_plain = !config.is_more_than_one_file() && !config.has_extensions();
        // Git refuses what belongs to somebody else, in its own words.
        let owner = fs::metadata(dir.join(".git")).ok()?.uid();
        let is_ours = owner == nix::unistd::geteuid().as_raw();
        (is_plain && is_ours).then(|| Self {
            dir: dir.to_owned(),
            config,
        })
    }

    /// `git config --get-all <name>`, for names that only a checkout has.
    pub(super) fn config(&self, name: &str) -> Option<Vec<&str>> {
        let values = self.config.all(name);
        (!values.is_empty()).then_some(values)
    }

    /// `git rev-parse --abbrev-ref HEAD` on a branch.
    pub(super) fn branch(&self) -> Option<String> {
        let Some(Head::Branch {
            name,
            is_born: true,
        }) = self.head()
        else {
            return None;
        };
        // Git writes more of the name when the short one is not clear.
        let others = ["", "refs/", "refs/tags/", "refs/remotes/"];
        let is_other = |prefix: &&str| self.has_ref(&format!("{prefix}{name}")) != Some(false);
        (!others.iter().any(is_other)).then_some(name)
    }

    fn head(&self) -> Option<Head> {
        let text = fs::read_to_string(self.dir.join(".git/HEAD")).ok()?;
        let text = text.trim_end();
        let Some(target) = text.strip_prefix("ref: ") else {
            let is_id = text.len() == 40 && text.bytes().all(is_hex);
            return is_id.then_some(Head::Commit);
        };
        let name = target.strip_prefix("refs/heads/")?;
        Some(Head::Branch {
            name: name.to_owned(),
            is_born: self.has_ref(target)?,
        })
    }

    fn has_ref(&self, name: &str) -> Option<bool> {
        let repository = self.dir.join(".git");
        if repository.join(name).is_file() {
            return Some(true);
        }
        match fs::read_to_string(repository.join("packed-refs")) {
            Ok(packed) => {
                let mut lines = packed.lines();
                Some(lines.any(|line| line.split_once(' ').is_some_and(|(_, other)| other == name)))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Some(false),
            Err(_) => None,
        }
    }

    /// Whether no command for submodules can have anything to do now.
    pub(super) fn has_no_submodules(&self) -> bool {
        if fs::symlink_metadata(self.dir.join(".gitmodules")).is_ok() {
            return false;
        }
        match fs::read(self.dir.join(".git/index")) {
            Ok(index) => index::has_submodules(&index) == Some(false),
            // Nothing was ever checked out.
            Err(error) => error.kind() == ErrorKind::NotFound,
        }
    }

    /// Whether the checkout's configuration has no submodule in it.
    pub(super) fn configures_no_submodules(&self) -> bool {
        self.config.submodules().is_empty()
    }

    /// Whether `git gc --auto` would do nothing, by git's own rules. Where somebody has set other
    /// limits, git knows best.
    pub(super) fn needs_no_gc(&self) -> bool {
        if sets_limits(&self.config) || users_files().iter().any(|file| may_set_limits(file)) {
            return false;
        }
        let objects = self.dir.join(".git/objects");
        let is_object = |name: &str| name.len() == 38 && name.bytes().all(is_hex);
        let is_kept = |name: &str| objects.join("pack").join(name).exists();
        let is_pack = |name: &str| {
            name.strip_suffix(".pack")
                .is_some_and(|name| !is_kept(&format!("{name}.keep")))
        };
        // Git looks into one of 256 folders.
        count(&objects.join("17"), is_object) <= LOOSE_OBJECTS.div_ceil(256)
            && count(&objects.join("pack"), is_pack) <= PACKS
    }
}

/// Where git looks for what the machine and its user have configured.
fn users_files() -> Vec<PathBuf> {
    let home = env::var_os("HOME").map(PathBuf::from);
    let xdg = env::var_os("XDG_CONFIG_HOME")
        .filter(|folder| !folder.is_empty())
        .map(PathBuf::from)
        .or_else(|| Some(home.as_ref()?.join(".config")));
    [
        Some(PathBuf::from("/etc/gitconfig")),
        xdg.map(|folder| folder.join("git/config")),
        home.map(|folder| folder.join(".gitconfig")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn may_set_limits(file: &Path) -> bool {
    file.exists()
        && ConfigFile::read(file).map_or(true, |file| {
            file.is_more_than_one_file() || sets_limits(&file)
        })
}

fn sets_limits(file: &ConfigFile) -> bool {
    ["gc.auto", "gc.autopacklimit"]
        .iter()
        .any(|name| !file.all(name).is_empty())
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

fn count(folder: &Path, counts: impl Fn(&str) -> bool) -> usize {
    let Ok(items) = fs::read_dir(folder) else {
        return 0;
    };
    items
        .flatten()
        .filter(|item| item.file_name().to_str().is_some_and(&counts))
        .count()
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
        let known = || Shortcuts::open(&repo.path);
        assert_eq!(known().unwrap().config("remote.origin.url"), None);
        git(&repo.path, &["config", "remote.origin.url", "x"]);
        assert_eq!(known().unwrap().config("remote.origin.url").unwrap(), ["x"]);
        git(&repo.path, &["config", "include.path", "other"]);
        assert!(known().is_none());
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
        fs::remove_dir_all(&folder).unwrap();
        let packs = repo.path.join(".git/objects/pack");
        for number in 0..51 {
            assert!(needs_none(), "{number}");
            fs::write(packs.join(format!("{number}.pack")), "").unwrap();
        }
        assert!(!needs_none());
        fs::write(packs.join("3.keep"), "").unwrap();
        assert!(needs_none());
        git(&repo.path, &["config", "gc.autoPackLimit", "100"]);
        assert!(!needs_none());
    }
}
