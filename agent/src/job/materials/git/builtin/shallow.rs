//! Shallow clones of repositories on this machine. libgit2 makes them of remote ones only, and
//! copies all objects of local ones; what is left to do is to write down where history ends.

use std::{collections::BTreeSet, fs, io::ErrorKind, path::Path};

use git2::{Oid, Repository};

use super::Failure;

/// Makes history end so many commits below each tip.
pub(super) fn cut(dir: &Path, tips: &[Oid], depth: usize) -> Result<(), Failure> {
    let file = dir.join(".git/shallow");
    // Opened anew without the file, or libgit2 would not see what is below.
    match fs::remove_file(&file) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let repository = Repository::open(dir)?;
    let mut seen = BTreeSet::new();
    let mut level: BTreeSet<Oid> = tips.iter().copied().collect();
    let mut ends = BTreeSet::new();
    for number in 1..=depth {
        let mut next = BTreeSet::new();
        for id in level {
            let Ok(commit) = repository.find_commit(id) else {
                continue;
            };
            seen.insert(id);
            if number == depth && commit.parent_count() > 0 {
                ends.insert(id);
            }
            next.extend(commit.parent_ids().filter(|parent| !seen.contains(parent)));
        }
        level = next;
        if level.is_empty() {
            break;
        }
    }
    if ends.is_empty() {
        return Ok(());
    }
    let text: String = ends.iter().map(|id| format!("{id}\n")).collect();
    Ok(fs::write(&file, text)?)
}
