//! Where all lines of a job come together: tagged, timed, encoded, and on the disk at once.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use jiff::Zoned;
use journeyman_protocol::console::{Tag, format_line};
use tokio::sync::watch;

use super::{
    CROPPED, Charset, LONGEST_LINE, LONGEST_LINE_EVER, LineSplitter, charset::Decoder, lines::Line,
    text_of,
};
use crate::job::{
    masking::Mask,
    spool::{Disk, Overflow, SpoolWriter, Whose},
};

/// How GoCD's lines begin.
const PREFIX: &str = "[go] ";

/// Tells the local time for the lines; given from outside so that tests have their own.
pub(crate) type WallClock = Arc<dyn Fn() -> Zoned + Send + Sync>;

/// The job's console. Cheap to clone; lines of several threads do not mix within a line.
#[derive(Clone)]
pub(crate) struct Console {
    shared: Arc<Shared>,
    /// What the agent's own lines must not show.
    secrets: Mask,
    longest_line: usize,
}

struct Shared {
    spool: Mutex<SpoolWriter>,
    charset: Charset,
    now: WallClock,
    /// Bytes in the spool, for the streaming task to wait on.
    length: watch::Sender<u64>,
    broken: OnceLock<String>,
}

/// Output of one stream of one task on its way to the console.
pub(crate) struct Stream {
    console: Console,
    tag: Tag,
    /// Stands before each line of the stream.
    lead: &'static str,
    /// One after the other.
    masks: [Mask; 2],
    decoder: Option<Decoder>,
    splitter: LineSplitter,
    out: Vec<u8>,
}

// === impl Console ===

impl Console {
    pub(crate) fn new(spool: SpoolWriter, charset: Charset, now: WallClock) -> Self {
        let (length, _) = watch::channel(spool.length());
        Self {
            shared: Arc::new(Shared {
                spool: Mutex::new(spool),
                charset,
                now,
                length,
                broken: OnceLock::new(),
            }),
            secrets: Mask::default(),
            longest_line: LONGEST_LINE,
        }
    }

    /// Crops the lines of programs at this many characters instead of GoCD's [`LONGEST_LINE`]; 0
    /// or less is no limit but memory's.
    pub(crate) fn cropping_at(self, characters: i64) -> Self {
        let characters = match usize::try_from(characters) {
            Ok(0) | Err(_) => LONGEST_LINE_EVER,
            Ok(limit) => limit.clamp(CROPPED.len(), LONGEST_LINE_EVER),
        };
        Self {
            longest_line: characters,
            ..self
        }
    }

    /// Hides these in the agent's own lines and in what programs of source control print.
    pub(crate) fn hiding(self, secrets: Mask) -> Self {
        Self { secrets, ..self }
    }

    /// Adds a line of the agent itself, without secrets; each line feed in the text begins another
    /// one of the same tag and time.
    ///
    /// GoCD does not mask its own lines: a secret in a command or an error is there for all to
    /// read.
    pub(crate) fn line(&self, tag: Tag, text: &str) {
        match text.strip_prefix(PREFIX) {
            Some(rest) => self.verbatim(tag, &format!("{PREFIX}{}", self.hide(rest))),
            None => self.verbatim(tag, &self.hide(text)),
        }
    }

