//! Releases as people see them: what runs on each machine, and how far each release has come.

use std::collections::{BTreeMap, HashMap};

use journeyman_protocol::release::{BadBuild, Build, Component, Release as Wire, UpgradeState};
use sqlx::SqliteConnection;

use super::{
    answer::{self, Offered, Verdict, choose, is_same, judge},
    machines::{self, Machine},
    offers::{self, Offer, Tally},
    rollout::Target,
    store::{self, Package, Release},
};
use crate::{
    agents::{self, Agent, ConfigState},
    database::DatabaseError,
};

/// What runs on an agent's machine, and what will.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineView {
    pub platform: String,
    pub launcher: Option<Build>,
    pub agent: Option<Build>,
    /// The agent it would go back to.
    pub previous: Option<Build>,
    /// Version of the bootstrapper.
    pub bootstrapper: Option<String>,
    /// Version of the bootstrapper that is offered, if it is another one.
    pub newer_bootstrapper: Option<String>,
    /// Nothing on a machine that was never upgraded and need not be.
    pub progress: Option<Progress>,
    /// What failed there and is not tried again.
    pub bad: Vec<BadBuild>,
    /// State files that could not be read and were set aside.
    pub set_aside: Vec<String>,
    /// When it said so, in milliseconds since the epoch.
    pub reported_at: i64,
}

/// How far the last upgrade of a machine has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    pub state: UpgradeState,
    /// Id of the release that it is about.
    pub release: String,
    pub component: Component,
    pub to: Build,
    /// Where and why it failed.
    pub reason: Option<String>,
    /// When the state began, or with [`UpgradeState::Scheduled`] when the machine will be asked;
    /// milliseconds since the epoch.
    pub at: Option<i64>,
}

/// A release with everything about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseView {
    pub release: Release,
    pub packages: Vec<Package>,
    /// The newest first.
    pub offers: Vec<OfferView>,
    /// Agents that run it.
    pub running: usize,
    /// Agents by how far their upgrade to it has come, by [`UpgradeState::as_str`].
    pub states: BTreeMap<&'static str, usize>,
    /// Agents that run it or are on their way to it.
    pub machines: Vec<(Agent, MachineView)>,
}

/// An offer and what has come of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferView {
    pub offer: Offer,
    pub tally: Tally,
}

/// What runs on the machines of all agents that have said so, by the agent's uuid.
///
/// # Errors
///
/// The database could not be read.
pub async fn machines(
    connection: &mut SqliteConnection,
    now: i64,
) -> Result<HashMap<String, MachineView>, DatabaseError> {
    let of_agents = machines_of_agents(connection, now).await?;
    let by_uuid = of_agents
        .into_iter()
        .map(|(agent, machine)| (agent.uuid, machine));
    Ok(by_uuid.collect())
}

/// What runs on the machine of one agent; nothing if it has never said so.
///
/// # Errors
///
/// The database could not be read.
pub async fn machine(
    connection: &mut SqliteConnection,
    agent: &Agent,
    now: i64,
) -> Result<Option<MachineView>, DatabaseError> {
    let Some(machine) = machines::find(&mut *connection, &agent.uuid).await? else {
        return Ok(None);
    };
    let all = answer::offered(&mut *connection).await?;
    let requests = requests(&mut *connection, Some(&agent.uuid)).await?;
    Ok(Some(
        view(connection, &all, &requests, agent, machine, now).await?,
    ))
}

/// All releases, the newest build first.
///
/// # Errors
///
/// The database could not be read.
pub async fn releases(
    connection: &mut SqliteConnection,
    now: i64,
) -> Result<Vec<ReleaseView>, DatabaseError> {
    let machines = machines_of_agents(&mut *connection, now).await?;
    let mut views = Vec::new();
    for release in store::list(&mut *connection).await? {
        views.push(release_view(&mut *connection, release, &machines).await?);
    }
    Ok(views)
}

/// One release.
///
/// # Errors
///
/// The database could not be read.
pub async fn release(
    connection: &mut SqliteConnection,
    id: &str,
    now: i64,
) -> Result<Option<ReleaseView>, DatabaseError> {
    let Some(release) = store::find(&mut *connection, id).await? else {
        return Ok(None);
    };
    let machines = machines_of_agents(&mut *connection, now).await?;
    Ok(Some(release_view(connection, release, &machines).await?))
}

/// What an administrator should know of an offer as things are now: who is left out.
///
/// # Errors
///
/// The database could not be read.
pub async fn left_out(
    connection: &mut SqliteConnection,
    offer: &Offer,
) -> Result<Vec<String>, DatabaseError> {
    let packages = offers::packages(&mut *connection, offer).await?;
    warnings(connection, &offer.release, &offer.target, &packages).await
}

