//! How far the cancel of a job is, for everybody who works for the job.

use tokio::sync::watch;

/// Tells of the job's cancel. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Cancelled {
    progress: watch::Receiver<CancelProgress>,
}

/// How far a cancel is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CancelProgress {
    pub(crate) has_begun: bool,
    /// An on-cancel task is running.
    pub(crate) is_acting: bool,
    /// Every process of the job was made to end, whatever it wanted.
    pub(crate) has_ended_all: bool,
}

impl Cancelled {
    pub(crate) fn new(progress: watch::Receiver<CancelProgress>) -> Self {
        Self { progress }
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.progress.borrow().has_begun
    }

    pub(crate) fn has_ended_all(&self) -> bool {
        self.progress.borrow().has_ended_all
    }

    /// Waits until a cancel begins; for ever if none does.
    pub(crate) async fn begun(&self) {
        self.until(|progress| progress.has_begun).await;
    }

    /// Waits until no on-cancel task is running.
    pub(crate) async fn acted(&self) {
        self.until(|progress| !progress.is_acting).await;
    }

    async fn until(&self, condition: impl FnMut(&CancelProgress) -> bool) {
        let mut progress = self.progress.clone();
        // Nobody can cancel any more: what has not happened will not.
        if progress.wait_for(condition).await.is_err() {
            std::future::pending().await
        }
    }
}
