//! The agent's life: start it, listen to it, and meanwhile take what the server offers.

use std::{
    io,
    pin::Pin,
    process::ExitStatus,
    time::{Duration, Instant},
};

use journeyman_protocol::{
    launcher::Contact,
    release::{Build, Component, UpgradeState},
};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{error, info, warn};

use crate::{
    agent::{Agent, Happened},
    exit_code,
    machine::Machine,
    polling::Polling,
    releases::{self, Installed},
    stop::{Stop, Stops},
    take::Taken,
    upgrade::{
        probation::{Probation, Verdict},
        recovery, rollback,
    },
};

/// How often the time on probation is counted.
const TICK: Duration = Duration::from_millis(250);
/// More time than this between two ticks did not run: the machine slept, or this process was stopped.
const LONGEST_TICK: Duration = Duration::from_secs(2);
/// Time on probation that a dying launcher may lose.
const WRITTEN_EVERY: Duration = Duration::from_secs(5);
/// How often an agent on probation may be started before it counts as what kills its machine.
const STARTS: u32 = 20;
/// An agent that ends this soon may be damaged.
const YOUNG: Duration = Duration::from_secs(10);
/// A launcher that lives this long has proved itself. The bootstrapper's own limit.
const WELL: Duration = Duration::from_secs(60);
/// Who stops an agent together with its launcher does not do so in the same instant.
const STOPPED_TOGETHER: Duration = Duration::from_millis(500);

/// How the watch over one agent ended.
enum Outcome {
    /// The agent ended by itself.
    Ended(io::Result<ExitStatus>),
    /// The agent ended, as somebody had asked.
    Stopped(io::Result<ExitStatus>),
    /// The bootstrapper died.
    ParentDied,
    /// Another agent is current now.
    Replaced,
    /// This launcher was replaced.
    OutOfDate,
    /// The agent failed its probation.
    Failed(String),
}

/// Runs agents until the launcher has to end; returns its exit code.
pub(crate) async fn run(machine: &Machine<'_>, stops: &mut Stops) -> u8 {
    recovery::recover(machine.workdir, &mut machine.journal.borrow_mut());
    machine.clean_up();
    let polling = Polling::new(machine);
    // They belong to the agent's start, as the arguments of a JVM.
    let properties = tokio::select! {
        properties = polling.ask_first() => properties,
        stop = stops.next() => return before_start(stop),
    };
    let launched = Instant::now();
    loop {
        let Some(installed) = releases::current(machine.workdir) else {
            if make_another_current(machine) {
                continue;
            }
            let taken = tokio::select! {
                taken = polling.install() => taken,
                stop = stops.next() => return before_start(stop),
            };
            if taken == Taken::Launcher {
                return exit_code::OUT_OF_DATE;
            }
            continue;
        };
        let probation = match on_probation(machine, &installed) {
            Ok(probation) => probation,
            Err(reason) if go_back(machine, &reason) => continue,
            // After a pause it may be possible.
            Err(_) => return exit_code::AGAIN,
        };
        let version = machine.bootstrapper_version;
        let started = Agent::start(
            machine.workdir,
            &installed,
            machine.settings,
            version,
            &properties,
        );
        let mut agent = match started {
            Ok(agent) => agent,
            Err(error) => {
                error!(folder = %installed.folder.display(), %error, "cannot start the agent");
                if probation.is_some()
                    && go_back(machine, &format!("it cannot be started: {error}"))
                    || replace_damaged(machine, &installed)
                {
                    continue;
                }
                return exit_code::AGAIN;
            }
        };
        let began = Instant::now();
        let was_on_probation = probation.is_some();
        let mut watch = Watch {
            machine,
            polling: &polling,
            agent: &mut agent,
            probation,
            launched,
        };
        let outcome = watch.until_the_end(stops).await;
        let on_probation = was_on_probation && watch.probation.is_some();
        match outcome {
            Outcome::Stopped(status) => return code(status),
            Outcome::ParentDied => {
                warn!("the bootstrapper died; ending, so that a new one can take over");
                return exit_code::AGAIN;
            }
            Outcome::OutOfDate => {
                agent.leave().await;
                return exit_code::OUT_OF_DATE;
            }
            Outcome::Replaced => agent.leave().await,
            Outcome::Failed(reason) => {
                agent.leave().await;
                if !go_back(machine, &reason) {
                    return exit_code::AGAIN;
                }
            }
            Outcome::Ended(status) => {
                let reason = match &status {
                    Ok(status) => format!("the agent ended by itself: {status}"),
                    Err(error) => format!("cannot wait for the agent: {error}"),
                };
                warn!(release = installed.name, reason, "the agent ended");
                let is_replaced = if on_probation {
                    go_back(machine, &reason)
                } else {
                    began.elapsed() < YOUNG && replace_damaged(machine, &installed)
                };
                if !is_replaced {
                    return match status.ok().and_then(|status| status.code()) {
                        // The operator's arguments: starting again is hopeless.
                        Some(code) if code == i32::from(exit_code::USAGE) => exit_code::USAGE,
                        _ => exit_code::AGAIN,
                    };
                }
            }
        }
        // The server hears at once what has become of it.
        polling.soon();
    }
}

