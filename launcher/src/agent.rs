//! Starting the agent, and watching it until it ends.

use std::{
    env,
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io,
    path::Path,
    process::{ExitStatus, Stdio},
};

use journeyman_host::{
    arguments::{ConnectionSettings, ELASTIC_SERVER_URL, SERVER_URL},
    autoregister::ImageVariables,
    properties::{CONSOLE_TO_OWN_OUTPUT, MORE_STARTUP_ARGUMENTS, Properties},
    workdir::WorkDir,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::process::{Child, Command};
use tracing::{info, warn};

use crate::{
    VERSION, exit_code,
    releases::Installed,
    stop::{Stop, Stops},
};

/// What an agent prints outside its log is kept up to this size, twice. Bytes.
const LARGEST_OUTPUT: u64 = 5 * 1024 * 1024;

/// Starts an installed agent: the arguments of its manifest, then those of the connection.
pub(crate) fn start(
    workdir: &WorkDir,
    installed: &Installed,
    settings: &ConnectionSettings,
    bootstrapper_version: &str,
    from_server: &Properties,
) -> io::Result<Child> {
    let entry_point = &installed.manifest.entry_points.start;
    let release = installed.folder.file_name().unwrap_or_default();
    let release = release.to_string_lossy();
    let own = entry_point.args.iter().map(|word| {
        OsString::from(
            word.replace("{bootstrapper_version}", bootstrapper_version)
                .replace("{launcher_version}", VERSION)
                .replace("{release}", &release),
        )
    });
    let mut command = Command::new(installed.folder.join(&entry_point.path));
    command
        .args(own)
        .args(settings.to_arguments())
        .current_dir(workdir.root())
        .stdin(Stdio::piped());
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
    command.spawn()
}

/// Waits for the agent's end and returns the launcher's exit code. Each request to stop is passed
/// on once; the third kills. The agent's standard input stays open all the time: its end tells
/// the agent that this launcher died.
pub(crate) async fn watch(mut child: Child, stops: &mut Stops) -> u8 {
    let _lifeline = child.stdin.take();
    let mut requests = 0;
    loop {
        tokio::select! {
            ended = child.wait() => return code(ended),
            stop = stops.next() => match stop {
                Stop::ParentDied => {
                    warn!("the bootstrapper died; ending, so that a new one can take over");
                    return exit_code::FAILED;
                }
                Stop::Asked => {
                    requests += 1;
                    pass_on(&mut child, requests);
                }
            },
        }
    }
}

fn pass_on(child: &mut Child, requests: u32) {
    info!(requests, "asked to stop");
    // Two signals of a kind that come close together become one.
    let signal = if requests == 1 {
        Signal::SIGTERM
    } else {
        Signal::SIGINT
    };
    let sent = if requests >= 3 {
        child.start_kill()
    } else {
        child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .map_or(Ok(()), |id| Ok(kill(Pid::from_raw(id), signal)?))
    };
    if let Err(error) = sent {
        warn!(%error, "cannot signal the agent");
    }
}

fn code(ended: io::Result<ExitStatus>) -> u8 {
    match ended {
        Ok(status) => {
            info!(%status, "the agent ended");
            status
                .code()
                .and_then(|code| u8::try_from(code).ok())
                .unwrap_or(exit_code::FAILED)
        }
        Err(error) => {
            warn!(%error, "cannot wait for the agent");
            exit_code::FAILED
        }
    }
}

/// Opens a file for what the agent prints, and puts a large one aside.
fn output(path: &Path) -> io::Result<File> {
    if fs::metadata(path).is_ok_and(|file| file.len() > LARGEST_OUTPUT) {
        fs::rename(path, path.with_extension("1.log"))?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}
