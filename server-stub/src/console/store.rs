//! Writing consoles.

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Buf as _, Bytes};
use futures_util::{Stream, StreamExt as _};
use tokio::{
    fs::{File, OpenOptions},
    io::AsyncWriteExt as _,
};

use super::{
    follow::Follower,
    index::{LineIndex, Outline},
};
use crate::{app::Signal, durable};

/// How many consoles' indexes are kept when nobody uses them.
const MOST_IDLE: usize = 512;

/// The consoles of all jobs.
#[derive(Debug)]
pub struct Consoles {
    folder: PathBuf,
    open: Mutex<HashMap<i64, Arc<Console>>>,
}

/// The console of one job.
#[derive(Debug)]
pub struct Console {
    path: PathBuf,
    /// Held while a body is appended: the order of arrival is the order in the file.
    writing: tokio::sync::Mutex<Own>,
    index: Mutex<LineIndex>,
    /// Raised when the file has grown.
    pub(super) grown: Signal,
}

/// The line of the server's own in a console, if there is one: agents do not know of it, so it does
/// not count in the places and lengths that they send and get. It is noted in a file beside the
/// console before it is written.
#[derive(Debug, Default)]
struct Own {
    looked: bool,
    /// Where it begins, and how many bytes it has.
    line: Option<(u64, u64)>,
}

/// Why a body was not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Bytes in between are missing.
    #[error("the console has {length} bytes: send from there")]
    Gap { length: u64 },
    #[error("the body broke off")]
    BrokenOff,
    #[error("cannot write the console {}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Consoles {
    /// Consoles in this folder, which exists.
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            open: Mutex::default(),
        }
    }

    /// The console of a job, whether it has said anything yet or not.
    pub fn of(&self, build_id: i64) -> Arc<Console> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() > MOST_IDLE {
            open.retain(|_, console| Arc::strong_count(console) > 1);
        }
        Arc::clone(open.entry(build_id).or_insert_with(|| {
            Arc::new(Console {
                path: self.folder.join(format!("{build_id}.log")),
                writing: tokio::sync::Mutex::default(),
                index: Mutex::default(),
                grown: Signal::new(),
            })
        }))
    }

    /// Follows a job's console from a byte on.
    pub fn follow(&self, build_id: i64, offset: u64) -> Follower {
        Follower::new(self.of(build_id), offset)
    }
}

impl Console {
    /// Appends a body and answers the length of the console, all of it on the disk.
    ///
    /// With an `offset`, the place of the body in the console, what is there already is skipped:
    /// a body can be sent again after any failure. Without one (a Java agent) the body is appended
    /// whole or not at all.
    ///
    /// Must run in a task of its own: dropped half-way it would leave a write in flight behind the
    /// lock.
    ///
    /// # Errors
    ///
    /// See [`AppendError`]. With an offset, what arrived before the error stays.
    pub async fn append<E>(
        &self,
        offset: Option<u64>,
        body: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<u64, AppendError> {
        let mut own = self.writing.lock().await;
        let io = |source| AppendError::Io {
            path: self.path.clone(),
            source,
        };
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)
            .await
            .map_err(io)?;
        let before = file.metadata().await.map_err(io)?.len();
        let own = self.own_bytes(&mut own, before).await.map_err(io)?;
        let sent = before.saturating_sub(own);
        let mut skip = match offset {
            None => 0,
            Some(offset) if offset > sent => return Err(AppendError::Gap { length: sent }),
            Some(offset) => sent - offset,
        };
        let mut outcome = Ok(());
        let mut body = std::pin::pin!(body);
        while let Some(chunk) = body.next().await {
            let Ok(mut chunk) = chunk else {
                outcome = Err(AppendError::BrokenOff);
                break;
            };
            let known = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
            chunk.advance(known);
            skip -= known as u64;
            if let Err(error) = file.write_all(&chunk).await {
                outcome = Err(io(error));
                break;
            }
        }
        if let Err(error) = file.flush().await {
            outcome = Err(io(error));
        }
        if outcome.is_err() && offset.is_none() {
            self.cut(&file, before).await.map_err(io)?;
        }
        file.sync_data().await.map_err(io)?;
        let length = file.metadata().await.map_err(io)?.len();
        self.grown.raise();
        outcome.map(|()| length.saturating_sub(own))
    }

