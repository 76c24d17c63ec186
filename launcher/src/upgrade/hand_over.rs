//! Calling a new agent at the one place that never moves. All else is its business.

use std::{fs, process::Stdio, time::Duration};

use journeyman_host::workdir::WorkDir;
use journeyman_protocol::release::TAKE_OVER_LATER;
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use thiserror::Error;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader},
    process::Command,
    time::timeout,
};
use tracing::info;

use crate::releases::{self, Installed};

/// A self-test and the copy of a small state take less than a second.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a new version may say. Bytes.
const LONGEST: u64 = 64 * 1024;

/// The new version did not take over; nothing has changed.
#[derive(Debug, Error)]
pub(crate) enum HandOverError {
    /// It says that it cannot run here.
    #[error("it cannot take over here: {0}")]
    Refused(String),
    /// It says that it may be otherwise next time: a full disk.
    #[error("it could not take over now: {0}")]
    NotNow(String),
    /// It was killed or hung, which may or may not be its own fault.
    #[error("it did not end taking over: {0}")]
    Died(String),
}

/// Calls the new version, which tests itself, migrates a copy of the state and switches `current`.
pub(crate) async fn call(workdir: &WorkDir, new: &Installed) -> Result<(), HandOverError> {
    let Some(entry_point) = &new.manifest.entry_points.take_over else {
        let reason = "its manifest names no program to take over with".to_owned();
        return Err(HandOverError::Refused(reason));
    };
    let mut child = Command::new(new.folder.join(&entry_point.path))
        .args(&entry_point.args)
        .arg(&new.name)
        .current_dir(workdir.root())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| HandOverError::Refused(format!("it cannot be started: {error}")))?;
    let group = Group(child.id().and_then(|id| i32::try_from(id).ok()));
    let (output, errors) = (child.stdout.take(), child.stderr.take());
    let talk = async { tokio::join!(lines(output, false), lines(errors, true), child.wait()) };
    let ended = timeout(PATIENCE, talk).await;
    drop(group);
    let (_, why, status) = ended.map_err(|_| {
        HandOverError::Died(format!("it took longer than {} s", PATIENCE.as_secs()))
    })?;
    let status = status.map_err(|error| HandOverError::NotNow(error.to_string()))?;
    if !status.success() {
        let reason = why.unwrap_or_else(|| status.to_string());
        return Err(match status.code() {
            Some(TAKE_OVER_LATER) => HandOverError::NotNow(reason),
            None => HandOverError::Died(reason),
            Some(_) => HandOverError::Refused(reason),
        });
    }
    if releases::current_name(workdir).as_deref() != Some(new.name.as_str()) {
        let reason = "it says that it took over, but the link `current` does not lead to it";
        return Err(HandOverError::Refused(reason.to_owned()));
    }
    Ok(())
}

/// Ends a new version that was called by a launcher that died. Job runners of that release are none
/// of it: they go on.
pub(crate) fn end_leftovers(workdir: &WorkDir, name: &str) {
    for process in releases::processes_of(&workdir.releases().join(name)) {
        let command_line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        // The folder's name is the last argument of this call and of no other.
        if command_line.ends_with(format!("\0{name}\0").as_bytes()) {
            info!(process, "ending what an interrupted upgrade left running");
            let _ = killpg(Pid::from_raw(process), Signal::SIGKILL);
        }
    }
}

/// Ends with everything the new version started.
struct Group(Option<i32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.0 {
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}

/// Logs what is said; returns the last line.
async fn lines(from: Option<impl AsyncRead + Unpin>, is_error: bool) -> Option<String> {
    let mut lines = BufReader::new(from?.take(LONGEST)).lines();
    let mut last = None;
    while let Ok(Some(line)) = lines.next_line().await {
        info!(said = ?line, is_error, "the new version");
        last = Some(line).filter(|line| !line.trim().is_empty()).or(last);
    }
    last
}
