//! What a machine should run, as an answer to what it says of itself.

use journeyman_protocol::release::{
    Answer, Build, Component, ComponentRelease, MachineReport, Release, UpgradeState,
};
use sqlx::SqliteConnection;

use super::{
    machines,
    offers::{self, EndKind, Offer},
    rollout,
    store::Package,
};
use crate::{
    App,
    agents::{Agent, ConfigState},
    database::DatabaseError,
};

/// An offer under way with its packages.
#[derive(Clone, Debug)]
pub struct Offered {
    pub offer: Offer,
    pub packages: Vec<Package>,
}

/// What the offers say to one machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice<'a> {
    /// The newest one whose time has come.
    pub now: Option<&'a Offered>,
    /// A newer one whose time comes then, in milliseconds since the epoch.
    pub later: Option<(&'a Offered, i64)>,
}

/// What an offer means for a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It runs it.
    UpToDate(Release),
    /// It should run it.
    Take(Release),
    /// It has failed there.
    Bad,
    /// It is older than what runs, and nobody has asked for that.
    Older,
    /// It is not for such machines.
    OtherPlatform,
}

/// Answers a machine. What an agent's machine says is kept, and counts for the offers that it heard
/// of; a machine that is not registered, or of which nobody knows who it is, hears only what is
/// offered to all.
///
/// # Errors
///
/// The database could not be used; nothing was kept then.
pub async fn answer(
    app: &App,
    agent: Option<&Agent>,
    report: &MachineReport,
) -> Result<Answer, DatabaseError> {
    let now = app.now_ms();
    let Some(agent) = agent else {
        let mut connection = app.database.readers().acquire().await?;
        let all = offered(&mut connection).await?;
        let choice = choose(&all, None, &report.platform, now);
        let (release, _) = decide(&mut connection, choice.now, report).await?;
        return Ok(Answer { release });
    };
    let mut write = app.database.write().await?;
    let mut changed = machines::keep(&mut write, &agent.uuid, report, now).await?;
    let mut all = offered(&mut write).await?;
    let stopped = count(&mut write, &agent.uuid, report, &mut all, now).await?;
    let choice = choose(&all, Some(agent), &report.platform, now);
    let (release, to_do) = decide(&mut write, choice.now, report).await?;
    if let (true, Some(chosen)) = (to_do, choice.now) {
        changed |= request(&mut write, &agent.uuid, &chosen.offer, now).await?;
    }
    write.commit().await?;
    for (offer, reason) in &stopped {
        let Offer { id, release, .. } = offer;
        tracing::warn!(
            release,
            offer = id,
            reason,
            "a release is no longer offered"
        );
    }
    if changed || !stopped.is_empty() {
        app.state_changed.raise();
    }
    Ok(Answer { release })
}

/// The offers under way, the newest first.
///
/// # Errors
///
/// The database could not be read.
pub async fn offered(connection: &mut SqliteConnection) -> Result<Vec<Offered>, DatabaseError> {
    let mut all = Vec::new();
    for offer in offers::active(&mut *connection).await? {
        let packages = offers::packages(&mut *connection, &offer).await?;
        all.push(Offered { offer, packages });
    }
    Ok(all)
}

/// Which offer counts for a machine: the newest that is for it and has its packages.
pub fn choose<'a>(
    all: &'a [Offered],
    agent: Option<&Agent>,
    platform: &str,
    now: i64,
) -> Choice<'a> {
    let mut choice = Choice::default();
    let known = agent.filter(|agent| agent.config_state != ConfigState::Pending);
    for offered in all {
        let offer = &offered.offer;
        let is_for = match known {
            Some(agent) => offer.target.is_for(agent, &offer.release),
            None => offer.target.is_for_strangers(),
        };
        if !is_for || !offers::is_complete(&offered.packages, platform) {
            continue;
        }
        let at = match agent {
            Some(agent) => {
                rollout::not_before(offer.id, &agent.uuid, offer.started_at, offer.duration_ms)
            }
            None => offer.started_at.saturating_add(offer.duration_ms),
        };
        if at <= now {
            choice.now = Some(offered);
            return choice;
        }
        choice.later = choice.later.or(Some((offered, at)));
    }
    choice
}

/// What an offer means for a machine.
///
/// # Errors
///
/// The database could not be read.
pub async fn judge(
    connection: &mut SqliteConnection,
    offered: &Offered,
    report: &MachineReport,
) -> Result<Verdict, DatabaseError> {
    let Some(mut release) = offered.release(&report.platform) else {
        return Ok(Verdict::OtherPlatform);
    };
    let parts = [
        (release.launcher.build(), report.launcher.as_ref()),
        (release.agent.build(), report.agent.as_ref()),
    ];
    let differs = |(build, running): &(Build, Option<&Build>)| {
        running.is_none_or(|running| !is_same(running, build))
    };
    let older = |(build, running): &(Build, Option<&Build>)| {
        running.is_some_and(|running| build.build < running.build)
    };
    if release.downgrade {
        // What came later was not there to be replaced when this offer was made; and to withdraw
        // what came later takes nothing back.
        let newer = parts.iter().filter(|part| older(part));
        for running in newer.filter_map(|(_, running)| *running) {
            let later = !running.sha256.is_empty()
                && offers::was_offered_later(&mut *connection, offered.offer.id, &running.sha256)
                    .await?;
            release.downgrade &= !later;
        }
    }
    let verdict = if !parts.iter().any(differs) {
        Verdict::UpToDate(release)
    } else if offered.is_bad(report) {
        Verdict::Bad
    } else if parts
        .iter()
        .any(|part| differs(part) && (release.downgrade || !older(part)))
    {
        Verdict::Take(release)
    } else {
        Verdict::Older
    };
    Ok(verdict)
}

