//! What a job leaves running at its end: ended, and named.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::job::containment::{Process, end_descendants_politely, own_descendants};

/// What is about to end by itself is not worth a word.
const SETTLE: Duration = Duration::from_millis(250);
const PAUSE: Duration = Duration::from_millis(10);
/// Most processes that are named.
const MOST_NAMES: usize = 10;

/// What became of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Remains {
    /// In words, with their process ids; `None`: there was nothing.
    pub(super) ended: Option<String>,
    /// How many could not be ended by anyone.
    pub(super) left: usize,
}

/// Asks whatever the job has left running to end, and ends after `grace` what has not. Blocks.
///
/// GoCD: leaves it running; it is in the way of later jobs, or of the next release.
pub(super) fn end_what_is_left(grace: Duration) -> Remains {
    let settled = Instant::now() + SETTLE;
    let mut found = own_descendants();
    while !found.is_empty() && Instant::now() < settled {
        thread::sleep(PAUSE);
        found = own_descendants();
    }
    if found.is_empty() {
        return Remains::default();
    }
    let ended = in_words(&found);
    let left = end_descendants_politely(grace).len();
    Remains {
        ended: Some(ended),
        left,
    }
}

fn in_words(processes: &[Process]) -> String {
    let mut names: Vec<String> = processes
        .iter()
        .take(MOST_NAMES)
        .map(|process| format!("{} (process {})", process.name(), process.pid))
        .collect();
    if processes.len() > MOST_NAMES {
        names.push(format!("{} more", processes.len() - MOST_NAMES));
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_few_and_tell_the_processes() {
        let own = Process::read(i32::try_from(std::process::id()).unwrap()).unwrap();
        let one = in_words(&[own]);
        assert!(one.ends_with(&format!(" (process {})", own.pid)), "{one}");
        assert!(in_words(&[own; 12]).ends_with(", 2 more"));
    }
}
