//! Taking over from the release before: what an upgrade calls in the new version.
//!
//! The launcher has unpacked this release into `releases/<name>/` and calls it in the working
//! directory with that name, while the agent before it still runs. It tests itself ([`self_test`]),
//! makes its own state out of a copy of the state that it finds ([`migration`]), and switches the
//! link `current`, which is the last thing it does: whatever happens before leaves the release
//! before as it was. Called again after a crash at any instant, it comes to the same end.

mod migration;
mod self_test;

use std::{
    env, fs,
    io::{self, Write},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use journeyman_host::{
    durable::{self, FileError},
    lock::{Lock, LockError},
    workdir::{WorkDir, WorkDirError},
};
use journeyman_protocol::release::TAKE_OVER_LATER;
use nix::unistd::getppid;
use thiserror::Error;

use crate::state::{ReleaseName, StateError};

/// In a release's folder; the launcher has checked all files by it.
const MANIFEST: &str = "manifest.json";
/// One that a launcher has called before it died may still be at it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Nothing has changed: the release before goes on.
#[derive(Debug, Error)]
pub enum TakeOverError {
    #[error(transparent)]
    WorkDir(#[from] WorkDirError),
    #[error("{} is no installed release: it has no {MANIFEST}", folder.display())]
    NotInstalled { folder: PathBuf },
    #[error(
        "this program is {} and not in {}: only the release itself can take over",
        program.display(),
        folder.display()
    )]
    Stranger { program: PathBuf, folder: PathBuf },
    #[error("cannot find out which program this is: {0}")]
    Program(#[source] io::Error),
    #[error(transparent)]
    Lock(#[from] LockError),
    /// One line for each part that does not work.
    #[error("this release cannot run here: {}", .0.join("\njourneyman-agent: this release cannot run here: "))]
    SelfTest(Vec<String>),
    #[error("cannot make a state of its own: {0}")]
    State(#[from] StateError),
    #[error("the launcher that called this has died; another one will call again")]
    Orphaned,
    #[error("cannot become the current release: {0}")]
    Switch(#[source] FileError),
}

/// With less room than this a failed self-test says nothing of the release. Bytes.
const ROOM: u64 = 16 * 1024 * 1024;

impl TakeOverError {
    /// The exit status that tells a launcher whether to call again later.
    pub fn exit_status(&self) -> u8 {
        let may_pass = match self {
            Self::NotInstalled { .. }
            | Self::Stranger { .. }
            | Self::State(StateError::Newer { .. } | StateError::Corrupt { .. }) => false,
            Self::SelfTest(_) => {
                let space = WorkDir::current().ok().map(|here| here.usable_space());
                matches!(space, Some(Ok(bytes)) if bytes < ROOM)
            }
            Self::WorkDir(_)
            | Self::Program(_)
            | Self::Lock(_)
            | Self::State(StateError::File(_))
            | Self::Orphaned
            | Self::Switch(_) => true,
        };
        if may_pass {
            u8::try_from(TAKE_OVER_LATER).unwrap_or(1)
        } else {
            1
        }
    }
}

/// Takes over as the release `name`, and says on `out` how far it is.
///
/// # Errors
/// See [`TakeOverError`].
pub fn take_over(name: &ReleaseName, out: &mut dyn Write) -> Result<(), TakeOverError> {
    let parent = getppid();
    let workdir = WorkDir::current()?;
    let program = own_program(&workdir, name)?;
    workdir.prepare()?;
    let _lock = Lock::acquire(&workdir.releases().join("take-over.lock"), PATIENCE)?;
    let mut say = |text: &str| {
        // Nobody has to listen.
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    };
    self_test::remove_leftovers(&workdir);
    self_test::run(&workdir, &program).map_err(TakeOverError::SelfTest)?;
    say("the self-test has passed");
    migration::migrate(&workdir, name, &mut say)?;
    if getppid() != parent {
        return Err(TakeOverError::Orphaned);
    }
    switch(&workdir, name, &mut say).map_err(TakeOverError::Switch)
}

/// This program, which must be the one of the release.
fn own_program(workdir: &WorkDir, name: &ReleaseName) -> Result<PathBuf, TakeOverError> {
    let folder = workdir.releases().join(name.as_str());
    if !folder.join(MANIFEST).is_file() {
        return Err(TakeOverError::NotInstalled { folder });
    }
    let program = env::current_exe().map_err(TakeOverError::Program)?;
    match folder.canonicalize() {
        Ok(real) if program.starts_with(&real) => Ok(program),
        _ => Err(TakeOverError::Stranger { program, folder }),
    }
}

/// The release that `current` leads to.
fn current(workdir: &WorkDir) -> Option<ReleaseName> {
    let target = fs::read_link(workdir.current_release()).ok()?;
    target.file_name()?.to_str()?.parse().ok()
}

/// Lets `current` lead to this release.
fn switch(
    workdir: &WorkDir,
    name: &ReleaseName,
    say: &mut dyn FnMut(&str),
) -> Result<(), FileError> {
    let link = workdir.current_release();
    let target = Path::new("releases").join(name.as_str());
    if fs::read_link(&link).is_ok_and(|now| now == target) {
        say("this is the current release already");
    } else {
        let new = link.with_extension("new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(FileError::new("remove", new, error));
            }
            _ => {}
        }
        symlink(&target, &new).map_err(|source| FileError::new("make", &new, source))?;
        fs::rename(&new, &link).map_err(|source| FileError::new("rename", &new, source))?;
        say("this is the current release now");
    }
    // All is done, and an error would say that nothing is. What a power cut takes back is the link
    // alone, to a release whose state is untouched.
    if let Err(error) = durable::sync_folder(workdir.root()) {
        say(&format!("the switch may not survive a power cut: {error}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workdir() -> (tempfile::TempDir, WorkDir) {
        let folder = tempfile::tempdir().unwrap();
        let workdir = WorkDir::new(folder.path());
        workdir.prepare().unwrap();
        (folder, workdir)
    }

    fn name(name: &str) -> ReleaseName {
        name.parse().unwrap()
    }

    #[test]
    fn the_link_is_switched_over_leftovers_and_only_where_it_must_be() {
        let (_folder, workdir) = workdir();
        let mut said = String::new();
        assert_eq!(current(&workdir), None);
        for release in ["1-a", "2-b", "2-b"] {
            symlink("releases/0-x", workdir.root().join("current.new")).unwrap();
            said.clear();
            switch(&workdir, &name(release), &mut |text| said.push_str(text)).unwrap();
            assert_eq!(current(&workdir), Some(name(release)));
            let _ = fs::remove_file(workdir.root().join("current.new"));
        }
        assert_eq!(said, "this is the current release already");
        // Something that nobody of ours has made is not put away.
        fs::remove_file(workdir.current_release()).unwrap();
        fs::create_dir_all(workdir.current_release().join("x")).unwrap();
        assert!(switch(&workdir, &name("1-a"), &mut |_| {}).is_err());
    }

    #[test]
    fn only_the_program_of_an_installed_release_takes_over() {
        let (_folder, workdir) = workdir();
        let refused = own_program(&workdir, &name("1-a")).unwrap_err();
        assert!(matches!(refused, TakeOverError::NotInstalled { .. }));
        let folder = workdir.releases().join("1-a");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(MANIFEST), "{}").unwrap();
        let refused = own_program(&workdir, &name("1-a")).unwrap_err();
        assert!(matches!(refused, TakeOverError::Stranger { .. }));
    }
}
