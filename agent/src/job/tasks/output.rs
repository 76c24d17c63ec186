//! Bringing a task's output to the console, one thread per pipe.

use std::{
    io::{self, PipeReader, PipeWriter, Read},
    os::fd::AsFd,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::job::console::{Charset, Stream};

/// How much is read at once: what a pipe holds.
const READ_SIZE: usize = 64 * 1024;
/// How often the one who waits for the end of pipes sees whether it is still worth it.
const LOOK_UP: Duration = Duration::from_millis(100);
/// How long the threads have for what they hold, when they are told to give up.
const LAST_LINES: Duration = Duration::from_secs(2);

/// The threads that read the pipes of one process.
pub(crate) struct Pumps {
    /// Each thread says once that no more of its pipe comes to the console.
    ended: Receiver<()>,
    count: usize,
    /// Nothing is ever written: its end tells the threads to give up.
    stop: PipeWriter,
}

/// Whether all pipes came to their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Reached,
    /// Somebody still holds a pipe open. What comes through it from now on is read, so that the
    /// writer neither waits nor fails, and not shown.
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
        let (stopped, stop) = io::pipe()?;
        let stopped = Arc::new(stopped);
        let (sender, ended) = channel();
        let count = pipes.len();
        for pipe in pipes {
            let (sender, stopped) = (sender.clone(), Arc::clone(&stopped));
            std::thread::Builder::new()
                .name("pump".to_owned())
                .stack_size(256 * 1024)
                .spawn(move || pump(pipe, charset, stopped, &sender))?;
        }
        Ok(Self { ended, count, stop })
    }

    /// Waits for the end of all pipes, for `limit` at most.
    pub(crate) fn wait(self, limit: Duration) -> End {
        self.wait_unless(limit, || false)
    }

    /// The same, and no longer once `is_over` says that there is nothing to wait for.
    pub(crate) fn wait_unless(self, limit: Duration, is_over: impl Fn() -> bool) -> End {
        let begun = Instant::now();
        let mut open = self.count;
        while open > 0 {
            let left = limit.saturating_sub(begun.elapsed());
            match self.ended.recv_timeout(left.min(LOOK_UP)) {
                Ok(()) => open -= 1,
                Err(RecvTimeoutError::Disconnected) => return End::Reached,
                Err(RecvTimeoutError::Timeout) if left.is_zero() || is_over() => {
                    drop(self.stop);
                    for _ in 0..open {
                        let _ = self.ended.recv_timeout(LAST_LINES);
                    }
                    return End::GivenUp;
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        End::Reached
    }
}

fn pump(mut pipe: Pipe, charset: Charset, stopped: Arc<PipeReader>, ended: &Sender<()>) {
    let given_up = read_lines(&mut pipe, charset, &stopped);
    let Pipe {
        mut reader,
        mut stream,
        mut on_line,
    } = pipe;
    stream.finish(charset, &mut on_line);
    drop((stream, on_line, stopped));
    // Nobody may be waiting any more.
    let _ = ended.send(());
    if given_up {
        // A process that still writes would be ended by a closed pipe.
        let _ = io::copy(&mut reader, &mut io::sink());
    }
}

/// Reads to the end of the pipe, or until told to give up: true.
fn read_lines(pipe: &mut Pipe, charset: Charset, stopped: &PipeReader) -> bool {
    let mut buffer = vec![0; READ_SIZE];
    loop {
        let mut waited_for = [
            PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
            PollFd::new(pipe.reader.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut waited_for, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            Err(_) => return false,
            Ok(_) if waited_for[0].any() == Some(true) => return true,
            Ok(_) => {}
        }
        match pipe.reader.read(&mut buffer) {
            Ok(0) => return false,
            Ok(length) => pipe
                .stream
                .push(&buffer[..length], charset, &mut pipe.on_line),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}
