//! The line from a parent that tells its child when the parent has died, and on which the child may
//! say how it is.
//!
//! The parent keeps the other end of its child's standard input open and never writes to it. The
//! kernel closes it however the parent ends, so end of file means that the parent is gone. It is a
//! pipe, or one end of a Unix socket pair for a child that has something to say ([`Contact`]).

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{self, fs::FileTypeExt},
    },
};

use journeyman_protocol::launcher::Contact;
use nix::{
    sys::socket::{MsgFlags, send},
    unistd::dup2_stdin,
};
use tokio::net::{UnixStream, unix::pipe::Receiver};

/// The child's end of the line, from standard input.
#[derive(Debug)]
pub struct Lifeline {
    end: End,
}

#[derive(Debug)]
enum End {
    Pipe(Receiver),
    Socket(UnixStream),
}

impl Lifeline {
    /// The lifeline on this process's standard input, which is empty from then on: no child of this
    /// process inherits the line. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// Standard input is neither pipe nor socket: `--lifeline` was given by somebody who holds none.
    pub fn of_standard_input() -> io::Result<Self> {
        let lifeline = Self::over(io::stdin().as_fd().try_clone_to_owned()?)?;
        dup2_stdin(File::open("/dev/null")?)?;
        Ok(lifeline)
    }

    /// The lifeline on this pipe or socket. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// It is neither.
    pub fn over(input: OwnedFd) -> io::Result<Self> {
        let input = File::from(input);
        let end = if input.metadata()?.file_type().is_socket() {
            let socket = unix::net::UnixStream::from(OwnedFd::from(input));
            // It is refused here already if it is a socket of another kind.
            socket.peer_addr()?;
            socket.set_nonblocking(true)?;
            End::Socket(UnixStream::from_std(socket)?)
        } else {
            End::Pipe(Receiver::from_owned_fd(OwnedFd::from(input))?)
        };
        Ok(Self { end })
    }

    /// Says a word if there is a socket to say it on. Never waits: a word that nobody takes is lost,
    /// and the next time it is true it is said again.
    pub fn say(&self, contact: Contact) {
        if let End::Socket(socket) = &self.end {
            let line = format!("{}\n", contact.as_str());
            let now = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            let _ = send(socket.as_raw_fd(), line.as_bytes(), now);
        }
    }

    /// Returns when the parent has died. Cancel-safe.
    pub async fn cut(&self) {
        let mut ignored = [0; 64];
        loop {
            let read = match &self.end {
                End::Pipe(pipe) => match pipe.readable().await {
                    Ok(()) => pipe.try_read(&mut ignored),
                    Err(error) => Err(error),
                },
                End::Socket(socket) => match socket.readable().await {
                    Ok(()) => socket.try_read(&mut ignored),
                    Err(error) => Err(error),
                },
            };
            match read {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // A socket whose other end was closed with words unread among them.
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    async fn is_cut_by_dropping<W: Write>(lifeline: &Lifeline, mut writer: W) {
        writer.write_all(b"noise").unwrap();
        let mut cut = std::pin::pin!(lifeline.cut());
        tokio::select! {
            biased;
            () = &mut cut => panic!("cut while the parent lives"),
            () = tokio::task::yield_now() => {}
        }
        drop(writer);
        cut.await;
    }

    #[tokio::test]
    async fn ends_with_the_last_writer_and_not_before() {
        let (reader, writer) = io::pipe().unwrap();
        let lifeline = Lifeline::over(OwnedFd::from(reader)).unwrap();
        lifeline.say(Contact::Started);
        is_cut_by_dropping(&lifeline, writer).await;
    }

    #[tokio::test]
    async fn words_come_as_lines_on_a_socket() {
        let (child, mut parent) = unix::net::UnixStream::pair().unwrap();
        let lifeline = Lifeline::over(OwnedFd::from(child)).unwrap();
        lifeline.say(Contact::Started);
        lifeline.say(Contact::Pinged);
        let mut heard = [0; 15];
        parent.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"started\npinged\n");
        is_cut_by_dropping(&lifeline, parent).await;
        lifeline.say(Contact::Asked);
    }

    #[tokio::test]
    async fn a_parent_that_does_not_listen_holds_nobody_up() {
        let (child, mut parent) = unix::net::UnixStream::pair().unwrap();
        let lifeline = Lifeline::over(OwnedFd::from(child)).unwrap();
        for _ in 0..100_000 {
            lifeline.say(Contact::Working);
        }
        // It listens at last: what it hears are whole words.
        parent.set_nonblocking(true).unwrap();
        let mut heard = String::new();
        let _ = parent.read_to_string(&mut heard);
        assert!(!heard.is_empty() && heard.ends_with('\n'));
        assert!(heard.lines().all(|line| line == "working"));
        lifeline.say(Contact::Pinged);
        let mut next = [0; 7];
        parent.read_exact(&mut next).unwrap();
        assert_eq!(&next, b"pinged\n");
        // Closed with words unread.
        lifeline.say(Contact::Pinged);
        is_cut_by_dropping(&lifeline, parent).await;
    }

    #[tokio::test]
    async fn a_file_is_no_lifeline() {
        let file = tempfile::tempfile().unwrap();
        assert!(Lifeline::over(OwnedFd::from(file)).is_err());
    }
}
