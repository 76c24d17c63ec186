//! Cancelling a job: what happens when, and that it happens once.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use journeyman_protocol::{builder::Builder, console::Tag, remoting::AgentInstruction};
use nix::sys::signal::Signal;
use tokio::sync::{mpsc, watch};

use super::{Journal, Link};
use crate::job::{
    console::Console,
    containment::{GRACE, end_descendants, end_politely, signal_descendants},
    journal::Event,
    tasks::{self, KillAll, TaskContext},
};

/// The cancel of one job. Cheap to clone.
#[derive(Clone)]
pub(super) struct Cancel {
    shared: Arc<Shared>,
}

struct Shared {
    console: Console,
    link: Link,
    journal: Journal,
    state: watch::Sender<State>,
    current: Mutex<Current>,
}

/// How far a cancel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    None,
    Begun,
    /// The on-cancel task has ended.
    Finished,
}

/// What a cancel has to act on.
#[derive(Clone)]
enum Current {
    /// Nothing runs that a user configured.
    Nothing,
    /// Programs of source control run.
    Materials,
    /// A task runs; with its on-cancel task.
    Task(Box<Builder>, TaskContext),
}

impl Cancel {
    pub(super) fn new(console: Console, link: Link, journal: Journal) -> Self {
        let (state, _) = watch::channel(State::None);
        Self {
            shared: Arc::new(Shared {
                console,
                link,
                journal,
                state,
                current: Mutex::new(Current::Nothing),
            }),
        }
    }

    pub(super) fn has_begun(&self) -> bool {
        *self.shared.state.borrow() != State::None
    }

    /// Waits for the end of a cancel that has begun.
    pub(super) async fn finished(&self) {
        let mut state = self.shared.state.subscribe();
        // The sender lives as long as this.
        let _ = state.wait_for(|state| *state != State::Begun).await;
    }

    pub(super) fn in_materials(&self) {
        self.set(Current::Materials);
    }

    /// Makes this the task that a cancel acts on. False: a cancel has begun, so the task must not
    /// be started. Decided in one step with the beginning of a cancel: else a task that starts at
    /// that very moment would be missed and run to its end.
    pub(super) fn enter_task(&self, builder: &Builder, context: &TaskContext) -> bool {
        let mut current = self.shared.current();
        if self.has_begun() {
            return false;
        }
        *current = Current::Task(Box::new(builder.clone()), context.clone());
        true
    }

    /// GoCD still counts a task as the current one when it has just ended, and runs its on-cancel
    /// task then; that helps nobody.
    pub(super) fn in_nothing(&self) {
        self.set(Current::Nothing);
    }

    /// Acts on instructions, each kind once, for as long as the job lives.
    pub(super) async fn listen(self, mut instructions: mpsc::UnboundedReceiver<AgentInstruction>) {
        let (mut cancelled, mut killed) = (false, false);
        while let Some(instruction) = instructions.recv().await {
            let first = match instruction {
                AgentInstruction::None => false,
                AgentInstruction::Cancel => !std::mem::replace(&mut cancelled, true),
                AgentInstruction::KillRunningTasks => !std::mem::replace(&mut killed, true),
            };
            if !first {
                continue;
            }
            tracing::info!(?instruction, "Acting on an instruction");
            let shared = Arc::clone(&self.shared);
            let current = shared.begin();
            shared.link.cancelled();
            shared.journal.note(&Event::Cancelled);
            let acted = tokio::task::spawn_blocking(move || shared.act(current)).await;
            if let Err(error) = acted {
                tracing::error!(%error, "Cancelling failed half-way");
            }
            self.shared.state.send_replace(State::Finished);
        }
    }

    fn set(&self, current: Current) {
        *self.shared.current() = current;
    }
}

impl Shared {
    /// From now on no task starts; what runs at this moment is returned.
    fn begin(&self) -> Current {
        let current = self.current();
        self.state.send_replace(State::Begun);
        current.clone()
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks while the on-cancel task runs.
    fn act(&self, current: Current) {
        match current {
            Current::Nothing => {}
            // GoCD lets a checkout go on to its end. What the server hears is the same.
            Current::Materials => {
                end_politely(GRACE, |table| table.descendants(own_pid()));
            }
            Current::Task(builder, context) => {
                let Some(on_cancel) = builder
                    .attributes()
                    .and_then(|attributes| attributes.cancel_builder.as_deref())
                else {
                    return;
                };
                let description = self.console.hide(tasks::description(on_cancel));
                self.console.verbatim(
                    Tag::CancelTaskStart,
                    &format!("[go] On Cancel Task: {description}"),
                );
                if tasks::run(on_cancel, &context).passed {
                    self.console
                        .verbatim(Tag::CancelTaskPass, "[go] On Cancel Task completed");
                } else {
                    self.console
                        .verbatim(Tag::CancelTaskFail, "[go] On Cancel Task failed");
                }
                // An empty on-cancel is somebody's wish to let the task come to its end.
                if !matches!(on_cancel, Builder::NullBuilder(_)) {
                    end_after_grace();
                }
            }
        }
    }
}

/// Ends what has not ended by itself some time after it was asked to.
fn end_after_grace() {
    // What starts later belongs to the end of the job, which ends everything.
    let asked = crate::job::containment::Table::read().descendants(own_pid());
    let spawned = std::thread::Builder::new()
        .name("grace".to_owned())
        .stack_size(128 * 1024)
        .spawn(move || {
            std::thread::sleep(GRACE);
            crate::job::containment::end_all(|table| {
                table
                    .descendants(own_pid())
                    .into_iter()
                    .filter(|process| asked.contains(process))
                    .collect()
            });
        });
    if let Err(error) = spawned {
        tracing::warn!(%error, "No thread for the end of the grace period");
    }
}

/// The kill-all task: asks at first, and makes at the second call.
pub(super) struct ChildProcesses {
    console: Console,
    calls: AtomicU32,
}

impl ChildProcesses {
    pub(super) fn new(console: Console) -> Self {
        Self {
            console,
            calls: AtomicU32::new(0),
        }
    }
}

impl KillAll for ChildProcesses {
    fn kill_all(&self) {
        if self.calls.fetch_add(1, Ordering::Relaxed) == 0 {
            self.console
                .verbatim(Tag::Notice, "[go] Attempting to kill child processes.");
            signal_descendants(own_pid(), Signal::SIGTERM);
        } else {
            self.console.verbatim(
                Tag::Notice,
                "[go] Attempting to force kill child processes.",
            );
            end_descendants(own_pid());
        }
    }
}

/// Ends whatever the job has left, at its end. Blocks; returns how many could not be ended.
pub(super) fn end_what_is_left(grace: Duration) -> usize {
    end_politely(grace, |table| table.descendants(own_pid())).len()
}

fn own_pid() -> i32 {
    // A process id is a pid_t, which is an i32.
    i32::try_from(std::process::id()).unwrap_or_default()
}
