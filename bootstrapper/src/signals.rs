//! Signals as things to read, so that none is lost between two steps of the loop.

use std::{
    io,
    os::{fd::AsFd, unix::process::CommandExt},
    process::Command,
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{self, SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
    unistd::Pid,
};

/// What woke the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Somebody wants the bootstrapper to stop.
    Stop,
    /// A child may have ended.
    Child,
    /// The time is over.
    Timeout,
}

/// Reads the signals a bootstrapper cares about.
#[derive(Debug)]
pub(crate) struct Signals {
    descriptor: SignalFd,
}

impl Signals {
    /// Takes the signals over from their default actions.
    pub(crate) fn take() -> io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in [
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
            Signal::SIGCHLD,
        ] {
            set.add(signal);
        }
        set.thread_block()?;
        let descriptor =
            SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { descriptor })
    }

    /// Waits for the next event, at most `limit`; for ever without one.
    pub(crate) fn next(&self, limit: Option<Duration>) -> io::Result<Event> {
        if let Some(event) = self.pending()? {
            return Ok(event);
        }
        let timeout = limit.map_or(PollTimeout::NONE, |limit| {
            PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX)
        });
        let mut descriptors = [PollFd::new(self.descriptor.as_fd(), PollFlags::POLLIN)];
        poll(&mut descriptors, timeout)?;
        Ok(self.pending()?.unwrap_or(Event::Timeout))
    }

    /// Whether somebody has asked to stop, beside what [`Self::next`] has told.
    pub(crate) fn stop_waits(&self) -> io::Result<bool> {
        while let Some(event) = self.pending()? {
            if event == Event::Stop {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn pending(&self) -> io::Result<Option<Event>> {
        let signal = self.descriptor.read_signal()?;
        Ok(signal.map(|signal| {
            if signal.ssi_signo == Signal::SIGCHLD as u32 {
                Event::Child
            } else {
                Event::Stop
            }
        }))
    }
}

/// Lets a child have its signals: it would inherit that they are blocked here.
#[expect(
    unsafe_code,
    reason = "the standard library has no safe way to set a child's mask"
)]
pub(crate) fn give_back(command: &mut Command) {
    // SAFETY: between fork and exec only async-signal-safe calls are allowed, and this is one
    // (sigprocmask). It allocates nothing.
    unsafe {
        command.pre_exec(|| Ok(SigSet::all().thread_unblock()?));
    }
}

/// Asks a process to end, for the first time or again. The two requests are different signals:
/// two of a kind that come close together become one.
pub(crate) fn ask_to_stop(process: u32, again: bool) -> io::Result<()> {
    let process = i32::try_from(process).map_err(io::Error::other)?;
    let signal = if again {
        Signal::SIGINT
    } else {
        Signal::SIGTERM
    };
    Ok(signal::kill(Pid::from_raw(process), signal)?)
}
