//! The bootstrapper's log: lines on standard error and in a file that is rotated by size.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// Bytes after which a new file is begun; GoCD's log files have this size.
const ROTATE_AT: u64 = 5 * 1024 * 1024;
/// Older files that are kept.
const KEPT: usize = 3;

/// Writes lines to standard error and to a file. A file that cannot be written is no reason to
/// stop: standard error has the line then.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
}

impl Log {
    /// A log in the file `path`, which is made with its folder at the first line.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    /// Something an operator may want to know.
    pub fn info(&mut self, message: &str) {
        self.line("INFO", message);
    }

    /// Something an operator should look at.
    pub fn error(&mut self, message: &str) {
        self.line("ERROR", message);
    }

    fn line(&mut self, level: &str, message: &str) {
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let line = format!("{} {level} {}\n", timestamp(seconds), one_line(message));
        // Nothing can be done about a standard error that is closed.
        let _ = io::stderr().write_all(line.as_bytes());
        let _ = self
            .open()
            .and_then(|mut file| file.write_all(line.as_bytes()));
    }

    /// Opened for each line: there are few, and a file that an operator moved away is made anew.
    fn open(&self) -> io::Result<File> {
        if fs::metadata(&self.path).is_ok_and(|file| file.len() >= ROTATE_AT) {
            for number in (0..KEPT).rev() {
                // A number that is missing leaves a gap, no more.
                let _ = fs::rename(self.rotated(number), self.rotated(number + 1));
            }
        }
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)
    }

    /// The file itself for 0; `name.1.log` for the newest of the older ones.
    fn rotated(&self, number: usize) -> PathBuf {
        if number == 0 {
            self.path.clone()
        } else {
            self.path.with_extension(format!("{number}.log"))
        }
    }
}

/// A message must not be able to pretend to be two lines, or to move a terminal's cursor.
fn one_line(message: &str) -> String {
    message
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// `2026-08-01T10:11:12Z`. The civil date of a day number, in the proleptic Gregorian calendar,
/// counted from 1 March so that the leap day is a year's last.
fn timestamp(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let era = days / 146_097;
    let day = days % 146_097;
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    format!(
        "{year}-{month:02}-{date:02}T{:02}:{:02}:{:02}Z",
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_827_696, "2000-02-29T12:34:56Z"),
            (1_785_578_400, "2026-08-01T10:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(timestamp(seconds), text);
        }
    }

    #[test]
    fn a_full_file_is_put_aside_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/bootstrapper.log");
        let mut log = Log::new(&path);
        for round in 0..KEPT + 2 {
            log.info(&format!("round {round}"));
            File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_len(ROTATE_AT)
                .unwrap();
        }
        log.info("newest");
        assert!(fs::read_to_string(&path).unwrap().ends_with("newest\n"));
        let first = |number: usize| fs::read_to_string(log.rotated(number)).unwrap();
        assert!(first(1).contains("round 4"));
        assert!(first(3).contains("round 2"));
        assert!(!log.rotated(4).exists());
    }

    #[test]
    fn a_line_is_one_line() {
        assert_eq!(one_line("a\nERROR b\x1b[2J"), "a ERROR b [2J");
    }
}
