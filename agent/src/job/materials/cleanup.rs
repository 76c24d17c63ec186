//! Removing what earlier runs with other materials have left in a pipeline's folder.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use journeyman_protocol::console::Tag;

use super::{MaterialError, normalise, place};
use crate::job::console::Console;

/// Never removed, whatever the materials are.
const OUTPUT: &str = "cruise-output";

/// Removes each folder in `root`/`base` that is neither the folder of a material nor above one.
/// What is inside a material's folder is the material's; files stay.
///
/// # Errors
/// A folder of a material is outside the base, by its name or by a link in it.
pub(super) fn remove_stale(
    root: &Path,
    base: &Path,
    folders: &[&str],
    console: &Console,
) -> Result<(), MaterialError> {
    let absolute = root.join(base);
    let mut roots = BTreeSet::new();
    for folder in folders.iter().copied().chain([OUTPUT]) {
        let written = place::written(&absolute, folder);
        let path = normalise(&written)
            .filter(|path| path.starts_with(&absolute) && place::is_inside(&written, &absolute));
        let Some(path) = path else {
            return Err(MaterialError::new(format!(
                "Cannot clean directory. Folder {} is outside the base folder {}",
                written.display(),
                base.display()
            )));
        };
        roots.insert(path);
    }
    let mut allowed = roots.clone();
    for path in &roots {
        let above = path.ancestors().skip(1);
        allowed.extend(
            above
                .take_while(|path| *path != absolute)
                .map(Path::to_owned),
        );
    }
    sweep(&absolute, root, &roots, &allowed, console);
    Ok(())
}

fn sweep(
    folder: &Path,
    root: &Path,
    roots: &BTreeSet<PathBuf>,
    allowed: &BTreeSet<PathBuf>,
    console: &Console,
) {
    let Ok(items) = fs::read_dir(folder) else {
        return;
    };
    let mut inside = Vec::new();
    for item in items.flatten() {
        let path = item.path();
        if !path.is_dir() {
            continue;
        }
        let shown = path.strip_prefix(root).unwrap_or(&path).display();
        if !allowed.contains(&path) {
            console.line(Tag::Prep, &format!("[go] Deleting folder {shown}"));
            // GoCD: what cannot be deleted stays, and the job goes on. At least say so.
            if let Err(error) = delete(&path) {
                let text = format!("[go] Unable to delete folder {shown}: {error}");
                console.line(Tag::PrepErr, &text);
            }
            continue;
        }
        console.line(Tag::Prep, &format!("[go] Keeping folder {shown}"));
        if !roots.contains(&path) {
            inside.push(path);
        }
    }
    for path in inside {
        sweep(&path, root, roots, allowed, console);
    }
}

/// Removes what is at the path. A link is removed, not followed.
///
/// # Errors
/// What the system says; nothing there is no error.
pub(super) fn delete(path: &Path) -> io::Result<()> {
    let result = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Empties a folder.
///
/// # Errors
/// What the system says about the first item that cannot be removed.
pub(crate) fn delete_content(folder: &Path) -> io::Result<()> {
    for item in fs::read_dir(folder)? {
        delete(&item?.path())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pretty_assertions::assert_eq;

    use super::*;
    use crate::job::{console::Charset, spool::SpoolWriter};

    /// Runs the clean-up over folders and tells what is left and what was said, sorted.
    fn clean(
        exist: &[&str],
        allowed: &[&str],
    ) -> Result<(Vec<String>, Vec<String>), MaterialError> {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("pipelines/P");
        for folder in exist {
            fs::create_dir_all(base.join(folder)).unwrap();
        }
        let spool = dir.path().join("console");
        let console = Console::new(
            SpoolWriter::open(&spool).unwrap(),
            Charset::for_name("utf-8"),
            Arc::new(jiff::Zoned::now),
        );
        remove_stale(dir.path(), Path::new("pipelines/P"), allowed, &console)?;
        let left = exist
            .iter()
            .filter(|folder| base.join(folder).exists())
            .map(|folder| (*folder).to_owned())
            .collect();
        let mut lines: Vec<String> = fs::read_to_string(&spool)
            .unwrap()
            .lines()
            .map(|line| line[16..].to_owned())
            .collect();
        lines.sort();
        Ok((left, lines))
    }

    #[test]
    fn keeps_folders_of_materials_and_those_above() {
        let (left, lines) = clean(
            &["subfolder/allowed", "subfolder/notallowed"],
            &["subfolder/allowed"],
        )
        .unwrap();
        assert_eq!(left, ["subfolder/allowed"]);
        assert_eq!(
            lines,
            [
                "[go] Deleting folder pipelines/P/subfolder/notallowed",
                "[go] Keeping folder pipelines/P/subfolder",
                "[go] Keeping folder pipelines/P/subfolder/allowed",
            ]
        );
    }

    #[test]
    fn what_is_inside_a_material_is_its_own() {
        let (left, _) = clean(
            &["m1/own", "m1/m2", "old3", "cruise-output"],
            &["m1", "m1/m2"],
        )
        .unwrap();
        assert_eq!(left, ["m1/own", "m1/m2", "cruise-output"]);
    }

    #[test]
    fn nothing_outside_the_base_is_touched() {
        let error = clean(&[], &["/../.."]).unwrap_err().to_string();
        assert!(error.contains("is outside the base folder"), "{error}");
    }
}