    /// Text from outside, to be put into a line whose own words must stay as they are.
    pub(crate) fn hide<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.secrets.apply(text)
    }

    /// Adds a line as it is: one that has no secret, or not any more.
    pub(crate) fn verbatim(&self, tag: Tag, text: &str) {
        let time = self.now().time();
        self.append(format_line(tag, time, text).as_bytes(), Whose::Job);
    }

    pub(crate) fn now(&self) -> Zoned {
        (self.shared.now)()
    }

    pub(crate) fn charset(&self) -> Charset {
        self.shared.charset
    }

    /// A stream of a task's output in the console's charset.
    pub(crate) fn stream(&self, tag: Tag, lead: &'static str, mask: Mask) -> Stream {
        // What a task prints is masked as GoCD does, and by nothing else.
        let own = matches!(tag, Tag::Prep | Tag::PrepErr);
        Stream {
            console: self.clone(),
            tag,
            lead,
            masks: [
                mask,
                if own {
                    self.secrets.clone()
                } else {
                    Mask::default()
                },
            ],
            decoder: None,
            splitter: LineSplitter::new(self.longest_line),
            out: Vec::new(),
        }
    }

    /// Bytes in the spool; changes at each line.
    pub(crate) fn lengths(&self) -> watch::Receiver<u64> {
        self.shared.length.subscribe()
    }

    /// Why the console could not be kept on the disk, if that ever was so. A job that this happened
    /// to has failed.
    pub(crate) fn broken(&self) -> Option<&str> {
        self.shared.broken.get().map(String::as_str)
    }

    /// The part of the spool that the disk did not take.
    pub(crate) fn overflow(&self) -> Overflow {
        self.spool().overflow()
    }

    /// Says how many lines were lost, if any were.
    pub(crate) fn say_what_is_lost(&self) {
        let lost = self.spool().take_lost();
        if lost > 0 {
            self.verbatim(
                Tag::Err,
                &format!("[go] {lost} lines of output are lost: the disk took none for too long."),
            );
        }
    }

    fn append(&self, bytes: &[u8], whose: Whose) {
        let mut spool = self.spool();
        let disk = spool.append(bytes, whose);
        self.shared.length.send_replace(spool.length());
        drop(spool);
        match disk {
            Disk::Good => self.say_what_is_lost(),
            Disk::Bad(error) => {
                let why = error.advice();
                if self.shared.broken.set(why.clone()).is_ok() {
                    tracing::error!(error = %why, "The console is held in memory");
                    self.verbatim(
                        Tag::Err,
                        &format!("[go] The job's console cannot be kept, so the job fails: {why}"),
                    );
                }
            }
        }
    }

    fn spool(&self) -> MutexGuard<'_, SpoolWriter> {
        // A writer that panicked has left at worst an unfinished line, which the next one ends.
        self.shared
            .spool
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Stream ===

impl Stream {
    /// Takes bytes as they were read; `on_line` sees each finished line as it is shown, but for
    /// the crop of a very long one. All lines of one call are on the disk when it returns.
    pub(crate) fn push(&mut self, bytes: &[u8], charset: Charset, mut on_line: impl FnMut(&str)) {
        self.take(bytes, charset, false, &mut on_line);
    }

    /// The stream has ended: what is left is the last line.
    pub(crate) fn finish(&mut self, charset: Charset, mut on_line: impl FnMut(&str)) {
        self.take(&[], charset, true, &mut on_line);
    }

    fn take(&mut self, bytes: &[u8], charset: Charset, last: bool, on_line: &mut impl FnMut(&str)) {
        let prefix = self.prefix();
        let Self {
            decoder,
            splitter,
            out,
            masks,
            console,
            ..
        } = self;
        let decoder = decoder.get_or_insert_with(|| charset.decoder());
        let bytes = decoder.decode(bytes, last);
        // Most output has no secret: one look at all that was read, instead of one at each line.
        // What began in an earlier read must be looked at as a whole.
        let suspect = masks.iter().any(|mask| mask.may_hold(&bytes));
        let coded = masks.iter().any(|mask| mask.is_coded(&bytes));
        let mut begun_before = splitter.is_open();
        let mut show = |line: Line<'_>| {
            let suspect = suspect
                || begun_before
                || coded && masks.iter().any(|mask| mask.is_coded(line.bytes));
            let masks = suspect.then_some(&*masks);
            begun_before = false;
            let (text, more) = head_of(line, console.longest_line, masks);
            on_line(&text);
            out.extend_from_slice(&prefix);
            match crop(&text, more, console.longest_line) {
                Some(end) => {
                    out.extend_from_slice(text[..end].as_bytes());
                    out.extend_from_slice(CROPPED.as_bytes());
                }
                None => out.extend_from_slice(text.as_bytes()),
            }
            out.push(b'\n');
            // Very long lines must not pile up in memory.
            if out.len() > 1024 * 1024 {
                console.append(out, Whose::Program);
                out.clear();
            }
        };
        splitter.push(&bytes, &mut show);
        if last {
            splitter.finish(&mut show);
        }
        self.write_out();
    }

    fn write_out(&mut self) {
        if !self.out.is_empty() {
            self.console.append(&self.out, Whose::Program);
            self.out.clear();
            self.out.shrink_to(256 * 1024);
        }
    }

    fn prefix(&self) -> Vec<u8> {
        let time = self.console.now().time();
        let mut prefix = format_line(self.tag, time, "").into_bytes();
        prefix.pop(); // the line feed
        prefix.extend_from_slice(self.lead.as_bytes());
        prefix
    }
}

