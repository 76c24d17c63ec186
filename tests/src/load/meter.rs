//! What a process costs.

use std::{fs, time::Instant};

use nix::unistd::{SysconfVar, sysconf};

/// Measures the processor time of a process from its making on.
pub struct Meter {
    pid: i32,
    began: Instant,
    ticks: u64,
}

impl Meter {
    pub fn new(pid: i32) -> Self {
        Self {
            pid,
            began: Instant::now(),
            ticks: ticks(pid),
        }
    }

    /// Seconds of processor time since the beginning or the last look, for each second that went
    /// by: 1 is one core.
    pub fn lap(&mut self) -> f64 {
        let now = Self::new(self.pid);
        let used = (now.ticks - self.ticks) as f64 / ticks_per_second();
        let share = used / now.began.duration_since(self.began).as_secs_f64();
        *self = now;
        share
    }
}

/// User and system time of a process with all its threads.
fn ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process lives");
    let after_name = stat.rfind(')').expect("the name of its program") + 1;
    let fields = stat[after_name..].split_whitespace();
    let times = fields.skip(11).take(2);
    times
        .map(|field| field.parse::<u64>().expect("a number"))
        .sum()
}

fn ticks_per_second() -> f64 {
    sysconf(SysconfVar::CLK_TCK)
        .ok()
        .flatten()
        .map_or(100.0, |ticks| ticks as f64)
}
