//! Taking what is offered: the launcher in its place at once, the agent beside the one that runs.

use std::path::PathBuf;

use journeyman_protocol::release::{
    BadBuild, Component, ComponentRelease, Release, Upgrade, UpgradeState,
};
use thiserror::Error;
use tracing::{error, info, warn};

use crate::{
    download::{self, DownloadError, refuse},
    keys::{KeyError, Keys},
    machine::{Heard, Machine},
    offer::{Offer, OfferError},
    operator_package,
    package::{self, UnpackError},
    releases::{self, InstallError, Installed},
    upgrade::{
        hand_over::{self, HandOverError},
        journal::AgentUpgrade,
        offered,
    },
};

/// How often a new version may die while it takes over.
const DEATHS: u32 = 3;

/// What came of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Nothing is to be done.
    Nothing,
    /// The launcher was replaced: this one must end.
    Launcher,
    /// `current` leads to another agent: it must be started.
    Agent,
}

/// An offer could not be taken. What ran goes on.
#[derive(Debug, Error)]
pub(crate) enum Problem {
    #[error(transparent)]
    Connection(#[from] journeyman_host::connection::ConnectionError),
    #[error(transparent)]
    Offer(#[from] OfferError),
    #[error(transparent)]
    Download(#[from] DownloadError),
    #[error(transparent)]
    Install(#[from] InstallError),
    #[error(transparent)]
    HandOver(#[from] HandOverError),
    #[error(transparent)]
    File(#[from] journeyman_host::durable::FileError),
    #[error("the package in the working directory is refused: {0}")]
    Key(#[from] KeyError),
    #[error("cannot read the launcher's own file: {0}")]
    OwnFile(std::io::Error),
    #[error("unpacking was interrupted: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Where a package comes from.
enum Source<'a> {
    Server(&'a Heard),
    /// The operator put it there.
    Folder(PathBuf),
}

impl Machine<'_> {
    /// Takes what was offered, as far as this machine wants it.
    ///
    /// # Errors
    /// It was written down in the journal as well.
    pub(crate) async fn take(&self, heard: &Heard) -> Result<Taken, Problem> {
        let Offer::Release(release) = &heard.offer else {
            let Some((offered, path)) = operator_package::find(self.workdir) else {
                return Ok(Taken::Nothing);
            };
            let stays = releases::current(self.workdir).is_some_and(|current| {
                // Our server may have brought a newer one and withdrawn it since: what runs stays.
                let is_older = offered.manifest.build < current.manifest.build;
                current.is(&offered) || is_older && matches!(heard.offer, Offer::Nothing)
            });
            if stays || self.is_bad(Component::Agent, &offered) {
                return Ok(Taken::Nothing);
            }
            return self.take_agent(&offered, Source::Folder(path)).await;
        };
        let launcher = offered::launcher(self.workdir, &self.journal.borrow(), release)
            .map_err(Problem::OwnFile)?;
        if let Some(launcher) = launcher {
            return self.take_launcher(heard, launcher).await;
        }
        let current = releases::current(self.workdir);
        let agent = offered::agent(&self.journal.borrow(), release, current.as_ref());
        match agent {
            Some(agent) => self.take_agent(agent, Source::Server(heard)).await,
            None => Ok(Taken::Nothing),
        }
    }

    fn is_bad(&self, component: Component, offered: &ComponentRelease) -> bool {
        let journal = self.journal.borrow();
        journal.why_bad(component, &offered.build()).is_some()
    }

    async fn take_launcher(
        &self,
        heard: &Heard,
        offered: &ComponentRelease,
    ) -> Result<Taken, Problem> {
        let own = self.own_launcher();
        let note = |state, reason| Upgrade {
            component: Component::Launcher,
            to: offered.build(),
            from: own.clone(),
            state,
            reason,
        };
        info!(offered = %offered.build(), "replacing the launcher");
        self.journal
            .borrow_mut()
            .set_launcher(note(UpgradeState::Downloading, None))?;
        let taken = async {
            self.tell().await;
            package::check(&offered.manifest, Component::Launcher).map_err(InstallError::from)?;
            let package =
                download::download(&heard.connection, self.workdir, offered, &|_| ()).await?;
            // Written down before it happens: the next launcher finds out which one it is.
            self.journal
                .borrow_mut()
                .set_launcher(note(UpgradeState::HandedOver, None))?;
            let replaced = releases::replace_launcher(self.workdir, offered, package.path());
            if replaced.as_ref().is_err_and(is_refused_package) {
                refuse(self.workdir, Component::Launcher, package.path());
            }
            replaced?;
            package.installed(&offered.manifest);
            Ok(Taken::Launcher)
        };
        let taken: Result<Taken, Problem> = taken.await;
        if let Err(problem) = &taken {
            let mut journal = self.journal.borrow_mut();
            journal.note_launcher(note(UpgradeState::Failed, Some(problem.to_string())));
            if is_refused(problem) {
                journal.mark_bad(BadBuild {
                    build: offered.build(),
                    component: Component::Launcher,
                    reason: problem.to_string(),
                });
            }
        }
        taken
    }

    async fn take_agent(
        &self,
        offered: &ComponentRelease,
        source: Source<'_>,
    ) -> Result<Taken, Problem> {
        let current = releases::current(self.workdir);
        match &current {
            Some(current) => {
                info!(offered = %offered.build(), current = %current.build(), "upgrading the agent");
            }
            None => info!(offered = %offered.build(), "installing the agent"),
        }
        self.begin(offered, current.as_ref())?;
        let taken = self.install_and_hand_over(offered, source).await;
        if let Err(problem) = &taken {
            let mut journal = self.journal.borrow_mut();
            let died = matches!(problem, Problem::HandOver(HandOverError::Died(_)));
            if died {
                journal.note_agent(|agent| agent.deaths += 1);
            }
            let deaths = journal.agent().map_or(0, |agent| agent.deaths);
            let reason = problem.to_string();
            journal.end_agent(UpgradeState::Failed, Some(reason.clone()));
            // A package that failed its checksum was spoilt on its way; one that does not keep to
            // its manifest, or a version that cannot run here, stays what it is.
            if is_refused(problem) || deaths >= DEATHS {
                error!(offered = %offered.build(), reason, "this release is not tried again here");
                journal.mark_bad(BadBuild {
                    build: offered.build(),
                    component: Component::Agent,
                    reason,
                });
            }
        }
        taken
    }

    /// Writes down that an upgrade begins.
    fn begin(
        &self,
        offered: &ComponentRelease,
        current: Option<&Installed>,
    ) -> Result<(), Problem> {
        let mut journal = self.journal.borrow_mut();
        let before = journal.agent();
        // What it was tried before counts.
        let deaths = before
            .filter(|before| before.upgrade.to == offered.build())
            .map_or(0, |before| before.deaths);
        let folder = releases::name(offered);
        // One that has not proved itself is nothing to go back to, if there is something better.
        let proved = before
            .filter(|before| {
                !before.upgrade.state.is_final()
                    && current.is_some_and(|current| current.name == before.folder)
            })
            .and_then(|before| Some((before.upgrade.from.clone()?, before.from_folder.clone()?)))
            .filter(|(_, name)| *name != folder);
        let from =
            proved.or_else(|| current.map(|current| (current.build(), current.name.clone())));
        let (from, from_folder) = from.unzip();
        let begun = AgentUpgrade {
            upgrade: Upgrade {
                component: Component::Agent,
                to: offered.build(),
                from,
                state: UpgradeState::Downloading,
                reason: None,
            },
            folder,
            from_folder,
            was_registered: self.workdir.token().exists(),
            ran_ms: 0,
            starts: 0,
            deaths,
            rolling_back: None,
        };
        Ok(journal.begin_agent(begun)?)
    }

    async fn install_and_hand_over(
        &self,
        offered: &ComponentRelease,
        source: Source<'_>,
    ) -> Result<Taken, Problem> {
        self.tell().await;
        package::check(&offered.manifest, Component::Agent).map_err(InstallError::from)?;
        match source {
            // Verified when it was unpacked.
            _ if releases::is_installed(self.workdir, offered) => {}
            Source::Server(heard) => {
                let on_step = |state| {
                    let mut journal = self.journal.borrow_mut();
                    journal.note_agent(|agent| agent.upgrade.state = state);
                };
                let package =
                    download::download(&heard.connection, self.workdir, offered, &on_step).await?;
                let unpacked = self.unpack(offered, package.path()).await;
                if unpacked.as_ref().is_err_and(is_refused) {
                    refuse(self.workdir, Component::Agent, package.path());
                }
                unpacked?;
                package.installed(&offered.manifest);
            }
            Source::Folder(path) => {
                let keys = Keys::of(self.workdir);
                let verified = keys.verify(&offered.package)?;
                self.unpack(offered, &path).await?;
                keys.retire(&offered.manifest, &verified);
            }
        }
        self.journal
            .borrow_mut()
            .change_agent(|agent| agent.upgrade.state = UpgradeState::HandedOver)?;
        self.tell().await;
        let name = releases::name(offered);
        let Some(new) = releases::find(self.workdir, &name) else {
            let reason = format!("its folder releases/{name} is gone");
            return Err(HandOverError::NotNow(reason).into());
        };
        hand_over::call(self.workdir, &new).await?;
        info!(release = name, "installed the agent");
        // It has happened, whether it can be written down or not.
        self.journal
            .borrow_mut()
            .note_agent(|agent| agent.upgrade.state = UpgradeState::Switched);
        Ok(Taken::Agent)
    }

    /// Unpacks a package beside the others, away from the thread that watches the agent.
    async fn unpack(
        &self,
        offered: &ComponentRelease,
        package: &std::path::Path,
    ) -> Result<(), Problem> {
        self.journal
            .borrow_mut()
            .change_agent(|agent| agent.upgrade.state = UpgradeState::Unpacking)?;
        self.tell().await;
        let install = {
            let workdir = self.workdir.clone();
            let (offered, package) = (offered.clone(), package.to_owned());
            move || releases::install(&workdir, &offered, &package)
        };
        Ok(tokio::task::spawn_blocking(install).await??)
    }

    /// Tells the operator of a bootstrapper that is newer than the one that runs here.
    pub(crate) fn mention_bootstrapper(&self, release: &Release) {
        if let Some(offered) = &release.bootstrapper
            && offered.manifest.version != self.bootstrapper_version
        {
            warn!(
                running = self.bootstrapper_version,
                offered = %offered.build(),
                at = offered.package.url,
                "the server has another bootstrapper; it is not replaced by itself: copy it here \
                 when it suits you"
            );
        }
    }
}

/// Whether this will be so however often it is tried.
const fn is_refused(problem: &Problem) -> bool {
    matches!(problem, Problem::HandOver(HandOverError::Refused(_)))
        || matches!(problem, Problem::Install(error) if is_refused_package(error))
}

const fn is_refused_package(error: &InstallError) -> bool {
    matches!(error, InstallError::Unpack(UnpackError::Refused(_)))
}