/// The masked text of a line, of a very long one only as much as is shown; and whether the line
/// had more. Bytes may become three times as many when they are not text, so a line of the
/// longest kind is not decoded as a whole. Without `masks` nothing in the line is secret.
fn head_of<'a>(line: Line<'a>, longest: usize, masks: Option<&[Mask; 2]>) -> (Cow<'a, str>, bool) {
    let mut length = line.bytes.len().min(longest + 64 * 1024);
    loop {
        let all = length == line.bytes.len();
        let more = line.truncated || !all;
        let mut text = text_of(&line.bytes[..length]);
        for mask in masks.into_iter().flatten() {
            text = masked(text, mask);
        }
        if more {
            // What was cut off may have been the rest of a secret, or of a character: then the
            // beginning of it must not be shown either.
            let secret = masks.into_iter().flatten().map(Mask::longest).max();
            let unsure = secret.unwrap_or(0) + '\u{fffd}'.len_utf8();
            let end = text.floor_char_boundary(text.len().saturating_sub(unsure));
            text.to_mut().truncate(end);
        }
        if all || text.encode_utf16().nth(longest).is_some() {
            return (text, more);
        }
        length = line.bytes.len().min(2 * length);
    }
}

fn masked<'a>(text: Cow<'a, str>, mask: &Mask) -> Cow<'a, str> {
    match text {
        Cow::Borrowed(text) => mask.apply(text),
        Cow::Owned(text) => match mask.apply(&text) {
            Cow::Borrowed(_) => Cow::Owned(text),
            Cow::Owned(masked) => Cow::Owned(masked),
        },
    }
}

