//! Requests to stop, from whoever sends a signal and from the end of the parent.

use std::{future, io};

use journeyman_host::lifeline::Lifeline;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Why to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Somebody sent a signal.
    Asked,
    /// The bootstrapper died; a new one will want the lock.
    ParentDied,
}

/// Waits for requests to stop.
pub(crate) struct Stops {
    signals: [Signal; 3],
    lifeline: Option<Lifeline>,
}

impl Stops {
    /// Takes the signals over; with a lifeline it also watches standard input.
    pub(crate) fn take(lifeline: bool) -> io::Result<Self> {
        Ok(Self {
            signals: [
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
                signal(SignalKind::hangup())?,
            ],
            lifeline: lifeline.then(Lifeline::of_standard_input).transpose()?,
        })
    }

    /// The next request. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Stop {
        let [terminate, interrupt, hangup] = &mut self.signals;
        let cut = async {
            match &self.lifeline {
                Some(lifeline) => lifeline.cut().await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            () = cut => Stop::ParentDied,
            _ = terminate.recv() => Stop::Asked,
            _ = interrupt.recv() => Stop::Asked,
            _ = hangup.recv() => Stop::Asked,
        }
    }
}
