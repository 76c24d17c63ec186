//! The journal of one job: what the runner has done, one JSON object per line, only ever added to.
//!
//! It tells an agent that did not start the runner whose job this is, how much of the console the
//! server has, and whether the last report was made. No secret is in it. A last line that a crash
//! cut short counts as not written.
//!
//! Agent and runner may be of different releases. The first line has the number of the [`FORMAT`].
//! Within a format, events and members are only ever added, and who does not know them skips them.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use journeyman_protocol::{
    agent::AgentRuntimeInfo,
    job::{JobIdentifier, JobResult},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::channel::{Phase, ServerConnection};

/// The one format there is. Of another one only what can be read all the same is believed, and the
/// folder of its job is set aside in the end.
pub const FORMAT: u32 = 1;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The runner holds its lock and is about to begin.
    Started(Box<Started>),
    /// The job has come to this phase.
    Phase { phase: Phase },
    /// The server has the console up to this offset of the spool, in bytes.
    Acknowledged { offset: u64 },
    /// A cancel has begun.
    Cancelled,
    /// The result is final; only the last report is missing.
    Result { result: JobResult },
    /// The last report was made: with `accepted`, the server took it; without, it refused it for
    /// good. Nothing is left to do for this job.
    Reported { accepted: bool },
    /// Something that this release does not know.
    #[serde(other, skip_serializing)]
    Unknown,
}

/// Who runs which job where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// [`FORMAT`] of the journal.
    #[serde(default = "first_format")]
    pub format: u32,
    pub at: Timestamp,
    /// Process id of the runner.
    pub pid: i32,
    pub job_identifier: JobIdentifier,
    /// As given to the runner, without the cookie.
    pub runtime_info: AgentRuntimeInfo,
    pub server: ServerConnection,
    /// Charset that the server wants the console in, as it named it.
    pub console_charset: String,
}

/// What a journal says in sum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalState {
    /// `None`: the runner died before it did anything at all.
    pub started: Option<Started>,
    pub phase: Option<Phase>,
    /// Bytes of the spool that the server has.
    pub acknowledged: u64,
    pub cancelled: bool,
    pub result: Option<JobResult>,
    pub reported: bool,
}

/// A journal that cannot be read.
#[derive(Debug, Error)]
pub enum JournalReadError {
    #[error("cannot read the journal {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A line in the middle is damaged. What the lines before and after it say is in `state`.
    #[error("line {line} of the journal {path} is damaged; what the other lines say is kept")]
    Corrupt {
        path: PathBuf,
        line: usize,
        state: Box<JournalState>,
        #[source]
        source: serde_json::Error,
    },
    /// A runner of another release wrote it. What is known of it is in `state`.
    #[error(
        "the journal {path} has the format {format}, and this release knows only {FORMAT}; what can \
         be read of it all the same is believed"
    )]
    Format {
        path: PathBuf,
        format: u32,
        state: Box<JournalState>,
    },
}

/// What a line must have to be understood further.
#[derive(Deserialize)]
struct Head {
    event: String,
    #[serde(default = "first_format")]
    format: u32,
}

const fn first_format() -> u32 {
    1
}

