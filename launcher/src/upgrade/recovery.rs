//! Going on where a launcher died.

use std::path::Path;

use journeyman_host::workdir::WorkDir;
use journeyman_protocol::release::{BadBuild, Component, UpgradeState};
use tracing::{info, warn};

use super::{hand_over, journal::Journal, rollback};
use crate::{launcher_file::LauncherFile, releases};

/// Brings the upgrades of both components to a state that the launcher knows how to go on from.
pub(crate) fn recover(workdir: &WorkDir, journal: &mut Journal) {
    recover_launcher(workdir, journal);
    recover_agent(workdir, journal);
}

/// Finds out what became of a launcher that was replaced: it runs, or the bootstrapper went back.
fn recover_launcher(workdir: &WorkDir, journal: &mut Journal) {
    let Some(mut upgrade) = journal
        .launcher()
        .filter(|upgrade| !upgrade.state.is_final())
        .cloned()
    else {
        return;
    };
    let is_new = |path: &Path| LauncherFile::of(path).is_ok_and(|file| file.is(&upgrade.to));
    if is_new(&workdir.launcher()) {
        upgrade.state = UpgradeState::Probation;
    } else if is_new(&workdir.bad_launcher()) {
        let reason = "it died young, and the bootstrapper went back to the launcher before";
        warn!(failed = %upgrade.to, reason, "the new launcher failed");
        journal.mark_bad(BadBuild {
            build: upgrade.to.clone(),
            component: Component::Launcher,
            reason: reason.to_owned(),
        });
        upgrade.state = UpgradeState::RolledBack;
        upgrade.reason = Some(reason.to_owned());
    } else {
        upgrade.reason = Some(format!("interrupted while {}", upgrade.state.as_str()));
        upgrade.state = UpgradeState::Failed;
    }
    journal.note_launcher(upgrade);
}

/// Brings the agent's upgrade to a state that the launcher knows how to go on from: ended, or on
/// probation. What is running is compared with what was meant before anything is believed.
fn recover_agent(workdir: &WorkDir, journal: &mut Journal) {
    let Some(agent) = journal.agent().cloned() else {
        return;
    };
    if let Some(reason) = &agent.rolling_back {
        rollback::roll_back(workdir, journal, reason);
        return;
    }
    let state = agent.upgrade.state;
    if state.is_final() {
        return;
    }
    if state == UpgradeState::HandedOver {
        hand_over::end_leftovers(workdir, &agent.folder);
    }
    let is_current = releases::current_name(workdir).as_deref() == Some(agent.folder.as_str());
    if is_current {
        info!(
            release = agent.folder,
            state = state.as_str(),
            "going on with the probation of a new agent"
        );
        journal.note_agent(|agent| agent.upgrade.state = UpgradeState::Probation);
    } else {
        let reason = format!("interrupted while {}", state.as_str());
        warn!(release = agent.folder, reason, "an upgrade was interrupted");
        journal.end_agent(UpgradeState::Failed, Some(reason));
    }
}
