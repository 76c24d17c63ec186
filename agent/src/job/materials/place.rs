//! Where a material is checked out to, and that it is nowhere else than in its pipeline's folder.

use std::path::{Component, Path, PathBuf};

use journeyman_protocol::{console::Tag, material::ScmAttributes};

use super::{MaterialContext, MaterialError};

/// The folder of one material.
pub(super) struct Place {
    /// Absolute, in GoCD's words: `.` and `..` stay as the configuration has them.
    pub(super) dir: PathBuf,
    /// The destination folder, or `files` when there is none.
    pub(super) target: String,
}

impl Place {
    /// The folder that a material's configuration names.
    ///
    /// # Errors
    /// The folder is not inside that of the pipeline, be it by its name or by a link in it.
    pub(super) fn of(
        scm: &ScmAttributes,
        context: &MaterialContext,
    ) -> Result<Self, MaterialError> {
        let folder = scm.folder.as_deref().unwrap_or_default();
        Ok(Self {
            dir: resolve(folder, context)?,
            target: if folder.is_empty() { "files" } else { folder }.to_owned(),
        })
    }

    /// The first line of every material.
    pub(super) fn say_start(&self, revision: &str, from: &str, context: &MaterialContext) {
        let target = &self.target;
        context.console.line(
            Tag::Prep,
            &format!("[go] Start updating {target} at revision {revision} from {from}"),
        );
    }

    /// Makes the folders above this one, as far as they are missing.
    ///
    /// # Errors
    /// The folder that cannot be made.
    pub(super) fn make_parents(&self) -> Result<(), MaterialError> {
        match self.dir.parent() {
            Some(parent) => make_folder(parent),
            None => Ok(()),
        }
    }

    /// Removes the folder with all that is in it.
    ///
    /// # Errors
    /// What cannot be removed. GoCD goes on then, and fails later in a folder half gone.
    pub(super) fn delete(&self) -> Result<(), MaterialError> {
        super::cleanup::delete(&self.dir).map_err(|error| {
            MaterialError::new(format!(
                "Failed to delete directory: {}: {error}",
                self.dir.display()
            ))
        })
    }
}

/// Whether a working directory of a job, relative to the agent's, is what GoCD's server names:
/// `pipelines/<pipeline>`. Anything else could be the agent's own files, or another's.
pub(crate) fn is_of_pipeline(base: &Path) -> bool {
    let mut parts = base.components();
    parts.next() == Some(Component::Normal("pipelines".as_ref()))
        && matches!(parts.next(), Some(Component::Normal(_)))
        && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// Makes a folder with those above it.
///
/// # Errors
/// The folder that cannot be made.
pub(super) fn make_folder(folder: &Path) -> Result<(), MaterialError> {
    std::fs::create_dir_all(folder).map_err(|error| {
        MaterialError::new(format!(
            "Cannot make the folder {}: {error}",
            folder.display()
        ))
    })
}

/// The absolute path of a destination folder, empty for the pipeline's own.
///
/// # Errors
/// It is not inside the pipeline's folder.
pub(super) fn resolve(folder: &str, context: &MaterialContext) -> Result<PathBuf, MaterialError> {
    let base = context.root.join(&context.base);
    let dir = written(&base, folder);
    if is_inside(&dir, &base) {
        return Ok(dir);
    }
    Err(MaterialError::new(format!(
        "Folder {} is outside the base folder {}, by its name or by a link in it. Nothing was \
         checked out there: give the material a destination folder inside its pipeline's.",
        dir.display(),
        context.base.display()
    )))
}

/// The path as Java's `File` writes it: a leading `/` of the folder means nothing, and of several
/// `/` one is left.
pub(super) fn written(base: &Path, folder: &str) -> PathBuf {
    folder
        .split('/')
        .filter(|part| !part.is_empty())
        .fold(base.to_owned(), |path, part| {
            let mut text = path.into_os_string();
            text.push("/");
            text.push(part);
            text.into()
        })
}

/// Whether a path leads into a folder or to it, all links followed.
pub(super) fn is_inside(path: &Path, folder: &Path) -> bool {
    match (real(path), real(folder)) {
        (Some(path), Some(folder)) => path.starts_with(folder),
        _ => false,
    }
}

/// The path without links, `.` and `..`; what does not exist is taken by its name. `None` when a
/// link leads nowhere: who writes there writes to a place that nobody has looked at.
fn real(path: &Path) -> Option<PathBuf> {
    let mut real = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                real.pop();
            }
            other => {
                let next = real.join(other);
                real = match next.canonicalize() {
                    Ok(found) => found,
                    Err(_) if next.is_symlink() => return None,
                    Err(_) => next,
                };
            }
        }
    }
    Some(real)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use pretty_assertions::assert_eq;

    use super::*;
    use crate::job::materials::testing::Bench;

    #[test]
    fn a_destination_stays_in_its_pipeline() {
        let bench = Bench::new();
        let base = bench.base();
        fs::create_dir_all(bench.path("agent/pipelines/Other")).unwrap();
        fs::create_dir_all(base.join("real")).unwrap();
        symlink("real", base.join("inside")).unwrap();
        symlink("../..", base.join("up")).unwrap();
        symlink(bench.path("nothing"), base.join("nowhere")).unwrap();
        let resolved = |folder: &str| {
            resolve(folder, &bench.context)
                .map(|dir| {
                    let dir = dir.display().to_string();
                    let inside = dir.strip_prefix(&base.display().to_string()).unwrap();
                    inside.trim_start_matches('/').to_owned()
                })
                .map_err(|error| {
                    error
                        .to_string()
                        .contains("outside the base folder pipelines/P")
                })
        };
        let allowed = [
            ("", ""),
            ("a/b", "a/b"),
            ("/etc", "etc"),
            ("a//b/", "a/b"),
            ("./a", "./a"),
            ("a/../b", "a/../b"),
            ("inside/x", "inside/x"),
            ("..hidden", "..hidden"),
        ];
        for (folder, expected) in allowed {
            assert_eq!(resolved(folder), Ok(expected.to_owned()), "{folder}");
        }
        for folder in [
            "..",
            "../Other",
            "a/../../x",
            "up",
            "up/pipelines",
            "up/../x",
            "nowhere",
            "nowhere/x",
            "inside/../../..",
            "/../..",
        ] {
            assert_eq!(resolved(folder), Err(true), "{folder}");
        }
        // The folder of a pipeline may be a link itself: an operator has moved it to another disk.
        fs::rename(&base, bench.path("disk")).unwrap();
        symlink(bench.path("disk"), &base).unwrap();
        assert_eq!(resolved("a"), Ok("a".to_owned()));
        assert_eq!(resolved("../x"), Err(true));
    }

    #[test]
    fn a_job_works_in_a_pipelines_folder() {
        assert!(is_of_pipeline(Path::new("pipelines/web")));
        for base in [
            "",
            "pipelines",
            "pipelines/..",
            "pipelines/web/../../config",
            "config",
            "/pipelines/web",
            "../pipelines/web",
        ] {
            assert!(!is_of_pipeline(Path::new(base)), "{base}");
        }
    }
}
