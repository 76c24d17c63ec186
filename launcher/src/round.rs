//! One run, from the lock to the agent's end.

use std::{env, io, path::PathBuf, time::Duration};

use journeyman_host::{
    arguments::ConnectionSettings,
    autoregister::ImageVariables,
    connection::Connection,
    lock::{Lock, LockError},
    logging::{self, Terminal},
    properties::Properties,
    workdir::WorkDir,
};
use journeyman_protocol::release::{Component, ComponentRelease, MachineReport, Release};
use thiserror::Error;
use tracing::{error, info, warn};

use crate::{
    RunArguments, VERSION, agent, digest,
    download::{self, DownloadError, Downloaded, refuse},
    exit_code, java_agent,
    keys::{KeyError, Keys},
    offer::{self, Offer},
    package::{self, UnpackError},
    releases::{self, InstallError},
    stop::{Stop, Stops},
};

/// A launcher whose bootstrapper was killed ends at once; a job's end is not waited for here.
const DYING_PREDECESSOR: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// GoCD's name for the pause, in milliseconds.
const DOWNLOAD_PAUSE: &str = "sleep.for.download";
/// How often a damaged download is tried again before an agent that is installed is started.
const DAMAGED_DOWNLOADS: u32 = 3;

/// Runs the launcher and returns its exit code, see [`exit_code`]. Errors are told to the
/// operator here.
pub fn run(arguments: &RunArguments) -> u8 {
    let settings = match arguments.connection.validate() {
        Ok(settings) => settings,
        Err(error) => return hopeless(&error, exit_code::USAGE),
    };
    match prepare() {
        Ok((workdir, lock)) => {
            info!(
                version = VERSION,
                server = settings.base_url(),
                "launcher starts"
            );
            let code = match in_runtime(&workdir, &lock, &settings, arguments) {
                Ok(code) => code,
                Err(error) => {
                    error!(%error, "cannot run the launcher");
                    exit_code::FAILED
                }
            };
            java_agent::make_old(&lock);
            code
        }
        Err(error @ (PrepareError::Locked(_) | PrepareError::JavaAgent { .. })) => {
            hopeless(&error, exit_code::LOCKED)
        }
        Err(error) => hopeless(&error, exit_code::FAILED),
    }
}

/// Says on standard error why the launcher cannot run.
#[expect(
    clippy::print_stderr,
    reason = "the log may not be there yet, and an operator waits"
)]
fn hopeless(error: &dyn std::fmt::Display, code: u8) -> u8 {
    eprintln!("journeyman-launcher: {error}");
    error!(%error, "the launcher cannot run");
    code
}

#[derive(Debug, Error)]
enum PrepareError {
    #[error(transparent)]
    Folder(#[from] journeyman_host::workdir::WorkDirError),
    #[error(transparent)]
    File(#[from] journeyman_host::durable::FileError),
    #[error(transparent)]
    Locked(LockError),
    #[error(
        "a Java agent runs in {} (process {process}): stop it first, two agents of one GUID take \
         their jobs from each other",
        folder.display()
    )]
    JavaAgent { folder: PathBuf, process: i32 },
    #[error(transparent)]
    Lock(LockError),
    #[error(transparent)]
    AutoRegister(#[from] journeyman_host::autoregister::AutoRegisterError),
}

fn prepare() -> Result<(WorkDir, Lock), PrepareError> {
    let workdir = WorkDir::current()?;
    workdir.prepare()?;
    let lock = Lock::acquire(&workdir.launcher_lock(), DYING_PREDECESSOR).map_err(|error| {
        if matches!(error, LockError::Held { .. }) {
            PrepareError::Locked(error)
        } else {
            PrepareError::Lock(error)
        }
    })?;
    if let Some(process) = java_agent::in_folder(workdir.root(), DYING_PREDECESSOR) {
        let folder = workdir.root().to_owned();
        return Err(PrepareError::JavaAgent { folder, process });
    }
    // There are few lines, and whoever started the bootstrapper waits for them.
    logging::start(&workdir.launcher_log(), Terminal::Echo)?;
    ImageVariables::from_environment(|name| env::var_os(name)).append_to_file(&workdir)?;
    Ok((workdir, lock))
}

/// One thread: there is never more than one thing to do.
fn in_runtime(
    workdir: &WorkDir,
    lock: &Lock,
    settings: &ConnectionSettings,
    arguments: &RunArguments,
) -> io::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        tokio::select! {
            code = launch(workdir, settings, arguments) => code,
            () = java_agent::keep_young(lock) => Ok(exit_code::FAILED),
        }
    })
}

