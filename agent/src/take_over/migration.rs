//! The state of this release, out of a copy of the newest that is there.

use journeyman_host::{durable, workdir::WorkDir};

use super::current;
use crate::state::{AgentState, Place, ReleaseName, StateError};

/// Makes the state of the release `name`. The states of other releases are only read.
///
/// It is one file: a leftover of an earlier attempt is replaced by renaming over it.
pub(super) fn migrate(
    workdir: &WorkDir,
    name: &ReleaseName,
    say: &mut dyn FnMut(&str),
) -> Result<(), StateError> {
    let own = Place::of(workdir, Some(name));
    let current = current(workdir);
    let state = if current.as_ref() == Some(name) && matches!(own.read(), Ok(Some(_))) {
        say("this release has its state already");
        None
    } else {
        Some(find(workdir, current.as_ref(), &own, say)?)
    };
    if let Some(state) = state {
        durable::remove_leftovers(&workdir.state().join(name.as_str()));
        own.save(&state)?;
    }
    // Also after a crash between making a folder and this.
    durable::sync_folder(&workdir.state())?;
    durable::sync_folder(workdir.root())?;
    Ok(())
}

/// The state of the current release; before a downgrade, where that is of a format nobody knows
/// here, the one that this release has left itself.
fn find(
    workdir: &WorkDir,
    current: Option<&ReleaseName>,
    own: &Place,
    say: &mut dyn FnMut(&str),
) -> Result<AgentState, StateError> {
    let oldest = Place::of(workdir, None);
    let of_current = current
        .map(|current| Place::of(workdir, Some(current)))
        .filter(|place| place.file().exists());
    let places = match of_current {
        Some(of_current) => [of_current, own.clone(), oldest.clone()],
        // The current release is one of the oldest.
        None => [oldest.clone(), own.clone(), oldest.clone()],
    };
    let mut newer = None;
    for place in places {
        match place.read() {
            Ok(Some(state)) => {
                say(&format!("the state is that of {}", place.file().display()));
                return Ok(state);
            }
            Ok(None) => {}
            Err(error @ StateError::File(_)) => return Err(error),
            Err(error) => {
                say(&format!("{error}; looking for another one"));
                if let StateError::Newer { .. } = error {
                    newer = Some(error);
                }
            }
        }
    }
    match newer {
        Some(error) => Err(error),
        None => {
            say("there is no state yet");
            Ok(AgentState::default())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    struct Scene {
        _folder: tempfile::TempDir,
        workdir: WorkDir,
    }

    impl Scene {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let workdir = WorkDir::new(folder.path());
            workdir.prepare().unwrap();
            Self {
                _folder: folder,
                workdir,
            }
        }

        fn oldest_has(self, cookie: &str) -> Self {
            fs::write(self.workdir.cookie(), cookie).unwrap();
            self
        }

        fn has(self, release: &str, content: &str) -> Self {
            let folder = self.workdir.state().join(release);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("state.json"), content).unwrap();
            self
        }

        fn runs(self, release: &str) -> Self {
            let target = format!("releases/{release}");
            symlink(target, self.workdir.current_release()).unwrap();
            self
        }

        /// The cookie that the release `new` comes to.
        fn migrated(&self) -> Result<Option<String>, StateError> {
            let name: ReleaseName = "new".parse().unwrap();
            migrate(&self.workdir, &name, &mut |_| {})?;
            let place = Place::of(&self.workdir, Some(&name));
            let state = place.read()?.expect("a state of its own");
            Ok(state.cookie.map(|cookie| cookie.expose().to_owned()))
        }
    }

    const A: &str = r#"{"format":2,"cookie":"a"}"#;
    const B: &str = r#"{"format":2,"cookie":"b"}"#;
    const LATER: &str = r#"{"format":9,"cookie":["z"]}"#;

    fn comes_to(scene: &Scene, cookie: Option<&str>) {
        for _ in 0..2 {
            assert_eq!(scene.migrated().unwrap().as_deref(), cookie);
        }
    }

    #[test]
    fn a_first_install_begins_without() {
        comes_to(&Scene::new(), None);
    }

    #[test]
    fn the_state_of_the_current_release_is_taken() {
        comes_to(&Scene::new().oldest_has("o").runs("old"), Some("o"));
        let scene = Scene::new().oldest_has("o").has("old", A).runs("old");
        comes_to(&scene, Some("a"));
        // Also where this release ran before.
        comes_to(
            &Scene::new().has("old", A).has("new", B).runs("old"),
            Some("a"),
        );
        let scene = Scene::new().oldest_has("o").has("new", B).runs("old");
        comes_to(&scene, Some("o"));
    }

    #[test]
    fn the_own_state_of_the_current_release_stays() {
        comes_to(
            &Scene::new().oldest_has("o").has("new", B).runs("new"),
            Some("b"),
        );
        // Switched to by a launcher that knew nothing of states.
        comes_to(&Scene::new().oldest_has("o").runs("new"), Some("o"));
    }

    #[test]
    fn a_downgrade_goes_back_to_a_state_it_knows_or_not_at_all() {
        let scene = Scene::new().has("later", LATER).has("new", B).runs("later");
        comes_to(&scene, Some("b"));
        let scene = Scene::new()
            .has("later", LATER)
            .oldest_has("o")
            .runs("later");
        comes_to(&scene, Some("o"));
        let scene = Scene::new().has("later", LATER).runs("later");
        let error = scene.migrated().unwrap_err();
        assert!(error.to_string().contains("has the format 9"), "{error}");
        assert!(!scene.workdir.state().join("new").exists());
    }

    #[test]
    fn a_corrupt_state_is_left_where_it_is_and_not_taken() {
        let scene = Scene::new().has("old", "{").runs("old");
        comes_to(&scene, None);
        let corrupt = scene.workdir.state().join("old/state.json");
        assert_eq!(fs::read_to_string(corrupt).unwrap(), "{");
        comes_to(&Scene::new().has("new", "{").runs("new"), None);
        comes_to(&Scene::new().oldest_has("two words").runs("old"), None);
    }
}
