//! Finding the program of a command.

use std::{
    env,
    ffi::{OsStr, OsString},
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    unistd::{AccessFlags, access},
};

/// What the system searches for an agent without a `PATH`. GoCD (the JDK's rule): the task's
/// folder first.
const DEFAULT_SEARCH_PATH: &str = ":/bin:/usr/bin";

/// The file to run for a command: the first that may be.
pub(crate) fn find(command: &str, working_dir: &Path) -> Option<PathBuf> {
    candidates(command, working_dir).into_iter().next()
}

/// The files that may be run for a command, to be tried in turn.
///
/// GoCD (the JDK's rule): with a slash in it the command is a path relative to the task's working
/// directory. Without one it is searched in the agent's own `PATH`, further when a file found
/// there cannot be run ([`is_next_tried`]); what the job puts into `PATH` is for the child only.
pub(super) fn candidates(command: &str, working_dir: &Path) -> Vec<PathBuf> {
    let all = if command.contains('/') {
        // Kept relative: the child changes its folder first, and sees the path as its own name.
        vec![PathBuf::from(command)]
    } else if command.is_empty() {
        Vec::new()
    } else {
        let search = search_path().unwrap_or_else(|| DEFAULT_SEARCH_PATH.into());
        search
            .as_bytes()
            .split(|b| *b == b':')
            .map(|folder| {
                // An empty entry is the current folder: the child's.
                let folder = if folder.is_empty() { b"." } else { folder };
                Path::new(OsStr::from_bytes(folder)).join(command)
            })
            .collect()
    };
    all.into_iter()
        .filter(|candidate| is_executable(&working_dir.join(candidate)))
        .collect()
}

/// Whether the search goes on after a file could not be run for this reason: the interpreter that
/// it names is not there, for example.
pub(super) fn is_next_tried(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(
            Errno::EACCES
                | Errno::ENOENT
                | Errno::ENOTDIR
                | Errno::ELOOP
                | Errno::ESTALE
                | Errno::ENODEV
                | Errno::ETIMEDOUT
        )
    )
}

/// `PATH` of this process.
pub(crate) fn search_path() -> Option<OsString> {
    env::var_os("PATH")
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
    fn the_search_goes_on_where_a_file_cannot_be_run() {
        let of = |errno: Errno| is_next_tried(&io::Error::from_raw_os_error(errno as i32));
        assert!(of(Errno::ENOENT) && of(Errno::EACCES));
        assert!(!of(Errno::E2BIG) && !of(Errno::EAGAIN) && !of(Errno::ENOEXEC));
    }

    #[test]
    fn a_file_without_the_right_is_not_run() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("x"), "").unwrap();
        assert_eq!(find("./x", dir.path()), None);
    }
}