async fn launch(
    workdir: &WorkDir,
    settings: &ConnectionSettings,
    arguments: &RunArguments,
) -> io::Result<u8> {
    let mut stops = Stops::take(arguments.lifeline)?;
    let ready = tokio::select! {
        ready = bring_up_to_date(workdir, settings) => ready,
        stop = stops.next() => {
            return Ok(match stop {
                Stop::Asked => exit_code::STOPPED,
                Stop::ParentDied => exit_code::FAILED,
            });
        }
    };
    let (installed, properties) = match ready {
        Ready::OutOfDate => return Ok(exit_code::OUT_OF_DATE),
        Ready::Start(installed, properties) => (installed, properties),
    };
    let version = &arguments.bootstrapper_version;
    match agent::start(workdir, &installed, settings, version, &properties) {
        Ok(child) => {
            info!(release = %installed.folder.display(), process = child.id(), "started the agent");
            Ok(agent::watch(child, &mut stops).await)
        }
        Err(error) => {
            error!(
                folder = %installed.folder.display(),
                %error,
                "cannot start the agent; removing the folder makes the launcher download it again"
            );
            Ok(exit_code::FAILED)
        }
    }
}

/// What to do once everything was compared.
enum Ready {
    /// The launcher was replaced.
    OutOfDate,
    /// This agent is to be started, with these properties of its server.
    Start(Box<releases::Installed>, Properties),
}

/// Compares with the server and installs what differs. Without an installed agent it goes on
/// until there is one; with one, a server that is out of reach is no reason to wait.
async fn bring_up_to_date(workdir: &WorkDir, settings: &ConnectionSettings) -> Ready {
    releases::clean_up(workdir);
    // GoCD: a fixed pause, 10 s unless the property says another.
    let fixed = Properties::of_launcher().millis(DOWNLOAD_PAUSE);
    let mut pause = fixed.unwrap_or(FIRST_PAUSE);
    let mut damaged = 0;
    loop {
        let (problem, properties) = match attempt(workdir, settings).await {
            Ok(Attempt::OutOfDate) => return Ready::OutOfDate,
            Ok(Attempt::UpToDate(properties)) => (None, properties),
            Err(problem) => (Some(problem), Properties::default()),
        };
        let installed = releases::current(workdir);
        match (installed, problem) {
            (Some(installed), None) => return Ready::Start(Box::new(installed), properties),
            (Some(installed), Some(problem))
                if !problem.is_damaged_download() || damaged == DAMAGED_DOWNLOADS =>
            {
                warn!(%problem, "going on with the agent that is installed");
                return Ready::Start(Box::new(installed), properties);
            }
            (_, Some(problem)) => error!(%problem, again_in = ?pause, "cannot install the agent"),
            (None, None) => error!(
                server = settings.base_url(),
                again_in = ?pause,
                "no agent is installed here and the server offers none: give the server a release \
                 (see its --releases), or copy the agent's package (agent-linux-x86_64.tar.zst) \
                 into this folder"
            ),
        }
        damaged += 1;
        tokio::time::sleep(pause).await;
        pause = fixed.unwrap_or((pause * 2).min(LONGEST_PAUSE));
    }
}

enum Attempt {
    OutOfDate,
    /// With the properties that a GoCD server has for the agent.
    UpToDate(Properties),
}

