//! What the launcher writes down about upgrades: how far the last one has come, and what failed
//! here and is not tried again.

use std::{
    fs, io,
    path::{Component as Part, Path, PathBuf},
    time::Duration,
};

use journeyman_host::{
    durable::{self, FileError},
    workdir::WorkDir,
};
use journeyman_protocol::release::{BadBuild, Build, Component, Upgrade, UpgradeState};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tracing::{error, warn};

use crate::releases;

/// The format of both files.
const FORMAT: u32 = 1;
/// Builds that failed; the oldest go. A server that makes more of them is not worth the memory.
const BAD_KEPT: usize = 100;

/// The upgrades of this machine. What cannot be written is kept in memory and logged: a full disk
/// must not keep a machine from going back.
#[derive(Debug)]
pub(crate) struct Journal {
    folder: PathBuf,
    upgrades: Upgrades,
    bad: Vec<BadBuild>,
    /// What is in memory is not on the disk.
    is_behind: bool,
}

/// The content of `releases/upgrade.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Upgrades {
    format: u32,
    #[serde(default)]
    agent: Option<AgentUpgrade>,
    #[serde(default)]
    launcher: Option<Upgrade>,
    /// What began or failed last: the server hears of that.
    #[serde(default)]
    latest: Option<Component>,
    /// Name of the folder of the release before the current.
    #[serde(default)]
    previous: Option<String>,
}

/// The content of `releases/bad.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bad {
    format: u32,
    builds: Vec<BadBuild>,
}

/// The last upgrade of the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AgentUpgrade {
    /// What the server is told.
    pub(crate) upgrade: Upgrade,
    /// Name of the new release's folder.
    pub(crate) folder: String,
    /// Name of the folder to go back to.
    #[serde(default)]
    pub(crate) from_folder: Option<String>,
    /// Whether the agent was registered before.
    #[serde(default)]
    pub(crate) was_registered: bool,
    /// Time on probation so far, in milliseconds.
    #[serde(default)]
    pub(crate) ran_ms: u64,
    /// How often it was started while on probation.
    #[serde(default)]
    pub(crate) starts: u32,
    /// How often it died while it took over.
    #[serde(default)]
    pub(crate) deaths: u32,
    /// The release is being gone back from, for this reason.
    #[serde(default)]
    pub(crate) rolling_back: Option<String>,
}

impl AgentUpgrade {
    /// Time on probation so far.
    pub(crate) const fn ran(&self) -> Duration {
        Duration::from_millis(self.ran_ms)
    }
}

impl Journal {
    /// Reads both files. One that makes no sense is set aside and not fatal.
    pub(crate) fn open(workdir: &WorkDir) -> Self {
        let folder = workdir.releases();
        let mut upgrades: Upgrades = read(&upgrades_path(&folder), |upgrades: &Upgrades| {
            upgrades.format == FORMAT
                && upgrades.agent.as_ref().is_none_or(names_are_plain)
                && upgrades.previous.as_deref().is_none_or(is_plain)
        });
        if upgrades.format != FORMAT {
            // Nothing is known, or nothing any more: better one release too many than none to go
            // back to.
            upgrades.previous = releases::newest_beside_current(workdir);
        }
        let bad: Bad = read(&bad_path(&folder), |bad: &Bad| bad.format == FORMAT);
        Self {
            folder,
            upgrades,
            bad: bad.builds,
            is_behind: false,
        }
    }

    /// The last upgrade of the agent.
    pub(crate) const fn agent(&self) -> Option<&AgentUpgrade> {
        self.upgrades.agent.as_ref()
    }

    /// The last upgrade of the launcher.
    pub(crate) const fn launcher(&self) -> Option<&Upgrade> {
        self.upgrades.launcher.as_ref()
    }

    /// Name of the folder of the release before the current.
    pub(crate) fn previous(&self) -> Option<&str> {
        self.upgrades.previous.as_deref()
    }

