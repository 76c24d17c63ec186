//! The log of a process: size-rotated files with GoCD's names, and standard error when wanted.
//!
//! One event is one line: control characters are escaped, so that nothing a server or a job says
//! can forge a line. Secrets must not reach an event in the first place; types that hold them hide
//! them in `Debug`.

use std::{
    env,
    fmt::{self, Write as _},
    fs::{File, OpenOptions},
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
};

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    filter::Targets,
    fmt::{
        FmtContext, FormatEvent, FormatFields, MakeWriter,
        format::{DefaultFields, Writer},
    },
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::durable::FileError;

/// Environment variable with the level, for example `debug` or `info,journeyman_agent=trace`.
pub const LEVEL: &str = "JOURNEYMAN_LOG";
/// Bytes a log file may have. GoCD's limit.
const LARGEST: u64 = 5 * 1024 * 1024;
/// Older files that are kept beside the current one. GoCD keeps 20 MB in all.
const OLDER: u32 = 3;

/// Where the events of a process go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal {
    /// To the file alone.
    Silent,
    /// To standard error as well.
    Echo,
}

impl Terminal {
    /// [`Terminal::Echo`] when somebody looks at standard error.
    pub fn if_watched() -> Self {
        if io::stderr().is_terminal() {
            Self::Echo
        } else {
            Self::Silent
        }
    }
}

/// Sends this process's events to a log file from now on. The level is that of [`LEVEL`], else
/// `info` for Journeyman's own events and `warn` for those of libraries.
///
/// # Errors
/// The file cannot be opened for writing.
pub fn start(file: &Path, terminal: Terminal) -> Result<(), FileError> {
    let log = RotatingFile::open(file)?;
    let level = env::var(LEVEL).ok();
    let (targets, complaint) = targets(level.as_deref());
    let layer = tracing_subscriber::fmt::layer()
        .event_format(Line)
        .fmt_fields(DefaultFields::new())
        .with_ansi(false)
        .with_writer(Sink {
            file: Mutex::new(log),
            terminal,
        });
    // A second start in one process (tests) keeps the first.
    let _ = tracing_subscriber::registry()
        .with(targets)
        .with(layer)
        .try_init();
    if let Some(complaint) = complaint {
        tracing::warn!(
            value = level,
            "{LEVEL} cannot be read, ignored: {complaint}"
        );
    }
    Ok(())
}

fn targets(level: Option<&str>) -> (Targets, Option<String>) {
    let usual = || {
        Targets::new()
            .with_default(tracing::Level::WARN)
            .with_target("journeyman", tracing::Level::INFO)
    };
    match level.map(str::parse::<Targets>) {
        None => (usual(), None),
        Some(Ok(targets)) => (targets, None),
        Some(Err(error)) => (usual(), Some(error.to_string())),
    }
}

/// Text with everything that could end or forge a line, or drive a terminal, escaped.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        // Unicode's line separators and marks of writing direction deceive readers as well.
        let deceives = matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if (character.is_control() && character != '\t') || deceives {
            let _ = write!(line, "{}", character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

/// Takes out of a text what must not be in a log.
type Hide = Box<dyn Fn(&str) -> String + Send + Sync>;

static HIDE: OnceLock<Hide> = OnceLock::new();

/// From now on what is secret to this process is taken out of each event: a net below the types
/// that hide themselves, for what the system and other programs say. Only the first call counts.
pub fn hide_secrets(hide: impl Fn(&str) -> String + Send + Sync + 'static) {
    let _ = HIDE.set(Box::new(hide));
}

/// The form of a line: time in UTC, level, place in the code, text and fields.
struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::new();
        context.format_fields(Writer::new(&mut text), event)?;
        if let Some(hide) = HIDE.get() {
            text = hide(&text);
        }
        let about = event.metadata();
        let now = jiff::Timestamp::now();
        writeln!(
            writer,
            "{now:.3} {:<5} [{}] {}: {}",
            about.level(),
            std::process::id(),
            about.target(),
            one_line(&text)
        )
    }
}

