//! Taking turns with a Java agent in the same folder.
//!
//! GoCD's launcher goes by the age of its lock file, which it touches every five minutes: one that
//! was not touched for ten is nobody's. It knows nothing of the kernel's lock on the file, and its
//! own cannot be seen there. So this launcher touches the file as well, makes it old when it ends,
//! and looks for the Java agent's processes before it begins.

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    path::Path,
    thread,
    time::{Duration, Instant, SystemTime},
};

use journeyman_host::{lock::Lock, properties::Properties};
use tracing::warn;

/// GoCD's property for the time between two touches, in milliseconds.
const TOUCH_EVERY: &str = "lockfile.touch.frequency.millis";
/// GoCD: five minutes.
const USUAL: Duration = Duration::from_secs(300);
/// Never so long that a Java agent would take the file for nobody's.
const LONGEST: Duration = Duration::from_secs(540);
const SHORTEST: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(100);
/// Archives that the processes of a Java agent are started from.
const ARCHIVES: [&str; 2] = ["agent-bootstrapper.jar", "agent.jar"];

/// A process of a Java agent that works in this folder, if there is still one after `patience`.
pub(crate) fn in_folder(folder: &Path, patience: Duration) -> Option<i32> {
    let start = Instant::now();
    loop {
        let found = find(folder)?;
        if start.elapsed() >= patience {
            return Some(found);
        }
        thread::sleep(PAUSE);
    }
}

fn find(folder: &Path) -> Option<i32> {
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes
        .filter(|process| {
            fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd == folder)
                && fs::read(process.path().join("cmdline")).is_ok_and(|line| is_java_agent(&line))
        })
        .find_map(|process| process.file_name().to_str()?.parse().ok())
}

fn is_java_agent(command_line: &[u8]) -> bool {
    command_line.split(|byte| *byte == 0).any(|word| {
        let name = Path::new(OsStr::from_bytes(word)).file_name();
        ARCHIVES
            .iter()
            .any(|archive| name == Some(archive.as_ref()))
    })
}

/// Keeps the lock file young for ever.
pub(crate) async fn keep_young(lock: &Lock) {
    let every = Properties::of_launcher().millis(TOUCH_EVERY);
    let mut tick = tokio::time::interval(every.unwrap_or(USUAL).clamp(SHORTEST, LONGEST));
    loop {
        tick.tick().await;
        set_age(lock, SystemTime::now());
    }
}

/// Makes the lock file old: whoever comes next need not wait.
pub(crate) fn make_old(lock: &Lock) {
    set_age(lock, SystemTime::UNIX_EPOCH);
}

fn set_age(lock: &Lock, modified: SystemTime) {
    if let Err(error) = lock.set_modified(modified) {
        warn!(%error, "cannot set the time of the lock file, which a Java agent in this folder goes by");
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn processes_of_a_java_agent_are_found_by_folder_and_archive() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let start = |archive: &str, cwd: &Path| {
            let process = Command::new("sh")
                .args(["-c", "read line", "-jar", archive])
                .current_dir(cwd)
                .stdin(Stdio::piped())
                .spawn()
                .unwrap();
            // The kernel lets the parent go on before the new program's command line can be read.
            let line = format!("/proc/{}/cmdline", process.id());
            let words = [archive.as_bytes(), b"\0"].concat();
            while !fs::read(&line).unwrap().ends_with(&words) {
                thread::yield_now();
            }
            process
        };
        let mut others = [
            start("my-agent.jar", &folder),
            start("agent.jar", Path::new("/")),
        ];
        assert_eq!(in_folder(&folder, Duration::ZERO), None);
        let mut java = start("/usr/share/go-agent/lib/agent-bootstrapper.jar", &folder);
        let pid = i32::try_from(java.id()).unwrap();
        assert_eq!(in_folder(&folder, Duration::ZERO), Some(pid));
        // One that is about to end is waited for.
        drop(java.stdin.take());
        let waiting = thread::spawn(move || in_folder(&folder, Duration::from_secs(60)));
        java.wait().unwrap();
        assert_eq!(waiting.join().unwrap(), None);
        for other in &mut others {
            drop(other.stdin.take());
            other.wait().unwrap();
        }
    }
}
