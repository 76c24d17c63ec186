//! The loop: start, wait, decide, again.

use std::{
    env,
    ffi::OsString,
    io,
    path::Path,
    process::{Child, ExitStatus},
    time::{Duration, Instant},
};

use crate::{
    VERSION, good,
    launcher::{self, Launcher},
    log::Log,
    relaunch::{Ending, Next, Policy},
    signals::{self, Event, Signals},
};

/// When keeping a launcher that worked has failed, it is tried again after this time.
const KEEP_AGAIN: Duration = Duration::from_secs(60);

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
        let delay = match launcher::take(&folder, log) {
            Ok(launcher) => {
                let began = Instant::now();
                let Some(ending) = live(&folder, &launcher, arguments, &signals, log)? else {
                    log.info("stopped, as asked");
                    return Ok(0);
                };
                match judge(
                    &mut policy,
                    &folder,
                    &launcher,
                    ending,
                    began.elapsed(),
                    log,
                ) {
                    Next::Done => return Ok(0),
                    Next::GiveUp(code) => {
                        log.error(&format!(
                            "the launcher said why it cannot go on (exit code {code}); giving up"
                        ));
                        return Ok(code);
                    }
                    Next::GoBack => go_back(&mut policy, &folder, &launcher, log),
                    Next::Relaunch(delay) => delay,
                }
            }
            Err(error) => {
                log.error(&cannot_start(&folder, &error));
                policy.pause()
            }
        };
        if !delay.is_zero() {
            log.info(&format!("starting it again in {} s", delay.as_secs()));
        }
        if rest(delay, &signals)? {
            log.info("stopped, as asked");
            return Ok(0);
        }
    }
}

/// Starts a launcher and says how it ended; nothing when somebody asked to stop.
fn live(
    folder: &Path,
    launcher: &Launcher,
    arguments: &[OsString],
    signals: &Signals,
    log: &mut Log,
) -> io::Result<Option<Ending>> {
    let mut child = match launcher.start(folder, arguments) {
        Ok(child) => child,
        Err(error) => {
            log.error(&cannot_start(folder, &error));
            return Ok(Some(Ending::Killed));
        }
    };
    log.info(&format!(
        "started launcher {} (process {})",
        launcher.manifest.version,
        child.id()
    ));
    let (status, stopped) = wait(&mut child, folder, launcher, signals, log)?;
    if stopped {
        return Ok(None);
    }
    log.info(&format!("the launcher ended: {status}"));
    Ok(Some(status.code().map_or(Ending::Killed, Ending::Exited)))
}

/// What comes after a launcher that lived for `lived`. One that worked is kept.
fn judge(
    policy: &mut Policy,
    folder: &Path,
    launcher: &Launcher,
    ending: Ending,
    lived: Duration,
    log: &mut Log,
) -> Next {
    if ending.worked(&launcher.manifest, lived) {
        keep(folder, launcher, log);
    }
    policy.next(ending, &launcher.manifest, lived, || {
        let checksum = good::checksum(&launcher.file).ok()?;
        let replaceable = good::is_there(folder, checksum) && launcher.is_alone(folder);
        replaceable.then_some(checksum)
    })
}

/// Keeps a launcher that worked. False when that failed.
fn keep(folder: &Path, launcher: &Launcher, log: &mut Log) -> bool {
    let version = &launcher.manifest.version;
    match good::keep(folder, &launcher.file) {
        Ok(true) => log.info(&format!("launcher {version} works: a copy of it is kept")),
        Ok(false) => {}
        Err(error) => {
            log.error(&format!(
                "launcher {version} works, but no copy of it can be kept in {}: {error}. The \
                 folder must be writable and have some free space",
                folder.display()
            ));
            return false;
        }
    }
    true
}

/// Goes back from a launcher that died young to the one that worked. Returns how long to wait
/// before the next start.
fn go_back(policy: &mut Policy, folder: &Path, launcher: &Launcher, log: &mut Log) -> Duration {
    let version = &launcher.manifest.version;
    // It may have been replaced while it ran. Then the new one has its own chances.
    let present = good::checksum_in(folder, launcher::LAUNCHER);
    if present.is_some() && present == good::checksum(&launcher.file).ok() {
        log.error(&format!("launcher {version} never worked here; going back"));
        if let Err(error) = good::put_in_place(folder, log) {
            log.error(&cannot_start(folder, &error));
            return policy.pause();
        }
    }
    *policy = Policy::new();
    Duration::ZERO
}

fn cannot_start(folder: &Path, error: &io::Error) -> String {
    format!(
        "cannot start a launcher in {}: {error}. The folder must be writable, allow programs to \
         be executed, and have some free space",
        folder.display()
    )
}

/// Waits for the launcher's end, and keeps it once it has lived long enough. Also says whether
/// somebody asked to stop.
fn wait(
    child: &mut Child,
    folder: &Path,
    launcher: &Launcher,
    events: &Signals,
    log: &mut Log,
) -> io::Result<(ExitStatus, bool)> {
    let mut requests = 0;
    let mut keep_at = Instant::now().checked_add(launcher.manifest.well_after);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((status, requests > 0 || events.stop_waits()?));
        }
        let now = Instant::now();
        if keep_at.is_some_and(|at| at <= now) {
            let kept = keep(folder, launcher, log);
            keep_at = (!kept).then_some(now + KEEP_AGAIN);
            continue;
        }
        if events.next(keep_at.map(|at| at - now))? != Event::Stop {
            continue;
        }
        requests += 1;
        if requests < 3 {
            log.info(if requests == 1 {
                "asked to stop: the agent finishes its job first; ask again to cancel the job"
            } else {
                "asked to stop again: the job is cancelled; ask once more to end it the hard way"
            });
            if let Err(error) = signals::ask_to_stop(child.id(), requests > 1) {
                log.error(&format!("cannot signal the launcher: {error}"));
            }
        } else {
            log.info("asked to stop a third time: ending it the hard way");
            child.kill()?;
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