    /// Names of the folders that are not to be removed.
    pub(crate) fn kept(&self) -> Vec<&str> {
        let under_way = self
            .agent()
            .filter(|agent| !agent.upgrade.state.is_final())
            .map(|agent| [Some(agent.folder.as_str()), agent.from_folder.as_deref()]);
        under_way
            .into_iter()
            .flatten()
            .chain([self.previous()])
            .flatten()
            .collect()
    }

    /// The upgrade to tell the server about: the last that began or failed. That a new launcher has
    /// not lived long yet says less than what it has done meanwhile.
    pub(crate) fn to_report(&self) -> Option<Upgrade> {
        match self.upgrades.latest? {
            Component::Agent => self.agent().map(|agent| agent.upgrade.clone()),
            _ => self.launcher().cloned(),
        }
    }

    /// What failed here.
    pub(crate) fn bad(&self) -> &[BadBuild] {
        &self.bad
    }

    /// Why this build is not tried again here, if it is not.
    pub(crate) fn why_bad(&self, component: Component, build: &Build) -> Option<&str> {
        self.bad
            .iter()
            .find(|bad| bad.component == component && bad.build.sha256 == build.sha256)
            .map(|bad| bad.reason.as_str())
    }

    /// Writes down a new upgrade of the agent.
    ///
    /// # Errors
    /// The disk does not take it: then the upgrade must not begin.
    pub(crate) fn begin_agent(&mut self, upgrade: AgentUpgrade) -> Result<(), FileError> {
        self.upgrades.agent = Some(upgrade);
        self.upgrades.latest = Some(Component::Agent);
        self.write()
    }

    /// Writes down a change of the agent's upgrade.
    ///
    /// # Errors
    /// The disk does not take it; the change is kept in memory.
    pub(crate) fn change_agent(
        &mut self,
        change: impl FnOnce(&mut AgentUpgrade),
    ) -> Result<(), FileError> {
        if let Some(agent) = &mut self.upgrades.agent {
            change(agent);
        }
        self.write()
    }

    /// The same where a disk that does not take it must not stop what is done.
    pub(crate) fn note_agent(&mut self, change: impl FnOnce(&mut AgentUpgrade)) {
        if let Err(error) = self.change_agent(change) {
            error!(%error, "cannot write down how far the upgrade of the agent has come; going on");
        }
    }

    /// The new agent has proved itself.
    pub(crate) fn agent_is_done(&mut self) {
        self.upgrades.previous = self
            .agent()
            .and_then(|agent| agent.from_folder.clone())
            .or_else(|| self.upgrades.previous.take());
        self.end_agent(UpgradeState::Done, None);
    }

    /// Ends the agent's upgrade.
    pub(crate) fn end_agent(&mut self, state: UpgradeState, reason: Option<String>) {
        self.note_agent(|agent| {
            agent.upgrade.state = state;
            agent.upgrade.reason = reason;
            agent.rolling_back = None;
        });
    }

    /// Writes down how far an upgrade of the launcher has come.
    ///
    /// # Errors
    /// The disk does not take it; it is kept in memory.
    pub(crate) fn set_launcher(&mut self, upgrade: Upgrade) -> Result<(), FileError> {
        if !matches!(upgrade.state, UpgradeState::Probation | UpgradeState::Done) {
            self.upgrades.latest = Some(Component::Launcher);
        }
        self.upgrades.launcher = Some(upgrade);
        self.write()
    }

    /// The same where a disk that does not take it must not stop what is done.
    pub(crate) fn note_launcher(&mut self, upgrade: Upgrade) {
        if let Err(error) = self.set_launcher(upgrade) {
            error!(%error, "cannot write down how far the upgrade of the launcher has come; going on");
        }
    }

