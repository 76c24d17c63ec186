//! The transitions, all of them.

use journeyman_protocol::{agent::RuntimeStatus, remoting::AgentInstruction};
use thiserror::Error;

use super::{
    event::{Effect, Event},
    state::{Remaining, Run, State},
};
use crate::job::{channel::Phase, folder::JobFolder};

/// The state after an event, and what is to be done.
#[derive(Debug, PartialEq)]
pub struct Step {
    pub state: State,
    pub effects: Vec<Effect>,
}

/// An event that must not happen in this state. Nothing changes.
#[derive(Debug, Error)]
#[error("{event} is not possible while {}", .state.name())]
pub struct IllegalTransition {
    /// The state as it was.
    pub state: Box<State>,
    /// Name of the event.
    pub event: &'static str,
}

impl State {
    /// What becomes of this state when `event` happens.
    ///
    /// # Errors
    /// When that event must not happen now. The state is given back unchanged.
    pub fn step(self, event: Event) -> Result<Step, IllegalTransition> {
        match event {
            Event::RegistrationLost => Ok(registration_lost(self)),
            Event::ApprovalPending => approval_pending(self),
            Event::Registered => registered(self),
            Event::CookieRejected => Ok(cookie_rejected(self)),
            Event::CookieReceived => cookie_received(self),
            Event::NoWork => answered(self, State::Idle, "NoWork"),
            Event::WorkDenied => answered(self, State::Disabled, "WorkDenied"),
            Event::WorkReceived { folder, work } => {
                let run = Run::new(folder.clone(), work.assignment.job_identifier.clone());
                take_job(self, run, "WorkReceived", |_| Effect::StartRunner {
                    folder,
                    work,
                })
            }
            Event::UnknownWorkReceived {
                folder,
                job,
                reason,
            } => take_job(self, Run::new(folder, *job), "UnknownWorkReceived", |run| {
                Effect::RefuseJob { run, reason }
            }),
            Event::JobFound(run) => job_found(self, *run),
            Event::RunnerProgress {
                folder,
                phase,
                runtime_status,
            } => progress(self, &folder, phase, runtime_status),
            Event::JobEnded { folder, next } => job_ended(self, &folder, next),
            Event::Instructed {
                folder,
                instruction,
            } => Ok(instructed(self, &folder, instruction)),
            Event::StopRequested => stop_requested(self),
            Event::AskingEnded => asking_ended(self),
        }
    }
}

fn registration_lost(state: State) -> Step {
    match state {
        // Under way already.
        State::Unregistered | State::Pending => state.stay(),
        State::Registered | State::Idle | State::Disabled => {
            State::Unregistered.with(Effect::Register)
        }
        // The job goes on: its runner repeats what the server refuses.
        busy if busy.run().is_some() => busy.with(Effect::Register),
        other => other.stay(),
    }
}

fn approval_pending(state: State) -> Result<Step, IllegalTransition> {
    match state {
        State::Unregistered | State::Pending => Ok(State::Pending.stay()),
        busy if busy.run().is_some() => Ok(busy.stay()),
        other => Err(other.refuse("ApprovalPending")),
    }
}

fn registered(state: State) -> Result<Step, IllegalTransition> {
    match state {
        State::Unregistered | State::Pending => Ok(State::Registered.with(Effect::GetCookie {
            after_rejection: false,
        })),
        // Found out by a renewal, or registered again beside a job that ended meanwhile: the
        // registration may have changed the cookie.
        state @ (State::Idle | State::Disabled) => {
            drop(state);
            Ok(State::Registered.with(Effect::GetCookie {
                after_rejection: false,
            }))
        }
        busy if busy.run().is_some() => Ok(busy.with(Effect::GetCookie {
            after_rejection: false,
        })),
        other => Err(other.refuse("Registered")),
    }
}

fn cookie_rejected(state: State) -> Step {
    match state {
        State::Idle | State::Disabled => State::Registered.with(Effect::GetCookie {
            after_rejection: true,
        }),
        busy if busy.run().is_some() => busy.with(Effect::GetCookie {
            after_rejection: true,
        }),
        other => other.stay(),
    }
}

fn cookie_received(state: State) -> Result<Step, IllegalTransition> {
    match state {
        State::Registered => Ok(State::Idle.stay()),
        // A cookie for an agent whose registration was lost meanwhile is of no use.
        state @ (State::Unregistered | State::Pending | State::Idle | State::Disabled) => {
            Ok(state.stay())
        }
        busy if busy.run().is_some() => Ok(busy.stay()),
        other => Err(other.refuse("CookieReceived")),
    }
}

fn answered(state: State, next: State, event: &'static str) -> Result<Step, IllegalTransition> {
    match state {
        State::Idle | State::Disabled => Ok(next.stay()),
        // A ping found something out while the call was under way.
        state @ (State::Unregistered
        | State::Pending
        | State::Registered
        | State::Stopping(Remaining::Answer)) => Ok(state.stay()),
        other => Err(other.refuse(event)),
    }
}

fn take_job(
    state: State,
    run: Run,
    event: &'static str,
    effect: impl FnOnce(Box<Run>) -> Effect,
) -> Result<Step, IllegalTransition> {
    let effect = effect(Box::new(run.clone()));
    match state {
        // The answer is the job's only copy, so it is taken whatever was found out meanwhile.
        State::Idle
        | State::Disabled
        | State::Unregistered
        | State::Pending
        | State::Registered => Ok(State::Preparing(run).with(effect)),
        State::Stopping(Remaining::Answer) => Ok(State::Stopping(finish(run)).with(effect)),
        other => Err(other.refuse(event)),
    }
}

