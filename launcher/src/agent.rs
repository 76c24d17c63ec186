//! The agent's process: starting it, hearing what it says, and its end.

use std::{
    env,
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io,
    os::{fd::OwnedFd, unix::net},
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use journeyman_host::{
    arguments::{ConnectionSettings, ELASTIC_SERVER_URL, SERVER_URL},
    autoregister::ImageVariables,
    lock::{Lock, LockError},
    properties::{CONSOLE_TO_OWN_OUTPUT, MORE_STARTUP_ARGUMENTS, Properties},
    workdir::WorkDir,
};
use journeyman_protocol::launcher::Contact;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::AsyncReadExt,
    net::UnixStream,
    process::{Child, Command},
    time::timeout,
};
use tracing::{info, warn};

use crate::{VERSION, releases::Installed};

/// What an agent prints outside its log is kept up to this size, twice. Bytes.
const LARGEST_OUTPUT: u64 = 5 * 1024 * 1024;
/// An agent that is told to leave does so at once; its job goes on without it.
const LEAVING: Duration = Duration::from_secs(10);
/// Longest word that an agent says, in bytes; more at a time is noise.
const LONGEST_WORD: usize = 64;

/// A running agent.
#[derive(Debug)]
pub(crate) struct Agent {
    child: Child,
    /// Its standard input. Closed, it tells the agent to leave.
    line: Option<UnixStream>,
    /// The beginning of a word.
    heard: Vec<u8>,
    requests_to_stop: u32,
}

/// What happened to an agent.
#[derive(Debug)]
pub(crate) enum Happened {
    /// It said something.
    Said(Contact),
    /// It ended.
    Ended(io::Result<ExitStatus>),
}

impl Agent {
    /// Starts an installed agent: the arguments of its manifest, then those of the connection.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start(
        workdir: &WorkDir,
        installed: &Installed,
        settings: &ConnectionSettings,
        bootstrapper_version: &str,
        from_server: &Properties,
    ) -> io::Result<Self> {
        let entry_point = &installed.manifest.entry_points.start;
        let own = entry_point.args.iter().map(|word| {
            OsString::from(
                word.replace("{bootstrapper_version}", bootstrapper_version)
                    .replace("{launcher_version}", VERSION)
                    .replace("{release}", &installed.name),
            )
        });
        let (line, input) = net::UnixStream::pair()?;
        line.set_nonblocking(true)?;
        let mut command = Command::new(installed.folder.join(&entry_point.path));
        command
            .args(own)
            .args(settings.to_arguments())
            .current_dir(workdir.root())
            .stdin(Stdio::from(OwnedFd::from(input)));
        // GoCD's images want everything on the container's own output.
        if Properties::of_launcher()
            .is_on(CONSOLE_TO_OWN_OUTPUT)
            .unwrap_or(false)
        {
            command.stdout(Stdio::inherit()).stderr(Stdio::inherit());
        } else {
            command
                .stdout(output(&workdir.agent_stdout())?)
                .stderr(output(&workdir.agent_stderr())?);
        }
        // They are in config/autoregister.properties now; jobs must not see them.
        for name in ImageVariables::NAMES {
            command.env_remove(name);
        }
        // GoCD's images: an elastic agent and its jobs see the server's URL under its usual name.
        if let Some(url) = env::var_os(ELASTIC_SERVER_URL).filter(|url| !url.is_empty()) {
            command.env(SERVER_URL, url);
        }
        // GoCD: after the operator's own, so that the server has the last word.
        let words = from_server.to_startup_arguments();
        if !words.is_empty() {
            let own = env::var(MORE_STARTUP_ARGUMENTS).unwrap_or_default();
            command.env(MORE_STARTUP_ARGUMENTS, format!("{own} {words}").trim());
        }
        let child = command.spawn()?;
        info!(
            release = installed.name,
            process = child.id(),
            "started the agent"
        );
        Ok(Self {
            child,
            line: Some(UnixStream::from_std(line)?),
            heard: Vec::new(),
            requests_to_stop: 0,
        })
    }

    /// Waits until something happens. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Happened {
        loop {
            if let Some(contact) = self.take_word() {
                return Happened::Said(contact);
            }
            let Some(line) = &mut self.line else {
                return Happened::Ended(self.child.wait().await);
            };
            tokio::select! {
                ended = self.child.wait() => return Happened::Ended(ended),
                read = line.read_buf(&mut self.heard) => if !matches!(read, Ok(1..)) {
                    // It closed its standard input, or is about to end.
                    return Happened::Ended(self.child.wait().await);
                },
            }
        }
    }

    /// The next known word of what was heard.
    fn take_word(&mut self) -> Option<Contact> {
        while let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
            let word: Vec<u8> = self.heard.drain(..=end).collect();
            if let Some(contact) = str::from_utf8(&word).ok().and_then(Contact::parse) {
                return Some(contact);
            }
        }
        if self.heard.len() > LONGEST_WORD {
            self.heard.clear();
        }
        None
    }

    /// Passes a request to stop on: the first lets the running job finish, the second cancels it,
    /// the third kills.
    pub(crate) fn ask_to_stop(&mut self) {
        self.requests_to_stop += 1;
        info!(requests = self.requests_to_stop, "asked to stop");
        // Two signals of a kind that come close together become one.
        let signal = match self.requests_to_stop {
            1 => Signal::SIGTERM,
            _ => Signal::SIGINT,
        };
        let sent = if self.requests_to_stop >= 3 {
            self.child.start_kill()
        } else {
            self.child
                .id()
                .and_then(|id| i32::try_from(id).ok())
                .map_or(Ok(()), |id| Ok(kill(Pid::from_raw(id), signal)?))
        };
        if let Err(error) = sent {
            warn!(%error, "cannot signal the agent");
        }
    }

    /// Whether somebody asked it to stop.
    pub(crate) const fn is_asked_to_stop(&self) -> bool {
        self.requests_to_stop > 0
    }

    /// Tells it to leave, and waits until it has. Its job runner goes on.
    pub(crate) async fn leave(mut self) {
        drop(self.line.take());
        if timeout(LEAVING, self.child.wait()).await.is_err() {
            warn!(after = ?LEAVING, "the agent does not leave; killing it");
            if let Err(error) = self.child.kill().await {
                warn!(%error, "cannot kill the agent");
            }
        }
    }
}

/// Ends an agent that outlived its launcher and does not leave: no other can start beside it.
pub(crate) fn end_stuck(workdir: &WorkDir, patience: Duration) {
    let Err(LockError::Held {
        holder: Some(process),
        ..
    }) = Lock::acquire(&workdir.agent_lock(), patience)
    else {
        return;
    };
    // The number may be that of another process by now.
    let is_here =
        fs::read_link(format!("/proc/{process}/cwd")).is_ok_and(|folder| folder == workdir.root());
    if is_here {
        warn!(
            process,
            "the agent of a launcher that died does not leave; killing it"
        );
        let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
    }
}

/// Opens a file for what the agent prints, and puts a large one aside.
fn output(path: &Path) -> io::Result<File> {
    if fs::metadata(path).is_ok_and(|file| file.len() > LARGEST_OUTPUT) {
        fs::rename(path, path.with_extension("1.log"))?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}
