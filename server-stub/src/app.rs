//! What every request handler and background loop shares.

use std::sync::Arc;

use http::{HeaderMap, header};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    agents::Contacts,
    artifacts,
    clock::Clock,
    configuration::{Configuration, Paths},
    console::Consoles,
    database::Database,
    health::Health,
    jobs::JobLocks,
    listening::Peer,
    maintenance::Maintenance,
    materials::Materials,
    metrics::Metrics,
    pipelines::{cipher::Cipher, watch::Looks},
    registration::Keys,
    releases::Releases,
    remoting::Polls,
    scheduling::{Queue, production::Production},
    trust::Trust,
    users::{Users, oidc::Conversation},
    webhooks::WebhookSecret,
};

/// The shared state of one running server. Handlers get it as `State<Arc<App>>`.
pub struct App {
    pub configuration: Configuration,
    pub paths: Paths,
    pub database: Database,
    pub clock: Arc<dyn Clock>,
    pub trust: Trust,
    pub keys: Keys,
    /// For encrypted values of configuration files.
    pub cipher: Arc<Cipher>,
    /// What hosts of git repositories prove themselves with.
    pub webhook_secret: WebhookSecret,
    pub users: Users,
    /// Whether the server keeps still.
    pub maintenance: Maintenance,
    /// Who vouches for people besides their passwords.
    pub provider: Option<Conversation>,
    pub consoles: Consoles,
    /// Held while the artifacts of a job are changed.
    pub artifact_locks: JobLocks,
    /// For published pages.
    pub report_tickets: artifacts::Tickets,
    pub releases: Releases,
    /// What is wrong just now.
    pub health: Health,
    /// Which configuration repositories are being looked at.
    pub looks: Looks,
    /// When which git material is looked at.
    pub materials: Materials,
    /// Which pipelines changes may start.
    pub production: Production,
    pub polls: Polls,
    /// Agents that were heard since they were written down.
    pub contacts: Contacts,
    /// What waiting jobs need.
    pub queue: Queue,
    pub metrics: Metrics,
    /// Where the server can be reached.
    pub endpoints: Endpoints,
    /// Raised whenever other jobs may wait for agents than before. Of the `get_work` calls that wait,
    /// as many look as can get one.
    pub work_changed: Signal,
    /// An agent that runs a job has to be told something: see [`crate::agents::instruction`].
    pub instructed: Signal,
    /// Raised whenever the state of a job, a stage or an agent changed. Live pages look again.
    pub state_changed: Signal,
    /// Cancelled once when the server is asked to stop.
    pub stopping: CancellationToken,
    /// Every task that was spawned and must have ended before the process does.
    pub tasks: TaskTracker,
}

/// The addresses the server listens on, up to and including `/go`, without a trailing slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    pub http_url: String,
    pub https_url: String,
    /// The port of `https_url`.
    pub https_port: u16,
    /// The names and addresses in the server's certificate; the first is what it calls itself.
    pub names: Vec<String>,
}

impl App {
    /// The time now in milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// The address up to and including `/go`: the one that was set, or else as the caller knows it.
    pub fn base_url(&self, headers: &HeaderMap, peer: Option<&Peer>) -> String {
        match (&self.configuration.site_url, peer) {
            (Some(site), _) => format!("{}go", site.as_str()),
            (None, Some(peer)) => peer.base_url(headers),
            (None, None) => self.endpoints.http_url.clone(),
        }
    }

    /// The HTTPS address for a caller who sent these headers: by the name the caller knows, if the
    /// certificate has it, else by the name the server calls itself.
    pub fn secure_url(&self, headers: &HeaderMap) -> String {
        let host = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok())
            .unwrap_or_default();
        let host = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        let host = host.trim_matches(['[', ']']);
        let names = &self.endpoints.names;
        let name = names
            .iter()
            .find(|name| name.eq_ignore_ascii_case(host))
            .or(names.first());
        let name = name.map_or("localhost", String::as_str);
        let name = if name.contains(':') {
            format!("[{name}]")
        } else {
            name.to_owned()
        };
        format!("https://{name}:{}/go", self.endpoints.https_port)
    }
}

/// Says "look again" to any number of waiters, and loses none: a waiter that subscribed before it
/// looked is woken by every change after that.
#[derive(Debug)]
pub struct Signal {
    generation: watch::Sender<u64>,
}

impl Signal {
    pub fn new() -> Self {
        Self {
            generation: watch::Sender::new(0),
        }
    }

    /// Wakes every waiter.
    pub fn raise(&self) {
        self.generation
            .send_modify(|generation| *generation = generation.wrapping_add(1));
    }

    /// While this stays the same, nobody has raised it.
    pub fn generation(&self) -> u64 {
        *self.generation.borrow()
    }

    /// Subscribe first, then look, then wait for [`Waiter::raised`], then look again.
    pub fn subscribe(&self) -> Waiter {
        Waiter {
            generation: self.generation.subscribe(),
        }
    }
}

impl Default for Signal {
    fn default() -> Self {
        Self::new()
    }
}

/// One subscription to a [`Signal`].
#[derive(Debug, Clone)]
pub struct Waiter {
    generation: watch::Receiver<u64>,
}

impl Waiter {
    /// Returns when the signal was raised since the subscription or the last return. Cancel safe.
    pub async fn raised(&mut self) {
        if self.generation.changed().await.is_err() {
            // The signal is gone with its server: there is nothing left to wait for.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_address_that_was_set_wins_over_the_callers() {
        use crate::{
            clock::SystemClock, configuration::Configuration, scheduling::tests::serve_with,
            users::Login,
        };
        let data = tempfile::tempdir().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "inside:8153".parse().unwrap());
        let peer = Peer {
            address: ([127, 0, 0, 1], 1).into(),
            secure: false,
            certificate: None,
        };
        for (site_url, expected) in [
            (None, "http://inside:8153/go"),
            (Some("https://ci.example.com"), "https://ci.example.com/go"),
        ] {
            let configuration = Configuration {
                site_url: site_url.map(|url| url.parse().unwrap()),
                automatic_runs: false,
                ..Configuration::default()
            };
            let clock = Arc::new(SystemClock);
            let running = serve_with(data.path(), Login::Off, clock, configuration).await;
            assert_eq!(running.app.base_url(&headers, Some(&peer)), expected);
            running.stop().await;
        }
    }

    #[tokio::test]
    async fn a_signal_raised_between_looking_and_waiting_is_not_lost() {
        let signal = Signal::new();
        let mut waiter = signal.subscribe();
        signal.raise();
        waiter.raised().await;
    }
}
