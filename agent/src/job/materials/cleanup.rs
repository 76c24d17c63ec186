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
    use std::os::unix::fs::symlink;

    use pretty_assertions::assert_eq;

    use super::*;
    use crate::job::materials::testing::Bench;

    /// Runs the clean-up over folders and tells what is left and what was said, sorted.
    fn clean(
        exist: &[&str],
        allowed: &[&str],
    ) -> Result<(Vec<String>, Vec<String>), MaterialError> {
        let bench = Bench::new();
        let (base, context) = (bench.base(), &bench.context);
        for folder in exist {
            fs::create_dir_all(base.join(folder)).unwrap();
        }
        remove_stale(&context.root, &context.base, allowed, &context.console)?;
        let left = exist
            .iter()
            .filter(|folder| base.join(folder).exists())
            .map(|folder| (*folder).to_owned())
            .collect();
        let mut lines: Vec<String> = bench
            .lines()
            .iter()
            .map(|line| line.strip_prefix("pr|").unwrap().to_owned())
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

    #[test]
    fn links_are_removed_and_never_followed() {
        let bench = Bench::new();
        let base = bench.base();
        let outside = bench.path("outside");
        fs::create_dir_all(outside.join("kept")).unwrap();
        fs::create_dir_all(base.join("a/b")).unwrap();
        symlink(&outside, base.join("link")).unwrap();
        symlink(&outside, base.join("a/link")).unwrap();
        fs::write(base.join("file"), "").unwrap();
        let context = &bench.context;
        remove_stale(&context.root, &context.base, &["a/b"], &context.console).unwrap();
        assert!(outside.join("kept").exists());
        assert!(!base.join("link").is_symlink() && !base.join("a/link").is_symlink());
        assert!(base.join("file").exists() && base.join("a/b").exists());
    }

    #[test]
    fn a_destination_that_is_a_link_to_elsewhere_is_told_as_gocd_tells_it() {
        let bench = Bench::new();
        let outside = bench.path("outside");
        fs::create_dir_all(outside.join("kept")).unwrap();
        symlink(&outside, bench.base().join("link")).unwrap();
        fs::create_dir(bench.base().join("stale")).unwrap();
        let context = &bench.context;
        let error = remove_stale(&context.root, &context.base, &["link/x"], &context.console)
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            format!(
                "Cannot clean directory. Folder {} is outside the base folder pipelines/P",
                bench.base().join("link/x").display()
            )
        );
        assert!(outside.join("kept").exists() && bench.base().join("stale").exists());
    }

    #[test]
    fn without_a_checkout_folders_go_and_files_stay() {
        let (left, lines) = clean(&["old", "cruise-output"], &[]).unwrap();
        assert_eq!(left, ["cruise-output"]);
        assert_eq!(
            lines,
            [
                "[go] Deleting folder pipelines/P/old",
                "[go] Keeping folder pipelines/P/cruise-output",
            ]
        );
    }
}