    /// Adds a line of the server's own at the end, unless there is one already.
    ///
    /// # Errors
    ///
    /// The console, or the file beside it, cannot be written.
    pub async fn note(&self, line: &str) -> io::Result<()> {
        let mut own = self.writing.lock().await;
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)
            .await?;
        let before = file.metadata().await?.len();
        if self.own_bytes(&mut own, before).await? > 0 {
            return Ok(());
        }
        let length = line.len() as u64;
        let beside = self.path.with_extension("own");
        let text = format!("{before} {length}");
        tokio::task::spawn_blocking(move || durable::write(&beside, text.as_bytes(), 0o644))
            .await
            .map_err(io::Error::other)?
            .map_err(io::Error::other)?;
        file.write_all(line.as_bytes()).await?;
        file.flush().await?;
        file.sync_data().await?;
        own.line = Some((before, length));
        self.grown.raise();
        Ok(())
    }

    /// How many of a console's bytes are the server's own.
    async fn own_bytes(&self, own: &mut Own, length: u64) -> io::Result<u64> {
        if !own.looked {
            own.line = match tokio::fs::read_to_string(self.path.with_extension("own")).await {
                Ok(text) => text
                    .split_once(' ')
                    .and_then(|(at, length)| Some((at.parse().ok()?, length.parse().ok()?))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
            own.looked = true;
        }
        // A server that was killed may have noted it and not written it.
        let line = own.line.filter(|(at, bytes)| length >= at + bytes);
        Ok(line.map_or(0, |(_, bytes)| bytes))
    }

    /// When the console has grown last; none if the job has said nothing yet.
    ///
    /// # Errors
    ///
    /// The file cannot be looked at.
    pub async fn changed_at(&self) -> io::Result<Option<std::time::SystemTime>> {
        match tokio::fs::metadata(&self.path).await {
            Ok(metadata) => metadata.modified().map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes half a body back.
    async fn cut(&self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length).await?;
        *self.index.lock().unwrap_or_else(PoisonError::into_inner) = LineIndex::default();
        Ok(())
    }

    /// How many bytes there are; none if the job has said nothing yet.
    ///
    /// # Errors
    ///
    /// The file cannot be looked at.
    pub async fn length(&self) -> io::Result<Option<u64>> {
        match tokio::fs::metadata(&self.path).await {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens the file for reading, if there is one.
    ///
    /// # Errors
    ///
    /// The file is there and cannot be opened.
    pub async fn open(&self) -> io::Result<Option<File>> {
        match File::open(&self.path).await {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where a line (from 0) begins; the end of the file when there are not so many.
    ///
    /// # Errors
    ///
    /// The file is there and cannot be read.
    pub async fn offset_of_line(self: Arc<Self>, line: u64) -> io::Result<u64> {
        self.look(move |index, file| index.offset_of(file, line))
            .await
    }

    /// How many lines there are, and what they are about.
    ///
    /// # Errors
    ///
    /// The file is there and cannot be read.
    pub async fn outline(self: Arc<Self>) -> io::Result<Outline> {
        self.look(LineIndex::outline).await
    }

    /// Runs with the index and the file where that may block; without a file there is nothing.
    pub(super) async fn look<T: Default + Send + 'static>(
        self: Arc<Self>,
        look: impl FnOnce(&mut LineIndex, &std::fs::File) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let blocking = move || {
            let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
            match std::fs::File::open(&self.path) {
                Ok(file) => look(&mut index, &file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
                Err(error) => Err(error),
            }
        };
        tokio::task::spawn_blocking(blocking)
            .await
            .map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use pretty_assertions::assert_eq;

    use super::*;

    fn body(text: &str) -> impl Stream<Item = Result<Bytes, Infallible>> + use<> {
        let chunks: Vec<_> = text
            .as_bytes()
            .chunks(3)
            .map(Bytes::copy_from_slice)
            .map(Ok)
            .collect();
        stream::iter(chunks)
    }

    fn broken(text: &str) -> impl Stream<Item = Result<Bytes, ()>> + use<> {
        stream::iter([Ok(Bytes::copy_from_slice(text.as_bytes())), Err(())])
    }

    #[tokio::test]
    async fn a_body_sent_again_is_stored_once() {
        let folder = tempfile::tempdir().unwrap();
        let consoles = Consoles::new(folder.path().to_path_buf());
        let console = consoles.of(7);
        assert_eq!(
            console.append(Some(0), body("one\ntwo\n")).await.unwrap(),
            8
        );
        assert_eq!(
            console.append(Some(0), body("one\ntwo\n")).await.unwrap(),
            8
        );
        assert_eq!(
            console.append(Some(4), body("two\nthree\n")).await.unwrap(),
            14
        );
        assert!(matches!(
            console.append(Some(15), body("x")).await,
            Err(AppendError::Gap { length: 14 })
        ));
        // A new server on the same folder knows as much: the file is the truth.
        let consoles = Consoles::new(folder.path().to_path_buf());
        assert_eq!(
            consoles
                .of(7)
                .append(Some(8), body("three\nfour\n"))
                .await
                .unwrap(),
            19
        );
        assert_eq!(
            std::fs::read_to_string(folder.path().join("7.log")).unwrap(),
            "one\ntwo\nthree\nfour\n"
        );
    }

    #[tokio::test]
    async fn a_line_of_the_server_moves_nothing_that_agents_send() {
        let folder = tempfile::tempdir().unwrap();
        let console = Consoles::new(folder.path().to_path_buf()).of(7);
        console.append(Some(0), body("one\n")).await.unwrap();
        console.note("cancelled\n").await.unwrap();
        console.note("cancelled\n").await.unwrap();
        assert_eq!(
            console.append(Some(0), body("one\ntwo\n")).await.unwrap(),
            8
        );
        // A new server on the same folder knows of it.
        let console = Consoles::new(folder.path().to_path_buf()).of(7);
        assert!(matches!(
            console.append(Some(9), body("x")).await,
            Err(AppendError::Gap { length: 8 })
        ));
        assert_eq!(
            console.append(Some(4), body("two\nthree\n")).await.unwrap(),
            14
        );
        assert_eq!(
            std::fs::read_to_string(folder.path().join("7.log")).unwrap(),
            "one\ncancelled\ntwo\nthree\n"
        );
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_continued_or_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let console = Consoles::new(folder.path().to_path_buf()).of(7);
        console.append(Some(0), body("one\n")).await.unwrap();
        assert!(matches!(
            console.append(Some(4), broken("tw")).await,
            Err(AppendError::BrokenOff)
        ));
        assert_eq!(console.append(Some(4), body("two\n")).await.unwrap(), 8);
        // Without an offset the Java agent sends all of it again.
        assert!(matches!(
            console.append(None, broken("thr")).await,
            Err(AppendError::BrokenOff)
        ));
        assert_eq!(console.append(None, body("three\n")).await.unwrap(), 14);
        assert_eq!(
            std::fs::read_to_string(folder.path().join("7.log")).unwrap(),
            "one\ntwo\nthree\n"
        );
    }
}