/// The same of an offer of these packages.
pub(super) async fn warnings(
    connection: &mut SqliteConnection,
    release: &str,
    target: &Target,
    packages: &[Package],
) -> Result<Vec<String>, DatabaseError> {
    let agents = agents::list(&mut *connection).await?;
    let mut warnings = Vec::new();
    let is_meant = |agent: &&Agent| {
        agent.config_state != ConfigState::Pending && target.is_for(agent, release)
    };
    let meant: Vec<&Agent> = agents.iter().filter(is_meant).collect();
    match target {
        Target::Environment(name) if meant.is_empty() => {
            warnings.push(format!("no agent is in the environment {name} now"));
        }
        Target::Agents(names) => {
            for name in names {
                let one = Target::Agents(vec![name.clone()]);
                if !agents.iter().any(|agent| one.is_for(agent, release)) {
                    warnings.push(format!("no agent has the uuid or host name {name} now"));
                }
            }
        }
        _ => {}
    }
    let mut lacking: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for machine in machines::list(connection).await? {
        let Some(agent) = meant.iter().find(|agent| agent.uuid == machine.agent_uuid) else {
            continue;
        };
        if !offers::is_complete(packages, &machine.report.platform) {
            lacking
                .entry(machine.report.platform)
                .or_default()
                .push(&agent.hostname);
        }
    }
    for (platform, hosts) in lacking {
        let components = [Component::Launcher, Component::Agent];
        let missing = components
            .into_iter()
            .filter(|component| !packages.iter().any(|one| one.is(*component, &platform)))
            .map(Component::as_str);
        warnings.push(format!(
            "release {release} has no {} for {platform}: {} will keep what they run until you add it",
            missing.collect::<Vec<_>>().join(" and no "),
            hosts.join(", ")
        ));
    }
    Ok(warnings)
}

