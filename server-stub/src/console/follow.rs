//! Following a console as it grows, for the live page.

use std::{io, sync::Arc};

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::Console;
use crate::app::Waiter;

/// The most that is handed out at once.
const CHUNK: u64 = 64 * 1024;

/// Reads a console to its end, then waits for more. The console does not say when it is over: its
/// job's state does.
pub struct Follower {
    console: Arc<Console>,
    grown: Waiter,
    offset: u64,
}

impl Follower {
    pub(super) fn new(console: Arc<Console>, offset: u64) -> Self {
        // Subscribed before the first read, so that no growth is missed.
        Self {
            grown: console.grown.subscribe(),
            console,
            offset,
        }
    }

    /// What comes next, at most 64 KiB; empty when there is no more just now.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub async fn read(&mut self) -> io::Result<Bytes> {
        let Some(mut file) = self.console.open().await? else {
            return Ok(Bytes::new());
        };
        file.seek(io::SeekFrom::Start(self.offset)).await?;
        let mut chunk = Vec::new();
        file.take(CHUNK).read_to_end(&mut chunk).await?;
        self.offset += chunk.len() as u64;
        Ok(Bytes::from(chunk))
    }

    /// Returns when the console may have grown since the last return. Cancel safe.
    pub async fn grown(&mut self) {
        self.grown.raised().await;
    }

    /// How far it was read, in bytes from the start.
    pub fn offset(&self) -> u64 {
        self.offset
    }
}