#[derive(Debug, Error)]
enum Problem {
    #[error(transparent)]
    Connection(#[from] journeyman_host::connection::ConnectionError),
    #[error(transparent)]
    Offer(#[from] offer::OfferError),
    #[error(transparent)]
    Download(#[from] DownloadError),
    #[error("the package in the working directory is refused: {0}")]
    Key(#[from] KeyError),
    #[error(transparent)]
    Install(#[from] InstallError),
    #[error(transparent)]
    File(#[from] journeyman_host::durable::FileError),
    #[error("cannot read the launcher's own file: {0}")]
    OwnFile(io::Error),
}

impl Problem {
    /// The server wants another agent to run, so a download that was damaged on its way is worth
    /// a few more attempts; everything else must not keep an installed agent waiting.
    const fn is_damaged_download(&self) -> bool {
        matches!(
            self,
            Self::Download(DownloadError::Refused { .. } | DownloadError::Broken { .. })
        )
    }
}

async fn attempt(workdir: &WorkDir, settings: &ConnectionSettings) -> Result<Attempt, Problem> {
    let mut connection = Connection::open(workdir, settings).await?;
    let report = MachineReport {
        platform: offer::OWN_PLATFORM.to_owned(),
        ..MachineReport::default()
    };
    let offer = match offer::ask(&connection, &report).await {
        // The server's secure address may have moved; the configured one is still right.
        Err(offer::OfferError::Unreachable(reason)) if connection.is_secure() => {
            warn!(%reason, "asking the configured URL instead");
            connection = Connection::configured(workdir, settings).await?;
            offer::ask(&connection, &report).await?
        }
        offer => offer?,
    };
    let release: Release = match offer {
        Offer::Release(release) => *release,
        Offer::OtherServer => {
            info!(
                server = connection.base_url(),
                "a GoCD server: its agent is a Java program"
            );
            install_from_folder(workdir)?;
            let properties = offer::extra_properties(&connection).await;
            return Ok(Attempt::UpToDate(properties));
        }
        Offer::Nothing => {
            install_from_folder(workdir)?;
            return Ok(Attempt::UpToDate(Properties::default()));
        }
    };
    if !is_own(workdir, &release.launcher)? {
        let launcher = &release.launcher;
        let package = fetch(&connection, workdir, launcher, Component::Launcher).await?;
        refusing(workdir, launcher, package, |package| {
            releases::replace_launcher(workdir, launcher, package)
        })?;
        info!(
            version = release.launcher.manifest.version,
            "replaced the launcher"
        );
        return Ok(Attempt::OutOfDate);
    }
    let agent = &release.agent;
    if !releases::is_current(workdir, agent) {
        if !releases::is_installed(workdir, agent) {
            let package = fetch(&connection, workdir, agent, Component::Agent).await?;
            refusing(workdir, agent, package, |package| {
                releases::install(workdir, agent, package)
            })?;
        }
        releases::switch(workdir, agent)?;
    }
    Ok(Attempt::UpToDate(Properties::default()))
}

/// A server that offers no agent: a package in the working directory takes the place of an offer.
fn install_from_folder(workdir: &WorkDir) -> Result<(), Problem> {
    if let Some((agent, package)) = releases::in_folder(workdir)
        && !releases::is_current(workdir, &agent)
    {
        if !releases::is_installed(workdir, &agent) {
            package::check(&agent.manifest, Component::Agent).map_err(InstallError::from)?;
            let keys = Keys::of(workdir);
            let verified = keys.verify(&agent.package)?;
            releases::install(workdir, &agent, &package)?;
            keys.retire(&agent.manifest, &verified);
        }
        releases::switch(workdir, &agent)?;
    }
    Ok(())
}

/// Whether the launcher on disk is the offered one.
fn is_own(workdir: &WorkDir, offered: &ComponentRelease) -> Result<bool, Problem> {
    let manifest = &offered.manifest;
    let Some(file) = manifest
        .files
        .iter()
        .find(|file| file.path == manifest.entry_points.start.path)
    else {
        return Ok(false);
    };
    match digest::of_file(&workdir.launcher()) {
        Ok(sha256) => Ok(sha256 == file.sha256),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Problem::OwnFile(error)),
    }
}

async fn fetch(
    connection: &Connection,
    workdir: &WorkDir,
    offered: &ComponentRelease,
    expected: Component,
) -> Result<Downloaded, Problem> {
    package::check(&offered.manifest, expected).map_err(InstallError::from)?;
    Ok(download::download(connection, workdir, offered, &|_| ()).await?)
}

/// Keeps a package that was refused, to be looked at.
fn refusing(
    workdir: &WorkDir,
    offered: &ComponentRelease,
    package: Downloaded,
    install: impl FnOnce(&std::path::Path) -> Result<(), InstallError>,
) -> Result<(), InstallError> {
    let installed = install(package.path());
    match &installed {
        Ok(()) => package.installed(&offered.manifest),
        Err(InstallError::Unpack(UnpackError::Refused(_))) => {
            refuse(workdir, offered.manifest.component, package.path());
        }
        Err(_) => {}
    }
    installed
}
