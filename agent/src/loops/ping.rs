//! The ping loop: the agent lives, and this is what it is doing.

use std::time::Duration;

use journeyman_host::memory;
use journeyman_protocol::{launcher::Contact, remoting::AgentInstruction};
use tokio::time::{Instant, sleep};

use super::instruction::InstructionSlot;
use crate::{
    job::folder::JobFolder,
    lifecycle::{Event, Lifecycle, State},
    remoting::Session,
    settings::Settings,
};

/// A wait is told in whole seconds.
const SHORTEST_HOLD: Duration = Duration::from_secs(1);
/// A job that has ended by then needs no ping of its own.
const YOUNG: Duration = Duration::from_secs(1);

/// Pings for ever. GoCD: every error is only logged; the next ping is as good.
///
/// While a job runs, our own server holds the ping until there is an instruction, so that a cancel
/// arrives at once. The first such ping goes a second after the job has begun.
pub async fn ping(
    session: &Session,
    lifecycle: &Lifecycle,
    settings: &Settings,
    instructions: &InstructionSlot,
) {
    let mut failures: u32 = 0;
    sleep(settings.ping_delay).await;
    loop {
        let begun = Instant::now();
        let before = lifecycle.state();
        let held = ping_once(session, lifecycle, settings, instructions, &mut failures).await;
        let pause = match held {
            Held::Yes => settings.ping_interval.saturating_sub(begun.elapsed()),
            Held::No => settings.ping_interval,
        };
        let another_job = |now: &State| now.run().is_some() && folder(now) != folder(&before);
        tokio::select! {
            () = sleep(pause) => {}
            () = comes(lifecycle, another_job), if holds(session, settings) => sleep(YOUNG).await,
        }
    }
}

/// Whether the server holds pings.
fn holds(session: &Session, settings: &Settings) -> bool {
    session.remoting().is_journeyman() && settings.ping_interval >= SHORTEST_HOLD
}

/// Which job runs.
fn folder(state: &State) -> Option<&JobFolder> {
    state.run().map(|run| &run.folder)
}

/// Returns when the agent is in such a state.
async fn comes(lifecycle: &Lifecycle, is_such: impl FnMut(&State) -> bool) {
    drop(lifecycle.watch().wait_for(is_such).await);
}

/// Whether the server was asked to hold a ping, and answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Yes,
    No,
}

async fn ping_once(
    session: &Session,
    lifecycle: &Lifecycle,
    settings: &Settings,
    instructions: &InstructionSlot,
    failures: &mut u32,
) -> Held {
    let state = lifecycle.state();
    let (Some(token), Some(_)) = (session.token(), session.cookie()) else {
        return Held::No;
    };
    if !state.may_ping() {
        return Held::No;
    }
    let remoting = session.remoting();
    let hold =
        (state.run().is_some() && holds(session, settings)).then_some(settings.ping_interval);
    let result = tokio::select! {
        result = remoting.ping(&token, session.runtime_info(&state), hold) => result,
        // Whatever it would bring is about a job that is over.
        () = comes(lifecycle, |now| folder(now) != folder(&state)), if hold.is_some() => {
            return Held::No;
        }
    };
    let held = match (&result, hold) {
        (Ok(_), Some(_)) => Held::Yes,
        _ => Held::No,
    };
    let secure_address_is_silent = session.note(&result);
    match result {
        Ok(instruction) => {
            *failures = 0;
            session.health().pinged(Instant::now());
            session.say(Contact::Pinged);
            if state.run().is_some() {
                session.say(Contact::Working);
            } else {
                memory::give_back();
            }
            // An instruction names no job: it is about the one that the ping named.
            if let (Some(run), true) = (state.run(), instruction != AgentInstruction::None) {
                instructions.put(run.folder.clone(), instruction);
            }
        }
        Err(error) if error.is_unregistered() => {
            tracing::warn!(%error, "The server does not know this agent any more");
            lifecycle.apply(Event::RegistrationLost);
        }
        Err(error) if error.is_cookie_rejected() => {
            tracing::warn!(%error, "The server rejected this agent's cookie");
            lifecycle.apply(Event::CookieRejected);
        }
        Err(error) => {
            *failures += 1;
            // The first failures and then ever fewer: an outage must not fill the log.
            if failures.is_power_of_two() {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    failures,
                    "Ping failed"
                );
            }
            if secure_address_is_silent {
                lifecycle.apply(Event::RegistrationLost);
            }
        }
    }
    held
}
