//! Bringing a task's output to the console, one thread per pipe.

use std::{
    io::{self, Read},
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::job::console::{Charset, Stream};

/// How much is read at once: what a pipe holds.
const READ_SIZE: usize = 64 * 1024;
/// How often a silent pipe is left to see whether it should still be read, in milliseconds.
const LOOK_UP: u16 = 500;

/// The threads that read the pipes of one process.
pub(crate) struct Pumps {
    ended: Receiver<()>,
    count: usize,
    stop: Arc<AtomicBool>,
}

/// Whether all pipes came to their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Reached,
    /// Somebody still holds a pipe open; what comes through it from now on is lost.
    GivenUp,
}

/// One pipe, where its lines go, and what is told each line.
pub(crate) struct Pipe {
    pub(crate) reader: Box<dyn ReadPipe>,
    pub(crate) stream: Stream,
    pub(crate) on_line: Box<dyn FnMut(&str) + Send>,
}

/// A pipe that can be read and waited for.
pub(crate) trait ReadPipe: Read + AsFd + Send {}
impl<T: Read + AsFd + Send> ReadPipe for T {}

impl Pumps {
    /// Starts to read.
    ///
    /// # Errors
    /// When a thread cannot be made.
    pub(crate) fn start(pipes: Vec<Pipe>, charset: Charset) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, ended) = channel();
        let count = pipes.len();
        for pipe in pipes {
            let (sender, stop) = (sender.clone(), Arc::clone(&stop));
            std::thread::Builder::new()
                .name("pump".to_owned())
                .stack_size(256 * 1024)
                .spawn(move || {
                    pump(pipe, charset, &stop);
                    // Nobody waits any more after giving up.
                    let _ = sender.send(());
                })?;
        }
        Ok(Self { ended, count, stop })
    }

    /// Waits for the end of all pipes, at most for `limit`.
    pub(crate) fn wait(self, limit: Duration) -> End {
        let deadline = Instant::now() + limit;
        for _ in 0..self.count {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.ended.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
                self.stop.store(true, Ordering::Relaxed);
                return End::GivenUp;
            }
        }
        End::Reached
    }
}

fn pump(mut pipe: Pipe, charset: Charset, stop: &AtomicBool) {
    let mut buffer = vec![0; READ_SIZE];
    while !stop.load(Ordering::Relaxed) {
        let mut waited_for = [PollFd::new(pipe.reader.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waited_for, PollTimeout::from(LOOK_UP)) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => continue,
            Ok(_) => {}
            Err(_) => break,
        }
        match pipe.reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => pipe
                .stream
                .push(&buffer[..length], charset, &mut pipe.on_line),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    pipe.stream.finish(charset, &mut pipe.on_line);
}