const fn before_start(stop: Stop) -> u8 {
    match stop {
        Stop::Asked => exit_code::STOPPED,
        Stop::ParentDied => exit_code::AGAIN,
    }
}

fn code(ended: io::Result<ExitStatus>) -> u8 {
    match ended {
        Ok(status) => {
            info!(%status, "the agent ended");
            status
                .code()
                .and_then(|code| u8::try_from(code).ok())
                .unwrap_or(exit_code::AGAIN)
        }
        Err(error) => {
            warn!(%error, "cannot wait for the agent");
            exit_code::AGAIN
        }
    }
}

/// The probation of the agent that is about to be started, if it is on one.
///
/// # Errors
/// It was started so often that it must have something to do with its launcher's deaths.
fn on_probation(machine: &Machine<'_>, installed: &Installed) -> Result<Option<Probation>, String> {
    let mut journal = machine.journal.borrow_mut();
    let Some(upgrade) = journal.agent().cloned() else {
        return Ok(None);
    };
    if upgrade.folder != installed.name || upgrade.upgrade.state.is_final() {
        return Ok(None);
    }
    if upgrade.starts >= STARTS {
        return Err(format!(
            "it was started {STARTS} times without ending its probation"
        ));
    }
    journal.note_agent(|agent| {
        agent.upgrade.state = UpgradeState::Probation;
        agent.starts += 1;
    });
    let ran = upgrade.ran();
    info!(release = installed.name, ?ran, length = ?machine.limits.length, "the agent is on probation");
    Ok(Some(Probation::new(
        machine.limits,
        upgrade.was_registered,
        ran,
    )))
}

/// Goes back from the agent on probation. False when it has to stay.
fn go_back(machine: &Machine<'_>, reason: &str) -> bool {
    rollback::roll_back(machine.workdir, &mut machine.journal.borrow_mut(), reason)
}

/// Whether there is an installed agent after all, where the link leads to none.
fn make_another_current(machine: &Machine<'_>) -> bool {
    let journal = machine.journal.borrow();
    let is_bad = |build: &Build| journal.why_bad(Component::Agent, build).is_some();
    let Some(other) = releases::newest_intact(machine.workdir, is_bad) else {
        return false;
    };
    warn!(
        release = other.name,
        "the link `current` leads to no agent; taking this one"
    );
    match releases::switch(machine.workdir, &other.name) {
        Ok(()) => true,
        Err(error) => {
            error!(%error, "cannot make it the current one");
            false
        }
    }
}

/// Whether there is something else to run after an agent was found damaged: the release before, or
/// a new copy of it.
fn replace_damaged(machine: &Machine<'_>, installed: &Installed) -> bool {
    if installed.is_intact() {
        return false;
    }
    warn!(folder = %installed.folder.display(), "the installed agent is damaged");
    let journal = machine.journal.borrow();
    let previous = journal
        .previous()
        .filter(|name| *name != installed.name)
        .and_then(|name| releases::find(machine.workdir, name))
        .filter(Installed::is_intact);
    let replaced = match &previous {
        Some(previous) => releases::switch(machine.workdir, &previous.name),
        None => releases::remove_folder(&installed.folder),
    };
    match replaced {
        Ok(()) => true,
        Err(error) => {
            error!(%error, "cannot put another agent in its place");
            false
        }
    }
}

