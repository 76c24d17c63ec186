//! The work loop: asks for work while the agent has none.

use std::{path::Path, time::Duration};

use journeyman_protocol::{
    launcher::Contact,
    work::{self, Work},
};
use tokio::time::{Instant, sleep, timeout};

use super::properties::refresh_properties;
use crate::{
    job::{folder::JobFolder, shortage::is_full_or_read_only},
    lifecycle::{Event, Lifecycle, State},
    remoting::{CallError, Session, WorkAnswer},
    settings::{BackOff, Settings},
};

/// A stopping agent waits this long for the answer to a `get_work` that is on its way: it may be
/// the only copy of a job. A call that the server holds on purpose is not waited for.
const LAST_ANSWER: Duration = Duration::from_secs(5);
/// A held call that came back sooner than this was not held: the next one is paced.
const HELD: Duration = Duration::from_secs(1);

/// What came of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// There is something else to do now.
    Taken,
    /// Our own server had nothing for as long as it was asked to wait.
    NothingAfterHolding,
    /// There is nothing now; the server may be looking.
    Nothing,
    /// The agent is disabled, or the call failed.
    Fruitless,
}

/// Asks for work until the agent stops. Never has two calls under way; asks nothing while a job is
/// not over or the server does not know the agent.
///
/// GoCD: the first call of an idle agent only makes the server look for a job, which a later call
/// gets; so there are two calls, shortly after each other, in each round. Our own server is asked
/// to hold the call instead.
pub async fn ask_for_work(session: &Session, lifecycle: &Lifecycle, settings: &Settings) {
    let mut state = lifecycle.watch();
    let mut back_off = BackOff::new(settings.work_pauses);
    let mut failures = 0;
    let mut room = Room::default();
    // The first answer is not held: a launcher that watches a new agent waits for it.
    let mut was_answered = false;
    loop {
        let waited = state
            .wait_for(|state| state.may_ask_for_work() || state.is_stopping())
            .await
            .map(|state| state.is_stopping());
        if waited.unwrap_or(true) {
            lifecycle.apply(Event::AskingEnded);
            return;
        }
        let holds = was_answered && session.remoting().is_journeyman();
        let hold = holds.then_some(settings.long_poll);
        let mut round = if room.is_there(&session.workdir.jobs()) {
            ask(session, lifecycle, &mut failures, hold).await
        } else {
            Round::Fruitless
        };
        was_answered |= round != Round::Fruitless;
        if round == Round::Nothing && !session.remoting().is_journeyman() {
            sleep(settings.collect_after).await;
            if !lifecycle.state().may_ask_for_work() {
                continue;
            }
            round = ask(session, lifecycle, &mut failures, None).await;
        }
        let pause = match round {
            Round::Taken | Round::NothingAfterHolding => {
                back_off.reset();
                continue;
            }
            // Our own server: the next call is held.
            Round::Nothing if session.remoting().is_journeyman() => continue,
            Round::Nothing | Round::Fruitless => back_off.pause(),
        };
        tokio::select! {
            () = sleep(pause) => {}
            _ = state.wait_for(|state| !state.may_ask_for_work()) => {}
        }
    }
}

/// Whether a job's journal and console could be kept. A job that is taken all the same can only be
/// failed, and the next one after it, until the queue is empty.
#[derive(Default)]
struct Room {
    is_missing: bool,
}

impl Room {
    fn is_there(&mut self, jobs: &Path) -> bool {
        let is_missing = is_full_or_read_only(jobs);
        if is_missing != std::mem::replace(&mut self.is_missing, is_missing) {
            let jobs = jobs.display();
            if is_missing {
                tracing::error!(
                    "The disk under {jobs} is full or read-only: asking for no work until it can be \
                     written. Free space there, or make it writable"
                );
            } else {
                tracing::info!("The disk under {jobs} can be written again: asking for work");
            }
        }
        !is_missing
    }
}

