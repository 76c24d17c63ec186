//! Asking the server again and again what should run here, and taking it.

use std::{
    cell::{Cell, RefCell},
    time::Duration,
};

use journeyman_host::{memory, properties::Properties};
use tokio::{sync::Notify, time::sleep};
use tracing::{error, info, warn};

use crate::{
    machine::{Heard, Machine},
    offer::{self, Offer, OfferError},
    take::{Problem, Taken},
};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// GoCD's name for the pause between two attempts to install, in milliseconds.
const DOWNLOAD_PAUSE: &str = "sleep.for.download";
/// A GoCD server has no releases: it is asked this many times more seldom. An operator may put a
/// package into the folder at any time.
const OTHER_SERVER: u32 = 30;
/// Longest time between two questions while an agent is on probation.
const PROBATION_POLL: Duration = Duration::from_secs(10);
/// Somebody who has something to say often does not say it more often than this.
const SHORTEST_POLL: Duration = Duration::from_millis(500);

/// Questions and answers. Shared by what runs beside the watch over an agent.
pub(crate) struct Polling<'a, 'm> {
    machine: &'a Machine<'m>,
    /// An answer that is still to be looked at.
    heard: RefCell<Option<Heard>>,
    /// How often the same answer of a GoCD server has been looked at.
    looked: Cell<u32>,
    /// Whether the server answered the last question, until somebody wants to know.
    server_answers: Cell<Option<bool>>,
    is_probation: Cell<bool>,
    has_mentioned_bootstrapper: Cell<bool>,
    soon: Notify,
}

impl<'a, 'm> Polling<'a, 'm> {
    pub(crate) fn new(machine: &'a Machine<'m>) -> Self {
        Self {
            machine,
            heard: RefCell::new(None),
            looked: Cell::new(0),
            server_answers: Cell::new(None),
            is_probation: Cell::new(false),
            has_mentioned_bootstrapper: Cell::new(false),
            soon: Notify::new(),
        }
    }

    /// The first question; returns the properties that a GoCD server has for its agents. A server that
    /// is out of reach is no reason to wait where an agent is installed.
    pub(crate) async fn ask_first(&self) -> Properties {
        let heard = match self.ask().await {
            Ok(heard) => heard,
            Err(problem) => {
                warn!(%problem, "going on with the agent that is installed, if there is one");
                return Properties::default();
            }
        };
        let mut properties = Properties::default();
        if matches!(heard.offer, Offer::OtherServer) {
            info!(
                server = heard.connection.base_url(),
                "a GoCD server: its agent is a Java program"
            );
            properties = offer::extra_properties(&heard.connection).await;
        }
        *self.heard.borrow_mut() = Some(heard);
        properties
    }

    /// Goes on until something is installed. For a machine without an agent.
    pub(crate) async fn install(&self) -> Taken {
        // GoCD: a fixed pause, 10 s unless the property says another.
        let fixed = Properties::of_launcher().millis(DOWNLOAD_PAUSE);
        let mut pause = fixed.unwrap_or(FIRST_PAUSE);
        loop {
            match self.ask_and_take().await {
                Ok(Taken::Nothing) => error!(
                    server = self.machine.settings.base_url(),
                    again_in = ?pause,
                    "no agent is installed here and the server offers none: give the server a \
                     release (journeyman-server releases add), or copy the agent's package \
                     (agent-linux-x86_64.tar.zst) into this folder"
                ),
                Ok(taken) => return taken,
                Err(problem) => {
                    error!(%problem, again_in = ?pause, "cannot install the agent");
                }
            }
            sleep(pause).await;
            pause = fixed.unwrap_or((pause * 2).min(LONGEST_PAUSE));
        }
    }

    /// Goes on for ever while an agent runs, until there is something else to run.
    pub(crate) async fn follow(&self) -> Taken {
        let mut pause = FIRST_PAUSE;
        loop {
            let next = match self.ask_and_take().await {
                Ok(Taken::Nothing) => {
                    pause = FIRST_PAUSE;
                    self.machine.poll
                }
                Ok(taken) => return taken,
                Err(problem @ (Problem::Offer(_) | Problem::Connection(_))) => {
                    warn!(%problem, "cannot ask the server for a release");
                    self.machine.poll
                }
                Err(problem) => {
                    error!(%problem, again_in = ?pause, "cannot take the release that is offered; what runs goes on");
                    self.machine.tell().await;
                    let next = pause;
                    pause = (pause * 2).min(self.machine.poll.max(FIRST_PAUSE));
                    next
                }
            };
            let next = if self.is_probation.get() {
                next.min(PROBATION_POLL)
            } else {
                next
            };
            memory::give_back();
            tokio::select! {
                () = sleep(next) => {}
                () = self.soon.notified() => sleep(SHORTEST_POLL.min(next)).await,
            }
        }
    }

    /// The next question comes soon.
    pub(crate) fn soon(&self) {
        self.soon.notify_one();
    }

    /// While an agent is on probation the server is asked more often.
    pub(crate) fn set_probation(&self, is_probation: bool) {
        self.is_probation.set(is_probation);
    }

    /// Whether the server answered since the last call, if it was asked.
    pub(crate) fn take_server_answers(&self) -> Option<bool> {
        self.server_answers.take()
    }

    async fn ask_and_take(&self) -> Result<Taken, Problem> {
        let first = self.heard.borrow_mut().take();
        let heard = match first {
            Some(heard) => heard,
            None => self.ask().await?,
        };
        let taken = self.machine.take(&heard).await?;
        self.looked.set(self.looked.get() + 1);
        if matches!(heard.offer, Offer::OtherServer)
            && self.looked.get() < OTHER_SERVER
            && !self.is_probation.get()
        {
            *self.heard.borrow_mut() = Some(heard);
        }
        Ok(taken)
    }

    async fn ask(&self) -> Result<Heard, Problem> {
        self.looked.set(0);
        let heard = self.machine.ask().await;
        self.server_answers.set(Some(match &heard {
            Ok(_) => true,
            // Something is wrong with us.
            Err(Problem::Offer(OfferError::Status { status, .. })) => {
                status.is_client_error() && status.as_u16() != 429
            }
            Err(Problem::Offer(OfferError::Unusable { .. })) => true,
            Err(_) => false,
        }));
        if let Ok(heard) = &heard
            && let Offer::Release(release) = &heard.offer
            && !self.has_mentioned_bootstrapper.replace(true)
        {
            self.machine.mention_bootstrapper(release);
        }
        heard
    }
}