    /// Remembers that a build failed here.
    pub(crate) fn mark_bad(&mut self, bad: BadBuild) {
        let known = |known: &BadBuild| {
            known.component == bad.component && known.build.sha256 == bad.build.sha256
        };
        if self.bad.iter().any(known) {
            return;
        }
        self.bad.push(bad);
        let surplus = self.bad.len().saturating_sub(BAD_KEPT);
        self.bad.drain(..surplus);
        if let Err(error) = self.write_bad() {
            error!(%error, "cannot write down that a release failed here; going on");
        }
    }

    /// Writes what could not be written when it happened.
    pub(crate) fn catch_up(&mut self) {
        if self.is_behind && self.write().is_ok() && self.write_bad().is_ok() {
            self.is_behind = false;
        }
    }

    fn write(&mut self) -> Result<(), FileError> {
        self.upgrades.format = FORMAT;
        let written = write(&upgrades_path(&self.folder), &self.upgrades);
        self.is_behind |= written.is_err();
        written
    }

    fn write_bad(&mut self) -> Result<(), FileError> {
        let document = Bad {
            format: FORMAT,
            builds: self.bad.clone(),
        };
        let written = write(&bad_path(&self.folder), &document);
        self.is_behind |= written.is_err();
        written
    }
}

fn upgrades_path(releases: &Path) -> PathBuf {
    releases.join("upgrade.json")
}

fn bad_path(releases: &Path) -> PathBuf {
    releases.join("bad.json")
}

fn names_are_plain(upgrade: &AgentUpgrade) -> bool {
    is_plain(&upgrade.folder) && upgrade.from_folder.as_deref().is_none_or(is_plain)
}

fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Part::Normal(_)), None))
}

fn write(path: &Path, document: &impl Serialize) -> Result<(), FileError> {
    let bytes = serde_json::to_vec_pretty(document)
        .map_err(|error| FileError::new("write", path, error.into()))?;
    durable::write(path, &bytes)
}