/// A journal that cannot be written.
#[derive(Debug, Error)]
#[error("cannot {action} the journal {path}; check free space and permissions there")]
pub struct JournalWriteError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Reads a journal. One that does not exist says nothing, which is no error.
///
/// # Errors
/// When the file cannot be read, a line other than an unfinished last one is damaged, or the format
/// is not known.
pub fn read(path: &Path) -> Result<JournalState, JournalReadError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(source) => {
            return Err(JournalReadError::Read {
                path: path.to_owned(),
                source,
            });
        }
    };
    let mut state = JournalState::default();
    let mut damage = None;
    let mut other_format = None;
    let end = finished_length(&bytes);
    for (index, line) in bytes[..end].split(|b| *b == b'\n').enumerate() {
        if line.is_empty() {
            continue;
        }
        let started = serde_json::from_slice::<Head>(line)
            .ok()
            .filter(|head| head.event == "started");
        let format = started.as_ref().map(|head| head.format);
        other_format = other_format.or(format.filter(|format| *format != FORMAT));
        match serde_json::from_slice(line) {
            Ok(event) => state.apply(event),
            // An event that has come to mean more: without knowing whose job it is there is none.
            Err(source) if source.is_data() && started.is_none() => {}
            Err(source) if damage.is_none() => damage = Some((index + 1, source)),
            Err(_) => {}
        }
    }
    let path = path.to_owned();
    match (other_format, damage) {
        (None, None) => Ok(state),
        (Some(format), _) => Err(JournalReadError::Format {
            path,
            format,
            state: Box::new(state),
        }),
        (None, Some((line, source))) => Err(JournalReadError::Corrupt {
            path,
            line,
            state: Box::new(state),
            source,
        }),
    }
}

fn finished_length(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |at| at + 1)
}

/// The journal's end that events are added to.
#[derive(Debug)]
pub struct JournalWriter {
    path: PathBuf,
    file: File,
}

// === impl JournalState ===

impl JournalState {
    fn apply(&mut self, event: Event) {
        match event {
            Event::Started(started) => self.started = Some(*started),
            Event::Phase { phase } => self.phase = Some(phase),
            Event::Acknowledged { offset } => self.acknowledged = offset,
            Event::Cancelled => self.cancelled = true,
            Event::Result { result } => self.result = Some(result),
            Event::Reported { .. } => self.reported = true,
            Event::Unknown => {}
        }
    }
}

// === impl Event ===

impl Event {
    /// Whether it must survive a power cut: losing it would repeat or lose a report. An offset
    /// that is lost only costs sending lines again (which our server notices).
    fn must_be_durable(&self) -> bool {
        matches!(
            self,
            Self::Started(_) | Self::Result { .. } | Self::Reported { .. }
        )
    }
}

// === impl JournalWriter ===

