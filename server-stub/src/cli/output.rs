//! Tables, sizes and times for people.

use std::io::{IsTerminal, Write};

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A line on standard output. A reader that has gone away is no reason to panic.
pub(super) fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A line on standard error.
pub(super) fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A document for programs.
pub(super) fn json<T: serde::Serialize>(value: &T) {
    say(&serde_json::to_string_pretty(value).unwrap_or_default());
}

/// Whether colours are wanted on standard output.
pub(super) fn colours() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Columns as wide as they need to be.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = head.iter().map(|name| name.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let print = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (cell, width) in cells.zip(&widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        say(line.trim_end());
    };
    print(&mut head.iter().copied());
    for row in rows {
        print(&mut row.iter().map(String::as_str));
    }
}

/// Control characters would let an agent's or a repository's text write over the terminal.
pub(crate) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() && c != '\t' { ' ' } else { c })
        .collect()
}

/// Bytes as people read them.
pub(crate) fn size(bytes: i64) -> String {
    let mut value = f64::from(u32::try_from(bytes.max(0) >> 10).unwrap_or(u32::MAX));
    if bytes < 10 * 1024 {
        return format!("{} B", bytes.max(0));
    }
    for unit in ["KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return format!("{value:.1} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// The time of day here, with milliseconds.
pub(super) fn time(milliseconds: i64) -> String {
    let time = Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH);
    time.to_zoned(TimeZone::system())
        .strftime("%H:%M:%S%.3f")
        .to_string()
}

/// A length of time.
pub(crate) fn duration(milliseconds: i64) -> String {
    let milliseconds = milliseconds.max(0);
    let (minutes, seconds) = (milliseconds / 60_000, milliseconds % 60_000 / 1000);
    if minutes > 0 {
        format!("{minutes} min {seconds:02} s")
    } else {
        format!("{seconds}.{:03} s", milliseconds % 1000)
    }
}
