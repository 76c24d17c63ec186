//! The current state, shared by the loops.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::{
    event::{Effect, Event},
    state::{Run, State},
    step::Step,
};

/// The agent's current state. A clone is another handle to the same state.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    state: Arc<watch::Sender<State>>,
    effects: mpsc::UnboundedSender<Effect>,
}

impl Lifecycle {
    /// A lifecycle in `state`, and what comes out of it. The effects are few (some per job), so
    /// their channel needs no bound.
    pub fn new(state: State) -> (Self, mpsc::UnboundedReceiver<Effect>) {
        let (effects, receiver) = mpsc::unbounded_channel();
        let lifecycle = Self {
            state: Arc::new(watch::Sender::new(state)),
            effects,
        };
        (lifecycle, receiver)
    }

    /// The lifecycle of an agent that starts in `state`, with the first job that an earlier agent
    /// has left, if any: what the state itself wants done is the first to come out.
    pub fn begin(state: State, found: Option<Run>) -> (Self, mpsc::UnboundedReceiver<Effect>) {
        let due = match (&state, &found) {
            // A job that is found brings these with it.
            (_, Some(_)) => None,
            (State::Unregistered, None) => Some(Effect::Register),
            (State::Registered, None) => Some(Effect::GetCookie {
                after_rejection: false,
            }),
            _ => None,
        };
        let (lifecycle, receiver) = Self::new(state);
        if let Some(effect) = due {
            let _ = lifecycle.effects.send(effect);
        }
        if let Some(run) = found {
            lifecycle.apply(Event::JobFound(Box::new(run)));
        }
        (lifecycle, receiver)
    }

    /// Tells what happened. When this returns, every watcher sees the new state: a loop that
    /// reports a job will not find itself idle afterwards. False: it was not possible now, which
    /// is logged, and nothing has changed.
    pub fn apply(&self, event: Event) -> bool {
        let name = event.name();
        let mut accepted = true;
        let mut effects = Vec::new();
        self.state.send_if_modified(|state| {
            let before = state.clone();
            match std::mem::replace(state, State::Stopped).step(event) {
                Ok(Step {
                    state: next,
                    effects: due,
                }) => {
                    *state = next;
                    effects = due;
                }
                Err(refused) => {
                    tracing::warn!(
                        state = refused.state.name(),
                        event = refused.event,
                        "Refused a transition"
                    );
                    *state = *refused.state;
                    accepted = false;
                }
            }
            if before.name() != state.name() {
                tracing::info!(
                    from = before.name(),
                    to = state.name(),
                    event = name,
                    "State"
                );
            }
            before != *state
        });
        for effect in effects {
            // Nobody carries out effects any more once the process is on its way out.
            let _ = self.effects.send(effect);
        }
        accepted
    }

    /// The state now.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Follows the state.
    pub fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }
}
