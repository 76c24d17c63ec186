//! Cancelling a job: what happens when, and that it happens once.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use journeyman_protocol::{builder::Builder, console::Tag, remoting::AgentInstruction};
use nix::sys::signal::Signal;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use super::{Journal, Link};
use crate::job::{
    cancelled::{CancelProgress, Cancelled},
    console::Console,
    containment::{Children, end_descendants, end_descendants_politely, signal_descendants},
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
    children: Children,
    /// How long processes get between the signal that asks and the one that ends them.
    grace: Duration,
    progress: watch::Sender<CancelProgress>,
    current: Mutex<Current>,
}

/// What a cancel has to act on.
#[derive(Clone)]
enum Current {
    /// Nothing runs that a user configured.
    Nothing,
    /// Programs of source control run.
    Materials,
    /// A task runs; with its on-cancel task.
    Task(Box<Builder>, Box<TaskContext>),
}

/// Which instructions have come for this job. GoCD: each kind counts once.
#[derive(Debug, Default)]
struct Seen {
    cancel: bool,
    kill: bool,
}

impl Cancel {
    pub(super) fn new(
        console: Console,
        link: Link,
        journal: Journal,
        children: Children,
        grace: Duration,
    ) -> Self {
        let (progress, _) = watch::channel(CancelProgress::default());
        Self {
            shared: Arc::new(Shared {
                console,
                link,
                journal,
                children,
                grace,
                progress,
                current: Mutex::new(Current::Nothing),
            }),
        }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.shared.progress.borrow().has_begun
    }

    /// What others see of it.
    pub(super) fn watched(&self) -> Cancelled {
        Cancelled::new(self.shared.progress.subscribe())
    }

    /// Makes the checkout what a cancel acts on. False: a cancel has begun.
    pub(super) fn enter_materials(&self) -> bool {
        self.enter(Current::Materials)
    }

    /// Makes this the task that a cancel acts on. False: a cancel has begun, so the task must not
    /// be started. Decided in one step with the beginning of a cancel: else a task that starts at
    /// that very moment would be missed and run to its end.
    pub(super) fn enter_task(&self, builder: &Builder, context: &TaskContext) -> bool {
        self.enter(Current::Task(
            Box::new(builder.clone()),
            Box::new(context.clone()),
        ))
    }

    /// GoCD still counts a task as the current one when it has just ended, and runs its on-cancel
    /// task then; that helps nobody.
    pub(super) fn in_nothing(&self) {
        *self.shared.current() = Current::Nothing;
    }

    /// Acts on instructions, each kind once, for as long as the job lives.
    pub(super) async fn listen(self, mut instructions: mpsc::UnboundedReceiver<AgentInstruction>) {
        let mut seen = Seen::default();
        while let Some(instruction) = instructions.recv().await {
            if seen.is_new(instruction) {
                let limit = match instruction {
                    AgentInstruction::KillRunningTasks => Some(self.shared.grace),
                    _ => None,
                };
                self.act_on(instruction, limit, &mut instructions, &mut seen)
                    .await;
            }
        }
    }

    /// Does what an instruction wants, and then what one wants that came meanwhile. An on-cancel
    /// task that takes longer than `limit` is ended.
    ///
    /// GoCD: a kill that comes while the on-cancel task runs waits for its end, so one that hangs
    /// is for ever. Here it waits for the grace period.
    async fn act_on(
        &self,
        instruction: AgentInstruction,
        limit: Option<Duration>,
        instructions: &mut mpsc::UnboundedReceiver<AgentInstruction>,
        seen: &mut Seen,
    ) {
        let mut acting = self.begin(instruction);
        let mut next = None;
        let mut deadline = limit.map(|limit| Instant::now() + limit);
        let forced = loop {
            tokio::select! {
                acted = &mut acting => {
                    note_panic(acted);
                    break false;
                }
                Some(instruction) = instructions.recv(), if next.is_none() => {
                    if seen.is_new(instruction) {
                        next = Some(instruction);
                        deadline.get_or_insert(Instant::now() + self.shared.grace);
                    }
                }
                () = at(deadline) => break true,
            }
        };
        if forced {
            let shared = Arc::clone(&self.shared);
            note_panic(tokio::task::spawn_blocking(move || shared.force()).await);
            note_panic(acting.await);
        }
        match next {
            Some(instruction) if !forced => {
                let limit = Some(self.shared.grace);
                Box::pin(self.act_on(instruction, limit, instructions, seen)).await;
            }
            _ => self
                .shared
                .progress
                .send_modify(|progress| progress.is_acting = false),
        }
    }