/// The writer behind all events of a process.
struct Sink {
    file: Mutex<RotatingFile>,
    terminal: Terminal,
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Write for &Sink {
    /// A log that cannot be written (full disk) must not stop the work, so nothing here fails.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = file.append(line);
        if self.terminal == Terminal::Echo {
            let _ = io::stderr().write_all(line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file that is renamed to `name.1.log` (that one to `name.2.log`, and so on) when it has grown
/// to its limit.
#[derive(Debug)]
pub struct RotatingFile {
    path: PathBuf,
    file: File,
    length: u64,
    largest: u64,
}

impl RotatingFile {
    /// Opens a file to append to, creating it if need be; GoCD's sizes.
    ///
    /// # Errors
    /// The folder does not exist or cannot be written to.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        Self::with_limit(path, LARGEST)
            .map_err(|source| FileError::new("write to the log", path, source))
    }

    /// Appends a line and rotates first if it would exceed the limit.
    ///
    /// # Errors
    /// The disk is full, or the file cannot be opened anew.
    pub fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let more = line.len() as u64;
        if self.length > 0 && self.length + more > self.largest {
            self.rotate()?;
        }
        self.file.write_all(line)?;
        self.length += more;
        Ok(())
    }

    fn with_limit(path: &Path, largest: u64) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        let length = file.metadata()?.len();
        Ok(Self {
            path: path.to_owned(),
            file,
            length,
            largest,
        })
    }

    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..OLDER).rev() {
            let _ = std::fs::rename(self.older(number), self.older(number + 1));
        }
        std::fs::rename(&self.path, self.older(1))?;
        *self = Self::with_limit(&self.path, self.largest)?;
        Ok(())
    }

    /// `go-agent.log` becomes `go-agent.1.log`.
    fn older(&self, number: u32) -> PathBuf {
        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy();
        self.path.with_file_name(format!("{stem}.{number}.log"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn nothing_forges_a_line() {
        assert_eq!(
            one_line("a\nb\r\x1b[31m\u{2028}\u{202e}\té"),
            "a\\nb\\r\\u{1b}[31m\\u{2028}\\u{202e}\té"
        );
    }

    #[test]
    fn files_rotate_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("go-agent.log");
        let mut log = RotatingFile::with_limit(&path, 10).unwrap();
        for number in 0..6 {
            log.append(format!("line {number}\n").as_bytes()).unwrap();
        }
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("go-agent.log"), "line 5\n");
        assert_eq!(read("go-agent.1.log"), "line 4\n");
        assert_eq!(read("go-agent.3.log"), "line 2\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4);
    }

    #[test]
    fn an_event_is_one_line_with_its_fields() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let layer = tracing_subscriber::fmt::layer()
            .event_format(Line)
            .with_ansi(false)
            .with_writer(Sink {
                file: Mutex::new(RotatingFile::open(&path).unwrap()),
                terminal: Terminal::Silent,
            });
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(path = "a\nb", "two\nlines");
        });
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("two\\nlines path=\"a\\nb\""), "{text}");
    }

    #[test]
    fn what_is_secret_is_not_in_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let layer = tracing_subscriber::fmt::layer()
            .event_format(Line)
            .with_ansi(false)
            .with_writer(Sink {
                file: Mutex::new(RotatingFile::open(&path).unwrap()),
                terminal: Terminal::Silent,
            });
        hide_secrets(|text| text.replace("hunter2", "******"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::warn!(command = "x hunter2", "said hunter2");
        });
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("said ****** command=\"x ******\""), "{text}");
    }

    #[test]
    fn levels_can_be_set_and_nonsense_is_reported() {
        assert!(targets(None).1.is_none());
        assert!(targets(Some("debug")).1.is_none());
        assert!(targets(Some("a=b=c=d")).1.is_some());
    }
}