/// Whether any machine that an offer is for has not finished with it.
pub(super) async fn anybody_left(
    connection: &mut SqliteConnection,
    offered: &Offered,
) -> Result<bool, DatabaseError> {
    let finished: Vec<String> = sqlx::query_scalar(
        "SELECT agent_uuid FROM offer_machines WHERE offer_id = $1 AND outcome IS NOT NULL",
    )
    .bind(offered.offer.id)
    .fetch_all(&mut *connection)
    .await?;
    let agents = agents::list(&mut *connection).await?;
    for machine in machines::list(&mut *connection).await? {
        let agent = agents.iter().find(|agent| agent.uuid == machine.agent_uuid);
        let is_meant = agent.is_some_and(|agent| {
            agent.config_state != ConfigState::Pending
                && offered.offer.target.is_for(agent, &offered.offer.release)
        });
        if !is_meant || finished.contains(&machine.agent_uuid) {
            continue;
        }
        if let Verdict::Take(_) = judge(&mut *connection, offered, &machine.report).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn machines_of_agents(
    connection: &mut SqliteConnection,
    now: i64,
) -> Result<Vec<(Agent, MachineView)>, DatabaseError> {
    let mut reports: HashMap<String, Machine> = machines::list(&mut *connection)
        .await?
        .into_iter()
        .map(|machine| (machine.agent_uuid.clone(), machine))
        .collect();
    let all = answer::offered(&mut *connection).await?;
    let requests = requests(&mut *connection, None).await?;
    let mut views = Vec::new();
    for agent in agents::list(&mut *connection).await? {
        if let Some(machine) = reports.remove(&agent.uuid) {
            let view = view(&mut *connection, &all, &requests, &agent, machine, now).await?;
            views.push((agent, view));
        }
    }
    Ok(views)
}

/// When offers under way were answered to agents.
async fn requests(
    connection: &mut SqliteConnection,
    agent: Option<&str>,
) -> Result<HashMap<(i64, String), i64>, DatabaseError> {
    let rows: Vec<(i64, String, i64)> = sqlx::query_as(
        "SELECT offer_id, agent_uuid, requested_at FROM offer_machines \
         JOIN offers ON offers.id = offer_id \
         WHERE ended_at IS NULL AND ($1 IS NULL OR agent_uuid = $1)",
    )
    .bind(agent)
    .fetch_all(connection)
    .await?;
    let pairs = rows
        .into_iter()
        .map(|(offer, agent, at)| ((offer, agent), at));
    Ok(pairs.collect())
}

async fn view(
    connection: &mut SqliteConnection,
    all: &[Offered],
    requests: &HashMap<(i64, String), i64>,
    agent: &Agent,
    machine: Machine,
    now: i64,
) -> Result<MachineView, DatabaseError> {
    let report = &machine.report;
    let choice = choose(all, Some(agent), &report.platform, now);
    let bootstrapper = choice
        .now
        .and_then(|offered| offered.release(&report.platform))
        .and_then(|release| release.bootstrapper)
        .map(|bootstrapper| bootstrapper.manifest.version);
    let newer_bootstrapper = bootstrapper.filter(|version| {
        let running = report.bootstrapper.as_ref();
        running.is_some_and(|running| running != version)
    });
    let mut progress = reported(&machine);
    let under_way = progress.as_ref().is_some_and(|one| !one.state.is_final());
    if !under_way {
        let asked = match choice.now {
            Some(offered) => match judge(&mut *connection, offered, report).await? {
                Verdict::Take(release) => Some((offered, release)),
                _ => None,
            },
            None => None,
        };
        if let Some((offered, release)) = asked {
            // A try that failed and will be repeated says more than that it will be.
            let tried = progress.as_ref().is_some_and(|one| {
                one.state == UpgradeState::Failed
                    && offered.has(one.component, &one.to, &report.platform)
            });
            let at = requests.get(&(offered.offer.id, agent.uuid.clone()));
            if let (false, Some(at)) = (tried, at) {
                progress = Some(ahead(&release, &machine, UpgradeState::Requested, *at));
            }
        } else if let Some((offered, at)) = choice.later
            && let Verdict::Take(release) = judge(connection, offered, report).await?
        {
            progress = Some(ahead(&release, &machine, UpgradeState::Scheduled, at));
        }
    }
    let report = machine.report;
    Ok(MachineView {
        platform: report.platform,
        launcher: report.launcher,
        agent: report.agent,
        previous: report.previous,
        bootstrapper: report.bootstrapper,
        newer_bootstrapper,
        progress,
        bad: report.bad,
        set_aside: report.set_aside,
        reported_at: machine.reported_at,
    })
}

/// What the machine itself says of its last upgrade.
fn reported(machine: &Machine) -> Option<Progress> {
    let upgrade = machine.report.upgrade.as_ref()?;
    Some(Progress {
        state: upgrade.state,
        release: release_of(&upgrade.to),
        component: upgrade.component,
        to: upgrade.to.clone(),
        reason: upgrade.reason.clone(),
        at: machine.upgrade_changed_at,
    })
}

/// What the server knows of an upgrade that has not begun.
fn ahead(release: &Wire, machine: &Machine, state: UpgradeState, at: i64) -> Progress {
    let agent = release.agent.build();
    let running = machine.report.agent.as_ref();
    let (component, to) = if running.is_some_and(|running| is_same(running, &agent)) {
        (Component::Launcher, release.launcher.build())
    } else {
        (Component::Agent, agent)
    };
    Progress {
        state,
        release: release_of(&to),
        component,
        to,
        reason: None,
        at: Some(at),
    }
}

async fn release_view(
    connection: &mut SqliteConnection,
    release: Release,
    machines: &[(Agent, MachineView)],
) -> Result<ReleaseView, DatabaseError> {
    let packages = store::packages_of(&mut *connection, &release.id).await?;
    let mut offers = Vec::new();
    for offer in offers::of_release(&mut *connection, &release.id).await? {
        let tally = offers::tally(&mut *connection, offer.id).await?;
        offers.push(OfferView { offer, tally });
    }
    let runs = |machine: &MachineView| {
        let agent = machine.agent.as_ref();
        agent.is_some_and(|agent| release_of(agent) == release.id)
    };
    let state = |machine: &MachineView| {
        let progress = machine.progress.as_ref();
        progress
            .filter(|progress| progress.release == release.id)
            .map(|progress| progress.state.as_str())
    };
    let mut states = BTreeMap::new();
    for name in machines.iter().filter_map(|(_, machine)| state(machine)) {
        *states.entry(name).or_default() += 1;
    }
    Ok(ReleaseView {
        running: machines.iter().filter(|(_, machine)| runs(machine)).count(),
        machines: machines
            .iter()
            .filter(|(_, machine)| runs(machine) || state(machine).is_some())
            .cloned()
            .collect(),
        release,
        packages,
        offers,
        states,
    })
}

/// Id of the release that a build belongs to.
pub fn release_of(build: &Build) -> String {
    format!("{}-{}", build.version, build.build)
}

// === impl ReleaseView ===

impl ReleaseView {
    /// Whether it is offered to anybody.
    pub fn is_offered(&self) -> bool {
        self.offers.iter().any(|one| one.offer.end.is_none())
    }

    /// In a word or a line: to whom it is offered, or why to nobody.
    pub fn status(&self) -> String {
        let under_way: Vec<String> = self
            .offers
            .iter()
            .filter(|one| one.offer.end.is_none())
            .map(|one| one.offer.target.to_string())
            .collect();
        if !under_way.is_empty() {
            return format!("offered to {}", under_way.join(" and to "));
        }
        let last = self.offers.first().and_then(|one| one.offer.end.as_ref());
        last.map_or("not offered yet".to_owned(), |end| {
            format!("not offered any more: {}", end.reason)
        })
    }
}