fn read<T: DeserializeOwned + Default>(path: &Path, is_sound: impl Fn(&T) -> bool) -> T {
    let problem = match fs::read(path) {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(document) if is_sound(&document) => return document,
            Ok(_) => "it says what cannot be".to_owned(),
            Err(error) => error.to_string(),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => return T::default(),
        Err(error) => error.to_string(),
    };
    let mut aside = path.as_os_str().to_owned();
    aside.push(".corrupt");
    let moved = durable::rename(path, Path::new(&aside));
    warn!(path = %path.display(), problem, moved = moved.is_ok(), "cannot use this file; set it aside and going on without");
    T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(sha256: &str) -> Build {
        Build {
            version: "0.2.0".to_owned(),
            build: 2,
            sha256: sha256.to_owned(),
        }
    }

    fn upgrade() -> AgentUpgrade {
        AgentUpgrade {
            upgrade: Upgrade {
                component: Component::Agent,
                to: build("b"),
                from: Some(build("a")),
                state: UpgradeState::Downloading,
                reason: None,
            },
            folder: "0.2.0-b".to_owned(),
            from_folder: Some("0.1.0-a".to_owned()),
            was_registered: true,
            ran_ms: 0,
            starts: 0,
            deaths: 0,
            rolling_back: None,
        }
    }

    fn workdir() -> (tempfile::TempDir, WorkDir) {
        let folder = tempfile::tempdir().unwrap();
        let workdir = WorkDir::new(folder.path());
        fs::create_dir_all(workdir.releases()).unwrap();
        (folder, workdir)
    }

    #[test]
    fn what_was_written_is_there_after_a_restart() {
        let (_folder, workdir) = workdir();
        let mut journal = Journal::open(&workdir);
        assert_eq!(journal.to_report(), None);
        journal.begin_agent(upgrade()).unwrap();
        journal.note_agent(|agent| agent.upgrade.state = UpgradeState::Probation);
        for _ in 0..2 {
            journal.mark_bad(BadBuild {
                build: build("c"),
                component: Component::Agent,
                reason: "it crashed".to_owned(),
            });
        }
        let journal = Journal::open(&workdir);
        assert_eq!(journal.to_report().unwrap().state, UpgradeState::Probation);
        assert_eq!(journal.bad().len(), 1);
        assert_eq!(
            journal.why_bad(Component::Agent, &build("c")),
            Some("it crashed")
        );
        assert_eq!(journal.why_bad(Component::Launcher, &build("c")), None);
        assert_eq!(journal.why_bad(Component::Agent, &build("b")), None);
    }

    #[test]
    fn the_server_hears_of_what_began_or_failed_last() {
        let (_folder, workdir) = workdir();
        let mut journal = Journal::open(&workdir);
        let launcher = |state| Upgrade {
            component: Component::Launcher,
            state,
            ..upgrade().upgrade
        };
        let reported = |journal: &Journal| journal.to_report().unwrap().component;
        journal.note_launcher(launcher(UpgradeState::HandedOver));
        journal.note_launcher(launcher(UpgradeState::Probation));
        assert_eq!(reported(&journal), Component::Launcher);
        journal.begin_agent(upgrade()).unwrap();
        journal.note_launcher(launcher(UpgradeState::Done));
        assert_eq!(reported(&journal), Component::Agent);
        journal.end_agent(UpgradeState::Done, None);
        journal.note_launcher(launcher(UpgradeState::Failed));
        assert_eq!(reported(&journal), Component::Launcher);
    }

    #[test]
    fn what_the_disk_did_not_take_is_written_later() {
        let (_folder, workdir) = workdir();
        let mut journal = Journal::open(&workdir);
        journal.begin_agent(upgrade()).unwrap();
        // Nothing can be renamed over a folder that is not empty.
        let path = workdir.releases().join("upgrade.json");
        fs::remove_file(&path).unwrap();
        fs::create_dir_all(path.join("in-the-way")).unwrap();
        journal.end_agent(UpgradeState::Done, None);
        journal.catch_up();
        fs::remove_dir_all(&path).unwrap();
        journal.catch_up();
        let journal = Journal::open(&workdir);
        assert_eq!(journal.agent().unwrap().upgrade.state, UpgradeState::Done);
    }

    #[test]
    fn a_file_that_makes_no_sense_is_set_aside() {
        let (_folder, workdir) = workdir();
        let path = workdir.releases().join("upgrade.json");
        let mut outside = upgrade();
        outside.from_folder = Some("../elsewhere".to_owned());
        let document = Upgrades {
            format: FORMAT,
            agent: Some(outside),
            launcher: None,
            latest: Some(Component::Agent),
            previous: None,
        };
        for content in [
            b"\0\0\0\0".to_vec(),
            Vec::new(),
            b"{\"format\": 2}".to_vec(),
            serde_json::to_vec(&document).unwrap(),
        ] {
            fs::write(&path, &content).unwrap();
            assert_eq!(Journal::open(&workdir).agent(), None);
            assert!(!path.exists());
            let aside = workdir.releases().join("upgrade.json.corrupt");
            assert_eq!(fs::read(aside).unwrap(), content);
        }
    }

    #[test]
    fn without_a_record_the_newest_release_beside_the_current_is_the_one_to_go_back_to() {
        let (_folder, workdir) = workdir();
        assert_eq!(Journal::open(&workdir).previous(), None);
        for name in ["1-a", "2-b", "3-c"] {
            fs::create_dir(workdir.releases().join(name)).unwrap();
            fs::write(workdir.releases().join(name).join("manifest.json"), "").unwrap();
        }
        std::os::unix::fs::symlink("releases/3-c", workdir.current_release()).unwrap();
        let old = fs::File::open(workdir.releases().join("1-a")).unwrap();
        old.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        fs::write(workdir.releases().join("upgrade.json"), "{").unwrap();
        assert_eq!(Journal::open(&workdir).previous(), Some("2-b"));
    }
}
