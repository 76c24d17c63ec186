//! The processes of this machine, read from `/proc`.

use std::{collections::HashMap, fs};

/// One process. The time it was started tells it from a later one with the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// Clock ticks since boot.
    started: u64,
}

/// All living processes at one moment. Zombies do not count: they have ended.
#[derive(Debug, Default)]
pub(crate) struct Table {
    entries: HashMap<i32, Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    process: Process,
    parent: i32,
    zombie: bool,
}

// === impl Process ===

impl Process {
    /// The living process with this id, if there is one.
    pub(crate) fn read(pid: i32) -> Option<Self> {
        read_entry(pid)
            .filter(|entry| !entry.zombie)
            .map(|entry| entry.process)
    }

    /// The name of its program, or at least of its first letters; `?` when it has ended.
    pub(crate) fn name(self) -> String {
        let name = fs::read(format!("/proc/{}/comm", self.pid)).unwrap_or_default();
        match String::from_utf8_lossy(&name).trim() {
            "" => "?".to_owned(),
            name => name.escape_debug().to_string(),
        }
    }
}

// === impl Table ===

impl Table {
    /// Reads all processes. One that comes or goes meanwhile may be missing.
    pub(crate) fn read() -> Self {
        let mut entries = HashMap::new();
        // The first look takes long enough for a shell to go on to its next command: the second
        // is for what has come meanwhile, and short.
        for _ in 0..2 {
            let Ok(folder) = fs::read_dir("/proc") else {
                break;
            };
            let pids = folder.filter_map(|item| item.ok()?.file_name().to_str()?.parse().ok());
            for pid in pids {
                if !entries.contains_key(&pid)
                    && let Some(entry) = read_entry(pid)
                {
                    entries.insert(pid, entry);
                }
            }
        }
        Self { entries }
    }

    /// Every living process below `root`, without `root` itself.
    pub(crate) fn descendants(&self, root: i32) -> Vec<Process> {
        let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
        for (pid, entry) in &self.entries {
            children.entry(entry.parent).or_default().push(*pid);
        }
        let mut found = Vec::new();
        let mut open = vec![root];
        while let Some(parent) = open.pop() {
            for child in children.remove(&parent).unwrap_or_default() {
                open.push(child);
                if let Some(entry) = self.entries.get(&child)
                    && !entry.zombie
                {
                    found.push(entry.process);
                }
            }
        }
        found
    }

    /// All living processes.
    pub(crate) fn all(&self) -> impl Iterator<Item = Process> {
        self.entries
            .values()
            .filter(|entry| !entry.zombie)
            .map(|entry| entry.process)
    }

    /// Parent, its parent and so on.
    pub(crate) fn ancestors(&self, pid: i32) -> Vec<i32> {
        let mut above = Vec::new();
        let mut at = pid;
        while let Some(entry) = self.entries.get(&at) {
            at = entry.parent;
            if at == 0 || above.contains(&at) {
                break;
            }
            above.push(at);
        }
        above
    }

    /// Living children of a process.
    pub(crate) fn children(&self, parent: i32) -> Vec<Process> {
        self.entries
            .values()
            .filter(|entry| entry.parent == parent && !entry.zombie)
            .map(|entry| entry.process)
            .collect()
    }
}

fn read_entry(pid: i32) -> Option<Entry> {
    parse_stat(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// Takes apart `/proc/<pid>/stat`. The second field is the program's name in parentheses and may
/// hold anything, so the fields are counted from the last closing one.
fn parse_stat(pid: i32, stat: &[u8]) -> Option<Entry> {
    let end = stat.iter().rposition(|b| *b == b')')?;
    let rest = str::from_utf8(stat.get(end + 2..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    // Field 22 of the whole; the parent is field 4.
    let started = fields.nth(17)?.parse().ok()?;
    Some(Entry {
        process: Process { pid, started },
        parent,
        zombie: matches!(state, "Z" | "X" | "x"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let stat = b"42 (a) R 1 (b)) S 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 0 0\n";
        let entry = parse_stat(42, stat).unwrap();
        assert_eq!(entry.parent, 7);
        assert_eq!(entry.process.started, 12345);
        assert!(!entry.zombie);
    }

    #[test]
    fn finds_itself() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let table = Table::read();
        let own = Process::read(pid).unwrap();
        assert!(table.all().any(|process| process == own));
        let parent = table.ancestors(pid)[0];
        assert!(table.descendants(parent).contains(&own));
    }
}
