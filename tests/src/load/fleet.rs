//! Many simulated agents at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use tokio::{task::JoinSet, time};

use super::{Agent, Connection, Target};

/// GoCD: 5 s after the previous ping has ended.
const PING: Duration = Duration::from_secs(5);
/// GoCD: between two rounds that brought no work, once an agent has waited for a while.
const ROUND: Duration = Duration::from_secs(10);

/// How agents ask for work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polling {
    /// Every 10 s, and for a release before it.
    Gocd,
    /// The server holds the call for so many seconds.
    Waiting(u32),
}

/// What the agents have done so far.
#[derive(Debug, Default)]
pub struct Counts {
    pub pings: AtomicU64,
    pub polls: AtomicU64,
    pub jobs: AtomicU64,
}

/// Registered agents.
pub struct Fleet {
    target: Target,
    agents: Vec<Arc<Agent>>,
    pub counts: Arc<Counts>,
    running: JoinSet<()>,
}

impl Fleet {
    /// Registers so many agents, a few at a time.
    pub async fn register(target: &Target, size: usize, key: &str) -> Self {
        let agents = stream::iter(0..size)
            .map(|number| async move { Arc::new(Agent::register(target, number, key).await) })
            .buffered(16)
            .collect()
            .await;
        Self {
            target: target.clone(),
            agents,
            counts: Arc::default(),
            running: JoinSet::new(),
        }
    }

    pub fn agents(&self) -> &[Arc<Agent>] {
        &self.agents
    }

    /// Lets every agent ping and ask for work, and run what it gets, each on two connections of its
    /// own. Their first calls are spread over the time between two.
    pub fn start(&mut self, polling: Polling) {
        let share =
            |number: usize, of: Duration| of.mul_f64(number as f64 / self.agents.len() as f64);
        for (number, agent) in self.agents.iter().enumerate() {
            let spread = match polling {
                Polling::Gocd => ROUND,
                Polling::Waiting(_) => Duration::from_secs(1),
            };
            self.running.spawn(work(
                Arc::clone(agent),
                Connection::new(&self.target),
                Arc::clone(&self.counts),
                polling,
                share(number, spread),
            ));
            self.running.spawn(ping(
                Arc::clone(agent),
                Connection::new(&self.target),
                Arc::clone(&self.counts),
                share(number, PING),
            ));
        }
    }

    /// Lets every agent fall silent.
    ///
    /// # Panics
    ///
    /// When one of them was answered with what no agent expects.
    pub async fn stop(&mut self) {
        self.running.abort_all();
        while let Some(ended) = self.running.join_next().await {
            if let Err(error) = ended {
                assert!(error.is_cancelled(), "an agent has ended: {error}");
            }
        }
    }
}

async fn work(
    agent: Arc<Agent>,
    mut connection: Connection,
    counts: Arc<Counts>,
    polling: Polling,
    first: Duration,
) {
    time::sleep(first).await;
    loop {
        let wait = match polling {
            Polling::Gocd => {
                agent.ask_for_release(&mut connection).await;
                0
            }
            Polling::Waiting(seconds) => seconds,
        };
        let work = agent.get_work(&mut connection, wait).await;
        counts.polls.fetch_add(1, Relaxed);
        match (work, polling) {
            (Some(work), _) => {
                agent.run(&mut connection, &work).await;
                counts.jobs.fetch_add(1, Relaxed);
            }
            (None, Polling::Gocd) => time::sleep(ROUND).await,
            (None, Polling::Waiting(_)) => {}
        }
    }
}

async fn ping(agent: Arc<Agent>, mut connection: Connection, counts: Arc<Counts>, first: Duration) {
    time::sleep(first).await;
    loop {
        agent.ping(&mut connection).await;
        counts.pings.fetch_add(1, Relaxed);
        time::sleep(PING).await;
    }
}