/// Where a line that is too long is cut, so that it has exactly the limit's length in characters
/// (UTF-16 units, as Java counts) with the text that says so.
fn crop(text: &str, truncated: bool, longest: usize) -> Option<usize> {
    if !truncated && text.len() <= longest {
        return None;
    }
    let keep = longest - CROPPED.len();
    let mut units = 0;
    let mut end = text.len();
    for (at, c) in text.char_indices() {
        let next = units + c.len_utf16();
        if units <= keep && next > keep {
            end = at;
        }
        units = next;
        if units > longest {
            return Some(end);
        }
    }
    truncated.then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn console(path: &std::path::Path, charset: &str) -> Console {
        let at: Zoned = "2026-08-01T09:05:07.003[UTC]".parse().unwrap();
        Console::new(
            SpoolWriter::open(path).unwrap(),
            Charset::for_name(charset),
            Arc::new(move || at.clone()),
        )
    }

    #[test]
    fn own_lines_have_tag_and_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console");
        let console = console(&path, "utf-8");
        let lengths = console.lengths();
        console.line(Tag::Notice, "a");
        console.line(Tag::Prep, "a\nb");
        console.line(Tag::Prep, "a\n");
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "##|09:05:07.003 a\npr|09:05:07.003 a\npr|09:05:07.003 b\n\
             pr|09:05:07.003 a\npr|09:05:07.003 \n"
        );
        assert_eq!(*lengths.borrow(), text.len() as u64);
    }

    #[test]
    fn streams_are_decoded_and_masked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console");
        let console = console(&path, "ISO-8859-1");
        let mask = Mask::new(["pw".to_owned()]);
        let mut stream = console.stream(Tag::Out, "", mask);
        let mut seen = Vec::new();
        let charset = console.charset();
        stream.push(b"p", charset, |line| seen.push(line.to_owned()));
        stream.push(b"w\xe9\rx\r", charset, |line| seen.push(line.to_owned()));
        stream.push(b"\nlast", charset, |line| seen.push(line.to_owned()));
        stream.finish(charset, |line| seen.push(line.to_owned()));
        assert_eq!(seen, ["******é", "x", "last"]);
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "&1|09:05:07.003 ******é\n&1|09:05:07.003 x\n&1|09:05:07.003 last\n"
        );
    }

    #[test]
    fn secrets_are_masked_wherever_reads_and_crops_cut_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console");
        let console = console(&path, "utf-8").cropping_at(100);
        let charset = console.charset();
        let line = "a topsecret99 b dG9wc2VjcmV0OTk= c topsecret99\r\nclean\n";
        for cut in 0..line.len() {
            let mut stream = console.stream(Tag::Out, "", Mask::new(["topsecret99".to_owned()]));
            stream.push(&line.as_bytes()[..cut], charset, |_| {});
            stream.push(&line.as_bytes()[cut..], charset, |_| {});
            // Cut by the crop, at each place in turn.
            let mut long = "x".repeat(80 + cut % 30);
            long.push_str("topsecret99topsecret99topsecret99\n");
            stream.push(long.as_bytes(), charset, |_| {});
            stream.finish(charset, |_| {});
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text.matches("a ****** b ****** c ******\n").count(),
            line.len()
        );
        assert_eq!(text.matches(" clean\n").count(), line.len());
        assert!(!text.contains("top") && !text.contains("99"), "{text}");
    }

    #[test]
    fn lines_end_where_the_decoded_text_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console");
        let console = console(&path, "UTF-16");
        let mut stream = console.stream(Tag::Out, "", Mask::default());
        let bytes: Vec<u8> = "ĊȊa\n€\r\nlast"
            .encode_utf16()
            .flat_map(u16::to_be_bytes)
            .collect();
        for byte in &bytes {
            stream.push(&[*byte], console.charset(), |_| {});
        }
        stream.finish(console.charset(), |_| {});
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().map(|line| &line[16..]).collect();
        assert_eq!(lines, ["ĊȊa", "€", "last"]);
    }

    #[test]
    fn very_long_lines_are_cropped_after_masking() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console");
        let console = console(&path, "utf-8");
        let charset = console.charset();
        let mut stream = console.stream(Tag::Out, "", Mask::new(["secret".to_owned()]));
        let exact = "x".repeat(LONGEST_LINE);
        stream.push(exact.as_bytes(), charset, |_| {});
        stream.push(b"\n", charset, |_| {});
        stream.push(exact.as_bytes(), charset, |_| {});
        stream.push(b"y\n", charset, |_| {});
        for _ in 0..1_000_000 {
            stream.push(b"secret", charset, |_| {});
        }
        stream.finish(charset, |_| {});
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text
            .lines()
            .map(|line| &line["&1|09:05:07.003 ".len()..])
            .collect();
        assert_eq!(lines[0], exact);
        assert_eq!(lines[1].len(), LONGEST_LINE);
        assert!(lines[1].ends_with("xxx...[ cropped by GoCD ]"));
        assert_eq!(lines[2].len(), LONGEST_LINE);
        assert!(lines[2].ends_with(CROPPED) && !lines[2].contains("sec"));
    }
}
