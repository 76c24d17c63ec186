//! Upgrades and what can go wrong with them, with real processes.

mod jobs;
mod kills;
mod launcher;
mod order;
mod packages;
mod probation;
mod state;
#[cfg(target_arch = "x86_64")]
mod sweep;

use std::fs;

use journeyman_protocol::release::{MachineReport, RELEASE_PATH};
use journeyman_tests::{
    chain::Chain,
    gate::{Gate, Seen},
    package::{Package, sha256},
    patience::{wait_for, wait_until},
    processes::Role,
    scene::Scene,
    server::Server,
    shelf::Shelf,
};
use pretty_assertions::assert_eq;
use serde_json::Value;

/// An agent that runs an old release, and the server it hears of new ones from.
pub(crate) struct Machine<'a> {
    pub(crate) chain: Chain<'a>,
    pub(crate) server: Server<'a>,
    /// In front of the server, for all that the machine says to it.
    pub(crate) gate: Gate,
    pub(crate) shelf: Shelf,
    pub(crate) uuid: String,
}

impl<'a> Machine<'a> {
    /// Runs build 1.
    pub(crate) fn running(scene: &'a Scene) -> Self {
        Self::running_this(scene, &Package::agent(1), |chain| chain)
    }

    /// Runs this agent, with a chain that `prepare` may change before it starts.
    pub(crate) fn running_this(
        scene: &'a Scene,
        agent: &Package,
        prepare: impl FnOnce(Chain<'a>) -> Chain<'a>,
    ) -> Self {
        let shelf = Shelf::new(scene, "releases").with_launcher_of_this_run();
        shelf.put(agent);
        let server = Server::start_with(scene, "server", &["--releases", shelf.folder()]);
        let gate = Gate::before(&server.http_url);
        let chain = Chain::install(scene, "agent", &gate.url)
            .with_key("")
            .with_quick_upgrades();
        let chain = prepare(chain).started();
        let machine = Self {
            uuid: chain.uuid(),
            chain,
            server,
            gate,
            shelf,
        };
        machine.wait_for_state(agent, "done");
        machine.chain.wait_until_said("CookieReceived");
        machine.assert_runs(agent);
        machine
    }

    pub(crate) fn wait_until_idle(&self) {
        self.server
            .api()
            .wait_for_agent(&self.uuid, "Enabled", "Idle");
    }

    /// The release that `current` leads to.
    pub(crate) fn current(&self) -> String {
        let link = fs::read_link(self.chain.folder().join("current")).unwrap_or_default();
        let name = link.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Installed releases, sorted.
    pub(crate) fn installed(&self) -> Vec<String> {
        let entries = fs::read_dir(self.chain.folder().join("releases"));
        let mut names: Vec<String> = entries
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// All that the machine has said of itself to the server, oldest first.
    pub(crate) fn reports(&self) -> Vec<MachineReport> {
        let seen = self.gate.seen();
        let reports = seen.iter().filter(|seen| is_report(seen));
        reports
            .filter_map(|seen| serde_json::from_str(&seen.body).ok())
            .collect()
    }

    /// Offers a package with the launcher that runs, as an administrator does.
    pub(crate) fn add_and_offer(&self, package: &Package, options: &[&str]) {
        let path = self.server.data().with_extension(package.name());
        fs::write(&path, package.bytes()).unwrap();
        let launcher = Package::launcher(package.manifest.build)
            .with_version(&package.manifest.version)
            .with_program(fs::read(self.chain.folder().join("journeyman-launcher")).unwrap());
        let launcher_path = self.server.data().with_extension(launcher.name());
        fs::write(&launcher_path, launcher.bytes()).unwrap();
        self.server.must_cli(&[
            "releases",
            "add",
            path.to_str().unwrap(),
            launcher_path.to_str().unwrap(),
        ]);
        let id = format!("{}-{}", package.manifest.version, package.manifest.build);
        let command = ["releases", "offer", &id];
        self.server.must_cli(&[&command, options].concat());
    }

    /// Waits until the server was told that the last upgrade, which is to this package, has come
    /// to this state (`done`, `rolledBack`, ...). Returns the report.
    pub(crate) fn wait_for_state(&self, package: &Package, state: &str) -> MachineReport {
        let sha256 = sha256(&package.bytes());
        wait_for(&format!("the upgrade is {state}"), || {
            let report = self.reports().pop()?;
            let upgrade = report.upgrade.as_ref()?;
            let is_it = upgrade.to.sha256 == sha256 && state_name(&report) == state;
            is_it.then_some(report)
        })
    }

    /// Waits until the machine has asked the server so many times from now on.
    pub(crate) fn wait_for_questions(&self, count: usize) {
        let before = self.reports().len();
        wait_until("the machine has asked again", || {
            self.reports().len() >= before + count
        });
    }

    /// The machine's own record of its last upgrades.
    pub(crate) fn record(&self) -> Value {
        let path = self.chain.folder().join("releases/upgrade.json");
        let bytes = fs::read(path).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// One process of each kind, registered as ever, on this release.
    pub(crate) fn assert_runs(&self, package: &Package) {
        self.wait_until_idle();
        assert_eq!(self.current(), package.folder_name());
        assert_eq!(self.chain.uuid(), self.uuid);
        wait_until("the chain is whole", || {
            [Role::Bootstrapper, Role::Launcher, Role::Agent]
                .iter()
                .all(|role| self.chain.processes(*role).len() == 1)
        });
        assert_eq!(self.server.api().agents().len(), 1);
    }

    /// That the release failed here: it is gone back from, marked bad with a reason that has these
    /// words, and never tried again. Returns the report that says so.
    pub(crate) fn assert_gone_back(
        &self,
        from: &Package,
        to: &Package,
        why: &str,
    ) -> MachineReport {
        let report = self.wait_for_state(from, "rolledBack");
        let reason = report.upgrade.as_ref().unwrap().reason.clone().unwrap();
        assert!(reason.contains(why), "{reason}");
        assert_eq!(report.bad.len(), 1, "{report:?}");
        assert_eq!(report.bad[0].build.build, from.manifest.build);
        assert!(report.bad[0].reason.contains(why), "{report:?}");
        assert_eq!(
            report.agent.as_ref().map(|build| build.build),
            Some(to.manifest.build)
        );
        self.assert_not_tried_again();
        self.assert_runs(to);
        let known = self.server.api().agent(&self.uuid).unwrap();
        let told = &known["journeyman"]["upgrade"];
        assert_eq!(told["state"], "rolled back", "{known}");
        assert!(told["reason"].as_str().unwrap().contains(why), "{known}");
        report
    }

    /// That nothing of the last upgrade happens again.
    pub(crate) fn assert_not_tried_again(&self) {
        let record = self.record();
        let agent = self.chain.pid(Role::Agent);
        self.wait_for_questions(3);
        assert_eq!(self.record(), record);
        assert_eq!(self.chain.pid(Role::Agent), agent);
    }
}

pub(crate) fn is_report(seen: &Seen) -> bool {
    seen.path.ends_with(RELEASE_PATH)
}

pub(crate) fn is_package(path: &str) -> bool {
    path.contains("/admin/journeyman/packages/")
}

pub(crate) fn state_name(report: &MachineReport) -> String {
    let state = report.upgrade.as_ref().map(|upgrade| upgrade.state);
    let name = serde_json::to_value(state).unwrap();
    name.as_str().unwrap_or_default().to_owned()
}
