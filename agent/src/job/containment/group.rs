//! A control group of its own for a job's processes, where this machine lets an agent make one:
//! the kernel then ends all that is in it at once, however fast it forks.
//!
//! Cgroup v2 only, and without any controller: nothing about the processes changes. The group is
//! below the one the agent runs in, which systemd leaves to a service that has `Delegate=yes`.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// How the groups are called, with the runner's process id behind.
const NAME: &str = "journeyman-job-";

/// The group of this process's job. A runner has one job.
static OF_JOB: OnceLock<Group> = OnceLock::new();

struct Group {
    folder: PathBuf,
    /// Takes in the process that writes `0` to it.
    members: File,
}

/// Makes the group; each task that is started from now on is in it, with all that it starts.
/// Nothing happens where none can be made.
pub(crate) fn make_group_of_job() {
    match make() {
        Ok(group) => {
            let _ = OF_JOB.set(group);
        }
        Err(error) => tracing::debug!(%error, "No control group for the job"),
    }
}

/// Removes the group. It stays while processes are in it.
pub(crate) fn remove_group_of_job() {
    if let Some(group) = OF_JOB.get() {
        let _ = fs::remove_dir(&group.folder);
    }
}

/// What a child writes `0` to, to be in the group.
pub(crate) fn members_of_group() -> Option<BorrowedFd<'static>> {
    OF_JOB.get().map(|group| group.members.as_fd())
}

/// Ends all that is in the group.
pub(super) fn end_group() {
    if let Some(group) = OF_JOB.get()
        && let Err(error) = fs::write(group.folder.join("cgroup.kill"), "1")
    {
        tracing::warn!(%error, "The job's control group cannot be ended as a whole");
    }
}

fn make() -> io::Result<Group> {
    let parent = own_folder()?;
    remove_empty(&parent);
    let folder = parent.join(format!("{NAME}{}", std::process::id()));
    fs::create_dir(&folder)?;
    let members = OpenOptions::new()
        .write(true)
        .open(folder.join("cgroup.procs"))
        // Older kernels (before 5.14) cannot end a group.
        .and_then(|members| fs::metadata(folder.join("cgroup.kill")).map(|_| members));
    match members {
        Ok(members) => Ok(Group { folder, members }),
        Err(error) => {
            let _ = fs::remove_dir(&folder);
            Err(error)
        }
    }
}

/// Groups of runners that were killed. That of a living one may be empty as well: an upgrade tests
/// itself while a job checks its materials out.
fn remove_empty(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let runner = name.to_str().and_then(|name| name.strip_prefix(NAME));
        if runner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            // The kernel removes none that has a process in it.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// The folder of the group that this process is in.
fn own_folder() -> io::Result<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup")?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    find(&groups, &mounts).ok_or(io::ErrorKind::NotFound.into())
}

fn find(groups: &str, mounts: &str) -> Option<PathBuf> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|mount| {
        let (before, after) = mount.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        // What the mount shows begins at its root.
        let below = Path::new(path).strip_prefix(root).ok()?;
        after
            .starts_with("cgroup2 ")
            .then(|| Path::new(point).join(below))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_groups_of_dead_runners_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let living = format!("{NAME}{}", std::process::id());
        // Beyond the largest that the kernel gives.
        let dead = format!("{NAME}4194305");
        for name in [&living, &dead, "other"] {
            fs::create_dir(parent.path().join(name)).unwrap();
        }
        remove_empty(parent.path());
        assert!(parent.path().join(living).exists() && parent.path().join("other").exists());
        assert!(!parent.path().join(dead).exists());
    }

    #[test]
    fn finds_its_group() {
        let mounts = "\
31 24 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
30 24 0:26 /docker/ab /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw
";
        let groups = "9:memory:/docker/ab\n0::/docker/ab/agent.service\n";
        let found = Some(PathBuf::from("/sys/fs/cgroup/agent.service"));
        assert_eq!(find(groups, mounts), found);
        assert_eq!(find("9:memory:/docker/ab\n", mounts), None);
        assert_eq!(find("0::/elsewhere\n", mounts), None);
    }
}