fn job_found(state: State, run: Run) -> Result<Step, IllegalTransition> {
    let take_over = Effect::TakeOver(Box::new(run.clone()));
    let mut effects = match state {
        State::Unregistered => vec![Effect::Register],
        State::Registered => vec![Effect::GetCookie {
            after_rejection: false,
        }],
        State::Idle => vec![],
        other => return Err(other.refuse("JobFound")),
    };
    effects.push(take_over);
    Ok(Step {
        state: State::Preparing(run),
        effects,
    })
}

fn progress(
    state: State,
    folder: &JobFolder,
    phase: Phase,
    status: RuntimeStatus,
) -> Result<Step, IllegalTransition> {
    const EVENT: &str = "RunnerProgress";
    if state.run().is_none_or(|run| run.folder != *folder) {
        return Err(state.refuse(EVENT));
    }
    let next = match state {
        State::Cancelled(_) | State::Stopping(Remaining::Cancel(_)) => state,
        State::Stopping(Remaining::Finish { run, cancelled }) => {
            State::Stopping(Remaining::Finish {
                run,
                cancelled: cancelled || status == RuntimeStatus::Cancelled,
            })
        }
        State::Preparing(run) | State::Building(run) | State::Completing(run)
            if status == RuntimeStatus::Cancelled =>
        {
            State::Cancelled(run)
        }
        State::Preparing(run) => at(phase, run),
        // A job never goes back.
        State::Building(run) if phase != Phase::Preparing => at(phase, run),
        State::Completing(run) if !matches!(phase, Phase::Preparing | Phase::Building) => {
            State::Completing(run)
        }
        other => return Err(other.refuse(EVENT)),
    };
    Ok(next.stay())
}

fn at(phase: Phase, run: Run) -> State {
    match phase {
        Phase::Preparing => State::Preparing(run),
        Phase::Building => State::Building(run),
        Phase::Completing | Phase::Reporting | Phase::Done => State::Completing(run),
    }
}

fn job_ended(
    state: State,
    folder: &JobFolder,
    next: Option<Box<Run>>,
) -> Result<Step, IllegalTransition> {
    if state.run().is_none_or(|run| run.folder != *folder) {
        return Err(state.refuse("JobEnded"));
    }
    let stopping = state.is_stopping();
    Ok(match (next, stopping) {
        // What an earlier agent left is dealt with before any new work, also on the way out: a
        // dead job that nobody reports would stay in Building at the server.
        (Some(run), false) => State::Preparing((*run).clone()).with(Effect::TakeOver(run)),
        (Some(run), true) => State::Stopping(finish((*run).clone())).with(Effect::TakeOver(run)),
        (None, false) => State::Idle.stay(),
        (None, true) => State::Stopped.with(Effect::Exit),
    })
}

fn instructed(mut state: State, folder: &JobFolder, instruction: AgentInstruction) -> Step {
    let is_new = match &mut state {
        State::Preparing(run)
        | State::Building(run)
        | State::Completing(run)
        | State::Cancelled(run)
        | State::Stopping(Remaining::Finish { run, .. } | Remaining::Cancel(run)) => {
            // Of another folder: the job it was meant for is over. GoCD's agent would apply it
            // to the next one.
            run.folder == *folder && run.pass_on(instruction)
        }
        _ => false,
    };
    if !is_new {
        return state.stay();
    }
    let next = match state {
        State::Preparing(run) | State::Building(run) | State::Completing(run) => {
            State::Cancelled(run)
        }
        State::Stopping(Remaining::Finish { run, .. }) => State::Stopping(Remaining::Finish {
            run,
            cancelled: true,
        }),
        other => other,
    };
    next.with(Effect::Instruct {
        folder: folder.clone(),
        instruction,
    })
}

fn stop_requested(state: State) -> Result<Step, IllegalTransition> {
    match state {
        State::Unregistered | State::Pending | State::Registered => {
            Ok(State::Stopped.with(Effect::Exit))
        }
        State::Idle | State::Disabled => Ok(State::Stopping(Remaining::Answer).stay()),
        State::Preparing(run) | State::Building(run) | State::Completing(run) => {
            Ok(State::Stopping(finish(run)).stay())
        }
        State::Cancelled(run) => Ok(State::Stopping(Remaining::Finish {
            run,
            cancelled: true,
        })
        .stay()),
        State::Stopping(Remaining::Finish { mut run, .. }) => {
            let instruction = AgentInstruction::Cancel;
            let folder = run.folder.clone();
            let is_new = run.pass_on(instruction);
            let next = State::Stopping(Remaining::Cancel(run));
            Ok(if is_new {
                next.with(Effect::Instruct {
                    folder,
                    instruction,
                })
            } else {
                next.stay()
            })
        }
        State::Stopping(Remaining::Answer | Remaining::Cancel(_)) => {
            Ok(State::Stopped.with(Effect::Exit))
        }
        State::Stopped => Err(State::Stopped.refuse("StopRequested")),
    }
}

fn finish(run: Run) -> Remaining {
    Remaining::Finish {
        run,
        cancelled: false,
    }
}

fn asking_ended(state: State) -> Result<Step, IllegalTransition> {
    match state {
        State::Stopping(Remaining::Answer) => Ok(State::Stopped.with(Effect::Exit)),
        // The answer was a job after all.
        state @ (State::Stopping(_) | State::Stopped) => Ok(state.stay()),
        other => Err(other.refuse("AskingEnded")),
    }
}

impl State {
    fn stay(self) -> Step {
        Step {
            state: self,
            effects: vec![],
        }
    }

    fn with(self, effect: Effect) -> Step {
        Step {
            state: self,
            effects: vec![effect],
        }
    }

    fn refuse(self, event: &'static str) -> IllegalTransition {
        IllegalTransition {
            state: Box::new(self),
            event,
        }
    }
}

#[cfg(test)]
#[path = "step_tests.rs"]
mod tests;
