//! The `get_work` calls that wait, and which of them look again when there is work.
//!
//! With a thousand agents waiting, one job must not have a thousand of them ask the database for it:
//! for each job that waits one call is woken that fits it, the one that has waited longest. Whoever
//! takes a job has what is left looked at again, and so does a woken call that goes away.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    App,
    agents::Agent,
    answer::Chain,
    scheduling::{self, Head},
};

/// The calls that wait. Of two by one agent only the later may get a job: the earlier one's
/// connection may be dead without the server knowing.
#[derive(Debug, Default)]
pub struct Polls(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    /// In the order of coming.
    polls: BTreeMap<u64, Poll>,
    /// The latest of each agent, by uuid.
    latest: HashMap<String, u64>,
}

#[derive(Debug)]
struct Poll {
    agent: Agent,
    /// The environments that the agent is in.
    home: Vec<String>,
    /// Whether it was woken and has not looked since.
    is_woken: bool,
    wake: Arc<Notify>,
    superseded: CancellationToken,
}

/// One call, until it is dropped.
pub(super) struct Ticket<'a> {
    app: &'a App,
    number: u64,
    uuid: String,
    wake: Arc<Notify>,
    superseded: CancellationToken,
}

/// Wakes calls whenever there may be work, until the server stops.
pub async fn wake(app: Arc<App>) {
    let mut changed = app.work_changed.subscribe();
    loop {
        tokio::select! {
            () = app.stopping.cancelled() => return,
            () = changed.raised() => {}
        }
        match scheduling::waiting(&app).await {
            Ok(heads) => app.polls.wake(&heads),
            Err(error) => {
                tracing::error!(error = %Chain(&error), "cannot see which jobs wait: every agent looks for itself");
                app.polls.wake_all();
            }
        }
    }
}

// === impl Polls ===

impl Polls {
    pub(super) fn begin<'a>(app: &'a App, agent: &Agent) -> Ticket<'a> {
        let wake = Arc::new(Notify::new());
        let superseded = CancellationToken::new();
        let poll = Poll {
            agent: agent.clone(),
            home: Vec::new(),
            is_woken: false,
            wake: Arc::clone(&wake),
            superseded: superseded.clone(),
        };
        let mut waiting = app.polls.lock();
        let number = waiting.next;
        waiting.next += 1;
        waiting.polls.insert(number, poll);
        if let Some(earlier) = waiting.latest.insert(agent.uuid.clone(), number)
            && let Some(earlier) = waiting.polls.get(&earlier)
        {
            earlier.superseded.cancel();
        }
        drop(waiting);
        Ticket {
            app,
            number,
            uuid: agent.uuid.clone(),
            wake,
            superseded,
        }
    }

    /// What agents may get has changed, other than by jobs: all look again.
    pub fn wake_all(&self) {
        self.lock().polls.values_mut().for_each(Poll::wake);
    }

    /// For each job that waits one call looks, if it does not already.
    fn wake(&self, heads: &[Head]) {
        let mut waiting = self.lock();
        let mut taken = HashSet::new();
        for head in heads {
            let fitting = waiting.polls.iter_mut().filter(|(number, poll)| {
                !taken.contains(*number)
                    && poll.agent.elastic.is_none()
                    && head.fits(&poll.agent, &poll.home)
            });
            let numbers: Vec<u64> = fitting
                .take(head.jobs)
                .map(|(number, poll)| {
                    poll.wake();
                    *number
                })
                .collect();
            taken.extend(numbers);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Poll {
    fn wake(&mut self) {
        self.is_woken = true;
        self.wake.notify_one();
    }
}

// === impl Ticket ===

impl Ticket<'_> {
    /// To be called before each look, so that what comes after it wakes the call again.
    pub(super) fn looks(&self, agent: &Agent, home: Vec<String>) {
        if let Some(poll) = self.app.polls.lock().polls.get_mut(&self.number) {
            poll.agent.clone_from(agent);
            poll.home = home;
            poll.is_woken = false;
        }
    }

    /// Returns when it is worth looking again. Cancel safe.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    pub(super) fn superseded(&self) -> &CancellationToken {
        &self.superseded
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut waiting = self.app.polls.lock();
        if waiting.latest.get(&self.uuid) == Some(&self.number) {
            waiting.latest.remove(&self.uuid);
        }
        let poll = waiting.polls.remove(&self.number);
        drop(waiting);
        if poll.is_some_and(|poll| poll.is_woken) {
            // It was woken for a job and does not look for it: another has to.
            self.app.work_changed.raise();
        }
    }
}
