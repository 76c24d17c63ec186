//! Branches and revisions.

use std::collections::HashSet;

use git2::{Commit, ErrorCode, Oid, Repository};

use super::{Failure, Git, Outcome};

impl Git<'_> {
    pub(super) fn branch(&mut self) -> Outcome {
        let repository = self.open()?;
        let head = match repository.head() {
            Err(error) if error.code() == ErrorCode::UnbornBranch => {
                self.print("HEAD")?;
                return Err(Failure::Fatal(
                    "ambiguous argument 'HEAD': unknown revision or path not in the working tree."
                        .to_owned(),
                ));
            }
            head => head?,
        };
        let name = if head.is_branch() {
            head.shorthand()?
        } else {
            "HEAD"
        };
        self.print(name)
    }

    /// The remote's branches that have a commit in them.
    pub(super) fn contains(&mut self, revision: &str) -> Outcome {
        let repository = self.open()?;
        let missing = || Err(Failure::Fatal(format!("malformed object name {revision}")));
        let Ok(commit) = Oid::from_str(revision).and_then(|id| repository.find_commit(id)) else {
            return missing();
        };
        for (name, tip) in references(&repository)? {
            let Some(short) = name.strip_prefix("refs/remotes/") else {
                continue;
            };
            if is_ahead(&repository, tip, commit.id()) {
                self.print(&format!("  {short}"))?;
            }
        }
        Ok(())
    }
}

/// Every reference that is no symbolic one, with what it points at, sorted by name.
pub(super) fn references(repository: &Repository) -> Result<Vec<(String, Oid)>, git2::Error> {
    let mut found = Vec::new();
    for reference in repository.references()? {
        let reference = reference?;
        if let (Ok(name), Some(target)) = (reference.name(), reference.target()) {
            found.push((name.to_owned(), target));
        }
    }
    found.sort();
    Ok(found)
}

/// Whether one commit is in the history of another, as far as it is here: that of a shallow clone
/// ends somewhere.
pub(super) fn is_ahead(repository: &Repository, new: Oid, old: Oid) -> bool {
    let mut seen = HashSet::from([new]);
    let mut open = vec![new];
    while let Some(id) = open.pop() {
        if id == old {
            return true;
        }
        if let Ok(commit) = repository.find_commit(id) {
            open.extend(commit.parent_ids().filter(|parent| seen.insert(*parent)));
        }
    }
    false
}

/// A commit by what a job calls it: its id, or the name of a branch.
pub(super) fn commit<'r>(repository: &'r Repository, revision: &str) -> Option<Commit<'r>> {
    let object = repository.revparse_single(revision).ok()?;
    object.peel_to_commit().ok()
}

/// The first letters of an id, as many as tell it from others.
pub(super) fn short(repository: &Repository, id: Oid) -> String {
    let short = repository
        .find_object(id, None)
        .and_then(|object| object.short_id());
    match short {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(_) => id.to_string().chars().take(7).collect(),
    }
}
