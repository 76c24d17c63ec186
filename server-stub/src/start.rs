//! Starting and stopping a server.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use openssl::error::ErrorStack;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    App, agents,
    app::{Endpoints, Signal},
    artifacts::Tickets,
    backup,
    clock::Clock,
    configuration::{Configuration, Paths, Port, url_host},
    console::Consoles,
    database::{Database, DatabaseError, OpenError},
    durable,
    health::Health,
    jobs::JobLocks,
    listening::{self, BindError, Listener, STOP_GRACE},
    maintenance::{self, Maintenance},
    materials::{self, Materials},
    metrics::Metrics,
    pipelines::{
        self,
        cipher::{Cipher, KeyError},
        watch::Looks,
    },
    registration::Keys,
    releases::{self, Releases},
    remoting::{self, Polls},
    retention, router,
    scheduling::{self, production, production::Production, timer},
    trust::{self, Trust, TrustError},
    users::{self, Login, Users, oidc::Conversation},
    webhooks::{self, WebhookSecret},
};

/// How long the data folder's lock is waited for.
const DYING_PREDECESSOR: Duration = Duration::from_secs(5);
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// What a server is started with.
pub struct Start {
    pub configuration: Configuration,
    pub paths: Paths,
    pub http_port: Port,
    pub https_port: Port,
    /// Replaces the stored auto-register key.
    pub auto_register_key: Option<SecretString>,
    pub login: Login,
    pub clock: Arc<dyn Clock>,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(
        "cannot write to the data folder {}; give a folder on a disk with space that this user may write to, with --data",
        path.display()
    )]
    Folder {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the data folder {} is in use by another server (process {pid}): stop it, or give another folder with --data", path.display())]
    Locked { path: PathBuf, pid: String },
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error("cannot set up TLS")]
    Tls(#[from] ErrorStack),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("cannot use the sockets that were opened")]
    Socket(#[source] io::Error),
    #[error(transparent)]
    Write(#[from] durable::WriteError),
    #[error(transparent)]
    CipherKey(#[from] KeyError),
    #[error(transparent)]
    Webhooks(#[from] webhooks::SecretError),
    #[error("cannot set up what speaks with the OpenID provider; check the system's certificates")]
    Provider(#[source] reqwest::Error),
    #[error(transparent)]
    Random(#[from] users::secret::NoRandomness),
    #[error(transparent)]
    Users(#[from] users::OpenError),
    #[error(
        "there is no login (--no-login), and {0} is reached by other machines: listen on 127.0.0.1, or leave --no-login out"
    )]
    NoLogin(std::net::IpAddr),
    #[error(transparent)]
    Releases(#[from] releases::store::StoreError),
}

/// A server that runs.
pub struct Running {
    pub app: Arc<App>,
    /// SHA-256 of the authority's certificate in hex.
    pub ca_fingerprint: String,
    /// The first admin's password, when this start has made it up.
    pub first_password: Option<SecretString>,
    http: SocketAddr,
    /// Kept open: its lock is what keeps a second server out.
    _lock: File,
}

/// `endpoints.json` in the data folder.
#[derive(Serialize)]
struct EndpointsFile<'a> {
    http_url: &'a str,
    https_url: &'a str,
    pid: u32,
    ca_fingerprint: &'a str,
}

/// Starts a server; it serves when this returns.
///
/// # Errors
///
/// See [`StartError`]: nothing runs then.
pub async fn start(start: Start) -> Result<Running, StartError> {
    let Start {
        configuration,
        paths,
        http_port,
        https_port,
        auto_register_key,
        login,
        clock,
    } = start;
    if matches!(login, Login::Off) && !configuration.listen.is_loopback() {
        return Err(StartError::NoLogin(configuration.listen));
    }
    let lock = take_folder(&paths)?;
    let database = Database::open(&paths.database()).await?;
    let now = clock.now();
    let names = names(&configuration);
    let trust = Trust::open(&paths.trust(), &names, now)?;
    let acceptor = trust::acceptor(&trust)?;
    let ca_fingerprint = trust.fingerprint()?;

    let http = listening::bind(configuration.listen, http_port, "HTTP", "--http-port")?;
    let https = listening::bind(configuration.listen, https_port, "HTTPS", "--https-port")?;
    let http_address = http.local_addr().map_err(StartError::Socket)?;
    let https_address = https.local_addr().map_err(StartError::Socket)?;
    let http = TcpListener::from_std(http).map_err(StartError::Socket)?;
    let https = TcpListener::from_std(https).map_err(StartError::Socket)?;

    let mut write = database.write().await?;
    let keys = Keys::open(&mut write, auto_register_key.as_ref()).await?;
    let (users, first_password) = Users::open(login, &paths, &mut write, clock.now_ms()).await?;
    let maintenance = Maintenance::open(&mut write, clock.now_ms()).await?;
    backup::asked::server_started(&mut write).await?;
    agents::server_started(&mut write, clock.now_ms()).await?;
    write.commit().await.map_err(DatabaseError::from)?;
    let key = keys.auto_register_key().expose_secret();
    durable::write(
        &paths.auto_register_key(),
        format!("{key}\n").as_bytes(),
        0o600,
    )?;

    let cipher = Arc::new(Cipher::open(&paths.cipher_key())?);
    let report_tickets = Tickets::new()?;
    let webhook_secret = match &configuration.webhook_secret {
        Some(given) => WebhookSecret::given(given.clone()),
        None => WebhookSecret::open(&paths.webhook_secret())?,
    };

    let provider = configuration.provider.clone().map(Conversation::new);
    let provider = provider.transpose().map_err(StartError::Provider)?;

    let endpoints = Endpoints {
        http_url: format!(
            "http://{}:{}/go",
            url_host(http_address),
            http_address.port()
        ),
        https_url: format!(
            "https://{}:{}/go",
            url_host(https_address),
            https_address.port()
        ),
        https_port: https_address.port(),
        names,
    };
    let app = Arc::new(App {
        consoles: Consoles::new(paths.consoles()),
        releases: Releases::default(),
        health: Health::default(),
        looks: Looks::default(),
        materials: Materials::default(),
        production: Production::default(),
        configuration,
        paths,
        database,
        clock,
        trust,
        keys,
        cipher,
        webhook_secret,
        users,
        maintenance,
        provider,
        artifact_locks: JobLocks::default(),
        report_tickets,
        polls: Polls::default(),
        contacts: agents::Contacts::default(),
        queue: scheduling::Queue::default(),
        metrics: Metrics::default(),
        endpoints,
        work_changed: Signal::new(),
        instructed: Signal::new(),
        state_changed: Signal::new(),
        stopping: CancellationToken::new(),
        tasks: TaskTracker::new(),
    });
    maintenance::tell(&app);
    releases::store::tidy(&app).await?;
    releases::folder::refresh(&app).await?;
    let routes = router::router(Arc::clone(&app));
    for listener in [
        Listener {
            socket: http,
            tls: None,
        },
        Listener {
            socket: https,
            tls: Some(acceptor),
        },
    ] {
        let served = listening::serve(
            listener,
            routes.clone(),
            app.tasks.clone(),
            app.stopping.clone(),
        );
        app.tasks.spawn(served);
    }
    scheduling::resume(&app).await?;
    app.tasks.spawn(agents::watch(Arc::clone(&app)));
    app.tasks.spawn(remoting::wake(Arc::clone(&app)));
    app.tasks.spawn(pipelines::watch::watch(Arc::clone(&app)));
    app.tasks.spawn(materials::watch(Arc::clone(&app)));
    app.tasks.spawn(production::watch(Arc::clone(&app)));
    app.tasks.spawn(timer::watch(Arc::clone(&app)));
    app.tasks
        .spawn(scheduling::timeouts::watch(Arc::clone(&app)));
    app.tasks.spawn(retention::watch(Arc::clone(&app)));

    let file = EndpointsFile {
        http_url: &app.endpoints.http_url,
        https_url: &app.endpoints.https_url,
        pid: std::process::id(),
        ca_fingerprint: &ca_fingerprint,
    };
    let document = serde_json::json!(file).to_string();
    durable::write(&app.paths.endpoints(), document.as_bytes(), 0o644)?;
    Ok(Running {
        app,
        ca_fingerprint,
        first_password,
        http: http_address,
        _lock: lock,
    })
}

impl Running {
    /// The socket that HTTP is served on.
    pub fn http_address(&self) -> SocketAddr {
        self.http
    }

    /// Stops: answers waiting requests, lets the others end within [`STOP_GRACE`], closes the
    /// database.
    pub async fn stop(self) {
        self.app.stopping.cancel();
        self.app.tasks.close();
        if tokio::time::timeout(STOP_GRACE, self.app.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("some requests did not end in time and are cut off");
        }
        self.app.database.close().await;
        // Whoever reads it would find nobody there.
        let _ = fs::remove_file(self.app.paths.endpoints());
    }
}

/// Makes the data folder, takes its lock, and empties what an earlier server left half-done.
fn take_folder(paths: &Paths) -> Result<File, StartError> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| StartError::Folder { path, source }
    };
    durable::private_folder(&paths.data).map_err(failed(&paths.data))?;
    let lock_path = paths.lock();
    let mut lock = File::options()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .open(&lock_path)
        .map_err(failed(&paths.data))?;
    // One that was told to stop, or killed, just now is gone in a moment.
    let deadline = Instant::now() + DYING_PREDECESSOR;
    let mut locked = lock.try_lock();
    while matches!(locked, Err(TryLockError::WouldBlock)) && Instant::now() < deadline {
        std::thread::sleep(LOCK_PAUSE);
        locked = lock.try_lock();
    }
    match locked {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = (&lock).take(32).read_to_string(&mut pid);
            let pid = if pid.trim().is_empty() {
                "unknown".to_owned()
            } else {
                pid.trim().to_owned()
            };
            return Err(StartError::Locked {
                path: paths.data.clone(),
                pid,
            });
        }
        Err(TryLockError::Error(source)) => return Err(failed(&paths.data)(source)),
    }
    lock.set_len(0).map_err(failed(&paths.data))?;
    writeln!(lock, "{}", std::process::id()).map_err(failed(&paths.data))?;
    lock.sync_all().map_err(failed(&paths.data))?;

    let incoming = paths.incoming();
    if incoming.exists() {
        fs::remove_dir_all(&incoming).map_err(failed(&incoming))?;
    }
    for folder in [&incoming, &paths.consoles()] {
        fs::create_dir_all(folder).map_err(failed(folder))?;
    }
    Ok(lock)
}

/// What the certificate is for, the name the server calls itself first.
fn names(configuration: &Configuration) -> Vec<String> {
    let mut names: Vec<String> = configuration
        .hostnames
        .iter()
        .map(|name| name.trim().to_owned())
        .collect();
    let machine = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok());
    if !configuration.listen.is_loopback() {
        names.extend(machine.clone());
        if !configuration.listen.is_unspecified() {
            names.push(configuration.listen.to_string());
        }
    }
    names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
    names.extend(machine);
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| !name.is_empty() && seen.insert(name.to_ascii_lowercase()));
    names
}
