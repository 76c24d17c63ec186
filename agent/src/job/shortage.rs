//! What a machine may be short of: a place to write, and memory. Said on the console of a job that
//! failed, because neither the job's programs nor the kernel tell those who read it.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::statvfs::{FsFlags, statvfs},
};

/// Less free space than this is none.
const LEAST_SPACE: u64 = 64 * 1024;
/// Exit code of a process that was ended by SIGKILL.
const KILLED: i32 = 128 + 9;

/// Why nothing can be written in a folder, if that is so, and what to do. Tries it: quotas and
/// rights show in no number.
pub(crate) fn cannot_write(folder: &Path) -> Option<String> {
    let error = try_to_write(folder).err()?;
    Some(describe(&error, folder))
}

/// Says of an error of the disk under `folder` what it means.
pub(crate) fn describe(error: &io::Error, folder: &Path) -> String {
    let folder = folder.display();
    let (what, advice) = match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOSPC) => ("the disk is full", "Free space there"),
        Some(Errno::EDQUOT) => ("the disk quota is used up", "Free space there or raise it"),
        Some(Errno::EROFS) => ("the file system is read-only", "Make it writable"),
        Some(Errno::EACCES | Errno::EPERM) => {
            ("the agent's user may not write", "Give it the right to")
        }
        _ => ("nothing can be written", "Check the disk"),
    };
    format!("{what} under {folder} ({error}). {advice}, and run the job again.")
}

fn try_to_write(folder: &Path) -> io::Result<()> {
    // Without a name, so that nobody ever sees it.
    let mut file = tempfile::tempfile_in(folder)?;
    file.write_all(&[1; LEAST_SPACE as usize])
}

/// Whether a folder is on a file system that is full or read-only, told without writing: for those
/// who ask again and again.
pub(crate) fn is_full_or_read_only(folder: &Path) -> bool {
    statvfs(folder).is_ok_and(|facts| {
        let blocks = if nix::unistd::geteuid().is_root() {
            facts.blocks_free()
        } else {
            facts.blocks_available()
        };
        facts.flags().contains(FsFlags::ST_RDONLY)
            || blocks.saturating_mul(facts.fragment_size()) < LEAST_SPACE
            || (facts.files() > 0 && facts.files_free() == 0)
    })
}

/// How often the kernel has ended a process for want of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MemoryKills {
    /// In the control group of this process and below; none where that cannot be read.
    own: Option<u64>,
    /// On the whole machine, as far as it can be seen from here.
    machine: Option<u64>,
}

impl MemoryKills {
    pub(crate) fn now() -> Self {
        Self {
            own: own_counter().and_then(|file| read_counter(&file)),
            machine: read_counter(Path::new("/proc/vmstat")),
        }
    }

    /// What to say of a task that failed with this exit code, when this was the count before it.
    pub(crate) fn explain(self, now: Self, exit_code: Option<i32>) -> Option<String> {
        let rose = |before: Option<u64>, now: Option<u64>| now > before && before.is_some();
        let whose = if rose(self.own, now.own) {
            "a process of this agent"
        } else if exit_code == Some(KILLED) && rose(self.machine, now.machine) {
            "a process of this machine"
        } else {
            return None;
        };
        Some(format!(
            "While the task ran, the kernel ended {whose} for want of memory: the task may have \
             failed because of it. Let it use less, or give it more (machine, container or control \
             group)."
        ))
    }
}

/// The file that counts for the control group of this process: of cgroup v2 or v1.
fn own_counter() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    counters(&groups, &mounts)
        .into_iter()
        .find(|file| read_counter(file).is_some())
}

fn counters(groups: &str, mounts: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for group in groups.lines() {
        let mut fields = group.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let is_v2 = controllers.is_empty();
        if !is_v2 && !controllers.split(',').any(|name| name == "memory") {
            continue;
        }
        for mount in mounts.lines() {
            let Some((before, after)) = mount.split_once(" - ") else {
                continue;
            };
            let (root, point) = {
                let mut fields = before.split(' ').skip(3);
                (fields.next().unwrap_or("/"), fields.next().unwrap_or("/"))
            };
            let mut fields = after.split(' ');
            let is_it = match (fields.next(), is_v2) {
                (Some("cgroup2"), true) => true,
                (Some("cgroup"), false) => fields
                    .nth(1)
                    .is_some_and(|options| options.split(',').any(|name| name == "memory")),
                _ => false,
            };
            // What the mount shows begins at its root.
            let Some(below) = Path::new(path).strip_prefix(root).ok().filter(|_| is_it) else {
                continue;
            };
            let file = if is_v2 {
                "memory.events"
            } else {
                "memory.oom_control"
            };
            found.push(Path::new(point).join(below).join(file));
        }
    }
    found
}

fn read_counter(file: &Path) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn says_what_is_wrong_with_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(cannot_write(folder.path()), None);
        assert!(!is_full_or_read_only(folder.path()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        // Nobody can write there, root neither.
        let text = cannot_write(Path::new("/proc")).unwrap();
        assert!(text.contains(" under /proc ("), "{text}");
        let full = io::Error::from_raw_os_error(Errno::ENOSPC as i32);
        let text = describe(&full, Path::new("/a"));
        assert!(
            text.starts_with("the disk is full under /a (No space left"),
            "{text}"
        );
    }

    #[test]
    fn finds_its_counter_in_both_kinds_of_control_groups() {
        let mounts = "\
30 24 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
31 24 0:27 /docker/ab /sys/fs/cgroup/memory rw,nosuid shared:9 - cgroup cgroup rw,memory
32 24 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
";
        assert_eq!(
            counters("9:memory:/docker/ab/job\n5:cpu:/\n0::/a.slice\n", mounts),
            [
                PathBuf::from("/sys/fs/cgroup/memory/job/memory.oom_control"),
                PathBuf::from("/sys/fs/cgroup/unified/a.slice/memory.events"),
            ]
        );
        assert!(counters("nonsense\n", "nonsense").is_empty());
    }

    #[test]
    fn blames_memory_only_when_a_count_rose() {
        let kills = |own, machine| MemoryKills { own, machine };
        let before = kills(Some(1), Some(5));
        assert_eq!(before.explain(before, Some(KILLED)), None);
        let own = before.explain(kills(Some(2), Some(6)), Some(2)).unwrap();
        assert!(own.contains("a process of this agent"), "{own}");
        let other = kills(Some(1), Some(6));
        assert_eq!(before.explain(other, Some(2)), None);
        let machine = before.explain(other, Some(KILLED)).unwrap();
        assert!(machine.contains("may have failed"), "{machine}");
        // A counter that was not there before tells nothing.
        assert_eq!(kills(None, None).explain(other, Some(KILLED)), None);
    }
}
