//! The ping loop: the agent lives, and this is what it is doing.

use journeyman_host::memory;
use journeyman_protocol::{launcher::Contact, remoting::AgentInstruction};
use tokio::time::{Instant, sleep};

use super::instruction::InstructionSlot;
use crate::{
    lifecycle::{Event, Lifecycle},
    remoting::Session,
    settings::Settings,
};

/// Pings for ever. GoCD: every error is only logged; the next ping is as good.
pub async fn ping(
    session: &Session,
    lifecycle: &Lifecycle,
    settings: &Settings,
    instructions: &InstructionSlot,
) {
    let mut failures: u32 = 0;
    sleep(settings.ping_delay).await;
    loop {
        ping_once(session, lifecycle, instructions, &mut failures).await;
        sleep(settings.ping_interval).await;
    }
}

async fn ping_once(
    session: &Session,
    lifecycle: &Lifecycle,
    instructions: &InstructionSlot,
    failures: &mut u32,
) {
    let state = lifecycle.state();
    let (Some(token), Some(_)) = (session.token(), session.cookie()) else {
        return;
    };
    if !state.may_ping() {
        return;
    }
    let result = session
        .remoting()
        .ping(&token, session.runtime_info(&state))
        .await;
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
}
