//! Carrying out what the state machine wants.

use std::{
    collections::VecDeque,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use journeyman_host::properties::Properties;
use journeyman_protocol::{remoting::AgentInstruction, work::BuildWork};
use tokio::{
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
    time::sleep,
};

use super::{
    burial::{conclude, dispose},
    follow::{Instructions, follow},
    reaper::Reaper,
    recovery::is_alive,
    refusal::refuse,
    start,
};
use crate::{
    job::{channel::RunnerInput, folder::JobFolder},
    lifecycle::{Effect, Event, Lifecycle, Run, State},
    registration::{CookieHistory, obtain_cookie, register},
    remoting::Session,
    settings::Settings,
};

/// How often to look whether a runner that is not a child of ours still lives.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What every task needs. A clone is another handle to the same things.
#[derive(Clone)]
pub(super) struct Agent {
    pub(super) session: Arc<Session>,
    pub(super) lifecycle: Lifecycle,
    pub(super) settings: Arc<Settings>,
    pub(super) reaper: Arc<Reaper>,
    /// Jobs of an earlier agent that nobody looks after yet.
    pub(super) found: Arc<Mutex<VecDeque<Run>>>,
}

/// How to look after a job.
enum Care {
    Run {
        work: Box<BuildWork>,
        instructions: Instructions,
    },
    TakeOver {
        instructions: Instructions,
    },
    Refuse {
        reason: String,
    },
}

/// The tasks that effects have begun.
struct Executor {
    agent: Agent,
    tasks: JoinSet<()>,
    registration: Option<AbortHandle>,
    cookie: Option<AbortHandle>,
    cookie_history: Arc<tokio::sync::Mutex<CookieHistory>>,
    /// What the current run was told.
    instructions: Option<(JobFolder, watch::Sender<Vec<AgentInstruction>>)>,
}

/// Carries out effects until one of them is to end the process.
pub(super) async fn carry_out(agent: Agent, mut effects: mpsc::UnboundedReceiver<Effect>) {
    let mut executor = Executor {
        agent,
        tasks: JoinSet::new(),
        registration: None,
        cookie: None,
        cookie_history: Arc::default(),
        instructions: None,
    };
    loop {
        tokio::select! {
            effect = effects.recv() => match effect {
                Some(Effect::Exit) | None => return,
                Some(effect) => executor.perform(effect),
            },
            Some(ended) = executor.tasks.join_next() => {
                if let Err(error) = ended && error.is_panic() {
                    tracing::error!(%error, "A task of the agent has failed");
                }
            }
        }
    }
}

impl Executor {
    fn perform(&mut self, effect: Effect) {
        let agent = self.agent.clone();
        match effect {
            Effect::Register => {
                if !is_running(self.registration.as_ref()) {
                    self.registration = Some(self.tasks.spawn(async move {
                        register(&agent.session, &agent.lifecycle, &agent.settings).await;
                    }));
                }
            }
            Effect::GetCookie { after_rejection } => {
                if is_running(self.cookie.as_ref()) {
                    return;
                }
                let history = self.cookie_history.clone();
                let after_rejection = after_rejection && agent.session.cookie().is_some();
                self.cookie = Some(self.tasks.spawn(async move {
                    let mut history = history.lock().await;
                    let history = after_rejection.then_some(&mut *history);
                    obtain_cookie(&agent.session, &agent.lifecycle, &agent.settings, history).await;
                }));
            }
            Effect::StartRunner { folder, work } => {
                let run = Run::new(folder, work.assignment.job_identifier.clone());
                let instructions = self.listen(&run);
                self.look_after(run, Care::Run { work, instructions });
            }
            Effect::TakeOver(run) => {
                let instructions = self.listen(&run);
                self.look_after(*run, Care::TakeOver { instructions });
            }
            Effect::RefuseJob { run, reason } => self.look_after(*run, Care::Refuse { reason }),
            Effect::Instruct {
                folder,
                instruction,
            } => {
                tracing::info!(?instruction, folder = %folder.path().display(), "Passing an instruction on");
                if let Some((current, told)) = &self.instructions
                    && *current == folder
                {
                    told.send_modify(|told| told.push(instruction));
                }
            }
            // Dealt with by the caller.
            Effect::Exit => {}
        }
    }

    fn listen(&mut self, run: &Run) -> Instructions {
        let (sender, receiver) = watch::channel(Vec::new());
        self.instructions = Some((run.folder.clone(), sender));
        receiver
    }

    /// Looks after a job to its end, and says so.
    fn look_after(&mut self, run: Run, care: Care) {
        let agent = self.agent.clone();
        self.tasks.spawn(async move {
            match care {
                Care::Run { work, instructions } => run_job(&agent, &run, work, instructions).await,
                Care::TakeOver { instructions } => take_over(&agent, &run, instructions).await,
                Care::Refuse { reason } => {
                    refuse(&agent.session, &agent.lifecycle, &run, &reason).await;
                }
            }
            let next = agent
                .found
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front();
            agent.lifecycle.apply(Event::JobEnded {
                folder: run.folder,
                next: next.map(Box::new),
            });
        });
    }
}

/// Starts a runner and follows it; refuses the job if that cannot be done.
async fn run_job(agent: &Agent, run: &Run, work: Box<BuildWork>, instructions: Instructions) {
    let input = RunnerInput {
        work: *work,
        runtime_info: agent.session.runtime_info(&State::Idle),
        server: agent.session.server_connection(),
        console_interval_ms: u64::try_from(console_interval().as_millis()).unwrap_or(u64::MAX),
        properties: Properties::from_server(),
    };
    let started = start::start(&agent.session.workdir, &agent.reaper, &run.folder, &input).await;
    // The document is large, and the runner has it now.
    drop(input);
    match started {
        Ok(ended) => {
            let ended = async { ended.await.unwrap_or_default() };
            follow_to_the_end(agent, run, instructions, ended).await;
        }
        Err(error) => {
            tracing::error!(%error, job = run.job.locator(), "Cannot run a job");
            let reason = format!("This agent cannot run the job: {error}");
            refuse(&agent.session, &agent.lifecycle, run, &reason).await;
            dispose(&agent.session, &run.folder, false);
        }
    }
}

/// GoCD: read for each job anew, so that what the server has set since the start counts.
fn console_interval() -> Duration {
    Settings::from_properties(&Properties::of_process()).console_interval
}

/// Follows a runner that an earlier agent has started; only concludes the job if it is dead.
async fn take_over(agent: &Agent, run: &Run, instructions: Instructions) {
    if !is_alive(&run.folder) {
        conclude_for(agent, run, "").await;
        return;
    }
    let folder = run.folder.clone();
    let ended = async move {
        while is_alive(&folder) {
            sleep(LOOK_AGAIN).await;
        }
        String::new()
    };
    follow_to_the_end(agent, run, instructions, ended).await;
}

async fn follow_to_the_end(
    agent: &Agent,
    run: &Run,
    instructions: Instructions,
    ended: impl Future<Output = String>,
) {
    let how = follow(&run.folder, &agent.lifecycle, instructions, ended).await;
    conclude_for(agent, run, &how).await;
}

async fn conclude_for(agent: &Agent, run: &Run, how: &str) {
    conclude(&agent.session, &agent.lifecycle, &agent.reaper, run, how).await;
}

fn is_running(task: Option<&AbortHandle>) -> bool {
    task.is_some_and(|task| !task.is_finished())
}
