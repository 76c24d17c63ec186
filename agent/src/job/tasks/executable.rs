//! Finding the program of a command.

use std::{
    env,
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use nix::unistd::{AccessFlags, access};

/// The file to run for a command.
///
/// GoCD (the JDK's rule): with a slash in it the command is a path relative to the task's working
/// directory. Without one it is searched in the agent's own `PATH`; what the job puts into `PATH`
/// is for the child only. `None` when there is no file that may be run.
pub(crate) fn find(command: &str, working_dir: &Path) -> Option<PathBuf> {
    if command.contains('/') {
        // Kept relative: the child changes its folder first, and sees the path as its own name.
        let path = PathBuf::from(command);
        return is_executable(&working_dir.join(&path)).then_some(path);
    }
    if command.is_empty() {
        return None;
    }
    let search = search_path();
    search
        .as_bytes()
        .split(|b| *b == b':')
        .map(|folder| {
            // An empty entry is the current folder: the child's.
            let folder = if folder.is_empty() { b"." } else { folder };
            Path::new(OsStr::from_bytes(folder)).join(command)
        })
        .find(|candidate| is_executable(&working_dir.join(candidate)))
}

/// `PATH` of this process, or what the system takes when there is none.
pub(crate) fn search_path() -> std::ffi::OsString {
    env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into())
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && access(path, AccessFlags::X_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn a_name_is_searched_in_path_and_never_in_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sh");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        let found = find("sh", dir.path()).unwrap();
        assert!(
            found.is_absolute() && !found.starts_with(dir.path()),
            "{found:?}"
        );
        assert_eq!(find("./sh", dir.path()), Some(PathBuf::from("./sh")));
        assert_eq!(find("no-such-tool-xyz", dir.path()), None);
        assert_eq!(find("./nothing", dir.path()), None);
    }

    #[test]
    fn a_file_without_the_right_is_not_run() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("x"), "").unwrap();
        assert_eq!(find("./x", dir.path()), None);
    }
}
