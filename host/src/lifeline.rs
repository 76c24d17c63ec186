//! The pipe from a parent that tells its child when the parent has died.
//!
//! The parent keeps the write end of its child's standard input open and never writes to it. The
//! kernel closes it however the parent ends, so end of file means that the parent is gone.

use std::{io, os::fd::AsFd};

use tokio::net::unix::pipe::Receiver;

/// The read end of the pipe, on standard input.
#[derive(Debug)]
pub struct Lifeline {
    pipe: Receiver,
}

impl Lifeline {
    /// The lifeline on this process's standard input. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// Standard input is not a pipe: `--lifeline` was given by somebody who holds none.
    pub fn of_standard_input() -> io::Result<Self> {
        let input = io::stdin().as_fd().try_clone_to_owned()?;
        Ok(Self {
            pipe: Receiver::from_owned_fd(input)?,
        })
    }

    /// Returns when the parent has died. Cancel-safe.
    pub async fn cut(&self) {
        let mut ignored = [0; 64];
        loop {
            if self.pipe.readable().await.is_err() {
                return;
            }
            match self.pipe.try_read(&mut ignored) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;

    #[tokio::test]
    async fn ends_with_the_last_writer_and_not_before() {
        let (reader, mut writer) = io::pipe().unwrap();
        let lifeline = Lifeline {
            pipe: Receiver::from_owned_fd(OwnedFd::from(reader)).unwrap(),
        };
        io::Write::write_all(&mut writer, b"noise").unwrap();
        let mut cut = std::pin::pin!(lifeline.cut());
        tokio::select! {
            biased;
            () = &mut cut => panic!("cut while the writer lives"),
            () = tokio::task::yield_now() => {}
        }
        drop(writer);
        cut.await;
    }
}