/// What a launcher watches while an agent runs.
struct Watch<'a, 'm> {
    machine: &'a Machine<'m>,
    polling: &'a Polling<'a, 'm>,
    agent: &'a mut Agent,
    probation: Option<Probation>,
    launched: Instant,
}

impl Watch<'_, '_> {
    async fn until_the_end(&mut self, stops: &mut Stops) -> Outcome {
        self.polling.set_probation(self.probation.is_some());
        let mut following: Option<Pin<Box<dyn Future<Output = Taken>>>> =
            Some(Box::pin(self.polling.follow()));
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = Instant::now();
        let mut written = Duration::ZERO;
        let mut is_launcher_well = false;
        loop {
            let taken = async {
                match &mut following {
                    Some(following) => following.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                happened = self.agent.next() => match happened {
                    Happened::Said(contact) => self.heard(contact),
                    Happened::Ended(status) => return self.ended(status, stops).await,
                },
                stop = stops.next() => match stop {
                    Stop::ParentDied => return Outcome::ParentDied,
                    Stop::Asked => {
                        // Nothing is begun any more; what is under way is taken up again later.
                        following = None;
                        self.agent.ask_to_stop();
                    }
                },
                taken = taken => return match taken {
                    Taken::Launcher => Outcome::OutOfDate,
                    Taken::Agent | Taken::Nothing => Outcome::Replaced,
                },
                _ = ticks.tick(), if self.probation.is_some() || !is_launcher_well => {
                    if !is_launcher_well && self.launched.elapsed() >= WELL {
                        is_launcher_well = true;
                        self.launcher_is_well();
                    }
                    let time = last.elapsed().min(LONGEST_TICK);
                    last = Instant::now();
                    // One that stops asks for no work, and nobody asks whether the server answers:
                    // its probation goes on when it is started again.
                    if self.agent.is_asked_to_stop() {
                        continue;
                    }
                    if let Some(outcome) = self.count(time, &mut written) {
                        return outcome;
                    }
                }
            }
        }
    }

    fn heard(&mut self, contact: Contact) {
        if let Some(probation) = &mut self.probation {
            probation.heard(contact);
            if contact == Contact::Away {
                // Is it the server's fault or the agent's?
                self.polling.soon();
            }
        }
    }

    /// Counts time on probation.
    fn count(&mut self, time: Duration, written: &mut Duration) -> Option<Outcome> {
        let probation = self.probation.as_mut()?;
        if let Some(answers) = self.polling.take_server_answers() {
            probation.server(answers);
        }
        let verdict = probation.pass(time);
        let ran = probation.ran();
        match verdict {
            Verdict::Open => {
                if ran >= *written + WRITTEN_EVERY {
                    *written = ran;
                    let millis = u64::try_from(ran.as_millis()).unwrap_or(u64::MAX);
                    let mut journal = self.machine.journal.borrow_mut();
                    journal.note_agent(|agent| agent.ran_ms = millis);
                }
                None
            }
            Verdict::Passed => {
                info!(?ran, "the new agent has proved itself");
                self.machine.journal.borrow_mut().agent_is_done();
                self.machine.clean_up();
                self.probation = None;
                self.polling.set_probation(false);
                self.polling.soon();
                None
            }
            Verdict::Failed(reason) => Some(Outcome::Failed(reason)),
        }
    }

    fn launcher_is_well(&self) {
        let mut journal = self.machine.journal.borrow_mut();
        let upgrade = journal.launcher().cloned();
        if let Some(mut upgrade) =
            upgrade.filter(|upgrade| upgrade.state == UpgradeState::Probation)
        {
            upgrade.state = UpgradeState::Done;
            journal.note_launcher(upgrade);
            drop(journal);
            self.polling.soon();
        }
    }

    /// Whether the end was asked for. Who stops a whole service tells the agent as well.
    async fn ended(&self, status: io::Result<ExitStatus>, stops: &mut Stops) -> Outcome {
        if self.agent.is_asked_to_stop() {
            return Outcome::Stopped(status);
        }
        tokio::select! {
            stop = stops.next() => match stop {
                Stop::Asked => Outcome::Stopped(status),
                Stop::ParentDied => Outcome::ParentDied,
            },
            () = sleep(STOPPED_TOGETHER) => Outcome::Ended(status),
        }
    }
}