async fn ask(
    session: &Session,
    lifecycle: &Lifecycle,
    failures: &mut u32,
    hold: Option<Duration>,
) -> Round {
    let Some(token) = session.token() else {
        lifecycle.apply(Event::RegistrationLost);
        return Round::Taken;
    };
    let remoting = session.remoting();
    let mut state = lifecycle.watch();
    if hold.is_none() {
        tokio::select! {
            () = refresh_properties(session) => {}
            () = async { drop(state.wait_for(|state| !state.may_ask_for_work()).await) } => {}
        }
        if !lifecycle.state().may_ask_for_work() {
            return Round::Taken;
        }
    }
    let begun = Instant::now();
    let info = session.runtime_info(&lifecycle.state());
    let mut call = std::pin::pin!(remoting.get_work(&token, info, hold));
    let answered = tokio::select! {
        result = &mut call => Some(result),
        // What it gives locks the state, so it must not live on.
        () = async { drop(state.wait_for(State::is_stopping).await) } => None,
    };
    let result = match answered {
        Some(result) => result,
        None => {
            if hold.is_some() {
                return Round::Taken;
            }
            match timeout(LAST_ANSWER, call).await {
                Ok(result) => result,
                Err(_) => return Round::Taken,
            }
        }
    };
    let secure_address_is_silent = session.note(&result);
    match result {
        Ok(answer) => {
            *failures = 0;
            session.say(Contact::Asked);
            match take(lifecycle, answer) {
                Round::Nothing if hold.is_none() => Round::Nothing,
                Round::Nothing if begun.elapsed() >= HELD => Round::NothingAfterHolding,
                Round::Nothing => Round::Fruitless,
                round => round,
            }
        }
        Err(error) => {
            failed(&error, failures);
            if error.is_unregistered() || secure_address_is_silent {
                lifecycle.apply(Event::RegistrationLost);
            }
            Round::Fruitless
        }
    }
}

fn take(lifecycle: &Lifecycle, answer: WorkAnswer) -> Round {
    let event = match answer {
        WorkAnswer::Work(Work::NoWork) => {
            lifecycle.apply(Event::NoWork);
            return Round::Nothing;
        }
        WorkAnswer::Work(Work::DeniedAgentWork { .. }) => {
            lifecycle.apply(Event::WorkDenied);
            return Round::Fruitless;
        }
        WorkAnswer::Work(Work::UnregisteredAgentWork { message, .. }) => {
            tracing::warn!(
                message,
                "The server lost this agent's registration; registering again"
            );
            lifecycle.apply(Event::RegistrationLost);
            return Round::Fruitless;
        }
        WorkAnswer::Work(Work::BuildWork(work)) => {
            let folder = JobFolder::for_job(&work.assignment.job_identifier);
            Event::WorkReceived { folder, work }
        }
        WorkAnswer::Work(Work::Unknown(document)) => {
            let reason = format!(
                "This agent ({}) does not know work of the kind `{}`. Update the agent, or let \
                 another one run this job.",
                env!("CARGO_PKG_VERSION"),
                document.kind
            );
            let job = serde_json::to_vec(&document)
                .ok()
                .and_then(|bytes| work::find_job(&bytes));
            match job {
                Some(job) => unknown_work(job, reason),
                None => {
                    tracing::error!(kind = document.kind, "{reason} It names no job");
                    return Round::Fruitless;
                }
            }
        }
        WorkAnswer::UnreadableJob { job, reason } => unknown_work(
            *job,
            format!("This agent cannot read the work it was given: {reason}"),
        ),
    };
    lifecycle.apply(event);
    Round::Taken
}

fn unknown_work(job: journeyman_protocol::job::JobIdentifier, reason: String) -> Event {
    tracing::error!(job = job.locator(), "{reason}");
    Event::UnknownWorkReceived {
        folder: JobFolder::for_job(&job),
        job: Box::new(job),
        reason,
    }
}

fn failed(error: &CallError, failures: &mut u32) {
    *failures += 1;
    if failures.is_power_of_two() {
        tracing::warn!(
            error = error as &dyn std::error::Error,
            failures,
            "Cannot ask for work"
        );
    }
}
