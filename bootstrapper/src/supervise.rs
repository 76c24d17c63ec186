//! The loop: start, wait, decide, again.

use std::{
    env,
    ffi::OsString,
    io,
    path::Path,
    process::ExitStatus,
    time::{Duration, Instant},
};

use crate::{
    VERSION,
    launcher::{self, Running},
    log::Log,
    manifest::Manifest,
    relaunch::{Ending, Next, Policy},
    signals::{self, Event, Signals},
};

/// Starts launchers in the current folder until somebody asks to stop, or a launcher says that
/// it is hopeless. The first `SIGTERM`, `SIGINT` or `SIGHUP` is passed on as `SIGTERM`, the second as
/// `SIGINT`; the third kills. Returns the exit code.
///
/// # Errors
/// When the operating system refuses to say where we are or to hand over signals.
pub fn supervise(arguments: &[OsString], log: &mut Log) -> io::Result<u8> {
    let signals = Signals::take()?;
    let folder = env::current_dir()?;
    log.info(&format!(
        "bootstrapper {VERSION} starts in {}",
        folder.display()
    ));
    launcher::clean_up(&folder);
    let mut policy = Policy::new();
    loop {
        let began = Instant::now();
        let (ending, manifest) = match launcher::start(&folder, arguments, log) {
            Ok(mut running) => {
                log.info(&format!(
                    "started launcher {} (process {})",
                    running.manifest.version,
                    running.child.id()
                ));
                let (status, stopped) = wait(&mut running, &signals, log)?;
                if stopped {
                    log.info("stopped, as asked");
                    return Ok(0);
                }
                log.info(&format!("the launcher ended: {status}"));
                let ending = status.code().map_or(Ending::Killed, Ending::Exited);
                (ending, running.manifest)
            }
            Err(error) => {
                log.error(&cannot_start(&folder, &error));
                (Ending::Killed, Manifest::default())
            }
        };
        match policy.next(ending, &manifest, began.elapsed()) {
            Next::Done => return Ok(0),
            Next::GiveUp(code) => {
                log.error(&format!(
                    "the launcher said why it cannot go on (exit code {code}); giving up"
                ));
                return Ok(code);
            }
            Next::Relaunch(delay) => {
                if !delay.is_zero() {
                    log.info(&format!("starting it again in {} s", delay.as_secs()));
                }
                if rest(delay, &signals)? {
                    log.info("stopped, as asked");
                    return Ok(0);
                }
            }
        }
    }
}

fn cannot_start(folder: &Path, error: &io::Error) -> String {
    format!(
        "cannot start a launcher in {}: {error}. The folder must be writable, allow programs to \
         be executed, and have some free space",
        folder.display()
    )
}

/// Waits for the launcher's end. Also says whether somebody asked to stop.
fn wait(running: &mut Running, events: &Signals, log: &mut Log) -> io::Result<(ExitStatus, bool)> {
    let mut requests = 0;
    loop {
        if let Some(status) = running.child.try_wait()? {
            return Ok((status, requests > 0));
        }
        if events.next(None)? != Event::Stop {
            continue;
        }
        requests += 1;
        if requests < 3 {
            log.info(if requests == 1 {
                "asked to stop: the agent finishes its job first; ask again to cancel the job"
            } else {
                "asked to stop again: the job is cancelled; ask once more to end it the hard way"
            });
            if let Err(error) = signals::ask_to_stop(running.child.id(), requests > 1) {
                log.error(&format!("cannot signal the launcher: {error}"));
            }
        } else {
            log.info("asked to stop a third time: ending it the hard way");
            running.child.kill()?;
        }
    }
}

/// Waits before the next start. True when somebody asked to stop meanwhile.
fn rest(delay: Duration, signals: &Signals) -> io::Result<bool> {
    let until = Instant::now() + delay;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match signals.next(Some(left))? {
            Event::Stop => return Ok(true),
            // Polling counts whole milliseconds and may come back a little early.
            Event::Timeout if until <= Instant::now() => return Ok(false),
            Event::Timeout | Event::Child => {}
        }
    }
}
