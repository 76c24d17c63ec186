//! Processes as `/proc` shows them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A living process (zombies are not alive).
#[derive(Clone, Debug)]
pub struct Process {
    pub pid: i32,
    pub parent: i32,
    pub arguments: Vec<String>,
    pub cwd: Option<PathBuf>,
}

/// A member of the chain of one agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Bootstrapper,
    Launcher,
    Agent,
    Runner,
}

/// Memory of a process in KiB, from `smaps_rollup` and `status`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Proportional set size: shared pages are divided by the number of their users.
    pub pss: u64,
    /// Resident set size.
    pub rss: u64,
    /// The largest resident set size so far.
    pub peak: u64,
}

/// All living processes whose environment has `variable=value`.
pub fn with_environment(variable: &str, value: &str) -> Vec<Process> {
    let wanted = format!("{variable}={value}");
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|entry| entry == wanted.as_bytes())
        })
        .filter_map(Process::read)
        .collect()
}

/// Ends a process at once, as a power cut would. Ignores one that is gone.
pub fn kill_nine(pid: i32) {
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
}

/// Asks a process to end. Ignores one that is gone.
pub fn terminate(pid: i32) {
    let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
}

/// Whether the process lives and is not a zombie.
pub fn alive(pid: i32) -> bool {
    Process::read(pid).is_some()
}

/// The memory of a process, if it lives.
pub fn memory(pid: i32) -> Option<Memory> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(Memory {
        pss: kibibytes(&rollup, "Pss:")?,
        rss: kibibytes(&rollup, "Rss:")?,
        peak: kibibytes(&status, "VmHWM:")?,
    })
}

fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

impl Process {
    fn read(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name of the program is in parentheses and may hold anything, parentheses too.
        let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
        let state = fields.next()?;
        if matches!(state, "Z" | "X") {
            return None;
        }
        let parent = fields.next()?.parse().ok()?;
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        Some(Self {
            pid,
            parent,
            arguments: arguments
                .split(|byte| *byte == 0)
                .filter(|argument| !argument.is_empty())
                .map(|argument| String::from_utf8_lossy(argument).into_owned())
                .collect(),
            cwd: fs::read_link(format!("/proc/{pid}/cwd")).ok(),
        })
    }

    /// Which member of a chain this is, by its program and subcommand.
    pub fn role(&self) -> Option<Role> {
        let program = Path::new(self.arguments.first()?).file_name()?.to_str()?;
        let subcommand = self.arguments.get(1).map(String::as_str);
        match subcommand {
            Some("run-job") => Some(Role::Runner),
            Some("run") if program == "journeyman-agent" => Some(Role::Agent),
            Some("run") if program.contains("launcher") => Some(Role::Launcher),
            _ if program.contains("bootstrapper") => Some(Role::Bootstrapper),
            _ => None,
        }
    }
}
