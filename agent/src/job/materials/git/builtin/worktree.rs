//! The files of a checkout.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use git2::{BranchType, Repository, ResetType, build::CheckoutBuilder};

use super::{
    Failure, Git, Outcome,
    refs::{commit, short},
};
use crate::job::materials::cleanup::delete;

/// Mode of a submodule in the index.
const GITLINK: u32 = 0o160_000;

impl Git<'_> {
    pub(super) fn reset(&mut self, revision: &str) -> Outcome {
        let repository = self.open()?;
        let Some(commit) = commit(&repository, revision) else {
            return Err(Failure::Fatal(format!(
                "Could not parse object '{revision}'."
            )));
        };
        let mut before = submodules(&repository)?;
        before.retain(|path| {
            let inside = fs::read_dir(self.dir.join(path));
            inside.is_ok_and(|mut items| items.next().is_some())
        });
        repository.reset(commit.as_object(), ResetType::Hard, Some(&mut forced()))?;
        // Git leaves the files of a submodule to the cleaning, and says so.
        for path in before.difference(&submodules(&repository)?) {
            self.complain(&format!(
                "warning: unable to rmdir '{}': Directory not empty",
                path.display()
            ))?;
        }
        let subject = commit.summary_bytes().unwrap_or_default();
        let line = format!(
            "HEAD is now at {} {}",
            short(&repository, commit.id()),
            String::from_utf8_lossy(subject)
        );
        self.print(line.trim_end())
    }

    pub(super) fn checkout_head(&mut self) -> Outcome {
        Ok(self.open()?.checkout_head(Some(&mut forced()))?)
    }

    pub(super) fn checkout_index(&mut self) -> Outcome {
        let mut options = forced();
        options.recreate_missing(true);
        Ok(self.open()?.checkout_index(None, Some(&mut options))?)
    }

    /// Makes a local branch where a remote one is, and goes there.
    pub(super) fn checkout_branch(&mut self, local: &str, remote: &str) -> Outcome {
        let repository = self.open()?;
        let Some(commit) = commit(&repository, remote) else {
            return Err(Failure::Fatal(format!(
                "'{remote}' is not a commit and a branch '{local}' cannot be created from it"
            )));
        };
        let is_new = repository.find_branch(local, BranchType::Local).is_err();
        let name = format!("refs/heads/{local}");
        let is_here = repository
            .head()
            .is_ok_and(|head| head.name().ok() == Some(&*name));
        repository.checkout_tree(commit.as_object(), Some(&mut forced()))?;
        repository.reference(&name, commit.id(), true, "checkout")?;
        repository.set_head(&name)?;
        self.complain(&match (is_new, is_here) {
            (true, _) => format!("Switched to a new branch '{local}'"),
            (_, true) => format!("Reset branch '{local}'"),
            _ => format!("Switched to and reset branch '{local}'"),
        })?;
        if let Some((source, shown)) = tracked(&repository, remote) {
            let mut config = repository.config()?;
            config.set_str(&format!("branch.{local}.remote"), "origin")?;
            config.set_str(&format!("branch.{local}.merge"), &source)?;
            self.print(&format!("branch '{local}' set up to track '{shown}'."))?;
        }
        Ok(())
    }

    /// Removes what is not in the index, other repositories included.
    pub(super) fn clean(&mut self, ignored_too: bool) -> Outcome {
        let repository = self.open()?;
        let mut known = BTreeMap::new();
        for entry in repository.index()?.iter() {
            let path = PathBuf::from(OsStr::from_bytes(&entry.path));
            known.insert(path, entry.mode == GITLINK);
        }
        let sweep = Sweep {
            dir: &self.dir,
            repository: &repository,
            known,
            ignored_too,
        };
        sweep.folder(Path::new(""))?;
        Ok(())
    }
}

/// Where the submodules of the index are.
fn submodules(repository: &Repository) -> Result<BTreeSet<PathBuf>, Failure> {
    let mut index = repository.index()?;
    index.read(true)?;
    let links = index.iter().filter(|entry| entry.mode == GITLINK);
    Ok(links
        .map(|entry| PathBuf::from(OsStr::from_bytes(&entry.path)))
        .collect())
}

/// Everything that is in the way goes.
fn forced() -> CheckoutBuilder<'static> {
    let mut options = CheckoutBuilder::new();
    options.force();
    options
}

/// What a remote's branch is called there: in full, and as git shows it.
fn tracked(repository: &Repository, remote: &str) -> Option<(String, String)> {
    let reference = repository.resolve_reference_from_short_name(remote).ok()?;
    let name = reference.name().ok()?.to_owned();
    let origin = repository.find_remote("origin").ok()?;
    let source = origin
        .refspecs()
        .find(|spec| spec.dst_matches(&name))
        .and_then(|spec| spec.rtransform(&name).ok())?;
    let source = String::from_utf8_lossy(&source).into_owned();
    let short = source.strip_prefix("refs/heads/").unwrap_or(&source);
    let shown = format!("origin/{short}");
    Some((source, shown))
}

/// One cleaning of a checkout.
struct Sweep<'a> {
    dir: &'a Path,
    repository: &'a Repository,
    /// The paths of the index, and whether they are submodules.
    known: BTreeMap<PathBuf, bool>,
    ignored_too: bool,
}

impl Sweep<'_> {
    fn folder(&self, folder: &Path) -> Result<(), Failure> {
        for item in fs::read_dir(self.dir.join(folder))? {
            let item = item?;
            let path = folder.join(item.file_name());
            if path == Path::new(".git") || self.known.contains_key(&path) {
                continue;
            }
            let is_folder = item.file_type()?.is_dir();
            if is_folder && self.has_known(&path) {
                self.folder(&path)?;
            } else if self.ignored_too {
                self.remove(&path)?;
            } else if !self.repository.is_path_ignored(&path).unwrap_or(false) {
                if is_folder && !item.path().join(".git").exists() {
                    self.folder(&path)?;
                    // It stays if something ignored is in it.
                    let _ = fs::remove_dir(item.path());
                } else {
                    self.remove(&path)?;
                }
            }
        }
        Ok(())
    }

    fn has_known(&self, folder: &Path) -> bool {
        let mut after = self.known.range(folder.to_owned()..);
        after
            .next()
            .is_some_and(|(path, _)| path.starts_with(folder))
    }

    fn remove(&self, path: &Path) -> Result<(), Failure> {
        delete(&self.dir.join(path)).map_err(|error| {
            Failure::Fatal(format!("failed to remove {}: {error}", path.display()))
        })
    }
}
