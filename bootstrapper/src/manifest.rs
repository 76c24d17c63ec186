//! The manifest at the end of a launcher's file: how to start it, and what its exit codes mean.
//!
//! Layout, fixed for ever: `executable | manifest | u64 LE length of the manifest | MAGIC`. The
//! manifest is text, one `key: value` to a line; keys that are not known are skipped.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    str,
    time::Duration,
};

use crate::VERSION;

const MAGIC: &[u8; 8] = b"JMLNCHR1";
/// Bytes behind the manifest.
const TRAILER: u64 = 16;
/// A manifest is a few lines; more means that the file is not what it says.
const LARGEST: u64 = 64 * 1024;
/// A launcher that lives this long has worked, unless its manifest says otherwise.
const WELL_AFTER: Duration = Duration::from_secs(60);

/// How to start a launcher and what its exit codes mean.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// For people, in the log.
    pub(crate) version: String,
    /// Arguments before those of the operator.
    pub(crate) args: Vec<String>,
    /// Exit codes that mean: start me again at once, I was replaced.
    pub(crate) relaunch_at_once: Vec<i32>,
    /// Exit codes that mean: it is hopeless, don't start me again.
    pub(crate) give_up: Vec<i32>,
    /// Exit codes that mean: all that was asked for is done, for example help was shown.
    pub(crate) done: Vec<i32>,
    /// Exit codes that mean: I am fine, whatever it was that ended; start me again.
    pub(crate) worked: Vec<i32>,
    /// A launcher that lives this long has worked.
    pub(crate) well_after: Duration,
}

impl Default for Manifest {
    fn default() -> Self {
        Self {
            version: String::new(),
            args: Vec::new(),
            relaunch_at_once: Vec::new(),
            give_up: Vec::new(),
            done: Vec::new(),
            worked: Vec::new(),
            well_after: WELL_AFTER,
        }
    }
}

impl Manifest {
    /// Reads the manifest at the end of a launcher's file.
    ///
    /// # Errors
    /// Says what is wrong with the file, for a message.
    pub(crate) fn of(launcher: &mut File) -> Result<Self, String> {
        let unreadable = |error: std::io::Error| format!("it cannot be read: {error}");
        let length = launcher.seek(SeekFrom::End(0)).map_err(unreadable)?;
        let mut trailer = [0; TRAILER as usize];
        let start = length
            .checked_sub(TRAILER)
            .ok_or("it is too short to be a launcher")?;
        launcher.seek(SeekFrom::Start(start)).map_err(unreadable)?;
        launcher.read_exact(&mut trailer).map_err(unreadable)?;
        let (size, magic) = trailer.split_at(8);
        if magic != MAGIC {
            return Err("it does not end like a launcher; it may be cut off".to_owned());
        }
        let size = size
            .iter()
            .rev()
            .fold(0_u64, |size, byte| size << 8 | u64::from(*byte));
        let start = start
            .checked_sub(size)
            .filter(|_| size <= LARGEST)
            .ok_or("its manifest has no plausible length")?;
        launcher.seek(SeekFrom::Start(start)).map_err(unreadable)?;
        let mut text = Vec::new();
        launcher
            .take(size)
            .read_to_end(&mut text)
            .map_err(unreadable)?;
        Self::parse(&text)
    }

    fn parse(text: &[u8]) -> Result<Self, String> {
        let text = str::from_utf8(text).map_err(|_| "its manifest is not text")?;
        let mut manifest = Self::default();
        let mut format = "";
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else {
                continue;
            };
            let value = value.trim();
            match key.trim() {
                "format" => format = value,
                "version" => value.clone_into(&mut manifest.version),
                "args" => {
                    manifest.args = value
                        .split_whitespace()
                        .map(|word| word.replace("{bootstrapper_version}", VERSION))
                        .collect();
                }
                "relaunch-at-once" => manifest.relaunch_at_once = codes(value)?,
                "give-up" => manifest.give_up = codes(value)?,
                "done" => manifest.done = codes(value)?,
                "worked" => manifest.worked = codes(value)?,
                "well-after-ms" => {
                    manifest.well_after = value
                        .parse()
                        .map(Duration::from_millis)
                        .map_err(|_| format!("its manifest has a time {value:?}"))?;
                }
                _ => {}
            }
        }
        if format == "1" {
            Ok(manifest)
        } else {
            Err(format!(
                "its manifest has format {format:?}, and this bootstrapper knows only 1"
            ))
        }
    }
}

fn codes(value: &str) -> Result<Vec<i32>, String> {
    value
        .split_whitespace()
        .map(|code| {
            code.parse()
                .map_err(|_| format!("its manifest has an exit code {code:?}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(manifest: &str, length: u64, magic: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"\x7fELF...").unwrap();
        file.write_all(manifest.as_bytes()).unwrap();
        file.write_all(&length.to_le_bytes()).unwrap();
        file.write_all(magic).unwrap();
        file
    }

    fn read(manifest: &str) -> Result<Manifest, String> {
        Manifest::of(&mut file(manifest, manifest.len() as u64, MAGIC))
    }

    #[test]
    fn a_manifest_says_how_to_start_and_what_codes_mean() {
        let manifest = read(
            "format: 1\nversion: 0.1.0\nargs: run --bootstrapper-version {bootstrapper_version}\n\
             relaunch-at-once: 60\nnew-key: ignored\ngive-up: 64 73\ndone: 80\nworked: 61\n\
             well-after-ms: 1500\n",
        );
        assert_eq!(
            manifest.unwrap(),
            Manifest {
                version: "0.1.0".to_owned(),
                args: ["run", "--bootstrapper-version", VERSION]
                    .map(str::to_owned)
                    .to_vec(),
                relaunch_at_once: vec![60],
                give_up: vec![64, 73],
                done: vec![80],
                worked: vec![61],
                well_after: Duration::from_millis(1500),
            }
        );
    }

    #[test]
    fn a_manifest_from_before_a_key_was_known_has_its_default() {
        assert_eq!(
            read("format: 1\n").unwrap(),
            Manifest {
                well_after: Duration::from_secs(60),
                ..Manifest::default()
            }
        );
    }

    #[test]
    fn what_is_not_a_launcher_is_refused_with_the_reason() {
        let mut empty = tempfile::tempfile().unwrap();
        for (error, word) in [
            (Manifest::of(&mut empty), "too short"),
            (Manifest::of(&mut file("", 0, b"NOTMAGIC")), "cut off"),
            (
                Manifest::of(&mut file("format: 1", u64::MAX, MAGIC)),
                "length",
            ),
            (Manifest::of(&mut file("format: 1", 4000, MAGIC)), "length"),
            (read("format: 2\n"), "knows only 1"),
            (read("format: 1\ngive-up: many\n"), "exit code"),
            (read("format: 1\nwell-after-ms: -1\n"), "time"),
            (read(""), "format"),
        ] {
            let error = error.unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
