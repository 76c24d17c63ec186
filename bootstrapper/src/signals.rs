//! Signals as things to read, so that none is lost between two steps of the loop.

use std::{io, os::fd::AsFd, time::Duration};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
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

/// Reads the signals a bootstrapper cares about. A child starts with a mask of its own: the
/// standard library clears it.
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