    fn begin(&self, instruction: AgentInstruction) -> JoinHandle<()> {
        tracing::info!(?instruction, "Acting on an instruction");
        let shared = Arc::clone(&self.shared);
        let current = shared.begin();
        shared.link.cancelled();
        shared.journal.note(&Event::Cancelled);
        tokio::task::spawn_blocking(move || shared.act(current))
    }

    fn enter(&self, next: Current) -> bool {
        let mut current = self.shared.current();
        if self.has_begun() {
            return false;
        }
        *current = next;
        true
    }
}

impl Seen {
    fn is_new(&mut self, instruction: AgentInstruction) -> bool {
        let seen = match instruction {
            AgentInstruction::None => return false,
            AgentInstruction::Cancel => &mut self.cancel,
            AgentInstruction::KillRunningTasks => &mut self.kill,
        };
        !std::mem::replace(seen, true)
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn note_panic(result: Result<(), tokio::task::JoinError>) {
    if let Err(error) = result {
        tracing::error!(%error, "Cancelling failed half-way");
    }
}

impl Shared {
    /// From now on no task starts; what runs at this moment is returned.
    fn begin(&self) -> Current {
        let current = self.current();
        self.progress.send_modify(|progress| {
            progress.has_begun = true;
            progress.is_acting = true;
        });
        current.clone()
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks while the on-cancel task runs.
    fn act(self: Arc<Self>, current: Current) {
        match current {
            Current::Nothing => {}
            // GoCD lets a checkout go on to its end. What the server hears is the same.
            Current::Materials => {
                self.children.close();
                end_descendants_politely(self.grace);
                self.ended_all();
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
                let context = TaskContext {
                    output_limit: context.output_limit.min(self.grace),
                    ..*context
                };
                if tasks::run(on_cancel, &context).passed {
                    self.console
                        .verbatim(Tag::CancelTaskPass, "[go] On Cancel Task completed");
                } else {
                    self.console
                        .verbatim(Tag::CancelTaskFail, "[go] On Cancel Task failed");
                }
                // An empty on-cancel is somebody's wish to let the task come to its end.
                if !matches!(on_cancel, Builder::NullBuilder(_)) {
                    context.stop.cancel();
                    self.end_after_grace();
                }
            }
        }
    }

    /// Ends what has not ended by itself some time after it was asked to.
    fn end_after_grace(self: Arc<Self>) {
        let spawned = thread::Builder::new()
            .name("grace".to_owned())
            .stack_size(128 * 1024)
            .spawn(move || {
                thread::sleep(self.grace);
                end_descendants();
                self.ended_all();
            });
        if let Err(error) = spawned {
            tracing::warn!(%error, "No thread for the end of the grace period");
        }
    }

    /// Ends an on-cancel task that does not come to its end, with all the rest.
    fn force(&self) {
        self.console.verbatim(
            Tag::Notice,
            "[go] Attempting to force kill child processes.",
        );
        end_descendants();
        self.ended_all();
    }

    fn ended_all(&self) {
        self.progress
            .send_modify(|progress| progress.has_ended_all = true);
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
            signal_descendants(Signal::SIGTERM);
        } else {
            self.console.verbatim(
                Tag::Notice,
                "[go] Attempting to force kill child processes.",
            );
            end_descendants();
        }
    }
}