/// Whether two builds are the same, as far as is known.
pub fn is_same(one: &Build, other: &Build) -> bool {
    if one.sha256.is_empty() || other.sha256.is_empty() {
        return one.build == other.build && one.version == other.version;
    }
    one.sha256 == other.sha256
}

/// What to answer, and whether there is something to do for the machine.
async fn decide(
    connection: &mut SqliteConnection,
    chosen: Option<&Offered>,
    report: &MachineReport,
) -> Result<(Option<Release>, bool), DatabaseError> {
    let Some(offered) = chosen else {
        return Ok((None, false));
    };
    Ok(match judge(connection, offered, report).await? {
        Verdict::UpToDate(release) => (Some(release), false),
        Verdict::Take(release) => (Some(release), true),
        Verdict::Bad | Verdict::Older | Verdict::OtherPlatform => (None, false),
    })
}

/// Writes down that an offer was answered to a machine. Answers whether that is new.
async fn request(
    connection: &mut SqliteConnection,
    agent: &str,
    offer: &Offer,
    now: i64,
) -> Result<bool, DatabaseError> {
    let done = sqlx::query(
        "INSERT INTO offer_machines (offer_id, agent_uuid, requested_at) VALUES ($1, $2, $3) \
         ON CONFLICT DO NOTHING",
    )
    .bind(offer.id)
    .bind(agent)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Counts what a machine says for the offers that it heard of, and ends those of which too many
/// have failed. Answers these, with the reason.
async fn count(
    connection: &mut SqliteConnection,
    agent: &str,
    report: &MachineReport,
    all: &mut Vec<Offered>,
    now: i64,
) -> Result<Vec<(Offer, String)>, DatabaseError> {
    let rows: Vec<(i64, Option<String>)> = sqlx::query_as(
        "SELECT offer_id, outcome FROM offer_machines JOIN offers ON offers.id = offer_id \
         WHERE agent_uuid = $1 AND (outcome IS NULL OR ended_at IS NULL)",
    )
    .bind(agent)
    .fetch_all(&mut *connection)
    .await?;
    let mut stopped = Vec::new();
    for (id, before) in rows {
        let under_way = all.iter().position(|one| one.offer.id == id);
        let offered = match under_way {
            Some(index) => all[index].clone(),
            None => {
                let Some(offer) = offers::find(&mut *connection, id).await? else {
                    continue;
                };
                let packages = offers::packages(&mut *connection, &offer).await?;
                Offered { offer, packages }
            }
        };
        let Some(outcome) = offered.outcome(report) else {
            continue;
        };
        if before.as_deref() == Some(outcome) {
            continue;
        }
        sqlx::query(
            "UPDATE offer_machines SET outcome = $3, finished_at = $4 \
             WHERE offer_id = $1 AND agent_uuid = $2",
        )
        .bind(id)
        .bind(agent)
        .bind(outcome)
        .bind(now)
        .execute(&mut *connection)
        .await?;
        if let Some(index) = under_way
            && let Some(reason) = offers::must_stop(&mut *connection, &offered).await?
        {
            offers::end(&mut *connection, id, EndKind::Stopped, &reason, now).await?;
            all.remove(index);
            stopped.push((offered.offer, reason));
        }
    }
    Ok(stopped)
}

// === impl Offered ===

impl Offered {
    /// What a machine of this platform is offered; nothing if there is not all it needs.
    pub fn release(&self, platform: &str) -> Option<Release> {
        Some(Release {
            launcher: self.component(Component::Launcher, platform)?,
            agent: self.component(Component::Agent, platform)?,
            bootstrapper: self.component(Component::Bootstrapper, platform),
            downgrade: self.offer.downgrade,
        })
    }

    fn component(&self, component: Component, platform: &str) -> Option<ComponentRelease> {
        let mut packages = self.packages.iter();
        packages
            .find(|package| package.is(component, platform))
            .map(Package::offered)
    }

    /// Whether one of its packages has failed on a machine.
    pub fn is_bad(&self, report: &MachineReport) -> bool {
        report
            .bad
            .iter()
            .any(|bad| self.has(bad.component, &bad.build, &report.platform))
    }

    /// Whether this build is one of its packages.
    pub fn has(&self, component: Component, build: &Build, platform: &str) -> bool {
        self.packages
            .iter()
            .any(|package| package.is(component, platform) && is_same(build, &package.build()))
    }

    /// What has come of it on a machine, if that is decided. A download that failed decides
    /// nothing: it is tried again.
    fn outcome(&self, report: &MachineReport) -> Option<&'static str> {
        let upgrade = report.upgrade.as_ref();
        let under_way = upgrade.is_some_and(|upgrade| !upgrade.state.is_final());
        let runs = |component, running: &Option<Build>| {
            let running = running.as_ref();
            running.is_some_and(|running| self.has(component, running, &report.platform))
        };
        if runs(Component::Launcher, &report.launcher)
            && runs(Component::Agent, &report.agent)
            && !under_way
        {
            return Some("done");
        }
        let rolled_back = upgrade.is_some_and(|upgrade| {
            upgrade.state == UpgradeState::RolledBack
                && self.has(upgrade.component, &upgrade.to, &report.platform)
        });
        (rolled_back || self.is_bad(report)).then_some("failed")
    }
}
