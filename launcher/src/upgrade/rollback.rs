//! Going back to the release before.

use journeyman_host::workdir::WorkDir;
use journeyman_protocol::release::{BadBuild, Component, UpgradeState};
use tracing::{error, warn};

use super::journal::Journal;
use crate::releases;

/// Goes back from the agent on probation, if there is something to go back to. Can be called again
/// after a death at any instant. Returns whether another release is current now.
pub(crate) fn roll_back(workdir: &WorkDir, journal: &mut Journal, reason: &str) -> bool {
    let Some(upgrade) = journal.agent().cloned() else {
        return false;
    };
    let Some(previous) = upgrade
        .from_folder
        .as_deref()
        .and_then(|name| releases::find(workdir, name))
    else {
        error!(
            release = upgrade.folder,
            reason, "the new agent failed its probation, and there is no release to go back to"
        );
        let reason = format!("{reason}; there is no release to go back to");
        journal.end_agent(UpgradeState::Failed, Some(reason));
        return false;
    };
    if !previous.is_intact() {
        error!(
            release = upgrade.folder,
            previous = previous.name,
            reason,
            "the new agent failed its probation, and the release before is damaged"
        );
        let reason = format!(
            "{reason}; the release before, {}, is damaged",
            previous.name
        );
        journal.end_agent(UpgradeState::Failed, Some(reason));
        return false;
    }
    warn!(
        release = upgrade.folder,
        previous = previous.name,
        reason,
        "going back to the release before"
    );
    journal.note_agent(|agent| agent.rolling_back = Some(reason.to_owned()));
    journal.mark_bad(BadBuild {
        build: upgrade.upgrade.to,
        component: Component::Agent,
        reason: reason.to_owned(),
    });
    if let Err(error) = releases::switch(workdir, &previous.name) {
        // The journal says what is to be done: the next launcher tries again.
        error!(%error, "cannot go back to the release before");
        return false;
    }
    journal.end_agent(UpgradeState::RolledBack, Some(reason.to_owned()));
    true
}