impl JournalWriter {
    /// Opens the journal (mode 0600), makes it if there is none, and drops an unfinished last
    /// line.
    ///
    /// # Errors
    /// When the file cannot be opened, read or cut.
    pub fn open(path: &Path) -> Result<Self, JournalWriteError> {
        let error = |action| {
            let path = path.to_owned();
            move |source| JournalWriteError {
                action,
                path,
                source,
            }
        };
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .map_err(error("open"))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(error("read"))?;
        let end = finished_length(&bytes);
        if end < bytes.len() {
            file.set_len(end as u64)
                .and_then(|()| file.seek(SeekFrom::End(0)).map(drop))
                .map_err(error("repair"))?;
        }
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    /// Adds an event; flushed to the disk when it must survive a power cut.
    ///
    /// # Errors
    /// When the disk is full or the file cannot be written.
    pub fn append(&mut self, event: &Event) -> Result<(), JournalWriteError> {
        self.write(event).map_err(|source| JournalWriteError {
            action: "write",
            path: self.path.clone(),
            source,
        })
    }

    fn write(&mut self, event: &Event) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        if event.must_be_durable() {
            self.file.sync_data()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started() -> Event {
        Event::Started(Box::new(Started {
            format: FORMAT,
            at: "2026-01-02T03:04:05Z".parse().unwrap(),
            pid: 42,
            job_identifier: JobIdentifier {
                build_id: 7,
                ..JobIdentifier::default()
            },
            runtime_info: AgentRuntimeInfo::default(),
            server: ServerConnection {
                base_url: "http://127.0.0.1:1/go".into(),
                configured_url: "http://127.0.0.1:1/go".into(),
                is_journeyman: true,
                arguments: vec![],
            },
            console_charset: "UTF-8".into(),
        }))
    }

    #[test]
    fn tells_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        assert_eq!(read(&path).unwrap(), JournalState::default());
        let mut journal = JournalWriter::open(&path).unwrap();
        for event in [
            started(),
            Event::Phase {
                phase: Phase::Building,
            },
            Event::Acknowledged { offset: 10 },
            Event::Acknowledged { offset: 25 },
            Event::Cancelled,
            Event::Result {
                result: JobResult::Cancelled,
            },
        ] {
            journal.append(&event).unwrap();
        }
        let state = read(&path).unwrap();
        assert_eq!(state.started.as_ref().unwrap().job_identifier.build_id, 7);
        assert_eq!(state.acknowledged, 25);
        assert_eq!(state.result, Some(JobResult::Cancelled));
        assert!(state.cancelled && !state.reported);
        journal.append(&Event::Reported { accepted: true }).unwrap();
        assert!(read(&path).unwrap().reported);
    }

    #[test]
    fn an_unfinished_last_line_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        JournalWriter::open(&path)
            .unwrap()
            .append(&Event::Acknowledged { offset: 10 })
            .unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(b"{\"event\":\"acknowledged\",\"offset\":9");
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read(&path).unwrap().acknowledged, 10);
        JournalWriter::open(&path)
            .unwrap()
            .append(&Event::Cancelled)
            .unwrap();
        let state = read(&path).unwrap();
        assert!(state.cancelled);
        assert_eq!(state.acknowledged, 10);
    }

    /// A journal with a first line, changed as given, and these lines behind it.
    fn journal_of(change: impl FnOnce(&mut serde_json::Value), more: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let mut first = serde_json::to_value(started()).unwrap();
        change(&mut first);
        std::fs::write(dir.path().join("journal"), format!("{first}\n{more}")).unwrap();
        dir
    }

    #[test]
    fn what_a_later_release_adds_is_skipped() {
        let dir = journal_of(
            |first| first["more"] = 1.into(),
            "{\"event\":\"warmed-up\",\"by\":[1]}\n\
             {\"event\":\"phase\",\"phase\":\"cooling\"}\n\
             {\"event\":\"acknowledged\",\"offset\":9,\"more\":{}}\n\
             {\"more\":1}\n",
        );
        let state = read(&dir.path().join("journal")).unwrap();
        assert_eq!(state.started.unwrap().job_identifier.build_id, 7);
        assert_eq!((state.acknowledged, state.phase), (9, None));
    }

    #[test]
    fn the_oldest_journals_have_the_first_format() {
        let dir = journal_of(
            |first| drop(first.as_object_mut().unwrap().remove("format")),
            "",
        );
        let state = read(&dir.path().join("journal")).unwrap();
        assert_eq!(state.started.unwrap().format, 1);
    }

    #[test]
    fn another_format_is_told_with_what_can_be_read_of_it() {
        let more = "{\"event\":\"reported\",\"accepted\":true}\n[\n";
        let dir = journal_of(|first| first["format"] = 2.into(), more);
        match read(&dir.path().join("journal")).unwrap_err() {
            JournalReadError::Format { format, state, .. } => {
                assert_eq!(format, 2);
                assert_eq!(state.started.unwrap().job_identifier.build_id, 7);
                assert!(state.reported);
            }
            other => panic!("{other}"),
        }
        let foreign = |first: &mut serde_json::Value| {
            *first = serde_json::json!({"event": "started", "format": 3, "job": 7});
        };
        let dir = journal_of(foreign, more);
        match read(&dir.path().join("journal")).unwrap_err() {
            JournalReadError::Format { format, state, .. } => {
                assert_eq!((format, state.started), (3, None));
            }
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_damaged_line_is_named_and_the_others_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        std::fs::write(
            &path,
            b"{\"event\":\"acknowledged\",\"offset\":9}\n\0\0\0\n{\"event\":\"cancelled\"}\n",
        )
        .unwrap();
        match read(&path).unwrap_err() {
            JournalReadError::Corrupt { line, state, .. } => {
                assert_eq!(line, 2);
                assert!(state.cancelled);
                assert_eq!(state.acknowledged, 9);
            }
            other => panic!("{other}"),
        }
    }
}
