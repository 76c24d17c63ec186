//! What runs on an agent's machine, and how far its upgrade has come, as the pages show it.

use std::collections::HashSet;

use journeyman_protocol::release::{Build, UpgradeState};

use super::when;
use crate::releases::progress::{self, MachineView, release_of};

/// The two cells of a machine: what it runs, and its upgrade.
pub(super) struct Machine {
    pub(super) builds: Vec<Named>,
    pub(super) bootstrapper: Option<String>,
    pub(super) newer_bootstrapper: Option<String>,
    pub(super) upgrade: Option<Upgrade>,
    pub(super) bad: Vec<Bad>,
    pub(super) set_aside: Vec<String>,
    /// When it said so.
    pub(super) reported: String,
}

/// A build, with a link where the server has its release.
pub(super) struct Named {
    pub(super) label: &'static str,
    pub(super) name: String,
    pub(super) page: Option<String>,
}

pub(super) struct Upgrade {
    pub(super) state: &'static str,
    pub(super) tone: &'static str,
    pub(super) to: Named,
    pub(super) time: Option<String>,
    pub(super) reason: Option<String>,
}

pub(super) struct Bad {
    pub(super) build: Named,
    /// Nothing where the upgrade says the same.
    pub(super) reason: Option<String>,
}

/// `releases` are the ids of those that have a page.
pub(super) fn machine(view: MachineView, releases: &HashSet<String>) -> Machine {
    let named = |label, build: &Build| {
        let release = release_of(build);
        Named {
            label,
            name: build.to_string(),
            page: releases
                .contains(&release)
                .then(|| format!("/go/releases/{release}")),
        }
    };
    let version = |build: &Option<Build>| build.as_ref().map(release_of);
    let launcher = view
        .launcher
        .as_ref()
        .filter(|_| version(&view.launcher) != version(&view.agent));
    let builds = [
        ("", view.agent.as_ref()),
        ("launcher", launcher),
        ("before", view.previous.as_ref()),
    ];
    let told = |reason: &str| {
        let upgrade = view.progress.as_ref();
        upgrade.is_some_and(|upgrade| upgrade.reason.as_deref() == Some(reason))
    };
    let bad = view.bad.iter().map(|bad| Bad {
        build: named(bad.component.as_str(), &bad.build),
        reason: (!told(&bad.reason)).then(|| bad.reason.clone()),
    });
    Machine {
        builds: builds
            .into_iter()
            .filter_map(|(label, build)| Some(named(label, build?)))
            .collect(),
        bad: bad.collect(),
        upgrade: view.progress.as_ref().map(|upgrade| Upgrade {
            state: upgrade.state.as_str(),
            tone: tone(upgrade.state.as_str()),
            to: named(upgrade.component.as_str(), &upgrade.to),
            time: time(upgrade),
            reason: upgrade.reason.clone(),
        }),
        bootstrapper: view.bootstrapper,
        newer_bootstrapper: view.newer_bootstrapper,
        set_aside: view.set_aside,
        reported: when(view.reported_at),
    }
}

fn time(upgrade: &progress::Progress) -> Option<String> {
    let word = match upgrade.state {
        UpgradeState::Scheduled => "for",
        _ => "since",
    };
    upgrade.at.map(|at| format!("{word} {}", when(at)))
}

/// The colour of a state of an upgrade, by its name.
pub(super) fn tone(state: &str) -> &'static str {
    match state {
        "done" => "good",
        "failed" | "rolled back" => "bad",
        "requested" | "scheduled" => "quiet",
        _ => "busy",
    }
}
